"""Lists of one query by a scan of int8, against lists from all scores, while the model changes."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft import IncrementalMFRecommender, ranking

N_ITEMS = 120


@pytest.fixture
def log():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 20, 400), rng.integers(0, N_ITEMS, 400)])
    return X, rng.integers(1, 6, 400)


@pytest.fixture
def scans(monkeypatch):
    """Count scans, and turn them on or off."""
    counted, scan = [], ranking.RowScan._candidates
    monkeypatch.setattr(
        ranking.RowScan, "_candidates", lambda *args: (counted.append(1), scan(*args))[1]
    )

    def turn(on):
        monkeypatch.setattr(ranking, "_SCANNED", 1 if on else 2**62)
        monkeypatch.setattr(ranking, "_ROUNDING_COST", 0)
        return len(counted)

    return turn


def check(model, scans, **options):
    for user in (0, 7, 999):
        before = scans(True)
        fast = model.recommend([user], n_recommendations=5, **options)
        assert scans(False) == before + 1
        slow = model.recommend([user], n_recommendations=5, **options)
        assert_array_equal(fast[0], slow[0])
        np.testing.assert_allclose(fast[1], slow[1], rtol=1e-6)


@pytest.mark.parametrize("loss", ["squared_error", "bpr", "softmax"])
def test_lists_of_one_query_follow_the_model(log, scans, loss):
    X, y = log
    model = IncrementalMFRecommender(loss=loss, n_factors=6, max_epochs=2, random_state=0)
    model.fit(X[:300], None if loss == "softmax" else y[:300])
    check(model, scans)
    check(model, scans, exclude_seen=False)
    if loss == "squared_error":
        check(model, scans, candidates=np.unique(X[:300, 1])[::2])
        check(model, scans, exclude=np.unique(X[:300, 1])[::3])
    y = None if loss == "softmax" else y
    for start in (300, 320, 321):  # a few rows, one row, and many with new items
        new = X[start : start + 20 if start < 321 else None] + np.array([0, 200 * (start > 320)])
        model.partial_fit(new, None if y is None else y[start : start + len(new)])
        check(model, scans)
    copied = pickle.loads(pickle.dumps(model))
    check(copied, scans)
    model.forget([7])
    if loss != "softmax":
        model.forget_items([X[0, 1]])
    check(model, scans)


def test_lists_follow_single_events_and_failed_calls(log, scans):
    X, y = log
    model = IncrementalMFRecommender(n_factors=6, max_epochs=2, random_state=0).fit(X, y)
    check(model, scans)
    stream = model.stream()
    for (user, item), rating in zip(X[:9].tolist(), y[:9].tolist(), strict=True):
        for _ in range(20):
            stream.learn_one(user, item, 6.0 - rating)
    check(model, scans)
    for new in range(9):  # a new user's event changes the item, in spare rows of the tables
        for _ in range(20):
            stream.learn_one(1000 + new, int(X[new, 1]), 9.0)
    check(model, scans)
    stream.learn_one(0, 5000, 5.0)
    check(model, scans)
    with pytest.raises(ValueError, match="diverged"):
        model.partial_fit(X + np.array([0, 500]), np.full(len(X), 1e28))
    check(model, scans)
