"""Metrics against brute force, against known answers, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from sklearn_recft.metrics import (
    grouped_roc_auc_score,
    hit_rate_at_k,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
)

METRICS = [precision_at_k, recall_at_k, hit_rate_at_k, ndcg_at_k, mrr_at_k, map_at_k]

ids = st.one_of(
    st.integers(-3, 6), st.sampled_from("abc"), st.tuples(st.integers(0, 1), st.integers(0, 1))
)
queries = st.lists(
    st.tuples(st.lists(ids, max_size=5), st.lists(ids, max_size=9)), min_size=1, max_size=6
)


def slow_mean(values):
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def brute_force(metric, relevant, recommended, k):
    relevant = set(relevant)
    if not relevant:
        return math.nan
    hits, met = [], set()
    for item in recommended[:k]:
        hits.append(item in relevant and item not in met)
        met.add(item)
    places = [r for r, hit in enumerate(hits, start=1) if hit]
    best = min(k, len(relevant))
    return {
        precision_at_k: len(places) / k,
        recall_at_k: len(places) / len(relevant),
        hit_rate_at_k: float(bool(places)),
        ndcg_at_k: sum(1 / math.log2(r + 1) for r in places)
        / sum(1 / math.log2(r + 1) for r in range(1, best + 1)),
        mrr_at_k: 1 / places[0] if places else 0.0,
        map_at_k: sum((j + 1) / r for j, r in enumerate(places)) / best,
    }[metric]


@pytest.mark.parametrize("metric", METRICS)
@given(queries=queries, k=st.integers(1, 8))
def test_equals_brute_force(metric, queries, k):
    relevant, recommended = map(list, zip(*queries, strict=True))
    expected = np.array([brute_force(metric, *query, k) for query in queries])
    assert_same(metric(relevant, recommended, k=k, per_user=True), expected)
    mean = metric(relevant, recommended, k=k)
    assert isinstance(mean, float)
    assert_same(mean, slow_mean(expected))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", ["ragged arrays", "ragged lists", "square array"])
def test_random_inputs_equal_brute_force(metric, shape):
    # Full, short and empty lists with repeats; many, few and no relevant items, with repeats.
    rng = np.random.default_rng(0)
    relevant = [rng.integers(0, 25, n) for n in rng.integers(0, 15, 700)]
    recommended = [rng.integers(0, 30, n) for n in rng.integers(0, 13, 700)]
    if shape == "square array":
        recommended = rng.integers(0, 30, (700, 12))
    elif shape == "ragged lists":
        relevant = [set(row.tolist()) for row in relevant]
        recommended = [row.tolist() for row in recommended]
    expected = [
        brute_force(metric, list(map(int, one)), list(map(int, other)), 10)
        for one, other in zip(relevant, recommended, strict=True)
    ]
    assert np.isnan(expected).any()
    assert_same(metric(relevant, recommended, per_user=True), expected)
    assert_same(metric(relevant, recommended), slow_mean(expected))


@pytest.fixture
def full_rankings():
    """Relevance and scores without ties, (40, 30), and the same as collections and lists."""
    rng = np.random.default_rng(0)
    truth = rng.random((40, 30)) < 0.2
    truth[:, 0] = True
    scores = rng.permuted(np.tile(np.arange(30.0), (40, 1)), axis=1)
    return truth, scores, [np.flatnonzero(row) for row in truth], np.argsort(-scores, axis=1)


@pytest.mark.parametrize("k", [1, 7, 30])
def test_ndcg_equals_scikit_learn(full_rankings, k):
    truth, scores, relevant, lists = full_rankings
    assert_same(ndcg_at_k(relevant, lists, k=k), ndcg_score(truth, scores, k=k))


def test_map_of_full_lists_equals_scikit_learn(full_rankings):
    truth, scores, relevant, lists = full_rankings
    expected = [average_precision_score(*pair) for pair in zip(truth, scores, strict=True)]
    assert_same(map_at_k(relevant, lists, k=30, per_user=True), expected)


def test_one_relevant_item_equals_scikit_learn(full_rankings):
    _, scores, _, lists = full_rankings
    taken = np.random.default_rng(1).integers(0, 30, 40)
    relevant, one_hot = taken[:, None], np.eye(30, dtype=int)[taken]
    assert_same(
        mrr_at_k(relevant, lists, k=30), label_ranking_average_precision_score(one_hot, scores)
    )
    for metric in (hit_rate_at_k, recall_at_k):
        expected = top_k_accuracy_score(taken, scores, k=5, labels=np.arange(30))
        assert_same(metric(relevant, lists, k=5), expected)


def test_precision_and_recall_equal_scikit_learn(full_rankings):
    truth, scores, relevant, lists = full_rankings
    guess = scores >= 30 - 6  # the first six places, as labels
    precision = precision_score(truth, guess, average="samples")
    recall = recall_score(truth, guess, average="samples")
    assert_same(precision_at_k(relevant, lists, k=6), precision)
    assert_same(recall_at_k(relevant, lists, k=6), recall)


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_and_useless_lists(metric):
    relevant = [{1, 2, 3}, {4, 5, 6}]
    assert metric(relevant, np.array([[3, 1, 2, 9], [4, 6, 5, 9]]), k=3) == 1.0
    assert metric(relevant, np.array([[9, 8, 7], [9, 8, 7]]), k=3) == 0.0


@pytest.mark.parametrize("metric", METRICS)
def test_user_with_nothing_relevant_is_nan_and_left_out(metric):
    vector = metric([[1], []], [[1], [1]], k=1, per_user=True)
    np.testing.assert_array_equal(vector, [1.0, np.nan])
    assert metric([[1], []], [[1], [1]], k=1) == 1.0
    assert math.isnan(metric([[]], [[1]]))
    assert math.isnan(metric([], []))


def test_numpy_and_python_ids_are_the_same():
    assert recall_at_k([np.array([1, 2])], [[1.0, np.int32(2)]]) == 1.0
    assert recall_at_k([["a"]], np.array([["b", "a"]])) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_bad_arguments(metric):
    with pytest.raises(ValueError, match="k must be at least 1"):
        metric([[1]], [[1]], k=0)
    with pytest.raises(ValueError, match="relevant has 2 queries and recommended has 1"):
        metric([[1], [2]], [[1]])
    with pytest.raises(
        ValueError, match=r"recommended must hold .* type str; .* write \[\[...\]\]"
    ):
        metric([["tea"], ["milk"]], ["tea", "milk"])
    with pytest.raises(ValueError, match="relevant must hold one collection"):
        metric(["tea", "milk"], [["tea"], ["milk"]])
    with pytest.raises(ValueError, match="type int"):
        metric([1, 2], [[1], [2]])
    with pytest.raises(ValueError, match="recommended holds arrays that are not 1-d"):
        metric([[1], [2]], (np.ones((2, 2)), np.ones((2, 2))))


@pytest.mark.parametrize("metric", METRICS)
def test_lists_of_unlike_types_keep_their_ids(metric):
    # What a scorer gets where one user has nothing left: an empty list of another type.
    relevant = [{1, 2}, {3}, {"3"}]
    mixed = [np.array([2, 1]), np.empty(0, dtype=object), np.array(["3", "1"])]
    same = [[2, 1], [], ["3", "1"]]
    vector = metric(relevant, mixed, k=2, per_user=True)
    np.testing.assert_array_equal(vector, metric(relevant, same, k=2, per_user=True))
    assert vector[2] > 0
    np.testing.assert_array_equal(vector[:2], metric(relevant[:2], mixed[:2], k=2, per_user=True))


rows = st.lists(
    st.tuples(st.sampled_from(["u", "v", 7]), st.booleans(), st.integers(-2, 2)),
    min_size=1,
    max_size=40,
)


@given(rows=rows)
def test_grouped_auc_equals_scikit_learn_group_by_group(rows):
    groups, truth, scores = (np.array(c, dtype=object) for c in zip(*rows, strict=True))
    truth, scores = truth.astype(bool), scores.astype(float)
    expected = []
    for group in dict.fromkeys(groups.tolist()):
        mine = groups == group
        both = len(set(truth[mine].tolist())) == 2
        expected.append(roc_auc_score(truth[mine], scores[mine]) if both else math.nan)
    vector = grouped_roc_auc_score(truth, scores, groups, per_group=True)
    assert_same(vector, expected)
    assert_same(grouped_roc_auc_score(truth, scores, groups), slow_mean(expected))


def test_grouped_auc_at_scale():
    rng = np.random.default_rng(1)
    groups, truth = rng.integers(0, 50, 5000), rng.integers(0, 2, 5000)
    scores = rng.integers(0, 20, 5000) + truth
    vector = grouped_roc_auc_score(truth, scores, groups, per_group=True)
    order = list(dict.fromkeys(groups.tolist()))
    expected = [roc_auc_score(truth[groups == g], scores[groups == g]) for g in order]
    assert_same(vector, expected)


def test_grouped_auc_equals_counting_of_pairs():
    rng = np.random.default_rng(2)
    groups, truth = rng.integers(0, 30, 600).tolist(), rng.integers(0, 2, 600).tolist()
    scores = rng.integers(0, 6, 600).tolist()  # many ties
    expected = []
    for group in dict.fromkeys(groups):
        mine = [j for j, own in enumerate(groups) if own == group]
        won = [
            (scores[i] > scores[j]) + (scores[i] == scores[j]) / 2
            for i in mine
            for j in mine
            if truth[i] > truth[j]
        ]
        expected.append(sum(won) / len(won) if won else math.nan)
    assert_same(grouped_roc_auc_score(truth, scores, groups, per_group=True), expected)


def test_grouped_auc_bad_arguments():
    with pytest.raises(ValueError, match="0 and 1 only"):
        grouped_roc_auc_score([1, 5], [0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        grouped_roc_auc_score([1, 0], [0.1, np.nan], [1, 1])
    with pytest.raises(ValueError, match="inconsistent"):
        grouped_roc_auc_score([1, 0], [0.1, 0.2], [1])
