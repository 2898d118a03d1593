"""Nets and how they are trained: the only room that imports skorch."""

from sklearn_recft.training._batches import Batches, Columns, Gather, LastRows
from sklearn_recft.training._losses import LogLoss, OwnLoss, PenalisedLoss
from sklearn_recft.training._net import (
    checkpoint,
    fit_net,
    grow_optimizer,
    make_net,
    predict_net,
)
from sklearn_recft.training._policy import FineTuning
from sklearn_recft.training._windows import LogWindows, SequenceWindows

__all__ = [
    "Batches",
    "Columns",
    "FineTuning",
    "Gather",
    "LastRows",
    "LogLoss",
    "LogWindows",
    "OwnLoss",
    "PenalisedLoss",
    "SequenceWindows",
    "checkpoint",
    "fit_net",
    "grow_optimizer",
    "make_net",
    "predict_net",
]
