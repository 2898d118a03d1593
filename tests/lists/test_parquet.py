"""Lists in a file: the long table of one call, whatever the batches; all of it or nothing."""

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.exceptions import NotFittedError

from sklearn_recft import PopularityRecommender
from sklearn_recft.lists import recommend_to_parquet

X = [[f"user {u}", f"item {i}"] for u in range(12) for i in range(u % 5 + 1)]
USERS = [f"user {u}" for u in range(14)] + ["user 3"]


@pytest.fixture(scope="module")
def model():
    return PopularityRecommender().fit(X)


def table_of(users):
    """Return candidates of some users, not in their order."""
    rng = np.random.default_rng(0)
    items = [f"item {i}" for i in range(5)]
    frame = pd.DataFrame({"item_id": rng.choice(items, 60), "user_id": rng.choice(users, 60)})
    return frame.sample(frac=1, random_state=0)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize(
    "kind",
    [
        list,
        np.array,
        pl.Series,
        lambda users: (user for user in users),
        lambda users: pd.DataFrame({"user_id": users}),
        lambda users: pl.DataFrame({"user_id": users}),
        lambda users: pa.table({"user_id": users}),
        lambda users: [[user, 2e9] for user in users],
    ],
)
def test_the_file_is_the_long_table(tmp_path, model, batch_size, kind):
    path = tmp_path / "lists.parquet"
    frames = {"candidates": table_of(USERS), "exclude": pl.from_pandas(table_of(USERS[::2]))}
    for options in ({}, frames, {"exclude": ["item 1", "gone"], "exclude_seen": False}):
        options = {"n_recommendations": 3, "on_missing": "pad", **options}
        expected = model.recommend(USERS, as_frame=True, **options)
        n_rows = recommend_to_parquet(path, model, kind(USERS), batch_size=batch_size, **options)
        assert n_rows == len(expected)
        pd.testing.assert_frame_equal(
            pd.read_parquet(path), expected, check_dtype=False, check_exact=True
        )
    assert [p.name for p in tmp_path.iterdir()] == ["lists.parquet"]


def test_columns_have_one_type_each(tmp_path):
    model = PopularityRecommender().fit([[1, 10], [2, 20]])
    recommend_to_parquet(tmp_path / "a", model, [1, 2], n_recommendations=1, batch_size=1)
    schema = pq.read_schema(tmp_path / "a")
    assert schema.types == [pa.int64(), pa.int32(), pa.int64(), pa.float64()]
    nothing = {"exclude": [10, 20], "on_missing": "pad"}
    assert recommend_to_parquet(tmp_path / "a", model, [1, 2], **nothing) == 0
    assert pq.read_schema(tmp_path / "a") == schema


def test_a_call_that_fails_leaves_the_old_file(tmp_path, model):
    path = tmp_path / "lists.parquet"
    recommend_to_parquet(path, model, USERS[:2], n_recommendations=1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="'user 4' has only 0 eligible"):  # in a later batch
        recommend_to_parquet(path, model, USERS, n_recommendations=1, batch_size=2)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_wrong_calls_are_refused(tmp_path, model):
    path = tmp_path / "lists.parquet"
    for error, message, given in (
        (TypeError, "has no recommend; of a pipeline", {"recommender": object()}),
        (TypeError, "as_frame is no option", {"as_frame": True}),
        (ValueError, "batch_size == 0", {"batch_size": 0}),
        (TypeError, "batch_size", {"batch_size": "all"}),
        (TypeError, "unexpected keyword argument 'k'", {"k": 3}),
        (NotFittedError, "not fitted", {"recommender": PopularityRecommender()}),
        (ValueError, "user_id: a Parquet column cannot hold these ids", {"X": [1, "one"]}),
        (ValueError, "candidates is a dict", {"candidates": {}}),
        (IsADirectoryError, "is a folder", {"path": tmp_path}),
        (FileNotFoundError, "no folder '.*gone'; make it", {"path": tmp_path / "gone" / "a"}),
    ):
        given = {"path": path, "recommender": model, "X": ["user 0"], **given}
        with pytest.raises(error, match=message):
            recommend_to_parquet(**given)
        assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_the_error_says_so(monkeypatch, tmp_path, model):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        recommend_to_parquet(tmp_path / "a", model, ["user 0"], n_recommendations=1)


def test_a_progress_bar_counts_queries(capsys, tmp_path, model):
    given = {"on_missing": "pad", "batch_size": 4}
    recommend_to_parquet(tmp_path / "a", model, USERS, verbose=1, **given)
    assert f"{len(USERS)}/{len(USERS)}" in capsys.readouterr().err
    recommend_to_parquet(tmp_path / "a", model, USERS, **given)
    assert capsys.readouterr().err == ""


KILLED = """
import sys
from sklearn_recft import PopularityRecommender
from sklearn_recft.lists import recommend_to_parquet
class Slow(PopularityRecommender):
    def recommend(self, X, **options):
        print("batch", flush=True)
        return super().recommend(X, **options)
model = Slow().fit([[u, u % 7] for u in range(500)])
while True:
    recommend_to_parquet(sys.argv[1], model, range(500), n_recommendations=5, batch_size=1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not killed by a signal there")
def test_a_kill_leaves_no_incomplete_file(tmp_path):
    path = tmp_path / "lists.parquet"
    path.write_bytes(b"old")
    process = subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE)
    for _ in range(20):
        assert process.stdout.readline() == b"batch\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_bytes() == b"old"
