"""Torch modules: they use tensors only, and no scikit-learn."""

from sklearn_recft.modules._cross import CrossNet, CrossShape, make_cross_net
from sklearn_recft.modules._decay import DecayNet, make_decay_net
from sklearn_recft.modules._factorization import MatrixFactorization
from sklearn_recft.modules._history_factorization import HistoryFactorization
from sklearn_recft.modules._id_tables import IdTables
from sklearn_recft.modules._online_features import OnlineTables
from sklearn_recft.modules._sequence import SequenceNet, make_sequence_net

__all__ = [
    "CrossNet",
    "CrossShape",
    "DecayNet",
    "HistoryFactorization",
    "IdTables",
    "MatrixFactorization",
    "OnlineTables",
    "SequenceNet",
    "make_cross_net",
    "make_decay_net",
    "make_sequence_net",
]
