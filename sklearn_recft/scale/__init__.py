"""Logs beyond the memory or the processors of one fit: merged models, streams of files, split fits."""

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
