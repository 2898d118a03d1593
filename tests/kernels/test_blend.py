"""Kernels of blends against a slow reference in plain NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import kernels

N_MEMBERS, N_ROWS, N_ITEMS, N_BEST = 2, 5, 30, 6
DAY = 86400.0


@pytest.fixture(scope="module")
def block():
    """Scores of two members with ties, hidden items, and what `rank_tile` says of them."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 40, (N_MEMBERS, N_ROWS, N_ITEMS)).astype(np.float32)
    hidden = [np.sort(rng.choice(N_ITEMS, k, replace=False)) for k in (0, 3, 7, 1, 20)]
    indptr = np.cumsum([0, *map(len, hidden)])
    places = np.concatenate(hidden).astype(np.int32)
    best_scores = np.full((N_MEMBERS, N_ROWS, N_BEST), -np.inf, np.float32)
    best_items = np.full((N_MEMBERS, N_ROWS, N_BEST), -1, np.int64)
    center, scale = np.zeros((2, N_MEMBERS, N_ROWS))
    before = tiles.copy()
    for e in range(N_MEMBERS):
        kernels.rank_tile(
            tiles[e], indptr, places, best_scores[e], best_items[e], center[e], scale[e]
        )
    assert_array_equal(tiles, before)
    return tiles, hidden, (indptr, places), best_scores, best_items, center, scale


def order_of(scores, hidden):
    """Return the items that are not hidden, best first, ties in catalogue order."""
    order = np.argsort(-scores, kind="stable")
    return order[~np.isin(order, hidden)]


def test_tiles_are_ranked_without_hidden_items(block):
    tiles, hidden, _, _, best_items, center, scale = block
    for e in range(N_MEMBERS):
        for r in range(N_ROWS):
            shown = np.delete(tiles[e, r], hidden[r]).astype(float)
            assert_array_equal(best_items[e, r], order_of(tiles[e, r], hidden[r])[:N_BEST])
            assert_allclose(center[e, r], shown.mean())
            assert_allclose(scale[e, r], 1 / shown.std())


def test_features_are_ranks_and_standardized_scores(block):
    tiles, hidden, csr, best_scores, best_items, center, scale = block
    pool, sizes = np.empty((N_ROWS, 32), np.int64), np.empty(N_ROWS, np.int64)
    kernels.gather_pool(tiles, best_scores, best_items, *csr, pool, sizes)
    out = np.empty((N_ROWS, 32, 2 * N_MEMBERS), np.float32)
    kernels.blend_features(tiles, best_scores, best_items, center, scale, pool, out)
    for r in range(N_ROWS):
        found = pool[r, : sizes[r]]
        assert (pool[r, sizes[r] :] == -1).all()
        expected = set()
        for e in range(N_MEMBERS):
            order = order_of(tiles[e, r], hidden[r])
            keys = [(-tiles[e, r, i], i) for i in order]
            ranks = [sum(key < (-tiles[e, r, i], i) for key in keys) for i in range(N_ITEMS)]
            expected |= {i for i in range(N_ITEMS) if ranks[i] < N_BEST}
            capped = np.minimum(np.array(ranks)[found], N_BEST)
            assert_allclose(out[r, : sizes[r], e], -np.log2(capped + 2), rtol=1e-6)
            z = (tiles[e, r, found] - center[e, r]) * scale[e, r]
            assert_allclose(out[r, : sizes[r], N_MEMBERS + e], z, rtol=1e-5, atol=1e-6)
        assert len(found) == len(set(found))
        assert set(found) == expected


def test_items_outside_of_the_pool_come_behind(block):
    tiles, _, csr, best_scores, best_items, center, scale = block
    pool, sizes = np.empty((N_ROWS, 32), np.int64), np.empty(N_ROWS, np.int64)
    kernels.gather_pool(tiles, best_scores, best_items, *csr, pool, sizes)
    scores = np.random.default_rng(1).normal(size=pool.shape)
    out = np.empty((N_ROWS, N_ITEMS), np.float32)
    floor = kernels.spread_pool(tiles, center, scale, pool, sizes, scores, out)
    for r in range(N_ROWS):
        inside = pool[r, : sizes[r]]
        outside = np.setdiff1d(np.arange(N_ITEMS), inside)
        assert_allclose(out[r, inside], scores[r, : sizes[r]], rtol=1e-6)
        z = ((tiles[:, r] - center[:, r, None]) * scale[:, r, None]).mean(axis=0)
        lowest = scores[r, : sizes[r]].min()
        assert_allclose(out[r, outside], lowest - 1 + z[outside] - z[outside].max(), rtol=1e-4)
        assert floor[r] < out[r].min()


def test_features_of_items_need_the_time_of_the_query():
    items = np.array([[0, 1, 2, -1]])
    given = np.array([0.0, np.nan, 9 * DAY]), np.array([8 * DAY])
    seen = np.array([0, 2]), np.array([1, 2], np.int32), np.array([7 * DAY, np.nan])
    out = np.full((1, 4, 6), 7.0, np.float32)
    kernels.context_features(items, *given, *seen, 1, out)
    age = np.log(9) / 3
    expected = [[age, 0, 0, 0], [0, 1, np.exp(-1), np.log(2) / 3], [0, 1, 0, 0], [0] * 4]
    assert_allclose(out[0, :, 2:], expected, rtol=1e-6)
    assert (out[0, :, :2] == 7).all()


def reference(features, sizes, targets, contexts, importance, lists, weights, squares, options):
    """Learn as `learn_blend`, in plain NumPy; return the ranks."""
    rate, forgetting, n_best = options
    ranks = []
    for number in np.unique(lists):
        slopes = []
        rows = np.flatnonzero(lists == number)
        for r in rows:
            x, size, target = features[r].astype(float), sizes[r], targets[r]
            scores = x[:size] @ weights[contexts[r]].sum(axis=0)
            order = np.argsort(-scores, kind="stable")
            rank = size if target < 0 else int(np.flatnonzero(order == target)[0])
            ranks.append(rank)
            if target < 0 or rank >= n_best:
                continue
            best = order[: int(n_best)]
            share = np.exp(scores[best] - scores.max())
            slopes.append(importance[r] * (share @ x[best] / share.sum() - x[target]))
        if not slopes:
            continue
        slope, first = np.sum(slopes, axis=0), contexts[rows[0], 0]
        for k in contexts[rows[0]]:
            squares[k] = forgetting * squares[k] + slope**2
            scale = squares[k] + (squares[first] if k != first else 0.0)
            weights[k] -= rate * slope / np.sqrt(np.maximum(scale, 1e-300))
    return np.array(ranks)


@pytest.mark.parametrize("n_best", [3, 50])
def test_weights_learn_as_the_reference(n_best):
    rng = np.random.default_rng(2)
    n, width, n_features = 60, 12, 4
    features = rng.normal(size=(n, width, n_features)).astype(np.float32)
    sizes = rng.integers(1, width + 1, n)
    targets = np.where(rng.random(n) < 0.2, -1, rng.integers(0, sizes))
    lists = np.sort(rng.integers(0, 40, n))  # some of several queries
    contexts = np.column_stack([np.zeros(n, np.int64), 1 + lists % 2])
    importance, options = rng.uniform(0.5, 2, n), np.array([0.03, 0.99, n_best])
    weights, squares = rng.normal(size=(3, n_features)), np.zeros((3, n_features))
    own, ranks = (weights.copy(), squares.copy()), np.empty(n, np.int64)
    given = features, sizes, targets, contexts, importance, lists
    kernels.learn_blend(*given, *own, options, ranks)
    assert_array_equal(ranks, reference(*given, weights, squares, options))
    assert_allclose(own[0], weights, rtol=1e-8)
    assert_allclose(own[1], squares, rtol=1e-6)
    scores = np.empty((n, width))
    kernels.weigh_pool(features, sizes, contexts, weights, scores)
    expected = np.einsum("qjf,qf->qj", features.astype(float), weights[contexts].sum(axis=1))
    inside = np.arange(width) < sizes[:, None]
    assert_allclose(scores[inside], expected[inside], rtol=1e-8)
    assert (scores[~inside] == -np.inf).all()
