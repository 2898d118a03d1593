"""Single columns of every kind: ids, instants and texts through the one door."""

import datetime as dt
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_recft.columns import is_absent, is_real, to_numbers
from sklearn_recft.interactions import (
    check_interactions,
    check_queries,
    timestamps_of,
    users_of,
)
from sklearn_recft.times import TimeUnitWarning, to_seconds

UTC = dt.timezone.utc
CET = dt.timezone(dt.timedelta(hours=1))
NOON = dt.datetime(2020, 3, 1, 12, 0, 0, 250_000)
NOON_SECONDS = 1_583_064_000.25
DAY = dt.date(2020, 3, 1)
DAY_SECONDS = 1_583_020_800.0


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint16", "float32", "float64", "object"])
def test_whole_numbers_are_integers_in_any_dtype(dtype):
    events = check_interactions(np.array([[1, 0], [0, 1]]).astype(dtype))
    assert events.user_ids.dtype == events.item_ids.dtype == np.int64
    assert events.user_ids.tolist() == [1, 0]


@pytest.mark.parametrize("dtype", ["bool", "object"])
def test_true_and_false_are_no_numbers(dtype):
    events = check_interactions(np.array([[True, False], [False, True]], dtype))
    assert [type(user) for user in events.user_ids] == [bool, bool]
    assert events.user_ids.tolist() == [True, False]


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


# ------------------------------------------------------------------------ ids kept apart

LARGE = [2**60 + 1, 2**60 + 2, 1.0]


def frames_of(ids, item=1):
    column = np.empty(len(ids), object)
    column[:] = ids
    return pd.DataFrame({"user_id": column, "item_id": [item] * len(ids)})


def test_large_integers_beside_a_float_stay_apart():
    for X in (frames_of(LARGE), [[u, 1] for u in LARGE], [(u, 1) for u in LARGE]):
        assert users_of(X).tolist() == [2**60 + 1, 2**60 + 2, 1]
        assert users_of(X).dtype == np.int64
    assert check_queries(LARGE).user_ids.tolist() == LARGE
    # A fraction makes floats of small ids only.
    assert users_of(frames_of([2**60 + 1, 2**60 + 2, 0.5])).tolist() == [2**60 + 1, 2**60 + 2, 0.5]
    assert users_of(frames_of([1, 0.5])).dtype == np.float64
    assert users_of(frames_of([2**70 + 1, 2.0])).tolist() == [2**70 + 1, 2]


@pytest.mark.parametrize("ids", [[2**60 + 1, 2**60 + 2], [2**53, 1], [-(2**53), 1]])
def test_floats_that_cannot_tell_ids_apart_are_refused(ids):
    n = sum(abs(i) >= 2**53 for i in ids)
    for X in (np.array([ids, [1, 2]], float).T, pd.DataFrame({"user_id": np.array(ids, float),
              "item_id": 1}), frames_of([float(i) for i in ids])):  # fmt: skip
        with pytest.raises(
            ValueError, match=f"user_id: {n} of 2 rows are float64 numbers of 2..53"
        ):
            check_interactions(X)
    with pytest.raises(ValueError, match=r"float32 numbers of 2..24"):
        check_interactions(np.array([[2**24, 1]], np.float32))
    assert users_of(np.array([[2**53 - 1, 1.0]])).tolist() == [2**53 - 1]


@pytest.mark.parametrize("gap", [np.float32("nan"), np.float64("nan"), np.datetime64("NaT")])
def test_a_gap_of_any_kind_is_found(gap):
    for others in (["ann"], [LARGE[0]]):
        with pytest.raises(ValueError, match="user_id: 1 of 2 rows are missing"):
            check_interactions(frames_of([*others, gap]))
    with pytest.raises(ValueError, match="user_id: 1 of 2 rows are missing"):
        check_queries(np.array(["2020-01-01", "NaT"], "datetime64[s]"))


# ------------------------------------------------------------------------ times that are none

NOW = 880_000_000


def with_times(times):
    column = np.empty(len(times), object)
    column[:] = times
    return [
        pd.DataFrame({"user_id": 1, "item_id": 2, "timestamp": column}),
        [[1, 2, time] for time in times],
    ]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([NOW, ""], "1 of 2 rows are missing"),
        ([str(NOW), " ", "NA"], "2 of 3 rows are missing"),
        (["2024-05-01", "", "2024-05-02"], "1 of 3 rows are missing"),
        (["2024-05-01", "NaT"], "1 of 2 rows are missing"),
        (["2024-05-01", None, np.nan], "2 of 3 rows are missing"),
        ([NOON, np.nan], "1 of 2 rows are missing"),
        ([NOON, pd.NaT], "1 of 2 rows are missing"),
        ([NOON, np.datetime64("NaT")], "1 of 2 rows are missing"),
        ([NOW, "nan"], "1 of 2 rows are NaN"),
        (["2024-05-01", str(NOW)], f"1 of 2 rows, the first '{NOW}'"),
        (["2024-05-01", "now", "today"], "2 of 3 rows, the first 'now'"),
        (["2024-05-01", "2024"], "1 of 2 rows, the first '2024'"),
        (["2024-05-01", "-290308-12-21"], "1 of 2 rows, the first '-290308"),
        (["2024-05-01", "2024-05-01T12:00+02:00"], "1 of 2 rows, .*dates in UTC"),
        (["2024-05", "2024-05-01T12-02"], "1 of 2 rows, the first '2024-05-01T12-02'"),
        (["2024-05-01T12:00+02", "2024-05-01 12:00 -0200"], "2 of 2 rows, .*dates in UTC"),
        (["2024-05-01", "2024-13-01", "2024-02-30"], "2 of 3 rows, the first '2024-13-01'"),
        (["soon", "2024-05-01"], "1 of 2 rows, the first 'soon'"),
        ([NOON, NOW], "1 of 2 rows are datetimes, 1 of 2 rows are numbers"),
        ([NOON, str(NOW)], "1 of 2 rows are datetimes, 1 of 2 rows are texts"),
        ([NOW, True], "1 of 2 rows are numbers, 1 of 2 rows are of type bool"),
        ([NOW, dt.timedelta(1)], "of type timedelta"),
        ([NOW, np.timedelta64(1, "D")], "of type timedelta64"),
        ([NOW, (1,)], "of type tuple"),
        ([NOW, b"5"], "of type bytes"),
        ([DAY, dt.time(1)], "of type time"),
    ],
    ids=str,
)
def test_a_wrong_time_is_counted(times, message):
    for X in with_times(times):
        with pytest.raises(ValueError, match=f"timestamp: .*{message}"):
            check_interactions(X)


def test_the_filters_of_warnings_are_left_alone(monkeypatch):
    """They belong to all threads: two that set them at once may leave them set for good."""

    def changed(*args, **kwargs):
        raise AssertionError("a filter of warnings was changed")

    for name in ("catch_warnings", "simplefilter", "filterwarnings"):
        monkeypatch.setattr(warnings, name, changed)
    found = to_seconds(np.array(["2020-03-01 12:00", "2020-03"]), "t")
    assert found.tolist() == [DAY_SECONDS + 12 * 3600, DAY_SECONDS]
    with pytest.raises(ValueError, match="1 of 2 rows, the first '2024-05-01T12-02'"):
        to_seconds(np.array(["2024-05-01T12:00", "2024-05-01T12-02"]), "t")


@pytest.mark.parametrize(
    "times",
    [np.array([True, False]), np.array([b"1", b"2"]), np.array([1, 2], "timedelta64[s]")],
    ids=lambda times: times.dtype.kind,
)
def test_a_column_of_another_type_holds_no_times(times):
    with pytest.raises(ValueError, match=r"timestamp: neither numbers nor .* 2 rows"):
        check_interactions(pd.DataFrame({"user_id": 1, "item_id": 2, "timestamp": times}))


def test_texts_of_dates_and_numbers_are_times():
    expected = [DAY_SECONDS, DAY_SECONDS + 5400]
    for times in (
        ["2020-03-01", "2020-03-01 01:30"],
        ["2020-03-01T00Z", "2020-03-01T01:30:00Z"],
        ["2020-03-01T00:00:00+00:00", "2020-03-01 01:30"],
        [str(second) for second in expected],
        [expected[0], str(expected[1])],
    ):
        for X in [*with_times(times), np.array([[1, 2, t] for t in times], object)]:
            assert timestamps_of(X).tolist() == expected


UNITS = {"milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


@pytest.mark.parametrize("unit", UNITS)
def test_times_in_another_unit_are_refused_by_its_name(unit):
    whole = np.arange(300) * 60 + NOW
    one = np.where(np.arange(300) == 3, whole * UNITS[unit], whole)
    for times, n, row in ((one, 1, 3), (whole * UNITS[unit], 300, 0)):
        message = (
            f"timestamp: {n} of 300 rows .* the first in row {row}: .*looks like {unit} .*"
            f"divide such rows by {UNITS[unit]:,}"
        )
        for column in (times, times.astype(float), times.astype(object), times.astype(str)):
            table = pd.DataFrame({"user_id": 1, "item_id": 2, "timestamp": column})
            for X in (table, pl.DataFrame(table.to_dict("list"))):
                with pytest.raises(ValueError, match=message):
                    check_interactions(X)
        with pytest.raises(ValueError, match=message.replace("300", "[0-9]+")):
            check_queries(pd.DataFrame({"user_id": 1, "timestamp": times[:4]}))


@pytest.mark.parametrize("time", [1e300, -1e300, 1e11, -1e11, 1e15, 10**20])
def test_a_time_beyond_all_dates_is_refused(time):
    for X in with_times([NOW, time]):
        with pytest.raises(ValueError, match="timestamp: 1 of 2 rows are no seconds since 1970"):
            check_interactions(X)


def test_a_datetime_beyond_all_dates_is_refused():
    for year in ("290000", "-290000", "300000"):  # microseconds cannot hold the last
        times = np.array([f"{year}-01-01", "2020-01-01"], "datetime64[D]")
        for X in with_times(list(times)):
            with pytest.raises(ValueError, match="timestamp: "):
                check_interactions(X)
        with pytest.raises(ValueError, match="1 of 2 rows are no seconds since 1970"):
            to_seconds(times, "timestamp")


def test_dates_written_as_numbers_are_refused():
    dates = [20240501, 20240502, 20240531]
    for X in with_times(dates) + with_times([str(date) for date in dates]):
        with pytest.raises(ValueError, match="3 of 3 rows look like dates such as 20240501"):
            check_interactions(X)
    for X in with_times([NOW, 20240501]):
        with pytest.raises(ValueError, match=r"1 of 2 rows look like dates .*row 1: 20240501"):
            check_interactions(X)
    for X in with_times([20240501123000, 20240501123001]):
        with pytest.raises(ValueError, match="looks like a date such as 20240501123000"):
            check_interactions(X)


@pytest.mark.parametrize(
    "times",
    [
        [0, 60, 600], [2e9], [1, 2, 3], [20240501], [20240431, 20240432], [20240501, 20240599],
        [20240501, 60], [4e9, 9e9], [-5, 10], [0.5, 0.25], [20230229, 20230228], [-9e10, 9e10],
    ],
    ids=str,
)  # fmt: skip
def test_times_of_made_up_logs_are_taken_as_seconds(times):
    for X in with_times(times):
        assert timestamps_of(X).tolist() == times


def test_whole_columns_are_converted_where_that_is_wanted():
    whole = np.arange(300) * 60 + NOW
    for unit, factor in UNITS.items():
        with pytest.warns(TimeUnitWarning, match=f"read as {unit} .* the first is of 1997-11-20"):
            assert to_seconds(whole * factor, "timestamp", convert=True).tolist() == whole.tolist()
        mixed = np.r_[whole, NOW * factor]
        with pytest.raises(ValueError, match=f"1 of 301 rows .*looks like {unit}"):
            to_seconds(mixed, "timestamp", convert=True)
    days = np.array(["2024-02-29", "2024-12-31"], "datetime64[s]").astype(int)
    with pytest.warns(TimeUnitWarning, match="dates such as 20240501 .* of 2024-02-29"):
        assert (to_seconds([20240229, 20241231], "timestamp", convert=True) == days).all()
    with pytest.warns(TimeUnitWarning, match="dates such as 20240501123000"):
        found = to_seconds([20240229000000, 20241231013005], "timestamp", convert=True)
    assert (found == days + np.array([0, 5405])).all()


def test_real_numbers_are_no_texts():
    assert all(is_real(value) for value in (1, 0.5, np.float32(0.5), np.int64(3)))
    assert not any(is_real(value) for value in ("0.5", None, [1], 1j))


def test_vectors_are_no_numbers():
    column = np.empty(3, object)
    column[:] = [np.ones(2), [1.0, 2.0], 3.0]
    with pytest.raises(ValueError, match=r"cover: not numeric \(2 of 3 rows are lists or arrays\)"):
        to_numbers(column, "cover")


@pytest.mark.parametrize("cell", [np.array([0.5, np.nan]), np.array([[1.0]]), np.array(0.5)])
def test_an_array_is_no_missing_cell(cell):
    assert not is_absent(cell)
