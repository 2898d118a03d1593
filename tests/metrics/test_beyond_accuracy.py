"""Coverage, exposure and diversity against loops written out, and against known answers."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array, csr_matrix
from sklearn.metrics.pairwise import cosine_similarity

from sklearn_recft.metrics import (
    catalogue_coverage_at_k,
    gini_index_at_k,
    intra_list_diversity_at_k,
)

ids = st.one_of(
    st.integers(-3, 6), st.sampled_from("abc"), st.tuples(st.integers(0, 1), st.integers(0, 1))
)
lists = st.lists(st.lists(ids, max_size=9), max_size=6)
coordinates = st.sampled_from([-2.0, -0.3, 0.0, 1.0, 7.5])


def exposure(catalogue, recommended, k):
    shown = dict.fromkeys(catalogue, 0)
    for row in recommended:
        for item in set(row[:k]):
            if item in shown:
                shown[item] += 1
    return list(shown.values())


def slow_coverage(catalogue, recommended, k):
    shown = exposure(catalogue, recommended, k)
    return sum(n > 0 for n in shown) / len(shown)


def slow_gini(catalogue, recommended, k):
    # Half the relative mean absolute difference of all pairs: the index by its other definition.
    shown = exposure(catalogue, recommended, k)
    if not sum(shown):
        return math.nan
    return sum(abs(a - b) for a in shown for b in shown) / (2 * len(shown) * sum(shown))


def slow_diversity(vectors, row, k):
    met = [vectors[item] for item in dict.fromkeys(row[:k]) if any(vectors.get(item, ()))]
    distances = []
    for j, one in enumerate(met):
        for other in met[:j]:
            product = math.fsum(a * b for a, b in zip(one, other, strict=True))
            distances.append(1 - product / (math.hypot(*one) * math.hypot(*other)))
    return math.fsum(distances) / len(distances) if distances else math.nan


def slow_mean(values):
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@given(catalogue=st.lists(ids, min_size=1, max_size=12), recommended=lists, k=st.integers(1, 8))
def test_coverage_and_gini_equal_loops(catalogue, recommended, k):
    coverage = catalogue_coverage_at_k(catalogue, recommended, k=k)
    assert isinstance(coverage, float)
    assert_same(coverage, slow_coverage(catalogue, recommended, k))
    gini = gini_index_at_k(catalogue, recommended, k=k)
    assert isinstance(gini, float)
    assert_same(gini, slow_gini(catalogue, recommended, k))


@given(
    vectors=st.dictionaries(ids, st.tuples(coordinates, coordinates, coordinates), min_size=1),
    recommended=lists,
    k=st.integers(1, 8),
)
def test_diversity_equals_loops(vectors, recommended, k):
    expected = [slow_diversity(vectors, row, k) for row in recommended]
    vector = intra_list_diversity_at_k(vectors, recommended, k=k, per_user=True)
    assert_same(vector, expected)
    assert_same(intra_list_diversity_at_k(vectors, recommended, k=k), slow_mean(expected))


def random_lists(seed, n_queries=700, n_items=60):
    """Full, short and empty lists of unequal popularity, with repeats."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 13, n_queries)
    return [(n_items * rng.random(length) ** 2).astype(int) for length in lengths]


def test_random_inputs_equal_loops():
    rows = random_lists(0)
    listed = [row.tolist() for row in rows]
    catalogue = np.arange(5, 75)  # some items outside it, some never shown
    assert_same(catalogue_coverage_at_k(catalogue, rows), slow_coverage(catalogue, listed, 10))
    assert_same(gini_index_at_k(catalogue, rows), slow_gini(catalogue, listed, 10))
    vectors = np.random.default_rng(1).normal(size=(50, 8)).round(1)
    vectors[::7] = 0
    table = {item: vector.tolist() for item, vector in enumerate(vectors)}
    found = intra_list_diversity_at_k((np.arange(50), vectors), rows, per_user=True)
    expected = [slow_diversity(table, row, 10) for row in listed]
    assert np.isnan(expected).any()
    assert_same(found, expected)


def test_arrays_lists_and_sets_of_ids_are_the_same():
    square = np.random.default_rng(2).integers(0, 30, (40, 12))
    vectors = {item: [item % 3, 1, item % 5] for item in range(30)}
    for metric, first in [
        (catalogue_coverage_at_k, range(50)),
        (catalogue_coverage_at_k, set(range(50))),
        (gini_index_at_k, pd.Series(range(50))),
        (intra_list_diversity_at_k, vectors),
    ]:
        value = metric(first, square, k=7)
        for same in (square.tolist(), list(square), square.astype(object), tuple(square)):
            assert metric(first, same, k=7) == value


def test_part_of_a_catalogue_and_repeats_in_it():
    shown = [["tea", "milk"], ["tea", "bread"]]
    assert catalogue_coverage_at_k(["salt", "milk", "milk"], shown) == 0.5
    assert catalogue_coverage_at_k(["salt", "milk", "bread"], shown, k=1) == 0.0
    assert gini_index_at_k(["salt", "milk"], shown) == 0.5


def test_gini_of_equal_and_of_single_exposure():
    assert gini_index_at_k(range(6), np.arange(6).reshape(3, 2)) == 0.0
    assert gini_index_at_k(range(5), [[3], [3], [3]]) == pytest.approx(1 - 1 / 5)
    assert gini_index_at_k(range(2), [[0, 0, 1], [0]]) == pytest.approx(1 / 6)  # 2 lists and 1
    assert math.isnan(gini_index_at_k(range(5), [[], [9]]))


def test_no_list_at_all():
    assert catalogue_coverage_at_k([1, 2], []) == 0.0
    assert catalogue_coverage_at_k([1, 2], [[], []]) == 0.0
    assert math.isnan(gini_index_at_k([1, 2], []))
    assert math.isnan(intra_list_diversity_at_k({1: [1.0]}, []))
    assert math.isnan(intra_list_diversity_at_k({1: [1.0]}, [[], [1]]))


def test_diversity_of_full_lists_equals_scikit_learn():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 6))
    square = rng.permuted(np.tile(np.arange(40), (25, 1)), axis=1)[:, :8]
    upper = np.triu_indices(8, 1)
    expected = [1 - cosine_similarity(vectors[row])[upper].mean() for row in square]
    found = intra_list_diversity_at_k((np.arange(40), vectors), square, per_user=True)
    assert_same(found, expected)
    for sparse in (csr_array(vectors), csr_matrix(vectors)):
        same = intra_list_diversity_at_k((np.arange(40), sparse), square, per_user=True)
        assert_same(same, expected)


def test_diversity_of_opposite_equal_zero_and_unknown():
    vectors = {"n": [0, 2], "s": [0, -1], "e": [3, 0], "none": [0, 0]}
    lists = [["n", "s"], ["n", "n", "e"], ["n", "none", "e"], ["n", "who", "e"], ["n", "none"]]
    found = intra_list_diversity_at_k(vectors, lists, per_user=True)
    np.testing.assert_array_equal(found, [2.0, 1.0, 1.0, 1.0, np.nan])
    assert intra_list_diversity_at_k(vectors, lists) == 1.25
    same = {item: [0.1, 0.2, 0.3] for item in range(9)}
    assert intra_list_diversity_at_k(same, [range(9)]) == pytest.approx(0, abs=1e-15)


def test_many_lists_are_judged_in_blocks(monkeypatch):
    rows = random_lists(4)
    vectors = (np.arange(60), np.random.default_rng(5).normal(size=(60, 4)))
    whole = intra_list_diversity_at_k(vectors, rows, per_user=True)
    monkeypatch.setitem(intra_list_diversity_at_k.__globals__, "_LISTS_AT_ONCE", 13)
    np.testing.assert_array_equal(intra_list_diversity_at_k(vectors, rows, per_user=True), whole)


def test_bad_arguments():
    for metric in (catalogue_coverage_at_k, gini_index_at_k):
        with pytest.raises(ValueError, match="k must be at least 1"):
            metric([1], [[1]], k=0)
        with pytest.raises(ValueError, match="catalogue is empty"):
            metric([], [[1]])
        with pytest.raises(ValueError, match="catalogue must be 1-d"):
            metric(np.ones((3, 2)), [[1]])
        with pytest.raises(ValueError, match="recommended must hold one collection of ids per"):
            metric(["tea"], ["tea", "milk"])
        with pytest.raises(ValueError, match="type int64"):
            metric([1], np.arange(3))
        with pytest.raises(ValueError, match="items alone, not the scores"):
            metric([1], (np.ones((2, 2)), np.ones((2, 2))))
    with pytest.raises(ValueError, match="k must be at least 1"):
        intra_list_diversity_at_k({1: [1.0]}, [[1]], k=0)
    with pytest.raises(TypeError, match="item_vectors must be a mapping"):
        intra_list_diversity_at_k(3, [[1]])
    with pytest.raises(ValueError, match="item_vectors: 3 rows for 2 items"):
        intra_list_diversity_at_k(([1, 2, 1], np.eye(3)), [[1]])
    with pytest.raises(ValueError, match="inconsistent"):
        intra_list_diversity_at_k(([1, 2], np.eye(3)), [[1]])
    with pytest.raises(ValueError, match="item_vectors contains NaN"):
        intra_list_diversity_at_k({1: [1.0], 2: [np.nan]}, [[1]])
    with pytest.raises(ValueError):  # noqa: PT011  (the words are numpy's)
        intra_list_diversity_at_k({1: [1.0], 2: [1.0, 2.0]}, [[1]])
