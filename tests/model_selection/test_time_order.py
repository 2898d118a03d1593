"""A split that lets a user's future into training is told from those that do not."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, ShuffleSplit, TimeSeriesSplit

from sklearn_recft.model_selection import (
    ColdUserSplit,
    LeaveLastOut,
    RandomSplitWarning,
    TemporalSplit,
    check_time_order,
)


def random_log(seed, n=400, last_day=50):
    """Rows in any order of time, with many ties."""
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.integers(0, 12, n), rng.integers(0, 30, n), rng.integers(0, last_day, n)]
    )


IN_ORDER = [
    TemporalSplit(3),
    TemporalSplit(2, gap=1e-4),
    LeaveLastOut(),
    LeaveLastOut(3),
    ColdUserSplit(3, n_support=4, random_state=0),
    ColdUserSplit(3, random_state=0),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("cv", IN_ORDER, ids=repr)
def test_splits_in_order_of_time_are_silent(cv, seed):
    share = check_time_order(cv, random_log(seed))
    assert share.tolist() == [0.0] * cv.get_n_splits()


@pytest.mark.parametrize(
    "cv", [3, KFold(3, shuffle=True, random_state=0), ShuffleSplit(3, random_state=0)], ids=repr
)
def test_splits_that_know_no_time_are_warned_of(cv):
    with pytest.warns(RandomSplitWarning, match=r"3 of 3 splits.*Use TemporalSplit") as caught:
        share = check_time_order(cv, random_log(0))
    assert (share > 0.9).all()
    assert caught[0].filename == __file__


def test_rows_in_order_make_a_time_series_split_sound():
    X = random_log(0)
    in_order = X[np.argsort(X[:, 2], kind="stable")]
    assert not check_time_order(TimeSeriesSplit(4), in_order).any()
    with pytest.warns(RandomSplitWarning):
        check_time_order(TimeSeriesSplit(4), X)


@given(
    log=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans()), min_size=2),
)
def test_share_equals_a_loop_over_pairs(log):
    X = [[user, 0, time] for user, time, _ in log]
    train = [row for row, (_, _, tested) in enumerate(log) if not tested]
    test = [row for row, (_, _, tested) in enumerate(log) if tested]
    if not train or not test:
        return
    users = {log[row][0] for row in test}
    late = {
        log[row][0]
        for row in test
        for other in train
        if log[other][0] == log[row][0] and log[other][1] > log[row][1]
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        share = check_time_order([(train, test)], X)
    assert share.tolist() == [len(late) / len(users)]
    assert bool(caught) == bool(late)


def test_times_are_needed():
    with pytest.raises(ValueError, match="timestamp"):
        check_time_order(KFold(2), [["ann", "tea"], ["bob", "tea"]])
