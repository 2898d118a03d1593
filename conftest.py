"""Settings every test and doctest shares: figures stay off screen, no hub is asked."""

import gc
import os
import sys

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Its sections run in tests/clients, each where its tool is installed.
collect_ignore = ["docs/guide/other_tools.rst"]


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import and collect without garbage collections: they find little among many objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.set_threshold(10_000, 20, 20)  # the usual ones take 3 % of the time of the tests


def pytest_collection_modifyitems(items):
    """Start each worker with its part of the tests of kernels, then of the pages.

    What it compiles there, the other workers load from the cache. A page is one long test, which
    others can fill the time of. Each worker gets one piece of the list at first.
    """
    n = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if n == 1:
        return
    parts = [[], [], []]  # kernels, pages, others
    for item in items:
        is_page = item.nodeid.partition("::")[0].endswith((".rst", ".md"))
        parts[0 if item.nodeid.startswith("tests/kernels/") else 2 - is_page].append(item)
    items[:] = [
        item
        for k in range(n)
        for part in parts
        for item in part[len(part) * k // n : len(part) * (k + 1) // n]
    ]


def pytest_collection_finish():
    """Leave what is imported by now to no later garbage collection: none of it is garbage."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a test has drawn, so that no test meets another's figure."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
