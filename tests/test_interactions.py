"""The one door for data: every table that may come in, and every one that must not."""

import dataclasses
import datetime as dt
from collections import namedtuple

import narwhals as nw
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
    check_ids,
    check_interactions,
    check_items,
    check_queries,
    items_of,
    timestamps_of,
    users_of,
)
from sklearn_recft.vocabulary import IdTypeWarning


def nullable(columns, **backend):
    """Make a frame of nullable columns; pandas before 3 casts inf on the way, and warns."""
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(columns).convert_dtypes(**backend)


FRAMES = {
    "pandas": pd.DataFrame,
    "pandas, arrow": lambda d: nullable(d, dtype_backend="pyarrow"),
    "pandas, nullable": nullable,
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
    unnamed = frame({f"x{j}": column for j, column in enumerate(table.values())})
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


OTHER_NAMES = {
    "other names": {"timestamp": [1, 2], "userId": [3, 4], "movieId": [5, 6]},
    "one name of two": {"item_id": [1, 2], "user": [3, 4], "t": [5, 6]},
    "the item alone": {"user_id": [1, 2], "item": [3, 4]},
    "other spelling": {"User_ID": [1, 2], "Item_ID": [3, 4]},
    "numbers in names": {"f1": [1, 2], "f3": [3, 4]},
}


@frames
@pytest.mark.parametrize("table", OTHER_NAMES.values(), ids=OTHER_NAMES)
def test_a_frame_is_never_read_by_position(frame, table):
    message = "X has no column .*found .*" + ".*".join(table) + ".*expected user_id and item_id"
    for check in (check_interactions, users_of, items_of, timestamps_of):
        with pytest.raises(ValueError, match=message):
            check(frame(table))
    estimator = BaseEstimator()
    with pytest.raises(ValueError, match=message):
        check_events(estimator, frame(table), reset=True)
    assert vars(estimator) == {}
    check_events(estimator, frame(log()), reset=True)
    with pytest.raises(ValueError, match=message):
        check_events(estimator, frame(table), reset=False)


@frames
def test_queries_and_items_of_other_names_are_refused(frame):
    with pytest.raises(ValueError, match=r"no column user_id: found .*'userId', 'when'"):
        check_queries(frame({"userId": [1, 2], "when": [3, 4]}))
    with pytest.raises(ValueError, match=r"no column item_id: found .*'movieId', 'title'"):
        check_items(frame({"movieId": [1, 2], "title": ["a", "b"]}))


def test_an_index_is_no_column():
    table = pd.DataFrame(log())
    for index in ("user_id", ["user_id", "item_id"]):
        with pytest.raises(ValueError, match=r"The index is no column: use X.reset_index\(\)"):
            check_interactions(table.set_index(index))
    with pytest.raises(ValueError, match="unique column names"):
        check_interactions(pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "item_id"]))


@pytest.mark.parametrize(
    "names", [[0, 1, 2], ["0", "1", "2"], ["column_1", "column_2", "column_3"]]
)
def test_columns_that_are_merely_numbered_have_no_names(names):
    events = check_interactions(pd.DataFrame([[3, 1, 5], [4, 2, 6]], columns=names))
    assert events.user_ids.tolist() == [3, 4]
    assert events.timestamps.tolist() == [5, 6]
    assert check_interactions(pl.DataFrame(np.array([[3, 1], [4, 2]]))).item_ids.tolist() == [1, 2]


Event = namedtuple("Event", ["timestamp", "user_id", "item_id"])
Row = dataclasses.make_dataclass("Row", ["timestamp", "user_id", "item_id"])


@pytest.mark.parametrize(
    "X",
    [
        {"timestamp": [1, 2], "user_id": [3, 4], "item_id": [5, 6]},
        [{"timestamp": 1, "user_id": 3, "item_id": 5}],
        [Event(1, 3, 5)],
        (Event(1, 3, 5),),
        [Row(1, 3, 5)],
        np.array([(1, 3, 5)], [("timestamp", "i8"), ("user_id", "i8"), ("item_id", "i8")]),
        np.rec.array([(1, 3, 5)], names="timestamp,user_id,item_id"),
    ],
    ids=lambda X: type(X).__name__,
)
def test_whatever_has_names_is_not_read_by_position(X):
    for check in (check_interactions, check_queries, users_of):
        message = r"with the names \['timestamp', 'user_id', 'item_id'\], expected user_id"
        with pytest.raises(ValueError, match=message):
            check(X)
    estimator = BaseEstimator()
    check_events(estimator, pd.DataFrame(log()), reset=True)
    with pytest.raises(ValueError, match=message):
        check_events(estimator, X, reset=False)


def test_an_object_with_columns_is_asked_for_them():
    class Foreign:
        columns = ["timestamp", "user_id", "item_id"]

        def __array__(self, dtype=None, copy=None):
            return np.array([[1, 3, 5]])

    for check in (check_interactions, check_queries):
        with pytest.raises(ValueError, match=r"X is a Foreign with the names \['timestamp'"):
            check(Foreign())


def test_a_lazy_frame_is_to_be_collected():
    for check in (check_interactions, check_queries, users_of, check_items):
        with pytest.raises(ValueError, match=r"LazyFrame, not read yet: pass X.collect\(\)"):
            check(pl.DataFrame(log()).lazy())


def test_a_table_that_is_not_read_yet_says_how_it_is_read(monkeypatch):
    class DuckDBPyRelation:
        __module__ = "_duckdb"

    monkeypatch.setattr(nw.dependencies, "is_into_lazyframe", lambda X: True)
    for check in (check_interactions, check_queries):
        with pytest.raises(ValueError, match=r"DuckDBPyRelation, not read yet: pass X.df\(\)"):
            check(DuckDBPyRelation())


def test_sparse_data_says_how_it_is_made_dense():
    X, estimator = sparse.csr_array(np.eye(3)), BaseEstimator()
    check_events(estimator, [[1, 2]], reset=True)
    for check in (
        check_interactions,
        check_queries,
        lambda X: check_events(estimator, X, reset=False),
    ):
        with pytest.raises(TypeError, match=r"sparse_output=False.*sparse_threshold=0"):
            check(X)


def test_a_series_is_no_table():
    for column in (pd.Series([1, 2]), pl.Series([1, 2])):
        with pytest.raises(ValueError, match=r"table of events .2D., got a single column"):
            check_interactions(column)


def test_masked_cells_are_missing():
    X = np.ma.masked_array([[1, 2, 30], [3, 4, 50]], mask=[[0, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match="item_id: 1 of 2 rows are missing"):
        check_interactions(X)
    with pytest.raises(ValueError, match="item_id: 1 of 2 rows are missing"):
        check_interactions(list(X))
    X.mask = [[0, 0, 1], [0, 0, 1]]
    with pytest.raises(ValueError, match="timestamp: 2 of 2 rows are NaN"):
        check_interactions(X)
    X.mask = False
    assert check_interactions(X).timestamps.tolist() == [30, 50]
    masked = np.ma.masked_array([1.0, 2], mask=[1, 0])
    with pytest.raises(ValueError, match="Input y: 1 of 2 rows"):
        check_interactions([[1, 2], [3, 4]], masked)
    with pytest.raises(ValueError, match="sample_weight: 1 of 2 rows"):
        check_interactions([[1, 2], [3, 4]], sample_weight=masked)
    with pytest.raises(ValueError, match="user_id: 1 of 2 rows"):
        check_queries(masked)


def test_ragged_rows_are_counted():
    message = "1D array instead: the first row has 3 cells, but 2 of 4 rows .* row 1 with 2"
    for check in (check_interactions, check_queries):
        with pytest.raises(ValueError, match=message):
            check([[1, 2, 3], [1, 2], [4, 5, 6], [7]])


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
    assert events.learned().feedback.tolist() == [1, 2]


def test_rows_of_weight_zero_are_absent():
    table = log(text=list("abc"))
    every = check_interactions(pd.DataFrame(table), [1, 2, 3], sample_weight=[0.5, 0, 2])
    assert len(every) == 3
    events = every.learned()
    assert events.learned() is events
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
    ("basket", [NOON] * 3, ValueError, "basket: not numeric"),
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
        (pd.DataFrame({"a": [1, 2]}), ValueError, r"no column user_id and no column item_id"),
        (pd.DataFrame([1, 2]), ValueError, r"1 feature\(s\).*minimum of 2"),
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
        (["good", "bad", None], "y: not numeric: 2 of 3 rows are labels .* y == 'bad'"),
        ([1, None, 3], "y: 1 of 3 rows are NaN"),
        (["1", "", "3"], "y: 1 of 3 rows are NaN or inf, or missing"),
        (pd.array([1, pd.NA, 3]), "y: 1 of 3 rows are NaN"),
        (np.array([1, 2, "NaT"], "datetime64[s]"), "y: not numeric .all 3 rows are datetimes"),
        ([10**400, 2, 3], "y: not numeric .1 of 3 rows"),
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
        ([{"a": 1}], ValueError, "X is a list of dicts with the names .'a'."),
        ([({"a": 1},)], TypeError, "user_id: .*must be hashable"),
        ([("a", [1])], TypeError, "user_id: .*must be hashable"),
        ([[1, np.nan]], ValueError, "timestamp: 1 of 1 rows are NaN"),
        ([[1, 2, "low"]], ValueError, "x2: not numeric"),
        (
            pd.DataFrame({"user_id": [1, 2], "query": [np.ones(3), None]}),
            ValueError,
            "query: 1 of 2 rows are no texts, the first array",
        ),
        (sparse.csr_matrix(np.eye(2)), TypeError, "[Ss]parse data"),
    ],
)
def test_bad_queries_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        check_queries(X)


def test_the_context_of_queries_comes_in_the_order_of_fit():
    queries = check_queries(pd.DataFrame({"b": [1, 2], "user_id": [1, 2], "a": [3, 4]}))
    assert queries.context_as(("a", "b")).tolist() == [[3, 1], [4, 2]]
    assert queries.context_as(()) is None
    assert check_queries([1, 2]).context_as(("a", "b")) is None
    by_position = check_queries([[1, 20, 3, 1], [2, 20, 4, 2]])
    assert by_position.context_as(("a", "b")).tolist() == [[3, 1], [4, 2]]
    with pytest.raises(ValueError, match=r"\['b', 'a'\], are not those of fit: \['a', 'c'\]"):
        queries.context_as(("a", "c"))


def test_names_that_look_numbered_are_names_all_the_same():
    frame = pd.DataFrame({"user_id": [1], "x1": [0.0], "x3": [100.0]})
    with pytest.raises(ValueError, match=r"Missing: \['x2'\]; unknown: \['x3'\]"):
        check_queries(frame).context_as(("x1", "x2"))
    by_position = check_queries([[1, 20, 5, 6]])
    assert by_position.context_as(("x3", "x2")).tolist() == [[5, 6]]
    numbered = check_queries(pd.DataFrame([[1, 20, 5, 6]])).take(np.array([0, 0]))
    assert numbered.context_as(("x3", "x4")).tolist() == [[5, 6]] * 2


@pytest.mark.parametrize("second", [[7, 9], ["tea", "rice"]], ids=["numbers", "texts"])
def test_events_are_no_queries(second):
    events = [[1, second[0], 880_000_000], [2, second[1], 880_003_600]]
    for X in (events, np.array(events, object), pd.DataFrame(events)):
        with pytest.raises(ValueError, match=r"looks like events.*X\[:, \[0, 2\]\]"):
            check_queries(X)


def test_a_fitted_estimator_knows_the_columns_of_a_query():
    estimator = BaseEstimator()
    check_events(estimator, [[1, 2, 30]], reset=True)
    assert check_queries([[1, 30]], estimator).timestamps.tolist() == [30]
    with pytest.raises(ValueError, match="X has 3 columns and looks like events"):
        check_queries([[1, 2, 30]], estimator)
    check_events(estimator, pd.DataFrame(log(text=["a"] * 3)), reset=True)
    assert check_queries([[1, 30, 1.5, 2]], estimator).context.tolist() == [[1.5, 2]]
    for n in (3, 5):
        with pytest.raises(ValueError, match=f"X has {n} columns and looks like events"):
            check_queries([[1] * n], estimator)


@pytest.mark.parametrize(
    "ids",
    [
        ["b", "a"], ("b", "a"), np.array(["b", "a"]), pd.Series(["b", "a"]), pl.Series(["b", "a"]),
        {"b": 1, "a": 2}.keys(), {1: "b", 2: "a"}.values(), dict.fromkeys("ba"), (c for c in "ba"),
        pd.Index(["b", "a"]), map(str, "ba"),
    ],
    ids=lambda ids: type(ids).__name__,
)  # fmt: skip
def test_ids_come_in_any_container(ids):
    assert check_ids(ids, "candidates").tolist() == ["b", "a"]


def test_sets_hold_ids_and_one_id_is_no_container():
    assert sorted(check_ids({3, 1, 2}, "candidates").tolist()) == [1, 2, 3]
    assert sorted(check_ids(frozenset("ab"), "candidates").tolist()) == ["a", "b"]
    assert sorted(check_queries({3, 1}).user_ids.tolist()) == [1, 3]
    for one in ("tea", 7, None):
        with pytest.raises(ValueError, match=r"a list of ids is needed; use \["):
            check_ids(one, "candidates")
    with pytest.raises(ValueError, match="candidates: 1 of 2 rows are missing"):
        check_ids(["tea", None], "candidates")


# ------------------------------------------------------------- the columns of an estimator


class Fitted(BaseEstimator):
    def __init__(self, X):
        events = check_events(self, X, reset=True)
        self.user_ids_, self.item_ids_ = events.user_ids, events.item_ids


def test_ids_of_another_type_are_warned_of_once():
    model = Fitted([[1, 2], [3, 4]])
    with pytest.warns(
        IdTypeWarning, match="user_id: none of 1 rows.*strings.*numbers; item_id"
    ) as w:
        check_events(model, [["1", "2"]], reset=False)
    assert len(w) == 1
    with pytest.warns(IdTypeWarning, match="user_id: none of 2 rows"):
        check_queries(["1", "3"], model)
    with pytest.warns(IdTypeWarning, match="these ids are numbers, the known ones are strings"):
        check_events(Fitted([["1", "2"]]), [[1, 2]], reset=False)
    # Other ids of the same type, or one of the same type among them, are simply unknown.
    for X in ([[9, 9]], [[True, 2.0]], [["a", 2], [1, "b"]]):
        check_events(model, X, reset=False)


def test_a_frame_for_an_estimator_fitted_without_names():
    model = Fitted([[1, 2, 30], [3, 4, 50]])
    with pytest.raises(ValueError, match="fitted without column names, on a table of 3 columns"):
        check_events(model, pd.DataFrame(log()), reset=False)


def test_an_array_for_an_estimator_fitted_with_names():
    model = Fitted(pd.DataFrame(log()))
    events = check_events(model, rows_of(log()), reset=False)  # no warning
    assert events.context.tolist() == [[1.5, 3], [2, 1], [0, 2]]
    with pytest.warns(UserWarning, match="feature names"), pytest.raises(ValueError, match="5 f"):
        check_events(model, [[1, 2, 3]], reset=False)


@pytest.mark.parametrize("text", ["nan", "None", "<NA>", ""])
def test_a_missing_id_turned_into_text_is_warned_of(text):
    rows = [["ann", "tea"], [text, "rye"], [text, "tea"]]
    for X in (rows, np.array(rows), pd.DataFrame(rows, columns=["user_id", "item_id"])):
        with pytest.warns(UserWarning, match=f"user_id: 2 of 3 rows are the text {text!r}"):
            check_events(BaseEstimator(), X, reset=True)


# ------------------------------------------------------------------ names known from fit


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
        (pd.DataFrame(log()).drop(columns="price"), r"missing: \['price'\]. Give"),
        (pd.DataFrame(log(age=[1, 2, 3])), r"columns unknown: \['age'\]"),
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


def test_an_array_after_a_frame_is_read_in_the_order_of_the_frame_alone():
    estimator = BaseEstimator()
    for names in (
        ["item_id", "user_id"], ["user_id", "item_id", "price"],
        ["user_id", "item_id", "price", "timestamp"], ["user_id", "timestamp", "item_id"],
    ):  # fmt: skip
        table = pd.DataFrame(log(item_id=[4, 5, 6]))[names]
        check_events(estimator, table, reset=True)
        for X in (
            table.to_numpy(),
            table.to_numpy().tolist(),
            table.set_axis(range(len(names)), axis=1),
        ):
            with pytest.raises(
                ValueError, match=r"X has no column names.*another order.*'user_id'"
            ):
                check_events(estimator, X, reset=False)
        assert check_events(estimator, table, reset=False).item_ids.tolist() == [4, 5, 6]
    table = pd.DataFrame(log(item_id=[4, 5, 6]))
    check_events(estimator, table, reset=True, outcome="price")
    events = check_events(estimator, table.to_numpy(), reset=False, outcome="price")
    assert events.context_names == ("basket",)
    assert events.context.tolist() == [[3], [1], [2]]
    check_events(estimator, table[["user_id", "item_id"]], reset=True)
    assert check_events(estimator, [[7, 4]], reset=False).item_ids.tolist() == [4]


@pytest.mark.parametrize("weight", [1e-300, 1e30, 1e300])
def test_weights_beyond_32_bits_are_refused(weight):
    with pytest.raises(ValueError, match=r"sample_weight: 1 of 2 rows, .* vanish or overflow"):
        check_interactions([[1, 2], [3, 4]], sample_weight=[1, weight])
    assert check_interactions([[1, 2], [3, 4]], sample_weight=[0, 1e-30]).sample_weight[1] == 1e-30


def test_a_lone_surrogate_is_named():
    for check in (check_interactions, check_items):
        table = pd.DataFrame(log(text=["a\udfff", "\U0001f375", None]), dtype=object)
        with pytest.raises(ValueError, match="text: 1 of 3 rows have a lone surrogate"):
            check(table)


def test_features_are_no_context():
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "age": [20, 30], "sex": ["f", None]})
    rows = check_interactions(X, [1, 2], features=("age", "sex", "absent"))
    assert rows.context_names == ()
    assert {name: column.kind for name, column in rows.features.items()} == {
        "age": "number",
        "sex": "category",
    }
    assert rows.take(np.array([1])).features["age"].values == [30]
    queries = check_queries(X.drop(columns="item_id"), features=("age", "sex"))
    assert queries.context_names == ()
    assert queries.features["sex"].values == ["f", None]
    assert check_interactions(X[["user_id", "item_id", "age"]]).context_names == ("age",)


def test_features_may_be_left_out_after_fit():
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "age": [20, 30], "hour": [7, 8]})
    model = BaseEstimator()
    check_events(model, X, [1, 2], reset=True, features=("age",))
    assert list(model.feature_names_in_) == list(X.columns)
    for table in (X, X.drop(columns="age")):
        rows = check_events(model, table, reset=False, features=("age",))
        assert rows.context_names == ("hour",)
    with pytest.raises(ValueError, match=r"missing: \['hour'\]"):
        check_events(model, X.drop(columns="hour"), reset=False, features=("age",))
    with pytest.raises(ValueError, match="no column names"):
        check_events(model, X.to_numpy(), reset=False, features=("age",))
    # Queries without names have the context, but no features.
    queries = check_queries(np.array([[1, 60, 7]]), model, features=("age",))
    assert queries.context.tolist() == [[7]]
    with pytest.raises(ValueError, match="looks like events"):
        check_queries(np.array([[1, 60, 7, 20]]), model, features=("age",))


@pytest.mark.parametrize("feedback", [1e29, -1e29, 1e300])
def test_feedback_whose_sums_overflow_is_refused(feedback):
    X = [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match=r"Input y: 1 of 2 rows are larger .*8\); scale"):
        check_interactions(X, [1, feedback])
    with pytest.raises(ValueError, match=r"sample_weight times y: 1 of 2 rows are larger"):
        check_interactions(X, [1, -1e20], sample_weight=[1, 1e20])
    assert check_interactions(X, [1, -7e28]).feedback.tolist() == [1, -7e28]
