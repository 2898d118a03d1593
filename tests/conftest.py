"""What the tests share: settings that must stand before scipy is imported, and real data."""

import os

# scikit-learn skips its check of array API inputs unless scipy was imported with this.
os.environ["SCIPY_ARRAY_API"] = "1"
# Small data: more threads only get in each other's way.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from tests.postgres import postgres  # noqa: E402, F401 -- a fixture

# A suite that judges a change gives one verdict: the same examples in each run. The profile
# "search" looks for more of them at random.
settings.register_profile("suite", deadline=None, max_examples=30, derandomize=True, database=None)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(scope="session")
def movielens_100k():
    """Events (100000, 3) and stars of MovieLens 100K, in the order of time."""
    if not os.environ.get("SKLEARN_RECFT_DATA"):
        pytest.skip("SKLEARN_RECFT_DATA names no folder of real data")
    from sklearn_recft.datasets import fetch_movielens

    X, y = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
    order = np.argsort(X[:, 2], kind="stable")
    return X[order], y[order]
