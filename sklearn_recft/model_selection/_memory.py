"""How much memory a fit takes at its peak, and how much a model takes when stored."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

_MIB = 2.0**20


def peak_mib(work: Callable[[], Any]) -> float:
    """Peak, in 2**20 bytes, of what Python and numpy allocate during ``work()``.

    What was there before does not count, and what other compiled libraries allocate for
    themselves is not seen. A trace that is running already goes on, its peak reset.
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
    """Size of the pickled estimator in 2**20 bytes; NaN where it cannot be pickled."""
    try:
        return len(pickle.dumps(estimator, protocol=5)) / _MIB
    except (pickle.PicklingError, TypeError, AttributeError):
        return float("nan")
