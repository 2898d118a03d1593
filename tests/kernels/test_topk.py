"""Compiled top-k and seen items against full sorts and sets."""

import numpy as np
import pytest

from sklearn_recft import kernels


@pytest.mark.parametrize("k", [1, 7, 90])
@pytest.mark.parametrize("width", [1, 63, 64, 65, 130, 500])
@pytest.mark.parametrize("values", ["ties", "distinct", "infinite"])
def test_update_topk_equals_a_stable_sort_of_the_row(k, width, values):
    rng = np.random.default_rng(k * width)
    n_rows, n_items = 4, 300
    scores = rng.normal(size=(n_rows, n_items)).astype(np.float32)
    if values == "ties":
        scores = np.round(scores)
    if values == "infinite":
        scores[rng.random(scores.shape) < 0.5] = -np.inf
        scores[0, 5:] = -np.inf
        scores[1] = -np.inf
    seen = [np.sort(rng.choice(n_items, size, replace=False)) for size in (0, 10, 200, n_items)]
    indptr = np.cumsum([0, *map(len, seen)])
    columns = np.concatenate(seen).astype(np.int32)
    best = np.full((n_rows, k), -np.inf, np.float32)
    codes, pointer = np.full((n_rows, k), -1), indptr[:-1].copy()
    for left in range(0, n_items, width):
        tile = scores[:, left : left + width].copy()
        kernels.update_topk(tile, left, indptr, columns, pointer, best, codes)
    for row in range(n_rows):
        scores[row, seen[row]] = -np.inf
        order = np.lexsort((np.arange(n_items), -scores[row]))[:k]
        finite = scores[row, order] > -np.inf
        assert best[row].tolist() == scores[row, order].tolist()
        assert codes[row].tolist() == np.where(finite, order, -1).tolist()
    assert pointer.tolist() == indptr[1:].tolist()


@pytest.mark.parametrize("n_candidates", [0, 5, 12])
def test_gather_seen_returns_each_users_distinct_columns(n_candidates):
    rng = np.random.default_rng(n_candidates)
    n_users, n_items = 7, 12
    user, item = rng.integers(1, n_users, 90), rng.integers(0, n_items, 90)
    last, previous = np.full(n_users, -1, np.int32), np.full(100, -7, np.int32)
    for place in range(90):
        previous[place], last[user[place]] = last[user[place]], place
    candidates = np.sort(rng.choice(n_items, n_candidates, replace=False))
    lookup = np.full(n_items, -1, np.int64)
    lookup[candidates] = np.arange(n_candidates)
    queried = np.array([3, -1, 0, n_users, 6, 3])  # unknown, without events, beyond the table
    indptr, columns = kernels.gather_seen(queried, last, previous, item.astype(np.int32), lookup)
    expected = [
        sorted({int(lookup[i]) for i in item[user == one] if lookup[i] >= 0}) for one in queried
    ]
    assert indptr.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert columns.tolist() == [column for each in expected for column in each]
