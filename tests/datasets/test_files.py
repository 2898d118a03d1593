"""User files: every reader gives the same log, and says what is wrong with a file."""

import builtins
import bz2
import csv
import datetime
import gzip
import io
import lzma
import sys
import tracemalloc
import types
import zipfile

import numpy as np
import pytest

from sklearn_recft.datasets import HeaderWarning, _files, _text, load_interactions
from sklearn_recft.times import TimeUnitWarning

HEADER = "user_id,item_id,timestamp,rating,text\n"
ROWS = "ann,x1,100,4.5,Tea\nbob,x2,200,2,Rye\nann,x2,300,1,Rye\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="log.csv"):
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_csv(write):
    log = load_interactions(write(HEADER + ROWS), feedback="rating")
    assert log.data.tolist() == [["ann", "x1", 100], ["bob", "x2", 200], ["ann", "x2", 300]]
    np.testing.assert_array_equal(log.target, [4.5, 2, 1])
    assert log.catalogue.item_id.tolist() == ["x1", "x2"]
    assert log.catalogue.title.tolist() == ["Tea", "Rye"]
    assert log.feature_names == ["user_id", "item_id", "timestamp"]
    assert log.target_names == ["rating"]


def test_without_feedback_time_and_text(write):
    log = load_interactions(write("item_id\tuser_id\n1\t2\n3\t4\n\n"))
    assert log.data.dtype == np.int64
    assert log.data.tolist() == [[2, 1], [4, 3]]
    assert log.target is None
    assert log.catalogue is None


def test_return_X_y(write):
    X, y = load_interactions(write(HEADER + ROWS), feedback="rating", return_X_y=True)
    assert X.shape == (3, 3)
    assert y.shape == (3,)


def test_many_blocks(write, monkeypatch):
    monkeypatch.setattr(_text, "_ROWS_PER_BLOCK", 2)
    lines = [f"{i},long-{i * 10**i}" for i in range(7)]
    log = load_interactions(write("user_id,item_id\n" + "\n".join(lines)))
    assert log.data[:, 0].tolist() == list(range(7))
    assert log.data[6, 1] == "long-6000000"


def test_quotes_byte_order_mark_and_utf8(write):
    log = load_interactions(write('\ufeffuser_id,item_id,text\n1,2,"Crème, brûlée"\n'))
    assert log.catalogue.text.tolist() == ["Crème, brûlée"]


@pytest.mark.parametrize("backend", ["pyarrow", "polars"])
def test_parquet(tmp_path, monkeypatch, backend):
    reader = pytest.importorskip(backend)
    columns = {
        "user_id": ["ann", "bob"],
        "item_id": [10, 20],
        "timestamp": np.array(["2020-01-01", "2020-01-02T00:00:01"], dtype="datetime64[us]"),
        "click": [True, False],
        "note": ["not", "read"],
    }
    path = tmp_path / "log.parquet"
    if backend == "polars":
        reader.DataFrame(columns).write_parquet(path)
    else:
        import pyarrow.parquet

        pyarrow.parquet.write_table(reader.table(columns), path)
    monkeypatch.setattr(_files, "_PARQUET_READERS", (backend,))
    log = load_interactions(path, feedback="click")
    assert log.data.tolist() == [["ann", 10, 1577836800], ["bob", 20, 1577923201]]
    np.testing.assert_array_equal(log.target, [1, 0])
    with pytest.raises(ValueError, match=r"no column 'rating'"):
        load_interactions(path, feedback="rating")


def test_parquet_without_a_reader_names_one(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_PARQUET_READERS", ("no_such_package_here",))
    with pytest.raises(ImportError, match="pip install pyarrow"):
        load_interactions(tmp_path / "log.parquet")


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (["5", "6"], [5, 6]),
        (["5.5", "6"], [5.5, 6]),
        (["2020-01-01", "2020-01-01 00:00:02"], [1577836800, 1577836802]),
        (["2020-01-01T00:00:00.5", "2020-01-01"], [1577836800.5, 1577836800]),
        (["2020-01-01T00:00:00Z", "2020-01-01"], [1577836800, 1577836800]),
    ],
)
def test_timestamps(write, cells, seconds):
    log = load_interactions(
        write("user_id,item_id,timestamp\n" + "\n".join(f"1,2,{cell}" for cell in cells))
    )
    assert log.data[:, 2].tolist() == seconds
    assert log.data[:, 0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user,item_id\n1,2\n", "no column 'user_id'"),
        ("user_id,item_id\n1,2\n", "no column 'rating'"),
        ("user_id,item_id,rating\n", "no rows"),
        ("", "no column 'user_id'"),
        ("user_id,item_id,rating\n1,2\n", "2 cells under 3 column names"),
        ("user_id,item_id,rating\n1,2,many\n", "'rating' must hold numbers"),
        ("user_id,item_id,rating\n,2,1\n", r"'user_id' lacks 1 value"),
        (
            "user_id,item_id,timestamp,rating\n1,2,soon,1\n",
            "1 of 1 rows, the first 'soon'",
        ),
        ("user_id,item_id,timestamp,rating\n1,2,2020-01-01T05:00+02:00,1\n", "dates in UTC"),
    ],
)
def test_error_names_the_fault(write, content, message):
    with pytest.raises(ValueError, match=message):
        load_interactions(write(content), feedback="rating")


@pytest.mark.parametrize("missing", [[1, None], ["a", None]])
def test_missing_id_in_parquet(tmp_path, missing):
    pl = pytest.importorskip("polars")
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": missing, "item_id": [1, 2]}).write_parquet(path)
    with pytest.raises(ValueError, match="'user_id' lacks 1 value"):
        load_interactions(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_interactions(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("backend", ["pyarrow", "polars"])
def test_damaged_and_missing_parquet(tmp_path, monkeypatch, backend):
    pytest.importorskip(backend)
    monkeypatch.setattr(_files, "_PARQUET_READERS", (backend,))
    with pytest.raises(FileNotFoundError):
        load_interactions(tmp_path / "nowhere.parquet")
    path = tmp_path / "log.parquet"
    path.write_bytes(b"this is no Parquet file")
    with pytest.raises(ValueError, match=r"log.parquet is not a readable Parquet file"):
        load_interactions(path)


def test_as_frame(write):
    pd = pytest.importorskip("pandas")
    log = load_interactions(write(HEADER + ROWS), feedback="rating", as_frame=True)
    assert isinstance(log.data, pd.DataFrame)
    assert list(log.data.columns) == ["user_id", "item_id", "timestamp"]
    assert log.target.name == "rating"
    assert list(log.catalogue.columns) == ["item_id", "title", "text"]


def test_as_frame_without_pandas_says_so(write, monkeypatch):
    real_import = builtins.__import__

    def no_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pandas)
    with pytest.raises(ImportError, match="pip install pandas"):
        load_interactions(write(HEADER + ROWS), feedback="rating", as_frame=True)


# ------------------------------------------------------------------------- what cells mean


def column(write, name, cells, **options):
    """Read one column of a file in which the others are sound."""
    names = [c for c in ("user_id", "item_id") if c != name] + [name]
    rows = ["1," * (len(names) - 1) + f"{cell}\n" for cell in cells]
    return load_interactions(write(",".join(names) + "\n" + "".join(rows)), **options)


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["7", "-3", "0"], [7, -3, 0]),
        (["7", "007"], ["7", "007"]),
        (["7", "+7"], ["7", "+7"]),
        (["7", " 7"], ["7", " 7"]),
        (["7", "1_0"], ["7", "1_0"]),
        (["7", "\u0667"], ["7", "\u0667"]),
        (["0", "-0"], ["0", "-0"]),
        (["7", "7.0"], ["7", "7.0"]),
        (["7", "x"], ["7", "x"]),
        ([str(2**63), "2"], [2**63, 2]),
        ([str(-(2**63)), "2"], [-(2**63), 2]),
        ([str(2**63), "02"], [str(2**63), "02"]),
        (["9" * 5000, "2"], ["9" * 5000, "2"]),
    ],
    ids=lambda cells: str(cells)[:30],
)
@pytest.mark.parametrize("name", ["user_id", "item_id"])
@pytest.mark.parametrize("size", [1, 100])
def test_ids_are_numbers_only_if_all_are_spelled_so(write, monkeypatch, name, cells, ids, size):
    monkeypatch.setattr(_text, "_ROWS_PER_BLOCK", size)
    data = column(write, name, cells).data
    assert data[:, int(name == "item_id")].tolist() == ids


@pytest.mark.parametrize(
    "cell", ["", " ", "nan", "NaN", "None", "NA", "N/A", "<NA>", "NULL", "null"]
)
@pytest.mark.parametrize("name", ["user_id", "item_id", "timestamp", "rating"])
@pytest.mark.parametrize("good", ["3", "2024-05-01"])
def test_a_missing_cell_is_counted_in_every_column(write, name, cell, good):
    feedback = "rating" if name == "rating" else None
    with pytest.raises(ValueError, match=f"Column '{name}' lacks 2 value.s. in 4 rows: drop"):
        column(write, name, [good, cell, good, cell], feedback=feedback)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["2024-05-01", "881250949"], "1 of 2 rows, the first '881250949'"),
        (["881250949", "soon"], "2 of 2 rows|1 of 2 rows"),
        (["2024-05-01", "now"], "1 of 2 rows, the first 'now'"),
        (["881250949", "881250949000"], "1 of 2 rows .* looks like milliseconds"),
        (["881250949", "1e300"], "1 of 2 rows are no seconds"),
        (["881250949", "inf"], "1 of 2 rows are NaN or inf"),
        (["881250949", str(10**30)], "1 of 2 rows are no seconds"),
        (["881250949", "20240501"], "1 of 2 rows look like dates"),
        (["True", "False"], "2 of 2 rows, the first 'True'"),
    ],
)
def test_a_wrong_time_is_counted(write, cells, message):
    with pytest.raises(ValueError, match=f"timestamp: .*({message})"):
        column(write, "timestamp", cells)


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["881250949000", "881250950000"], "milliseconds"),
        (["881250949000000", "881250950000000"], "microseconds"),
        (["881250949000000000", "881250950000000000"], "nanoseconds"),
        (["881250949000.0", "881250950000.0"], "milliseconds"),
    ],
)
def test_a_log_in_another_unit_is_converted_with_a_message(write, cells, unit):
    with pytest.warns(TimeUnitWarning, match=f"timestamp: read as {unit}") as caught:
        log = column(write, "timestamp", cells)
    assert len(caught) == 1
    assert log.data[:, 2].tolist() == [881250949, 881250950]


def test_dates_without_dashes_are_converted_with_a_message(write):
    with pytest.warns(TimeUnitWarning, match="read as dates such as 20240501"):
        log = column(write, "timestamp", ["20240501", "20240502"])
    assert log.data[:, 2].tolist() == [1714521600, 1714608000]


@pytest.mark.parametrize("backend", ["pyarrow", "polars"])
@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("timestamp", [881250949, None], "1 of 2 rows"),
        ("timestamp", [881250949.5, float("nan")], "1 of 2 rows"),
        ("timestamp", ["2024-05-01", ""], "1 of 2 rows are missing"),
        ("timestamp", ["2024-05-01", None], "1 of 2 rows are missing"),
        ("timestamp", ["2024-05-01", "881250949"], "1 of 2 rows, the first"),
        ("timestamp", [datetime.datetime(2024, 5, 1), None], "1 of 2 rows are missing"),
        ("timestamp", [True, False], "neither numbers nor datetimes"),
        ("rating", [1.0, None], "'rating' lacks 1 value"),
        ("rating", ["good", "bad"], "'rating' must hold numbers.*positive='click'"),
        ("user_id", [2**60 + 1, None], "'user_id' lacks 1 value"),
        ("user_id", [2.0**60, 1.0], "float64 numbers of 2..53"),
        ("user_id", [["a"], ["b"]], "must be hashable|user_id"),
    ],
)
def test_parquet_is_as_strict(tmp_path, monkeypatch, backend, name, cells, message):
    pl = pytest.importorskip("polars")
    pytest.importorskip(backend)
    monkeypatch.setattr(_files, "_PARQUET_READERS", (backend,))
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2]} | {name: cells}).write_parquet(path)
    with pytest.raises((ValueError, TypeError), match=message):
        load_interactions(path, feedback="rating" if name == "rating" else None)


def test_parquet_ids_keep_their_types(tmp_path):
    pl = pytest.importorskip("polars")
    path = tmp_path / "log.parquet"
    ids = pl.Series([2**63, 7], dtype=pl.UInt64)
    pl.DataFrame({"user_id": ids, "item_id": ["7", "007"]}).write_parquet(path)
    assert load_interactions(path).data.tolist() == [[2**63, "7"], [7, "007"]]
    pl.DataFrame({"user_id": ids, "item_id": [1.0, 2.0]}).write_parquet(path)
    assert load_interactions(path).data.tolist() == [[2**63, 1], [7, 2]]
    moment = np.array(["2024-05-01T00:00", "2024-05-01T01:00"], "datetime64[us]")
    zoned = pl.Series(moment).dt.replace_time_zone("Asia/Tokyo")
    pl.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": zoned}).write_parquet(path)
    assert load_interactions(path).data[:, 2].tolist() == [1714521600 - 32400, 1714525200 - 32400]


# ----------------------------------------------------------------------------- quotes, memory


def titles_of(log):
    return dict(zip(log.catalogue.item_id, log.catalogue.title, strict=True))


@pytest.mark.parametrize("last", ['Low"', "Low", 'Heroes" and more', '"Heroes'])
def test_quotes_in_tab_separated_titles_swallow_no_row(write, last):
    lines = ["1\ta\tLow", '2\tb\t"Heroes', *["3\tc\tLodger"] * 5, f"4\td\t{last}"]
    log = load_interactions(write("user_id\titem_id\ttext\n" + "\n".join(lines), "log.tsv"))
    assert len(log.data) == 8
    assert titles_of(log) == {"a": "Low", "b": '"Heroes', "c": "Lodger", "d": last}


@pytest.mark.parametrize("last", ['Low"', "Low", 'Heroes" and more', '"Heroes'])
@pytest.mark.parametrize("size", [2, 100])
def test_quotes_in_comma_separated_titles_are_told_by_line(write, monkeypatch, last, size):
    monkeypatch.setattr(_text, "_ROWS_PER_BLOCK", size)
    lines = ["1,a,Low", '2,b,"Heroes', *["3,c,Lodger"] * 5, f"4,d,{last}"]
    with pytest.raises(ValueError, match=r"log.csv, line 3: .*quote.* twice, between quotes"):
        load_interactions(write("user_id,item_id,text\n" + "\n".join(lines)))


def test_quoted_texts_may_have_several_lines_separators_and_quotes(write):
    rows = [("1", "a", 'Say "low", twice'), ("2", "b", "one\ntwo, three\n\nfour"), ("3", "c", "d,")]
    for separator in ",\t;":
        text = io.StringIO()
        csv.writer(text, delimiter=separator).writerows([("user_id", "item_id", "text"), *rows])
        log = load_interactions(write(text.getvalue()))
        assert titles_of(log) == {item: title.replace("\n", "\n") for _, item, title in rows}


def test_a_row_of_the_wrong_length_is_told_by_line(write):
    with pytest.raises(ValueError, match="line 4, has a row with 3 cells under 2 column names"):
        load_interactions(write("user_id,item_id\n1,2\n\n1,2,3\n4,5\n"))
    with pytest.raises(ValueError, match="line 3, has a row with 1 cells under 2 column names"):
        load_interactions(write("user_id,item_id\n1,2\n7\n"))


def test_one_long_text_takes_the_memory_of_one(write):
    lines = ["0,0," + "x" * 1_000_000, *(f"{k % 100},{k % 500},t" for k in range(20_000))]
    path = write("user_id,item_id,text\n" + "\n".join(lines))
    tracemalloc.start()
    log = load_interactions(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(log.data) == 20_001
    assert titles_of(log)[0] == "x" * 1_000_000
    assert peak < 40 * path.stat().st_size


def test_texts_that_all_differ_are_kept_one_a_row(write, monkeypatch):
    monkeypatch.setattr(_text, "_MANY", 3)
    monkeypatch.setattr(_text, "_ROWS_PER_BLOCK", 4)
    rows = [f"u{k},i{k % 7},text {k}" for k in range(30)]
    log = load_interactions(write("user_id,item_id,text\n" + "\n".join(rows)))
    assert log.data[:, 0].tolist() == [f"u{k}" for k in range(30)]
    assert titles_of(log) == {f"i{k}": f"text {k}" for k in range(7)}


def test_the_limit_of_the_csv_module_is_neither_met_nor_moved(write):
    path = write("user_id,item_id,text\n1,2," + "x" * 200_000 + "\n")
    before = csv.field_size_limit(10)
    try:
        assert len(load_interactions(path).catalogue.text[0]) == 200_000
        assert csv.field_size_limit() == 10
    finally:
        csv.field_size_limit(before)


# -------------------------------------------------------------- names, separators, encodings


def test_columns_of_other_names(write):
    path = write("ts,movieId,userId,title,stars\n100,x1,ann,Tea,4\n200,x2,bob,Rye,5\n")
    log = load_interactions(
        path, feedback="stars",
        columns={"user": "userId", "item": "movieId", "timestamp": "ts", "text": "title"},
    )  # fmt: skip
    assert log.data.tolist() == [["ann", "x1", 100], ["bob", "x2", 200]]
    assert log.feature_names == ["user_id", "item_id", "timestamp"]
    assert titles_of(log) == {"x1": "Tea", "x2": "Rye"}
    with pytest.raises(ValueError, match=r"no column 'user_id'; its .*userId.*columns="):
        load_interactions(path)
    with pytest.raises(ValueError, match="no column 'when'"):
        load_interactions(path, columns={"user": "userId", "item": "movieId", "time": "when"})
    with pytest.raises(ValueError, match="'users', which is none of"):
        load_interactions(path, columns={"users": "userId"})
    with pytest.raises(ValueError, match="'userId' to two roles"):
        load_interactions(path, columns={"user": "userId", "item": "userId"})
    with pytest.raises(TypeError, match="columns must be a dict"):
        load_interactions(path, columns="userId")


def test_columns_of_other_names_in_parquet(tmp_path):
    pl = pytest.importorskip("polars")
    pl.DataFrame({"u": [1], "i": [2], "t": [30]}).write_parquet(tmp_path / "log.parquet")
    columns = {"user": "u", "item": "i", "time": "t"}
    assert load_interactions(tmp_path / "log.parquet", columns=columns).data.tolist() == [
        [1, 2, 30]
    ]


@pytest.mark.parametrize("separator", ["\t", "::", ";", ",", "|"])
def test_separators_are_recognised(write, separator):
    lines = ["user_id item_id timestamp", "1 2 881250949", "3 4 881250950"]
    path = write("\n".join(lines).replace(" ", separator) + "\n")
    expected = [[1, 2, 881250949], [3, 4, 881250950]]
    assert load_interactions(path).data.tolist() == expected
    assert load_interactions(path, sep=separator).data.tolist() == expected
    path = write("\n".join(lines).replace(" ", "#"))
    assert load_interactions(path, sep="#").data.tolist() == expected
    with pytest.raises(ValueError, match="sep must be at least one"):
        load_interactions(path, sep="")


@pytest.mark.parametrize("separator", ["\t", "::", ";", ","])
def test_movielens_without_a_header_is_recognised(write, separator):
    lines = ["196 242 3 881250949", "186 302 2.5 891717742"]
    path = write("\n".join(lines).replace(" ", separator), "ratings.dat")
    with pytest.warns(HeaderWarning, match="taken for user_id, item_id, rating, timestamp"):
        log = load_interactions(path, feedback="rating")
    assert log.data.tolist() == [[196, 242, 881250949], [186, 302, 891717742]]
    assert log.target.tolist() == [3, 2.5]
    log = load_interactions(path, columns={"user": 0, "item": 1, "time": 3}, feedback="2")
    assert log.data.tolist() == [[196, 242, 881250949], [186, 302, 891717742]]
    assert log.target.tolist() == [3, 2.5]


@pytest.mark.parametrize(
    ("line", "names"),
    [("1,2", "user_id, item_id"), ("1,2,881250949", "user_id, item_id, timestamp"),
     ("1,2,4.5", "user_id, item_id, rating"), ("1,2,2024-05-01", "user_id, item_id, timestamp"),
     ("1,2,881250949,5", "user_id, item_id, timestamp, rating")],
)  # fmt: skip
def test_other_files_without_a_header(write, line, names):
    feedback = "rating" if "rating" in names else None
    with pytest.warns(HeaderWarning, match=f"taken for {names}. If"):
        assert len(load_interactions(write(f"{line}\n{line}\n"), feedback=feedback).data) == 2


@pytest.mark.parametrize("line", ["881250949,1,2", "1,881250949,2", "1,2,3,4", "1,2,3,4,5"])
def test_what_cannot_be_told_is_refused(write, line):
    if line.startswith("881"):
        line = "1,2,881250949,881250949"
    with pytest.raises(ValueError, match=r"no header, its first line is .*--columns user=0"):
        load_interactions(write(f"{line}\n{line}\n"))


def test_names_that_are_no_header_may_be_numbered(write):
    path = write("ann,tea\nbob,rye\n")
    with pytest.raises(ValueError, match=r"no column 'user_id'.*numbers from 0"):
        load_interactions(path)
    log = load_interactions(path, columns={"user": 0, "item": 1})
    assert log.data.tolist() == [["ann", "tea"], ["bob", "rye"]]
    log = load_interactions(write("0,1\nann,tea\n"), columns={"user": 1, "item": 0})
    assert log.data.tolist() == [["tea", "ann"]]


def test_a_name_given_twice_is_refused(write):
    with pytest.raises(ValueError, match="two columns called 'item_id'"):
        load_interactions(write("user_id,item_id,item_id\n1,2,3\n"))
    assert load_interactions(write("user_id,item_id,x,x\n1,2,3,4\n")).data.tolist() == [[1, 2]]


def test_labels_that_count_as_one(write):
    path = write("user_id,item_id,action\n1,2,skip\n1,3,click\n2,2,buy\n")
    assert load_interactions(path, feedback="action", positive="click").target.tolist() == [0, 1, 0]
    both = load_interactions(path, feedback="action", positive=["click", "buy"])
    assert both.target.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match=r"'action' must hold numbers.*skip.*positive='click'"):
        load_interactions(path, feedback="action")
    with pytest.raises(ValueError, match=r"has no label 'clik'; its labels are \['buy', 'click'"):
        load_interactions(path, feedback="action", positive="clik")
    with pytest.raises(ValueError, match="give feedback as well"):
        load_interactions(path, positive="click")
    numbers = write("user_id,item_id,y\n1,2,1\n1,3,2\n")
    assert load_interactions(numbers, feedback="y", positive="2").target.tolist() == [0, 1]


LOG = "user_id,item_id,text\n1,2,Crème\n"


def test_encodings(tmp_path):
    path = tmp_path / "log.csv"
    for encoding in ("utf-16", "utf-8-sig", "utf-8"):
        path.write_text(LOG, encoding=encoding)
        assert load_interactions(path).catalogue.text.tolist() == ["Crème"]
    path.write_text(LOG, encoding="latin-1")
    with pytest.raises(ValueError, match=r"log.csv is not text in utf-8 .*encoding='latin-1'"):
        load_interactions(path)
    assert load_interactions(path, encoding="latin-1").catalogue.text.tolist() == ["Crème"]
    with pytest.raises(ValueError, match=r"log.csv: unknown encoding: latin-99"):
        load_interactions(path, encoding="latin-99")
    path.write_text(LOG, encoding="utf-16-le")
    with pytest.raises(ValueError, match=r"log.csv .*encoding='utf-16-le'|log.csv is not text"):
        load_interactions(path)


PACKERS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files(tmp_path, ending):
    packed = PACKERS[ending](LOG.encode())
    path = tmp_path / f"log.csv{ending}"
    path.write_bytes(packed)
    assert load_interactions(path).data.tolist() == [[1, 2]]
    path.write_bytes(packed[:-9])
    with pytest.raises(ValueError, match=f"log.csv{ending} cannot be unpacked"):
        load_interactions(path)
    path.write_bytes(LOG.encode())
    with pytest.raises(ValueError, match=f"log.csv{ending} cannot be unpacked"):
        load_interactions(path)
    path = tmp_path / "log.csv"
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=f"log.csv .*let its name end in {ending}"):
        load_interactions(path)
    with pytest.raises(FileNotFoundError):
        load_interactions(tmp_path / f"nowhere.csv{ending}")


def test_zip_files(tmp_path):
    path = tmp_path / "log.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/log.csv", LOG)
    assert load_interactions(path).data.tolist() == [[1, 2]]
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.csv", LOG)
    with pytest.raises(ValueError, match=r"log.zip holds 2 files, .*unpack it"):
        load_interactions(path)
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"log.zip cannot be unpacked"):
        load_interactions(path)


def test_zst_files(tmp_path, monkeypatch):
    path = tmp_path / "log.csv.zst"
    path.write_bytes(LOG.encode())
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"log.csv.zst needs .* pip install zstandard"):
        load_interactions(path)
    plain = types.SimpleNamespace(open=open)
    monkeypatch.setitem(sys.modules, "zstandard", plain)
    assert load_interactions(path).data.tolist() == [[1, 2]]


def test_packed_parquet_and_other_kinds_are_named(tmp_path):
    path = tmp_path / "log.parquet.gz"
    path.write_bytes(gzip.compress(b"PAR1"))
    with pytest.raises(ValueError, match="unpack it first"):
        load_interactions(path)
    path = tmp_path / "log.xls"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    with pytest.raises(ValueError, match=r"log.xls is a file of Excel: save it as CSV"):
        load_interactions(path)


# ----------------------------------------------------------------- decimals, units and formats


def test_a_messy_file_is_read_as_it_is(tmp_path):
    text = (
        "uid;movieId;rating;when\r\n"
        '7;"Heat; 1995";4,0;20.09.1997 03:05:10\r\n8;Fargo;3,5;01.01.1970 00:00:01\r\n'
    )
    roles = {"user_id": "uid", "item_id": "movieId", "timestamp": "when"}
    options = {"feedback": "rating", "decimal": ",", "time_format": "%d.%m.%Y %H:%M:%S"}
    for ending, pack in {"": bytes, ".gz": gzip.compress}.items():
        path = tmp_path / f"log.csv{ending}"
        path.write_bytes(pack(text.encode("latin-1")))
        log = load_interactions(path, columns=roles, encoding="latin-1", **options)
        seconds = datetime.datetime(1997, 9, 20, 3, 5, 10, tzinfo=datetime.timezone.utc).timestamp()
        assert log.data.tolist() == [[7, "Heat; 1995", seconds], [8, "Fargo", 1]]
        assert log.target.tolist() == [4, 3.5]
    with pytest.raises(ValueError, match=r"no column 'user_id'.*'user': 'uid', 'item': 'movieId'"):
        load_interactions(path)
    with pytest.raises(ValueError, match=r"'rating' must hold numbers.*decimal=',' .--decimal"):
        load_interactions(path, columns=roles, **options | {"decimal": "."})
    with pytest.raises(ValueError, match=r"when: neither .*2 of 2 rows, the first .*time_format="):
        load_interactions(path, columns=roles, **options | {"time_format": None})
    with pytest.raises(ValueError, match=r"when: not of time_format.*2 of 2 rows, the first '20"):
        load_interactions(path, columns=roles, **options | {"time_format": "%d.%m.%Y"})


def test_a_time_format_may_have_a_zone_and_read_numbers(write, tmp_path):
    pl = pytest.importorskip("polars")
    path = write(
        "user_id,item_id,timestamp\n1,2,02.01.1970 01:00 +0100\n1,3,03.01.1970 00:00 +0000\n"
    )
    log = load_interactions(path, time_format="%d.%m.%Y %H:%M %z")
    assert log.data[:, 2].tolist() == [86400, 2 * 86400]
    path = write("user_id,item_id,timestamp\n1,2,19700102\n1,3,19700103\n")
    for file in (path, tmp_path / "log.parquet"):
        if file is not path:
            pl.read_csv(path).write_parquet(file)
        days = load_interactions(file, time_format="%Y%m%d").data[:, 2]
        assert days.tolist() == [86400, 2 * 86400]
    pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": ["1970", None]}).write_parquet(
        file
    )
    with pytest.raises(ValueError, match="timestamp: 1 of 2 rows are missing"):
        load_interactions(file, time_format="%Y")


@pytest.mark.parametrize(
    ("unit", "cells", "seconds"),
    [
        ("s", ["978300760", "978302109"], [978300760, 978302109]),
        ("ms", ["1000", "2500"], [1, 2.5]),  # too small to be recognised
        ("us", ["978300760000000", "1000000"], [978300760, 1]),
        ("ns", ["978300760000000000", "0.5e9"], [978300760, 0.5]),
    ],
)
def test_times_may_have_a_unit(write, unit, cells, seconds):
    path = write("user_id,item_id,timestamp\n" + "".join(f"1,2,{cell}\n" for cell in cells))
    assert load_interactions(path, time_unit=unit).data[:, 2].tolist() == seconds


def test_a_unit_that_does_not_fit_is_refused(write):
    head = "user_id,item_id,timestamp\n"
    with pytest.raises(ValueError, match=r"no seconds since 1970 .* looks like milliseconds"):
        load_interactions(write(head + "1,2,978300760000\n"), time_unit="s")
    with pytest.raises(ValueError, match=r"time_unit='ms' is for numbers. timestamp: not numeric"):
        load_interactions(write(head + "1,2,2024-05-01\n"), time_unit="ms")


def test_decimals_have_a_comma_if_it_is_said_so(write):
    path = write("user_id\titem_id\ttimestamp\trating\n1,5\t2\t10,5\t-3\n2\t2\t11\t4,25\n")
    log = load_interactions(path, feedback="rating", decimal=",")
    assert log.data.tolist() == [["1,5", 2, 10.5], ["2", 2, 11.0]]
    assert log.target.tolist() == [-3, 4.25]
    path = write('user_id,item_id,rating\n1,2,"1.234,5"\n1,3,"2,5"\n')
    with pytest.raises(ValueError, match="'rating': 1 of 2 rows have a point and a comma"):
        load_interactions(path, feedback="rating", decimal=",")
    path = write('user_id,item_id,timestamp\n1,2,"1,5"\n')
    with pytest.raises(ValueError, match=r"timestamp: neither .* decimal=','"):
        load_interactions(path)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sep": 3}, TypeError, "sep must be a string such as ';', got 3"),
        ({"decimal": ";"}, ValueError, "decimal must be '.' or ',', got ';'"),
        ({"decimal": None}, ValueError, "decimal must be '.' or ',', got None"),
        ({"time_unit": "hours"}, ValueError, "time_unit must be one of .*'ns'.*, got 'hours'"),
        ({"time_format": "dd.mm.yyyy"}, ValueError, "time_format must be .* got 'dd.mm.yyyy'"),
        ({"time_format": "%d.%m."}, ValueError, "with a year"),
        ({"time_format": 3}, ValueError, "time_format must be a format"),
        ({"time_format": "%Y", "time_unit": "s"}, ValueError, "give one of them"),
        ({"time_unit": "s", "columns": {"user": "item_id", "item": "user_id"}}, ValueError,
         "are for times, but .* has no column 'timestamp'"),
        ({"encoding": "latin-0"}, ValueError, "unknown encoding.*give an encoding such as"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(write, options, error, message):
    with pytest.raises(error, match=message):
        load_interactions(write("user_id,item_id\n1,2\n"), **options)


def test_a_separator_is_for_text_files(tmp_path):
    pl = pytest.importorskip("polars")
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="sep=';' is for text files"):
        load_interactions(tmp_path / "log.parquet", sep=";")


def test_a_feedback_without_a_header_is_numbered(write):
    log = load_interactions(write("ann,tea,4\n"), columns={"user": 0, "item": 1}, feedback=2)
    assert log.target.tolist() == [4]


def test_columns_that_look_needed_are_pointed_out(write):
    path = write("user_id,item_id,Stars,event_time\n1,2,4,978300760\n")
    with pytest.warns(UserWarning, match="'event_time' that is not used.*'time': 'event_time'"):
        load_interactions(path, feedback="Stars")
    with pytest.warns(UserWarning, match="'Stars' that is not used.*feedback='Stars'"):
        log = load_interactions(path, columns={"time": "event_time"})
    assert log.unused_names == ["Stars"]
    load_interactions(path, columns={"time": "event_time"}, feedback="Stars")


def test_a_decimal_comma_is_written_as_a_decimal_point_may_be(write):
    path = write("user_id;item_id;rating\n1;2; 4,5 \n1;3;,5\n1;4;-5,\n1;5;1,5e2\n1;6;7\n")
    log = load_interactions(path, feedback="rating", decimal=",")
    assert log.target.tolist() == [4.5, 0.5, -5, 150, 7]


def test_a_comma_of_labels_and_formats_is_no_decimal_comma(write):
    path = write(
        "user_id;item_id;mark;timestamp\n1;2;2,5;20.09.1997 10:00:00,5\n1;3;a.b, c;20.09.1997"
        " 10:00:01,0\n"
    )
    options = {"decimal": ",", "time_format": "%d.%m.%Y %H:%M:%S,%f", "feedback": "mark"}
    log = load_interactions(path, positive=["2,5"], **options)
    assert log.target.tolist() == [1, 0]
    assert log.data[:, 2].tolist() == [874749600.5, 874749601]


def test_a_role_has_one_column(write):
    with pytest.raises(ValueError, match="columns gives two columns for 'user_id'"):
        load_interactions(write("u,v,item_id\n1,2,3\n"), columns={"user": "u", "user_id": "v"})


@pytest.mark.parametrize("option", [{"time_unit": "ms"}, {"time_format": "%Y-%m-%d"}], ids=str)
def test_datetimes_have_neither_a_unit_nor_a_format(tmp_path, option):
    pl = pytest.importorskip("polars")
    when = [datetime.datetime(2024, 5, 1), datetime.datetime(2024, 5, 2)]
    frame = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": when})
    frame.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="all 2 rows of timestamp are datetimes: leave it out"):
        load_interactions(tmp_path / "log.parquet", **option)
