"""Sums by user and item against sums of all rows: appended, merged, saved and erased."""

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.columns import SECONDS_PER_DAY, fade
from sklearn_recft.history import PairSums

rows = st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 60), st.integers(1, 3))
logs = st.lists(st.lists(rows, min_size=1, max_size=90), min_size=1, max_size=4)


def appended(calls, half_life):
    """Return sums of several calls, and all rows as four columns."""
    pairs = PairSums(half_life)
    for call in calls:
        pairs.append(*columns_of(call))
    return pairs, columns_of([row for call in calls for row in call])


def columns_of(call):
    user, item, day, weight = np.array(call, float).T
    return user.astype(int), item.astype(int), day * SECONDS_PER_DAY, weight, weight * (1 + item)


def by_item(columns, kept, n_items, half_life):
    """Sum rows the plain way, at the time of the newest row that is kept."""
    _, item, time, weight, total = (column[kept] for column in columns)
    latest = time.max(initial=-np.inf)
    share = np.ones(len(item)) if half_life is None else fade(latest - time, half_life)
    return np.bincount(item, weight * share, n_items), np.bincount(item, total * share, n_items)


@given(logs, st.sampled_from([None, 9.0]), st.sets(st.integers(0, 4)))
@settings(deadline=None, max_examples=25)
def test_sums_equal_those_of_the_rows_that_are_left(calls, half_life, gone):
    pairs, columns = appended(calls, half_life)
    kept = ~np.isin(columns[0], list(gone))
    pairs.forget(np.array(sorted(gone), int))
    assert_allclose(
        pairs.by_item(6, pairs.latest), by_item(columns, kept, 6, half_life), rtol=1e-12
    )
    assert pairs.latest == columns[2][kept].max(initial=-np.inf)


@given(logs, st.sets(st.integers(0, 5)))
@settings(deadline=None, max_examples=20)
def test_items_are_removed_and_renumbered(calls, gone):
    pairs, columns = appended(calls, None)
    pairs.forget_items(np.array(sorted(gone), int))
    left = np.setdiff1d(np.arange(6), list(gone))
    expected = by_item(columns, ~np.isin(columns[1], list(gone)), 6, None)
    assert_allclose(pairs.by_item(len(left), 0.0), np.array(expected)[:, left], rtol=1e-12)


def test_memory_is_bounded_by_the_pairs_and_a_restore_undoes_appends():
    pairs, call = PairSums(None), [(n % 5, n % 6, 0, 1) for n in range(300)]
    for _ in range(20):
        pairs.append(*columns_of(call))
    assert len(pairs.state()["user"]) == 30
    assert pairs.size <= 2048
    before, mark = pickle.dumps(pairs.state()), pairs.mark()
    for _ in range(9):
        pairs.append(*columns_of(call))
    pairs.restore(mark)
    assert pickle.dumps(pairs.state()) == before
    again = PairSums(None)
    again.load_state(pairs.state())
    for name, values in again.state().items():
        assert_array_equal(values, pairs.state()[name])
