"""Choosing rows: splitters that respect time and users, and the predict-then-learn loop."""

from sklearn_recft.model_selection._prequential import iter_prequential, prequential_score
from sklearn_recft.model_selection._replay import PrequentialStep
from sklearn_recft.model_selection._split import ColdUserSplit, LeaveLastOut, TemporalSplit

__all__ = [
    "ColdUserSplit",
    "LeaveLastOut",
    "PrequentialStep",
    "TemporalSplit",
    "iter_prequential",
    "prequential_score",
]
