"""Logs beyond the memory or the processors of one fit: merged models, and streams of files."""

from sklearn_recft.scale._merge import fit_partitions, merge

__all__ = ["fit_partitions", "merge"]
