"""Splitters against brute force, against the promise they make, and inside scikit-learn."""

import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate

from sklearn_recft.model_selection import ColdUserSplit, LeaveLastOut, TemporalSplit

DAY = 86_400

# Few distinct days and users, so that ties and short histories are the rule.
logs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), min_size=3, max_size=40)


def table(log):
    return np.array([(user, j, day * DAY) for j, (user, day) in enumerate(log)], dtype=float)


def in_time_order(log, rows):
    return sorted(rows, key=lambda row: (log[row][1], row))


def as_lists(folds):
    return [(train.tolist(), test.tolist()) for train, test in folds]


def temporal_brute_force(log, n_splits, test_rows, gap, window):
    """The docstring of TemporalSplit, row by row."""
    order = in_time_order(log, range(len(log)))
    nominal = [len(log) - test_rows * j for j in range(n_splits, 0, -1)]
    begins = [log[order[place]][1] for place in nominal]
    for begin, end in zip(begins, [*begins[1:], math.inf], strict=True):
        test = [row for row in order if begin <= log[row][1] < end]
        train = [row for row in order if begin - gap - window <= log[row][1] < begin - gap]
        yield train, test


@given(
    log=logs,
    n_splits=st.integers(1, 4),
    test_rows=st.integers(1, 6),
    gap=st.integers(0, 3),
    window=st.one_of(st.none(), st.integers(1, 6)),
)
def test_temporal_split_equals_brute_force(log, n_splits, test_rows, gap, window):
    splitter = TemporalSplit(n_splits, test_size=test_rows, gap=gap, max_train_window=window)
    X = table(log)
    if n_splits * test_rows >= len(log):
        with pytest.raises(ValueError, match="cannot give"):
            list(splitter.split(X))
        return
    expected = list(temporal_brute_force(log, n_splits, test_rows, gap, window or math.inf))
    if not all(train and test for train, test in expected):
        with pytest.raises(ValueError, match="is empty"):
            list(splitter.split(X))
        return
    folds = as_lists(splitter.split(X))
    assert folds == expected
    assert len(folds) == splitter.get_n_splits(X)
    for train, test in folds:
        assert max(log[r][1] for r in train) + gap < min(log[r][1] for r in test)
    tested = [row for _, test in folds for row in test]
    assert len(tested) == len(set(tested))


@given(log=logs, n_last=st.integers(1, 3), min_train=st.integers(0, 3), timed=st.booleans())
def test_leave_last_out_equals_brute_force(log, n_last, min_train, timed):
    X = table(log) if timed else table(log)[:, :2]
    seen = log if timed else [(user, j) for j, (user, _) in enumerate(log)]
    test = []
    for user in {user for user, _ in log}:
        mine = in_time_order(seen, [r for r in range(len(log)) if log[r][0] == user])
        if len(mine) >= n_last + min_train:
            test += mine[-n_last:]
    train = set(range(len(log))) - set(test)
    splitter = LeaveLastOut(n_last, min_train=min_train)
    if not test or not train:
        with pytest.raises(ValueError, match="too few rows"):
            list(splitter.split(X))
        return
    assert as_lists(splitter.split(X)) == [(in_time_order(seen, train), in_time_order(seen, test))]
    assert splitter.get_n_splits() == 1


@given(log=logs, n_splits=st.integers(2, 4), n_support=st.integers(0, 3), seed=st.integers(0, 5))
def test_cold_user_split_equals_brute_force(log, n_splits, n_support, seed):
    X = table(log)
    splitter = ColdUserSplit(n_splits, n_support=n_support, random_state=seed)
    users = list(dict.fromkeys(user for user, _ in log))
    if len(users) < n_splits:
        with pytest.raises(ValueError, match="cannot be divided"):
            list(splitter.split(X))
        return
    shuffled = [users[j] for j in np.random.RandomState(seed).permutation(len(users))]
    rows = in_time_order(log, range(len(log)))
    expected = []
    for j in range(n_splits):
        test = [
            row
            for user in shuffled[j::n_splits]
            for row in [r for r in rows if log[r][0] == user][n_support:]
        ]
        expected.append(([r for r in rows if r not in test], in_time_order(log, test)))
    if not all(train and test for train, test in expected):
        with pytest.raises(ValueError, match="too few rows"):
            list(splitter.split(X))
        return
    assert as_lists(splitter.split(X)) == expected
    assert splitter.get_n_splits() == n_splits


def test_cold_user_folds_hold_equal_numbers_of_users_and_follow_the_seed():
    X = table([(user, day) for user in range(12) for day in range(3)])
    folds = as_lists(ColdUserSplit(4, random_state=0).split(X))
    assert [len(test) for _, test in folds] == [9, 9, 9, 9]
    assert folds == as_lists(ColdUserSplit(4, random_state=0).split(X))
    assert folds != as_lists(ColdUserSplit(4, random_state=1).split(X))


def test_cold_user_folds_without_rows_are_refused():
    with pytest.raises(ValueError, match="2 users cannot be divided into 3 folds"):
        list(ColdUserSplit(3).split(table([(0, 1), (1, 2)])))
    with pytest.raises(ValueError, match="too few rows"):
        list(ColdUserSplit(2, n_support=1).split(table([(0, 1), (1, 2)])))


def test_rows_of_one_timestamp_never_straddle_a_boundary():
    days = [0, 0, 1, 1, 1, 1, 2, 2]
    X = table([(0, day) for day in days])
    # Half of the rows would cut the four rows of day 1 in two: all of them are tested.
    assert as_lists(TemporalSplit(1, test_size=0.5).split(X)) == [([0, 1], [2, 3, 4, 5, 6, 7])]


def test_test_size_as_fraction_rows_and_default():
    X = table([(0, day) for day in range(12)])
    sizes = {
        size: [len(test) for _, test in TemporalSplit(2, test_size=size).split(X)]
        for size in (None, 3, 0.25, np.int64(3))
    }
    assert sizes == {None: [4, 4], 3: [3, 3], 0.25: [3, 3]}


def frames():
    days = [3, 0, 2, 1, 5, 4]
    columns = {
        "item_id": list("abcdef"),
        "user_id": ["ann", "bob"] * 3,
        "timestamp": np.array(days, dtype="datetime64[D]").astype("datetime64[us]"),
        "colour": ["red"] * 6,  # context that only a pipeline could read
    }
    array = np.column_stack([columns["user_id"], columns["item_id"]]).astype(object)
    array = np.column_stack([array, np.array(days, dtype=object) * DAY])
    return [pd.DataFrame(columns), pl.DataFrame(columns), array, array.tolist()]


@pytest.mark.parametrize("X", frames(), ids=["pandas", "polars", "array", "list"])
def test_any_table_gives_the_same_rows(X):
    assert as_lists(TemporalSplit(2, test_size=2).split(X)) == [
        ([1, 3], [2, 0]),
        ([1, 3, 2, 0], [5, 4]),
    ]
    assert as_lists(LeaveLastOut().split(X)) == [([1, 3, 2, 0], [5, 4])]
    folds = as_lists(ColdUserSplit(2, n_support=1, random_state=0).split(X))
    assert sorted(test for _, test in folds) == [[0, 4], [3, 5]]


def test_missing_times_are_an_error_where_time_is_the_point():
    with pytest.raises(ValueError, match="timestamp"):
        list(TemporalSplit(2).split(np.arange(20).reshape(10, 2)))
    late = pd.DataFrame({"user_id": [1, 1], "item_id": [1, 2], "timestamp": [np.nan, 1.0]})
    with pytest.raises(ValueError, match="timestamp"):
        list(LeaveLastOut().split(late))


@pytest.mark.parametrize(
    ("splitter", "match"),
    [
        (TemporalSplit(0), "n_splits"),
        (TemporalSplit(2, gap=-1), "gap"),
        (TemporalSplit(2, max_train_window=0), "max_train_window"),
        (TemporalSplit(2, test_size=0), "cannot give"),
        (TemporalSplit(2, test_size=0.6), "cannot give"),
        (LeaveLastOut(0), "n_last"),
        (LeaveLastOut(min_train=-1), "min_train"),
        (ColdUserSplit(1), "n_splits"),
        (ColdUserSplit(2, n_support=-1), "n_support"),
    ],
)
def test_bad_parameters(splitter, match):
    with pytest.raises(ValueError, match=match):
        list(splitter.split(table([(j % 3, j) for j in range(9)])))


@pytest.mark.parametrize(
    "splitter",
    [TemporalSplit(3, gap=1), LeaveLastOut(2), ColdUserSplit(3, n_support=1, random_state=0)],
)
def test_inside_scikit_learn(splitter):
    rng = np.random.default_rng(0)
    X = table([(user, day) for day in range(10) for user in range(6)])
    y = rng.random(len(X))
    model = DummyRegressor()
    n_splits = splitter.get_n_splits()
    assert len(cross_validate(model, X, y, cv=splitter)["test_score"]) == n_splits
    grid = {"strategy": ["mean", "median"]}
    search = GridSearchCV(model, grid, cv=splitter).fit(X, y)
    assert search.n_splits_ == n_splits
    halving = HalvingGridSearchCV(
        model, grid, cv=splitter, factor=2, min_resources=30, random_state=0
    )
    assert halving.fit(X, y).n_splits_ == n_splits
    assert repr(pickle.loads(pickle.dumps(splitter))) == repr(splitter)
    assert repr(clone(splitter, safe=False)) == repr(splitter)
