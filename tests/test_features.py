"""Columns of features have one kind each, and a table one row for each id."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_recft.features import FeatureTable, check_features, to_feature

NUMBERS = {
    "floats": np.array([1.0, np.nan, 3.0]),
    "floats of 32 bits": np.array([1.0, np.nan, 3.0], np.float32),
    "objects": [1, None, np.float32(3)],
    "decimals": [decimal.Decimal(1), None, decimal.Decimal(3)],
    "nullable": pd.array([1, None, 3], dtype="Int64"),
    "polars": pl.Series([1, None, 3]),
}
CATEGORIES = {
    "strings": ["1", None, "3"],
    "an empty string": ["1", "", "3"],
    "strings of numpy": np.array(["1", "", "3"]),
    "objects": np.array(["1", np.nan, "3"], object),
    "pandas": pd.Series(["1", None, "3"]),
    "arrow strings": pd.Series(["1", None, "3"], dtype="string"),
    "categories of strings": pd.Series(["1", None, "3"], dtype="category"),
    "categories of integers": pd.Series(pd.Categorical([1, None, 3])),
    "polars": pl.Series(["1", None, "3"]),
    "polars categories": pl.Series(["1", None, "3"], dtype=pl.Categorical),
    "polars enum": pl.Series(["1", None, "3"], dtype=pl.Enum(["3", "1"])),
}
_SHARED = ["b", "a"]
NUMBERED_SETS = {
    "integers": [[2, 1], None, [1]],
    "floats": [[2.0, 1], None, [np.float32(1)]],
    "polars with a missing value": pl.Series([[2, 1, None], [], [1]]),
    "an empty string": [["2", "1", ""], None, ["1"]],
}
SETS = {
    "lists": [["b", "a"], None, ["a"]],
    "tuples": [("b", "a"), np.nan, ("a",)],
    "sets": [{"b", "a"}, None, frozenset("a")],
    "arrays": [np.array(["b", "a"]), None, np.array(["a"])],
    "empty": [["b", "a", None, "a"], [], ["a"]],
    "shared": [_SHARED, None, ("a",)],
    "pandas": pd.Series([["b", "a"], None, ["a"]]),
    "polars": pl.Series([["b", "a"], None, ["a"]]),
}


def column_of(values):
    """Return a column as it is read from a frame."""
    if isinstance(values, (list, np.ndarray)):
        return values
    frame = {"user_id": range(len(values)), "x": values}
    table = (pl if isinstance(values, pl.Series) else pd).DataFrame(frame)
    return check_features(table, "user_id").columns["x"]


def read(values):
    found = column_of(values)
    return to_feature(found, "x") if isinstance(found, (list, np.ndarray)) else found


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case):
    column = read(NUMBERS[case])
    assert column.kind == "number"
    assert np.array_equal(column.values, [1.0, np.nan, 3.0], equal_nan=True)
    assert column.is_missing.tolist() == [False, True, False]


@pytest.mark.parametrize("case", CATEGORIES)
def test_categories(case):
    column = read(CATEGORIES[case])
    assert (column.kind, column.values) == ("category", ["1", None, "3"])


@pytest.mark.parametrize("values", [[True, None, False], pl.Series([True, None, False])])
def test_bools_are_categories(values):
    column = read(values)
    assert (column.kind, column.values) == ("category", ["True", None, "False"])


@pytest.mark.parametrize("case", SETS)
def test_lists_are_sets_of_categories(case):
    column = read(SETS[case])
    assert (column.kind, column.values) == ("set", [("a", "b"), None, ("a",)])


@pytest.mark.parametrize("case", NUMBERED_SETS)
def test_numbers_in_lists_are_spelled_alike(case):
    assert read(NUMBERED_SETS[case]).values == [("1", "2"), None, ("1",)]


def test_lists_of_one_length_are_cells():
    column = read(pl.Series([["a", "b"], ["b", "c"], ["c", "d"]], dtype=pl.Array(pl.String, 2)))
    assert column.values == [("a", "b"), ("b", "c"), ("c", "d")]
    assert to_feature([["b", "a"], ["c", "a"]], "x").values == [("a", "b"), ("a", "c")]


MISSING = [[None, None], [np.nan, None], [pd.NA, pd.NaT], [[], None], np.full(2, np.nan)]


@pytest.mark.parametrize("values", MISSING)
def test_a_column_without_values_is_missing(values):
    assert to_feature(values, "x").kind == "missing"
    assert to_feature(values, "x").is_missing.all()


def test_texts():
    column = to_feature(["green tea", "  ", None], "text", text=True)
    assert (column.kind, column.values) == ("text", ["green tea", None, None])


REFUSED = {
    "two kinds": (["a", 1, None], TypeError, r"x: 3 of 3 rows are of the types \['int', 'str'\]"),
    "bools and numbers": ([True, 2], TypeError, "x: 2 of 2 rows are of the types"),
    "dicts": ([{"a": 1}, "b"], TypeError, "x: 1 of 2 rows are of the types"),
    "dates": ([datetime.date(2020, 1, 1)], TypeError, "x: 1 of 1 rows are of the types"),
    "datetimes": (np.array(["2020-01-01"], "M8[s]"), TypeError, "x: all 1 rows are of type"),
    "lists of lists": ([[["a"]], ["b"]], TypeError, "x: a list holds a list"),
    "infinite": (np.array([1.0, np.inf, -np.inf]), ValueError, "x: 2 of 3 rows are infinite"),
    "huge": (np.array([1.0, 1e300]), ValueError, "x: 1 of 2 rows are larger than float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_columns_are_refused(case):
    values, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        to_feature(values, "x")


def test_structs_of_polars_are_refused_as_dicts_are():
    with pytest.raises(TypeError, match=r"users, x: 2 of 2 rows are of the types \['dict'\]"):
        column_of(pl.Series([{"a": 1}, {"a": 2}]))


USERS = pd.DataFrame({"user_id": [7, 8, 9], "age": [30.0, None, 50.0], "sex": ["f", "m", None]})


@pytest.mark.parametrize("library", [pd, pl])
def test_a_frame_is_read_by_name(library):
    rows = {"user_id": [7, 8, 9], "age": [30.0, None, 50.0], "sex": ["f", "m", None]}
    table = check_features(library.DataFrame(rows), "user_id")
    assert table.ids.tolist() == [7, 8, 9]
    assert {name: column.kind for name, column in table.columns.items()} == {
        "age": "number",
        "sex": "category",
    }


def test_a_table_without_names_is_read_by_position():
    table = check_features([["ann", 30, "f"], ["bob", None, "m"]], "user_id")
    assert table.ids.tolist() == ["ann", "bob"]
    assert [column.kind for column in table.columns.values()] == ["number", "category"]
    items = check_features(np.array([[1, 2.5], [2, 3.5]]), "item_id")
    assert items.ids.tolist() == [1, 2]
    assert list(items.columns) == ["x1"]


def test_names_choose_columns():
    assert list(check_features(USERS, "user_id", names=["age", "zip"]).columns) == ["age"]


def test_a_text_is_never_a_category():
    items = pd.DataFrame({"item_id": [1, 2], "text": ["tea", "milk"], "year": [1990, 1991]})
    assert list(check_features(items, "item_id").columns) == ["year"]
    table = check_features(items, "item_id", names=["year"], text=True)
    assert {name: column.kind for name, column in table.columns.items()} == {
        "text": "text",
        "year": "number",
    }


def test_an_id_that_repeats_keeps_its_first_value_that_is_not_missing():
    users = pd.concat([USERS, USERS.assign(age=[None, 40.0, 50.0])])
    table = check_features(users, "user_id")
    assert table.ids.tolist() == [7, 8, 9]
    assert table.columns["age"].values == [30.0, 40.0, 50.0]
    assert table.columns["sex"].values == ["f", "m", None]


BAD_TABLES = {
    "two values": (
        pd.concat([USERS, USERS.assign(age=31.0)]),
        r"users, age: 2 of 6 rows have another value than an earlier row of the same user_id; .*"
        r"users.drop_duplicates\('user_id'\)",
    ),
    "no ids": (USERS.rename(columns={"user_id": "uid"}), "users: none of the 3 columns"),
    "ids in the index": (USERS.set_index("user_id"), r"use users.reset_index\(\)"),
    "a missing id": (USERS.assign(user_id=[1, None, 2]), "users, user_id: 1 of 3 rows are missing"),
    "infinite": (USERS.assign(age=np.inf), "users, age: 3 of 3 rows are infinite"),
    "a dict": ({"user_id": [1]}, "users: X is a dict"),
    "no rows": (USERS[:0], "users: the table has no rows. Leave it out: users=None"),
    "a list of ids": ([1, 2], "users: Expected a table"),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_refused(case):
    table, message = BAD_TABLES[case]
    with pytest.raises((TypeError, ValueError), match=message):
        check_features(table, "user_id")


def test_rows_of_events_with_two_values_are_refused():
    ids, ages = np.array([1, 1, 2]), to_feature([3.0, 4.0, 5.0], "age")
    with pytest.raises(ValueError, match=r"^age: 1 of 3 rows .*groupby\('user_id'\)\['age'\]"):
        FeatureTable.of_rows(ids, {"age": ages}, "user_id")
    sets = to_feature([["a"], ["a", "b"], None], "genres")
    with pytest.raises(ValueError, match=r"^genres: 1 of 3 rows .*each item"):
        FeatureTable.of_rows(ids, {"genres": sets}, "item_id")


def test_two_tables_are_joined_by_id():
    first = FeatureTable(np.array([1, 2]), {"age": to_feature([3.0, 4.0], "age")})
    columns = {"age": to_feature([9.0, 9.0], "age"), "sex": to_feature(["f", "m"], "sex")}
    both = first.joined(FeatureTable(np.array([2, 3]), columns))
    assert both.ids.tolist() == [1, 2, 3]
    assert np.array_equal(both.columns["age"].values, [3.0, 4.0, np.nan], equal_nan=True)
    assert both.columns["sex"].values == [None, "f", "m"]
    assert first.joined(None) is first
