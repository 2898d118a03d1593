"""Peak memory of a fit, and the size of a pickled model."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

_MIB = 2.0**20


def peak_mib(work: Callable[[], Any]) -> float:
    """Measure the peak memory, in 2**20 bytes, that Python and numpy allocate during ``work()``.

    Earlier allocations and those of other compiled libraries do not count. A trace that is already
    running continues, but its peak is reset.
    """
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        work()
        return (tracemalloc.get_traced_memory()[1] - before) / _MIB
    finally:
        if not was_tracing:
            tracemalloc.stop()


def pickled_mib(estimator: Any) -> float:
    """Return the size of the pickled estimator in 2**20 bytes; NaN if it cannot be pickled."""
    try:
        return len(pickle.dumps(estimator, protocol=5)) / _MIB
    except (pickle.PicklingError, TypeError, AttributeError):
        return float("nan")
