"""Logs beyond one fit on one core: merged models, streams of files, split fits."""

from sklearn_recft.scale._distributed import fit_distributed
from sklearn_recft.scale._merge import fit_partitions, merge
from sklearn_recft.scale._stream import StreamError, StreamPosition, fit_stream

__all__ = [
    "StreamError",
    "StreamPosition",
    "fit_distributed",
    "fit_partitions",
    "fit_stream",
    "merge",
]
