"""Threads: how many of ours, of BLAS and of torch work at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from threadpoolctl import threadpool_limits


def n_threads(n_jobs: int | None) -> int:
    """Return the number of threads for ``n_jobs``: None is 1, -1 is all cores."""
    if n_jobs is None:
        return 1
    if n_jobs == 0:
        raise ValueError("n_jobs=0 has no meaning; give None, a positive or a negative number.")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


def blas_threads(n_threads: int) -> threadpool_limits:
    """Limit the BLAS of numpy and scipy to ``n_threads`` inside a with-block."""
    return threadpool_limits(limits=n_threads, user_api="blas")


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Limit torch to ``n`` threads inside a with-block; nothing to do where torch is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_torch_threads() -> None:
    """Limit torch to one thread for good, where it is loaded: the start of a worker thread."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def in_threads(
    step: Callable[[int, int], None], sizes: np.ndarray, n_threads: int, n_pieces: int = 8
) -> None:
    """Run ``step(first, last)`` over pieces of the rows, each of about the same work.

    ``sizes`` (n,) is the work of each row. Pieces must write to separate results; the outcome
    then does not depend on ``n_threads``.
    """
    if n_threads == 1:
        step(0, len(sizes))
        return
    work = np.cumsum(sizes + 1.0)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], n_pieces * n_threads + 1)[1:-1])
    bounds = np.unique(np.r_[0, cuts, len(sizes)]).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(step, bounds[:-1], bounds[1:]))
