"""Training of nets: the only package that imports skorch."""

from sklearn_recft.training._batches import Batches, Collate, Columns, LastRows
from sklearn_recft.training._eager import EagerAdamW
from sklearn_recft.training._fine_tuning import FineTuning
from sklearn_recft.training._group import ProcessesError, store_for, torch_processes
from sklearn_recft.training._losses import LogLoss, OwnLoss, PenalisedLoss, PointLoss
from sklearn_recft.training._net import checkpoint, grow_optimizer, make_net, predict_net
from sklearn_recft.training._net_params import resolve_training
from sklearn_recft.training._policy import PLAIN, Policy
from sklearn_recft.training._rows import RowAdamW
from sklearn_recft.training._skorch import Scorer
from sklearn_recft.training._trainer import Trainer
from sklearn_recft.training._windows import LogWindows, SequenceWindows

__all__ = [
    "PLAIN",
    "Batches",
    "Collate",
    "Columns",
    "EagerAdamW",
    "FineTuning",
    "LastRows",
    "LogLoss",
    "LogWindows",
    "OwnLoss",
    "PenalisedLoss",
    "PointLoss",
    "Policy",
    "ProcessesError",
    "RowAdamW",
    "Scorer",
    "SequenceWindows",
    "Trainer",
    "checkpoint",
    "grow_optimizer",
    "make_net",
    "predict_net",
    "resolve_training",
    "store_for",
    "torch_processes",
]
