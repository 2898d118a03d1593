"""User files: every reader gives the same log, and says what is wrong with a file."""

import builtins

import numpy as np
import pytest

from sklearn_recft.datasets import _files, load_interactions

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
    monkeypatch.setattr(_files, "_ROWS_PER_BLOCK", 2)
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
        ("user_id,item_id,timestamp,rating\n1,2,soon,1\n", "'timestamp' must hold"),
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
        load_interactions(write(HEADER + ROWS), as_frame=True)
