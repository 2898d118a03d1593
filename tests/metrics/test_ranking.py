"""Metrics against brute force, against known answers, and against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

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
    vector = metric(relevant, recommended, k=k, per_user=True)
    np.testing.assert_allclose(vector, expected, atol=1e-12)
    mean = metric(relevant, recommended, k=k)
    assert isinstance(mean, float)
    if np.isnan(expected).all():
        assert math.isnan(mean)
    else:
        assert mean == pytest.approx(np.nanmean(expected))


def test_ndcg_equals_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.random((40, 30)) < 0.2
    truth[:, 0] = True
    scores = rng.permuted(np.tile(np.arange(30.0), (40, 1)), axis=1)
    lists = np.argsort(-scores, axis=1)
    relevant = [np.flatnonzero(row) for row in truth]
    assert ndcg_at_k(relevant, lists, k=7) == pytest.approx(ndcg_score(truth, scores, k=7))


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
    np.testing.assert_allclose(vector, expected, atol=1e-12)
    mean = grouped_roc_auc_score(truth, scores, groups)
    assert (
        math.isnan(mean)
        if np.isnan(expected).all()
        else (mean == pytest.approx(np.nanmean(expected)))
    )


def test_grouped_auc_at_scale():
    rng = np.random.default_rng(1)
    groups, truth = rng.integers(0, 50, 5000), rng.integers(0, 2, 5000)
    scores = rng.integers(0, 20, 5000) + truth
    vector = grouped_roc_auc_score(truth, scores, groups, per_group=True)
    order = list(dict.fromkeys(groups.tolist()))
    expected = [roc_auc_score(truth[groups == g], scores[groups == g]) for g in order]
    np.testing.assert_allclose(vector, expected)


def test_grouped_auc_bad_arguments():
    with pytest.raises(ValueError, match="0 and 1 only"):
        grouped_roc_auc_score([1, 5], [0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="NaN or infinite"):
        grouped_roc_auc_score([1, 0], [0.1, np.nan], [1, 1])
    with pytest.raises(ValueError, match="inconsistent"):
        grouped_roc_auc_score([1, 0], [0.1, 0.2], [1])
