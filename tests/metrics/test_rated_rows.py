"""nDCG of rated rows is the mean over random orders of ties."""

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from sklearn_recft.metrics import _rated_rows, ndcg_of_rows


def drawn(y, scores, k, relevance, rng):
    """Compute nDCG@k with all ties of one user broken at random."""
    n = len(y)
    order = np.lexsort((rng.random(n), -scores))
    gains = np.exp2(y) - 1
    if relevance == "best":
        gains = np.zeros(n)
        gains[np.lexsort((rng.random(n), -y))[:k]] = 1
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return gains[order][:k] @ discounts / (np.sort(gains)[::-1][:k] @ discounts)


@pytest.mark.parametrize("relevance", ["best", "graded"])
def test_equals_the_mean_over_random_orders(relevance):
    rng = np.random.default_rng(0)
    y, scores = rng.integers(1, 4, (3, 7)).astype(float), rng.integers(0, 3, (3, 7)).astype(float)
    found = ndcg_of_rows(y, scores, 3, relevance)
    for user in range(3):
        draws = [drawn(y[user], scores[user], 3, relevance, rng) for _ in range(1500)]
        assert found[user] == pytest.approx(np.mean(draws), abs=0.02)


def test_without_ties_equals_scikit_learn():
    rng = np.random.default_rng(0)
    y, scores = rng.permuted(np.tile(np.arange(8.0), (5, 1)), axis=1), rng.random((5, 8))
    expected = [ndcg_score([np.exp2(a) - 1], [b], k=4) for a, b in zip(y, scores, strict=True)]
    np.testing.assert_allclose(ndcg_of_rows(y, scores, 4, "graded"), expected)
    np.testing.assert_allclose(ndcg_of_rows(y, y, 4, "best"), 1)


def test_a_user_without_gains_is_undefined():
    found = ndcg_of_rows(np.array([[0.0, 0.0], [0.0, 1.0]]), np.zeros((2, 2)), 1, "graded")
    np.testing.assert_array_equal(found, [np.nan, 0.5])


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    y, scores = rng.random((9, 6)), rng.random((9, 6))
    whole = ndcg_of_rows(y, scores, 2, "best")
    monkeypatch.setattr(_rated_rows, "_PAIRS", 80)
    np.testing.assert_array_equal(ndcg_of_rows(y, scores, 2, "best"), whole)
