"""Compiled item similarities against dense products in double precision."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from sklearn_recft import kernels


def arrays(matrix):
    matrix = csr_array(matrix)
    matrix.sort_indices()
    return matrix.indptr, matrix.indices, matrix.data


def both_ways(matrix):
    """Return the CSR arrays by item and by user, as the kernels take them."""
    return [*arrays(matrix.T), *arrays(matrix)]


def sparse(rng, shape, density, values=None):
    """Draw a sparse matrix with entries from ``values``, or normal ones."""
    drawn = rng.normal(size=shape) if values is None else rng.choice(values, shape)
    return csr_array(np.where(rng.random(shape) < density, drawn, 0).astype(np.float32))


def whole_numbers(rng, n_users, n_items, density):
    """Draw small integers, some negative: sums are exact, and ties are frequent."""
    return sparse(rng, (n_users, n_items), density, [-2, -1, 1, 1, 1, 2, 3])


# ---------------------------------------------------------------------------- gram_rows


@pytest.mark.parametrize(("n_users", "n_items"), [(1, 1), (30, 20), (5, 60)])
def test_gram_rows_are_the_lower_triangle(n_users, n_items):
    rng = np.random.default_rng(n_items)
    matrix = sparse(rng, (n_users, n_items), 0.3)
    out = np.zeros((n_items, n_items))
    kernels.gram_rows(0, n_items, *both_ways(matrix), out)
    dense = matrix.toarray().astype(float)
    assert_allclose(out, np.tril(dense.T @ dense), rtol=1e-12, atol=1e-14)
    pieces = np.full((n_items, n_items), 7.0)
    first, last = n_items // 3, n_items // 2
    kernels.gram_rows(first, last, *both_ways(matrix), pieces)
    assert_allclose(pieces[first:last] - 7, out[first:last], rtol=1e-12, atol=1e-14)
    assert (np.delete(pieces, np.s_[first:last], axis=0) == 7).all()


# ------------------------------------------------------------------------ nearest_items


def nearest_by_hand(matrix, size, shrinkage, k):
    """Find the neighbours of each item and their similarities by sorting whole rows."""
    dense, seen = matrix.toarray().astype(float), np.zeros(matrix.shape)
    seen[matrix.nonzero()] = 1
    together = seen.T @ seen > 0
    below = np.outer(size, size) + shrinkage
    similarity = np.divide(dense.T @ dense, below, np.zeros_like(below), where=below > 0)
    similarity = similarity.astype(np.float32)
    neighbours = []
    for row, others in zip(similarity, together, strict=True):
        codes = np.flatnonzero(others)
        codes = np.sort(codes[np.lexsort((codes, -row[codes]))[:k]])
        neighbours.append((codes.tolist(), row[codes].tolist()))
    return neighbours


def nearest(matrix, size, shrinkage, k, cuts=()):
    n_items = matrix.shape[1]
    found, similarity = np.full((n_items, k), -9, np.int32), np.full((n_items, k), 99, np.float32)
    n_found = np.full(n_items, -9)
    for first, last in pairwise([0, *cuts, n_items]):
        kernels.nearest_items(
            first, last, *both_ways(matrix), size, float(shrinkage), found, similarity, n_found
        )
    assert (n_found <= k).all()
    return [(found[i, :n].tolist(), similarity[i, :n].tolist()) for i, n in enumerate(n_found)]


@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize("shrinkage", [0, 3])
@pytest.mark.parametrize(
    ("n_users", "n_items", "density"),
    [(25, 40, 0.2), (25, 40, 0.02), (40, 400, 0.004), (3, 600, 0.05), (30, 12, 0.9)],
)
def test_nearest_items_are_the_head_of_a_stable_sort(n_users, n_items, density, shrinkage, k):
    matrix = whole_numbers(np.random.default_rng(n_items), n_users, n_items, density)
    size = np.sqrt((matrix.toarray().astype(float) ** 2).sum(axis=0))
    expected = nearest_by_hand(matrix, size, shrinkage, k)
    assert nearest(matrix, size, shrinkage, k) == expected
    cuts = [n_items // 5, n_items // 5, n_items // 2]  # whatever was done before leaves no trace
    assert nearest(matrix, size, shrinkage, k, cuts) == expected


def test_ties_prefer_lower_codes():
    matrix = csr_array(np.ones((2, 9), np.float32))
    assert nearest(matrix, np.ones(9), 0, 4) == [([0, 1, 2, 3], [2.0] * 4)] * 9
    matrix = csr_array(np.array([[1, 3, 2, 3, 2, 2]], np.float32))
    codes = [found for found, _ in nearest(matrix, np.ones(6), 0, 4)]
    assert codes == [[1, 2, 3, 4]] * 6


def test_items_of_size_zero_have_zero_similarity():
    matrix = csr_array(np.array([[1, 0, 2], [1, 1, 0]], np.float32))
    matrix.data[matrix.indices == 2] = 0.0  # seen, with feedback 0
    size = np.sqrt((matrix.toarray().astype(float) ** 2).sum(axis=0))
    found = nearest(matrix, size, 0, 3)
    assert found[2] == ([0, 2], [0.0, 0.0])
    assert found[0][0] == [0, 1, 2]


# ------------------------------------------------------------------------------- spread


@pytest.mark.parametrize("width", [1, 5, 16, 50])
def test_spread_adds_a_tile_of_the_product(width):
    rng = np.random.default_rng(width)
    n_users, n_items, n_columns = 12, 30, 50
    rows = sparse(rng, (n_users, n_items), 0.3)
    near = sparse(rng, (n_items, n_columns), 0.2)
    product = rows.toarray().astype(float) @ near.toarray()
    for first in range(0, n_columns, width):
        tile = np.full((n_users, min(width, n_columns - first)), 3, np.float32)
        kernels.spread(*arrays(rows), *arrays(near), first, tile)
        expected = 3 + product[:, first : first + width]
        assert_allclose(tile, expected, rtol=1e-5, atol=1e-5)


def test_spread_of_empty_rows_adds_nothing():
    out = np.zeros((2, 3), np.float32)
    nobody, near = csr_array((2, 4), dtype=np.float32), csr_array(np.ones((4, 3), np.float32))
    kernels.spread(*arrays(nobody), *arrays(near), 0, out)
    assert_array_equal(out, 0)


# ------------------------------------------------------------------------ mark_largest


@pytest.mark.parametrize("k", [1, 3, 8, 50])
def test_mark_largest_keeps_the_first_of_equal_values(k):
    rng = np.random.default_rng(k)
    starts = np.concatenate([[0], np.cumsum([0, 3, 8, 40, 1, 0])]).astype(np.int32)
    values = rng.integers(0, 6, starts[-1]).astype(np.float32)
    kept = np.zeros(len(values), np.bool_)
    kernels.mark_largest(starts, values, k, kept)
    for first, last in pairwise(starts):
        row = values[first:last]
        expected = np.sort(np.argsort(-row, kind="stable")[:k])
        assert_array_equal(np.flatnonzero(kept[first:last]), expected)
