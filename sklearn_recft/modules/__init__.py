"""Torch only: tensors in, tensors out."""

from sklearn_recft.modules._decay import DecayNet, make_decay_net
from sklearn_recft.modules._factorization import MatrixFactorization
from sklearn_recft.modules._online_features import StreamTables
from sklearn_recft.modules._sequence import SequenceNet, make_sequence_net

__all__ = [
    "DecayNet",
    "MatrixFactorization",
    "SequenceNet",
    "StreamTables",
    "make_decay_net",
    "make_sequence_net",
]
