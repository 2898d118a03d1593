"""Settings every test and doctest shares: figures stay off screen, no hub is asked."""

import gc
import os
import sys

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Its sections run in tests/clients, each where its tool is installed.
collect_ignore = ["docs/guide/other_tools.rst"]


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
