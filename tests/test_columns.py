"""Single columns of every kind: ids, instants and texts through the one door."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_recft.interactions import check_interactions, check_queries, timestamps_of, users_of

UTC = dt.timezone.utc
CET = dt.timezone(dt.timedelta(hours=1))
NOON = dt.datetime(2020, 3, 1, 12, 0, 0, 250_000)
NOON_SECONDS = 1_583_064_000.25
DAY = dt.date(2020, 3, 1)
DAY_SECONDS = 1_583_020_800.0


@pytest.mark.parametrize(
    "dtype", ["int8", "int64", "uint16", "float32", "float64", "bool", "object"]
)
def test_whole_numbers_are_integers_in_any_dtype(dtype):
    events = check_interactions(np.array([[1, 0], [0, 1]]).astype(dtype))
    assert events.user_ids.dtype == events.item_ids.dtype == np.int64
    assert events.user_ids.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "007"], ["7", "007"]),
        ([1.5, 2.0], [1.5, 2.0]),
        ([2**62 + 1, 3], [2**62 + 1, 3]),
        ([2**70, 3], [2**70, 3]),
        (["a", 1], ["a", 1]),
        ([np.int32(4), np.int64(5)], [4, 5]),
        ([np.str_("a"), "b"], ["a", "b"]),
        ([True, False], [1, 0]),
        ([frozenset("a"), b"x"], [frozenset("a"), b"x"]),
    ],
    ids=str,
)
def test_ids_are_any_hashable(ids, expected):
    column = np.empty(2, dtype=object)
    column[:] = ids
    events = check_interactions(pd.DataFrame({"user_id": column, "item_id": [1, 2]}))
    assert events.user_ids.tolist() == expected
    assert check_queries(ids).user_ids.tolist() == expected


def test_tuples_are_ids_too():
    column = pd.Series([("shop", 1), ("shop", 2)])
    events = check_interactions(pd.DataFrame({"user_id": column, "item_id": [1, 2]}))
    assert events.user_ids.tolist() == [("shop", 1), ("shop", 2)]
    assert check_queries([("shop", 1), "till"]).user_ids.tolist() == [("shop", 1), "till"]


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical(["b", "a"]),
        pd.array(["b", "a"], dtype="string"),
        pl.Series(["b", "a"], dtype=pl.Categorical),
        pa.array(["b", "a"]).dictionary_encode(),
    ],
    ids=lambda column: type(column).__module__.split(".")[0],
)
def test_strings_stored_in_other_ways_are_strings(column):
    library = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
    make = library[type(column).__module__.split(".")[0]]
    assert users_of(make({"user_id": column, "item_id": [1, 2]})).tolist() == ["b", "a"]


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        ([NOON, NOON], NOON_SECONDS),
        ([NOON.replace(tzinfo=UTC)] * 2, NOON_SECONDS),
        ([NOON.replace(tzinfo=CET)] * 2, NOON_SECONDS - 3600),
        ([DAY, DAY], DAY_SECONDS),
        ([pd.Timestamp(NOON)] * 2, NOON_SECONDS),
        ([pd.Timestamp(NOON, tz="Europe/Paris")] * 2, NOON_SECONDS - 3600),
        ([np.datetime64(NOON)] * 2, NOON_SECONDS),
        ([np.datetime64("2020-03-01")] * 2, DAY_SECONDS),
        ([str(NOON_SECONDS)] * 2, NOON_SECONDS),
        ([NOON_SECONDS, NOON_SECONDS], NOON_SECONDS),
        ([1_583_064_000, 1_583_064_000], 1_583_064_000),
        ([-1.5, -1.5], -1.5),
    ],
    ids=lambda value: type(value[0]).__name__ if isinstance(value, list) else str(value),
)
def test_every_kind_of_time_is_seconds_since_1970(times, seconds):
    rows = [["a", 1, time] for time in times]
    assert timestamps_of(rows).tolist() == [seconds] * 2
    assert check_queries([[1, time] for time in times]).timestamps.tolist() == [seconds] * 2
    for make in (pd.DataFrame, pl.DataFrame, pa.table):
        if make is not pd.DataFrame and isinstance(times[0], np.datetime64):
            continue  # these know numpy's datetimes as arrays only
        frame = make({"user_id": ["a", "b"], "item_id": [1, 2], "timestamp": times})
        assert timestamps_of(frame).tolist() == [seconds] * 2


def test_instants_with_and_without_a_zone_may_stand_side_by_side():
    times = [NOON, NOON.replace(tzinfo=CET), DAY, np.datetime64("2020-03-01T00")]
    expected = [NOON_SECONDS, NOON_SECONDS - 3600, DAY_SECONDS, DAY_SECONDS]
    assert timestamps_of([["a", 1, time] for time in times]).tolist() == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_every_unit_of_time_is_seconds(unit):
    times = np.array([NOON, NOON], f"datetime64[{unit}]")
    seconds = NOON_SECONDS if unit != "s" else float(int(NOON_SECONDS))
    table = {"user_id": [1, 2], "item_id": [1, 2], "timestamp": times}
    for make in (pd.DataFrame, pa.table, lambda d: pl.DataFrame(pa.table(d))):
        assert timestamps_of(make(table)).tolist() == [seconds] * 2
    column = pl.col("timestamp").dt.replace_time_zone("Asia/Tokyo")
    zoned = pl.DataFrame(pa.table(table)).with_columns(column)
    assert timestamps_of(zoned).tolist() == [seconds - 9 * 3600] * 2


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA, pd.NaT])
def test_a_gap_among_strings_is_found(gap):
    with pytest.raises(ValueError, match="user_id: 1 of 2 rows are missing"):
        check_interactions([["ann", 1], [gap, 2]])
    with pytest.raises(ValueError, match="user_id: 1 of 2 rows are missing"):
        check_queries(["ann", gap])


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_a_missing_text_is_empty(gap):
    column = pd.Series(["a", gap, "c"], dtype=object)
    table = pd.DataFrame({"user_id": [1, 2, 3], "item_id": [1, 2, 3], "text": column})
    assert check_interactions(table).text.tolist() == ["a", "", "c"]
    table["text"] = column.astype("string")
    assert check_interactions(table).text.tolist() == ["a", "", "c"]


def test_a_table_without_times_has_none_to_give():
    with pytest.raises(ValueError, match="X has no `timestamp`: give a column of that name"):
        timestamps_of([[1, 2], [3, 4]])
    with pytest.raises(ValueError, match="X has no `timestamp`"):
        timestamps_of(pd.DataFrame({"user_id": [1], "item_id": [2], "time": [3]}))
