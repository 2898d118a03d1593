"""Measure seconds and memory in a process that has done nothing before."""

import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor
from typing import Any

MIB = 2**20


def in_fresh_process(function, *args) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def peak_memory() -> int:
    """MiB that this process has held at most (Linux: counted in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // MIB
