"""Novelty, average popularity and its lift against loops written out, and known answers."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_recft.metrics import (
    average_popularity_at_k,
    item_popularity,
    novelty_at_k,
    popularity_lift_at_k,
)

ids = st.one_of(
    st.integers(-3, 6), st.sampled_from("abc"), st.tuples(st.integers(0, 1), st.integers(0, 1))
)
shares = st.sampled_from([0.0, 0.05, 0.25, 0.3, 0.7, 1.0])
tables = st.dictionaries(ids, shares, min_size=1).filter(lambda table: any(table.values()))
queries = st.lists(st.tuples(st.lists(ids, max_size=5), st.lists(ids, max_size=9)), max_size=6)


def slow_mean(values):
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan


def slow_novelty(table, row, k):
    rarest = min(share for share in table.values() if share > 0)
    return slow_mean([-math.log2(table.get(item, 0) or rarest) for item in set(row[:k])])


def slow_popularity(table, row, k=None):
    return slow_mean([table.get(item, 0.0) for item in set(row[:k])])


def slow_lift(table, profiles, recommended, k):
    """Return the lift of each user, and that of all of them together."""
    vector, listed, own = [], [], []
    for profile, row in zip(profiles, recommended, strict=True):
        r, q = slow_popularity(table, row, k), slow_popularity(table, profile)
        if math.isnan(r) or math.isnan(q) or q == 0:
            vector.append(math.nan)
        else:
            vector.append((r - q) / q)
            listed.append(r)
            own.append(q)
    if not own:
        return vector, math.nan
    return vector, (slow_mean(listed) - slow_mean(own)) / slow_mean(own)


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


@given(table=tables, queries=queries, k=st.integers(1, 8))
def test_equal_loops(table, queries, k):
    profiles, recommended = [q[0] for q in queries], [q[1] for q in queries]
    for metric, slow in [(novelty_at_k, slow_novelty), (average_popularity_at_k, slow_popularity)]:
        expected = [slow(table, row, k) for row in recommended]
        assert_same(metric(table, recommended, k=k, per_user=True), expected)
        mean = metric(table, recommended, k=k)
        assert isinstance(mean, float)
        assert_same(mean, slow_mean(expected))
    vector, number = slow_lift(table, profiles, recommended, k)
    assert_same(popularity_lift_at_k(table, profiles, recommended, k=k, per_user=True), vector)
    lift = popularity_lift_at_k(table, profiles, recommended, k=k)
    assert isinstance(lift, float)
    assert_same(lift, number)


def random_case(seed, n_queries=700):
    """Full, short and empty lists and profiles with repeats, and a log to be popular in."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(0, 90, 2000), (50 * rng.random(2000) ** 3).astype(int)])
    profiles, recommended = (
        [(60 * rng.random(n) ** 2).astype(int) for n in rng.integers(0, 13, n_queries)]
        for _ in range(2)
    )
    return X, profiles, recommended


def slow_shares(X):
    users = {}
    for user, item in X:
        users.setdefault(item, set()).add(user)
    n_users = len({user for user, _ in X})
    return {item: len(who) / n_users for item, who in users.items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_random_inputs_equal_loops(seed):
    X, profiles, recommended = random_case(seed)
    popularity, table = item_popularity(X), slow_shares(X.tolist())
    listed, owned = ([row.tolist() for row in rows] for rows in (recommended, profiles))
    for metric, slow in [(novelty_at_k, slow_novelty), (average_popularity_at_k, slow_popularity)]:
        expected = [slow(table, row, 10) for row in listed]
        assert np.isnan(expected).any()
        assert_same(metric(popularity, recommended, per_user=True), expected)
    vector, number = slow_lift(table, owned, listed, 10)
    assert np.isnan(vector).any()
    assert_same(popularity_lift_at_k(popularity, profiles, recommended, per_user=True), vector)
    assert_same(popularity_lift_at_k(popularity, profiles, recommended), number)


@given(
    rows=st.lists(st.tuples(st.sampled_from(["u", "v", 7]), ids), min_size=1, max_size=30),
)
def test_item_popularity_equals_loops(rows):
    table = np.empty((len(rows), 2), dtype=object)
    for j, row in enumerate(rows):
        table[j, 0], table[j, 1] = row
    item_ids, values = item_popularity(table)
    expected = slow_shares(rows)
    assert list(item_ids) == list(dict.fromkeys(item for _, item in rows))
    assert_same(values, [expected[item] for item in item_ids])


def test_item_popularity_of_a_frame():
    frame = pd.DataFrame({"item_id": ["tea", "tea", "rice"], "user_id": [1, 1, 2]})
    item_ids, values = item_popularity(frame)
    assert dict(zip(item_ids, values, strict=True)) == {"tea": 0.5, "rice": 0.5}


def test_item_nobody_met_is_as_novel_as_the_rarest_item_met():
    table = {"tea": 0.5, "rice": 0.125, "salt": 0.0}
    found = novelty_at_k(table, [["rice"], ["salt"], ["who"], [], ["tea", "tea"]], per_user=True)
    np.testing.assert_array_equal(found, [3.0, 3.0, 3.0, np.nan, 1.0])
    assert novelty_at_k(table, [["tea"], [], ["who"]]) == 2.0


def test_what_everybody_met_is_not_novel():
    assert str(novelty_at_k({"tea": 1.0}, [["tea"]])) == "0.0"  # not "-0.0"


def test_profiles_as_lists_have_no_lift_and_the_number_is_no_mean_of_ratios():
    popularity = {"tea": 0.8, "rice": 0.2}
    profiles = [["rice"], ["tea"]]
    assert popularity_lift_at_k(popularity, profiles, profiles) == 0.0
    vector = popularity_lift_at_k(popularity, profiles, [["tea"], ["rice"]], per_user=True)
    np.testing.assert_allclose(vector, [3.0, -0.75])
    assert popularity_lift_at_k(popularity, profiles, [["tea"], ["rice"]]) == 0.0


def test_every_item_of_a_profile_counts_whatever_k():
    popularity = {"tea": 1, "rice": 3, "salt": 5}
    assert popularity_lift_at_k(popularity, [["tea", "rice", "salt"]], [["salt"]], k=1) == (
        pytest.approx(5 / 3 - 1)
    )


def test_no_list_at_all():
    for rows in ([], [[], []]):
        assert math.isnan(novelty_at_k({1: 0.5}, rows))
        assert math.isnan(average_popularity_at_k({1: 0.5}, rows))
        assert math.isnan(popularity_lift_at_k({1: 0.5}, rows, rows))
    assert math.isnan(popularity_lift_at_k({1: 0.5}, [[2]], [[1]]))


def test_counts_and_pairs_are_popularities_too():
    assert average_popularity_at_k((np.array(["a", "b"]), [4, 2]), [["a", "b", "c"]]) == 2.0
    assert average_popularity_at_k({1: 4}, np.array([[1, 2]])) == 2.0


@pytest.mark.parametrize("metric", [novelty_at_k, average_popularity_at_k])
def test_bad_arguments(metric):
    with pytest.raises(ValueError, match="k must be at least 1"):
        metric({1: 0.5}, [[1]], k=0)
    with pytest.raises(ValueError, match="popularity: 1 of 2 values are negative"):
        metric({1: 0.5, 2: -0.5}, [[1]])
    with pytest.raises(ValueError, match="popularity: 1 of 2 rows are NaN or inf"):
        metric({1: 0.5, 2: np.nan}, [[1]])
    with pytest.raises(ValueError, match="no item has a value above 0"):
        metric({1: 0.0}, [[1]])
    with pytest.raises(ValueError, match="no item has a value above 0"):
        metric({}, [[1]])
    with pytest.raises(TypeError, match="popularity must be a mapping from item id to value"):
        metric([0.5, 0.5, 0.5], [[1]])
    with pytest.raises(ValueError, match="popularity: 2 rows for 1 items"):
        metric(([1, 1], [0.5, 0.5]), [[1]])
    with pytest.raises(ValueError, match="recommended must hold one collection"):
        metric({"tea": 0.5}, ["tea"])


def test_counts_have_no_self_information():
    with pytest.raises(ValueError, match=r"1 of 2 values are above 1.*item_popularity"):
        novelty_at_k({1: 0.5, 2: 3}, [[1]])


def test_a_profile_per_list():
    with pytest.raises(ValueError, match="profiles has 2 queries and recommended has 1"):
        popularity_lift_at_k({1: 0.5}, [[1], [1]], [[1]])
    with pytest.raises(ValueError, match="profiles must hold one collection"):
        popularity_lift_at_k({1: 0.5}, ["tea"], [[1]])
