"""Names of columns: which role each has, and the line that renames them."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import BaseEstimator

from sklearn_recft.interactions import check_events, check_interactions, check_queries
from sklearn_recft.names import are_numbered, as_roles, guess_roles, is_called_time


def table(prefix, **columns):
    given = {"user_id": [1, 2], "item_id": [3, 4], "timestamp": [5, 6], "text": ["a", "b"]}
    return {prefix + name: column for name, column in given.items()} | columns


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_prefix_of_scikit_learn_is_no_part_of_a_name(frame):
    events = check_interactions(frame(table("remainder__", encoder__hour_3=[0, 1])))
    assert events.user_ids.tolist() == [1, 2]
    assert events.item_ids.tolist() == [3, 4]
    assert events.timestamps.tolist() == [5, 6]
    assert events.text.tolist() == ["a", "b"]
    assert events.context_names == ("encoder__hour_3",)
    queries = check_queries(frame({"keep__user_id": [7], "keep__timestamp": [8]}))
    assert (queries.user_ids.tolist(), queries.timestamps.tolist()) == ([7], [8])


def test_prefixed_and_plain_names_are_the_same_columns():
    estimator = BaseEstimator()
    prefixed, plain = (pd.DataFrame(table(p, hour=[0, 1])) for p in ("remainder__", ""))
    check_events(estimator, prefixed, reset=True)
    assert list(estimator.feature_names_in_) == list(prefixed.columns)
    for X in (prefixed, plain, prefixed[prefixed.columns[::-1]]):
        events = check_events(estimator, X, reset=False)
        assert events.context.tolist() == [[0], [1]]
        assert events.user_ids.tolist() == [1, 2]
    with pytest.raises(ValueError, match=r"Context columns missing: \[.*hour'\]\. Give"):
        check_events(estimator, plain.drop(columns="hour"), reset=False)
    with pytest.raises(ValueError, match="another order than that of the frame of fit"):
        check_events(estimator, plain.to_numpy(), reset=False)


@pytest.mark.parametrize("role", ["user_id", "item_id", "timestamp", "text"])
def test_two_columns_of_one_role_are_refused_with_the_line_that_renames_one(role):
    X = pd.DataFrame(table("a__", **{f"b__{role}": [7, 8]}))
    message = rf"2 columns that end in __{role}: .*rename\(columns=\{{'a__{role}': '{role}'\}}\)"
    with pytest.raises(ValueError, match=message):
        check_interactions(X)
    mended = X.rename(columns={f"a__{role}": role}).drop(columns=f"b__{role}")
    assert check_interactions(mended).user_ids.tolist() == [1, 2]


def test_a_plain_name_comes_before_a_prefixed_one():
    names = ["scaler__timestamp", "timestamp", "x__user_id"]
    assert as_roles(names) == ["scaler__timestamp", "timestamp", "user_id"]


def test_a_number_is_no_text():
    with pytest.raises(ValueError, match=r"tfidf__text: .* all 2 rows are numbers"):
        check_interactions(
            pd.DataFrame(table("", tfidf__text=[0.5, 0]).copy()).drop(columns="text")
        )


@pytest.mark.parametrize(
    "names",
    [["uid", "movieId", "rating", "ts"], ["sku", "customer", "date"], ["User ID", "Product-Key"]],
)
def test_the_line_that_renames_is_right(names):
    X = pd.DataFrame(np.arange(2 * len(names)).reshape(2, -1), columns=names)
    X.index = ["one", "two"]
    for frame in (X, pl.from_pandas(X), pa.Table.from_pandas(X, preserve_index=False)):
        with pytest.raises(ValueError, match="for example by X = X") as caught:
            check_interactions(frame)
        line = str(caught.value).rpartition("for example by ")[2].removesuffix(".")
        scope = {"X": frame}
        exec(line, scope)
        events = check_interactions(scope["X"])
        users = next(n for n in names if n in ("uid", "customer", "User ID"))
        assert events.user_ids.tolist() == X[users].tolist()
        assert (events.timestamps is not None) == any(n in ("ts", "date") for n in names)


def test_columns_that_cannot_be_guessed_leave_a_gap():
    with pytest.raises(ValueError, match=r"\{'<user column>': 'user_id', 'sku': 'item_id'\}"):
        check_interactions(pd.DataFrame({"a": [1], "sku": [2]}))


def test_what_columns_are_called():
    names = ["visitor_id", "iid", "n_items", "event_time", "user"]
    assert guess_roles(names, ["user_id", "item_id", "timestamp"]) == {
        "user_id": "visitor_id",
        "item_id": "iid",
        "timestamp": "event_time",
    }
    assert not any(map(is_called_time, ["price", "times_seen", "user_id", "update", "overtimes"]))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([0, 1, 2], True), (["x0", "x1"], True), (["col0", "col1"], True), (["V1", "V2"], True),
        (["column_0", "column_1"], True), (["Feature 1"], False), (["x0", "x2"], False),
        (["x1", "y2"], False), (["pca0", "pca1"], False), (["f2", "f3"], False),
    ],
)  # fmt: skip
def test_columns_are_numbered_as_tools_number_them(names, expected):
    assert are_numbered(names) is expected


def test_what_is_prefixed_is_not_missed():
    X = pd.DataFrame({"uid": [1], "keep__item_id": [2], "keep__timestamp": [3], "ts": [4]})
    with pytest.raises(ValueError, match=r"no column user_id: .*columns=\{'uid': 'user_id'\}"):
        check_interactions(X)
