"""The one door for data: every table that may come in, and every one that must not."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning

from sklearn_recft.interactions import (
    check_events,
    check_interactions,
    check_queries,
    context_of_queries,
    items_of,
    timestamps_of,
    users_of,
)

FRAMES = {
    "pandas": pd.DataFrame,
    "pandas, arrow": lambda d: pd.DataFrame(d).convert_dtypes(dtype_backend="pyarrow"),
    "pandas, nullable": lambda d: pd.DataFrame(d).convert_dtypes(),
    "polars": lambda d: pl.DataFrame(d, strict=False),
    "pyarrow": pa.table,
}
frames = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)

NOON, DAY = dt.datetime(2020, 3, 1, 12), dt.date(2020, 3, 1)


def log(**columns):
    return {
        "user_id": [7, 7, 9],
        "item_id": ["tea", "rice", "tea"],
        "timestamp": [30, 20, 20],
        "price": [1.5, 2.0, 0.0],
        "basket": [3, 1, 2],
    } | columns


def rows_of(table):
    return [list(row) for row in zip(*table.values(), strict=True)]


def same(a, b, *, names=True):
    for name in ("user_ids", "item_ids", "feedback", "timestamps", "text", "sample_weight"):
        left, right = getattr(a, name), getattr(b, name)
        assert (left is None) == (right is None), name
        if left is not None:
            assert (left.dtype.kind in "UO") == (right.dtype.kind in "UO"), name
            assert left.tolist() == right.tolist(), name
    assert a.context.dtype == b.context.dtype == np.float64
    np.testing.assert_array_equal(a.context, b.context)
    assert not names or a.context_names == b.context_names


# ------------------------------------------------------------------- what may come in


@frames
def test_a_frame_is_read_by_name(frame):
    table = log(text=["a", None, "c"])
    shuffled = {name: table[name] for name in ("price", "text", "item_id", "user_id", "timestamp")}
    events = check_interactions(frame(shuffled), [5, 3.5, 1])
    assert len(events) == 3
    assert events.user_ids.dtype == np.int64
    assert events.user_ids.tolist() == [7, 7, 9]
    assert events.item_ids.tolist() == ["tea", "rice", "tea"]
    assert events.timestamps.dtype == events.feedback.dtype == np.float64
    assert events.timestamps.tolist() == [30, 20, 20]
    assert events.feedback.tolist() == [5, 3.5, 1]
    assert events.text.tolist() == ["a", "", "c"]
    assert events.context_names == ("price",)
    assert events.context.tolist() == [[1.5], [2.0], [0.0]]
    assert events.sample_weight is None


@frames
def test_a_frame_equals_an_array(frame):
    table = log()
    by_name = check_interactions(frame(table), [1, 2, 3], sample_weight=[1, 2, 3])
    unnamed = frame(dict(zip("abcde", table.values(), strict=True)))
    as_list = rows_of(table)
    for X in (unnamed, as_list, [tuple(row) for row in as_list], np.array(as_list, dtype=object)):
        same(by_name, check_interactions(X, [1, 2, 3], sample_weight=[1, 2, 3]), names=False)
    assert by_name.context_names == ("price", "basket")


@frames
def test_columns_read_alone_are_those_of_the_table(frame):
    table = log()
    for X in (frame(table), rows_of(table)):
        assert users_of(X).tolist() == table["user_id"]
        assert items_of(X).tolist() == table["item_id"]
        assert timestamps_of(X).tolist() == table["timestamp"]
        assert timestamps_of(X).dtype == np.float64


def test_an_id_may_be_a_tuple():
    pairs = [("u", 1), ("v", 2)], [(0, 0), (0, 1)]
    for make in (list, tuple):
        events = check_interactions([make(row) for row in zip(*pairs, [20, 30], strict=True)])
        assert events.user_ids.tolist() == pairs[0]
        assert events.item_ids.tolist() == pairs[1]
        assert events.timestamps.tolist() == [20, 30]
        both = [make(row) for row in zip(*pairs, strict=True)]
        assert check_interactions(both).item_ids.tolist() == pairs[1]
    assert items_of([["u", (0, 0)], ["v", "w"]]).tolist() == [(0, 0), "w"]
    assert check_queries([[one] for one in pairs[0]]).user_ids.tolist() == pairs[0]
    assert check_queries([[("u", 1), 20]]).timestamps.tolist() == [20]
    with pytest.raises(ValueError, match="x3: not numeric"):
        check_interactions([["u", "i", 20, (0, 0)]])
    estimator = BaseEstimator()
    check_events(estimator, both, reset=True)
    assert check_events(estimator, both, reset=False).user_ids.tolist() == pairs[0]


def test_one_name_of_two_is_read_by_position():
    frame = pd.DataFrame({"item_id": [1, 2], "user": [3, 4], "t": [5, 6], "c": [7, 8]})
    events = check_interactions(frame)
    assert events.user_ids.tolist() == [1, 2]
    assert events.item_ids.tolist() == [3, 4]
    assert events.timestamps.tolist() == [5, 6]
    assert events.context_names == ("c",)


def test_two_columns_are_enough():
    events = check_interactions(np.array([[1, 2], [3, 4]]))
    assert events.timestamps is events.feedback is events.text is None
    assert events.context.shape == (2, 0)
    assert events.context_names == ()


def test_read_only_arrays_are_not_written():
    X, y = np.array([[1.0, 2, 3, 4]] * 3), np.array([1.0, 0, 2])
    weight = np.array([1.0, 0, 2])
    for array in (X, y, weight):
        array.flags.writeable = False
    events = check_interactions(X, y, sample_weight=weight)
    assert events.feedback.tolist() == [1, 2]


def test_rows_of_weight_zero_are_absent():
    table = log(text=list("abc"))
    events = check_interactions(pd.DataFrame(table), [1, 2, 3], sample_weight=[0.5, 0, 2])
    kept = {name: [values[0], values[2]] for name, values in table.items()}
    same(events, check_interactions(pd.DataFrame(kept), [1, 3], sample_weight=[0.5, 2]))
    assert events.sample_weight.tolist() == [0.5, 2]


def test_take_selects_rows_of_every_column():
    events = check_interactions(
        pd.DataFrame(log(text=list("abc"))), [1, 2, 3], sample_weight=[1, 2, 3]
    )
    for rows in (np.array([2, 0]), np.array([True, False, True])):
        taken = events.take(rows)
        for name in ("user_ids", "feedback", "timestamps", "text", "context", "sample_weight"):
            assert getattr(taken, name).tolist() == getattr(events, name)[rows].tolist()
    assert check_queries([1, 2, 3]).take(np.array([1])).user_ids.tolist() == [2]


def test_a_column_of_feedback_is_flattened_with_a_warning():
    with pytest.warns(DataConversionWarning, match="column-vector"):
        events = check_interactions([[1, 2], [3, 4]], [[5], [6]])
    assert events.feedback.tolist() == [5, 6]


# ---------------------------------------------------------------- what must not come in

GOOD = log()
BAD_COLUMNS = [
    ("user_id", [7, None, 9], ValueError, "user_id: 1 of 3 rows are missing .* drop or fill"),
    ("item_id", ["tea", None, None], ValueError, "item_id: 2 of 3 rows are missing"),
    ("item_id", [1.0, np.nan, 2.0], ValueError, "item_id: 1 of 3 rows are missing"),
    ("user_id", [1.0, np.inf, 2.0], ValueError, "user_id: 1 of 3 rows .* inf"),
    ("timestamp", [1.0, np.nan, np.nan], ValueError, "timestamp: 2 of 3 rows are NaN.* impute"),
    ("timestamp", [1, None, 2], ValueError, "timestamp: 1 of 3 rows"),
    ("timestamp", [NOON, None, NOON], ValueError, "timestamp: 1 of 3 rows are missing.* drop"),
    ("timestamp", [None, DAY, DAY], ValueError, "timestamp: 1 of 3 rows are missing"),
    ("timestamp", ["noon", "one", "two"], ValueError, "timestamp: neither .* convert it first"),
    ("timestamp", [dt.timedelta(1)] * 3, ValueError, "timestamp: neither .* convert it first"),
    ("price", ["low", "high", "low"], ValueError, "price: not numeric .* OneHotEncoder"),
    ("price", [1.0, np.nan, np.inf], ValueError, "price: 2 of 3 rows are NaN or inf; impute"),
    ("basket", [1, None, 2], ValueError, "basket: 1 of 3 rows"),
]


@frames
@pytest.mark.parametrize(("name", "column", "error", "message"), BAD_COLUMNS)
def test_a_bad_column_is_named(frame, name, column, error, message):
    with pytest.raises(error, match=message):
        check_interactions(frame(GOOD | {name: column}), [1, 2, 3])


@pytest.mark.parametrize(("name", "column", "error", "message"), BAD_COLUMNS)
def test_a_bad_column_of_a_list_is_named(name, column, error, message):
    # By position the context columns go by their place.
    message = message.replace("price", "x3").replace("basket", "x4")
    with pytest.raises(error, match=message):
        check_interactions(rows_of(GOOD | {name: column}), [1, 2, 3])


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([[1], [2]], ValueError, r"1 feature\(s\).*minimum of 2 .*user_id and item_id"),
        (pd.DataFrame({"a": [1, 2]}), ValueError, r"1 feature\(s\).*minimum of 2"),
        (np.empty((0, 3)), ValueError, r"0 sample\(s\).*minimum of 1.*X is empty"),
        (pd.DataFrame(log()).iloc[:0], ValueError, r"0 sample\(s\).*X is empty"),
        (pa.table(log()).slice(0, 0), ValueError, r"0 sample\(s\).*X is empty"),
        ([1, 2, 3], ValueError, "Expected a table of events.*got 1D.*Reshape"),
        ([[1, 2], [3]], ValueError, "Expected a table of events.*got 1D"),
        ([[1, 2], 3], ValueError, "Expected a table of events.*got 1D"),
        ([], ValueError, "Expected a table of events.*got 1D"),
        ([[], []], ValueError, r"0 feature\(s\)"),
        ([[[1], 2], [[3], 4]], TypeError, "user_id: .*got list.*must be hashable"),
        (7, ValueError, "Expected a table of events.*got 0D"),
        (np.zeros((2, 2, 2)), ValueError, "Expected a table of events.*got 3D"),
        (sparse.csr_matrix(np.eye(3)), TypeError, "[Ss]parse data.*dense table.*one row per event"),
        (sparse.coo_array(np.eye(3)), TypeError, "[Ss]parse data"),
        (np.ones((2, 2), complex), ValueError, "Complex data not supported"),
        ([[{"a": 1}, 2], [3, 4]], TypeError, "user_id: .*got dict.*must be hashable"),
    ],
)
def test_what_is_no_table_of_events_is_refused(X, error, message):
    with pytest.raises(error, match=message):
        check_interactions(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, np.nan, 3], "y: 1 of 3 rows are NaN or inf; impute"),
        ([np.inf, -np.inf, 3], "y: 2 of 3 rows are NaN or inf"),
        ([1, 2], "inconsistent numbers of samples: X has 3 rows, y has 2"),
        (["good", "bad", "good"], "y: not numeric"),
        (3.0, "y should be a 1d array"),
        (np.ones((3, 2)), "y should be a 1d array"),
        ([1j, 2, 3], "Complex data not supported"),
    ],
    ids=str,
)
def test_bad_feedback_is_refused(y, message):
    with pytest.raises(ValueError, match=message):
        check_interactions(rows_of(GOOD), y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1, -1, -2], "sample_weight: 2 of 3 rows are negative; use weights of 0 or more"),
        ([0, 0, 0], "sample_weight: every weight is zero; at least one must be positive"),
        ([1, np.nan, 1], "sample_weight: 1 of 3 rows are NaN or inf"),
        ([1, 1], "X has 3 rows, sample_weight has 2"),
        (1.0, "sample_weight should be a 1d array"),
        (["a", "b", "c"], "sample_weight: not numeric"),
    ],
    ids=str,
)
def test_bad_weights_are_refused(weight, message):
    with pytest.raises(ValueError, match=message):
        check_interactions(rows_of(GOOD), [1, 2, 3], sample_weight=weight)


# ------------------------------------------------------------------------ who asks


def arrow_column(ids):
    return pa.table({"a": ids})["a"]


def test_queries_are_ids_or_a_table():
    assert check_queries(range(3)).user_ids.tolist() == [0, 1, 2]
    assert check_queries(np.array([[4], [5]])).user_ids.tolist() == [4, 5]
    for ids in (pd.Series, pl.Series, pd.Index, np.array, list, tuple, arrow_column):
        assert check_queries(ids(["b", "a"])).user_ids.tolist() == ["b", "a"]
    queries = check_queries([["b", 30, 1.5], ["a", 20, 2.5]])
    assert queries.item_ids is None
    assert queries.timestamps.tolist() == [30, 20]
    assert queries.context.tolist() == [[1.5], [2.5]]


@frames
def test_queries_of_a_frame_are_read_by_name(frame):
    table = {"price": [1.5, 2.5], "timestamp": [DAY, DAY], "user_id": ["b", "a"]}
    queries = check_queries(frame(table))
    assert queries.user_ids.tolist() == ["b", "a"]
    assert queries.timestamps.tolist() == [1_583_020_800] * 2
    assert queries.context_names == ("price",)
    assert queries.context.tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([], ValueError, "X is empty"),
        (np.empty(0), ValueError, "X is empty"),
        (np.empty((0, 2)), ValueError, r"0 sample\(s\)"),
        (pd.DataFrame({"user_id": []}), ValueError, r"0 sample\(s\)"),
        ("ann", ValueError, "needs a list of user ids or a table; use \\['ann'\\]"),
        (7, ValueError, "needs a list of user ids or a table; use \\[7\\]"),
        ([1.0, np.nan], ValueError, "user_id: 1 of 2 rows are missing"),
        (pl.Series([1, None]), ValueError, "user_id: 1 of 2 rows are missing"),
        ([{"a": 1}], TypeError, "user_id: .*must be hashable"),
        ([[1, np.nan]], ValueError, "timestamp: 1 of 1 rows are NaN"),
        ([[1, 2, "low"]], ValueError, "x2: not numeric"),
        (sparse.csr_matrix(np.eye(2)), TypeError, "[Ss]parse data"),
    ],
)
def test_bad_queries_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        check_queries(X)


def test_the_context_of_queries_comes_in_the_order_of_fit():
    queries = check_queries(pd.DataFrame({"b": [1, 2], "user_id": [1, 2], "a": [3, 4]}))
    assert context_of_queries(queries, ("a", "b")).tolist() == [[3, 1], [4, 2]]
    assert context_of_queries(queries, ()) is None
    assert context_of_queries(check_queries([1, 2]), ("a", "b")) is None
    by_position = check_queries([[1, 20, 3, 1], [2, 20, 4, 2]])
    assert context_of_queries(by_position, ("a", "b")).tolist() == [[3, 1], [4, 2]]
    with pytest.raises(ValueError, match=r"\['b', 'a'\], are not those of fit: \['a', 'c'\]"):
        context_of_queries(queries, ("a", "c"))


# ------------------------------------------------------------- the columns of an estimator


@frames
def test_named_columns_may_come_in_any_order(frame):
    estimator, table = BaseEstimator(), log()
    check_events(estimator, frame(table), reset=True)
    assert estimator.n_features_in_ == 5
    assert estimator.feature_names_in_.tolist() == list(table)
    other = {name: table[name] for name in ("basket", "item_id", "price", "user_id")}
    events = check_events(estimator, frame(other), reset=False)
    assert events.context_names == ("price", "basket")
    assert events.context.tolist() == [[1.5, 3], [2, 1], [0, 2]]
    assert events.timestamps is None


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame(log()).drop(columns="price"), r"missing: \['price'\]; unknown: \[\]"),
        (pd.DataFrame(log(age=[1, 2, 3])), r"missing: \[\]; unknown: \['age'\]"),
        (pd.DataFrame(log()).rename(columns={"price": "Price"}), r"unknown: \['Price'\]"),
        (pd.DataFrame(log(price=["a", "b", "c"])), "price: not numeric"),
    ],
)
def test_other_columns_than_those_of_fit_are_refused(X, message):
    estimator = BaseEstimator()
    check_events(estimator, pd.DataFrame(log()), reset=True)
    before = dict(vars(estimator))
    with pytest.raises(ValueError, match=message):
        check_events(estimator, X, reset=False)
    assert vars(estimator) == before


def test_columns_without_names_are_counted():
    estimator = BaseEstimator()
    check_events(estimator, rows_of(log()), reset=True)
    assert estimator.n_features_in_ == 5
    assert not hasattr(estimator, "feature_names_in_")
    assert check_events(estimator, rows_of(log()), reset=False).context_names == ("x3", "x4")
    for X, n in (([[1, 2, 3, 4]], 4), (np.ones((2, 6)), 6)):
        with pytest.raises(ValueError, match=f"X has {n} features, .* is expecting 5 features"):
            check_events(estimator, X, reset=False)


@pytest.mark.parametrize(("name", "column", "error", "message"), BAD_COLUMNS)
def test_a_refused_table_leaves_no_trace(name, column, error, message):
    estimator = BaseEstimator()
    with pytest.raises(error, match=message):
        check_events(estimator, pd.DataFrame(GOOD | {name: column}), [1, 2, 3], reset=True)
    assert vars(estimator) == {}
