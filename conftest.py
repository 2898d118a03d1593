"""Settings every test and doctest shares: figures are drawn off screen, torch keeps to one thread."""

import os

import pytest

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(autouse=True)
def _close_figures():
    """Close what a test has drawn, so that no test meets another's figure."""
    yield
    import sys

    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
