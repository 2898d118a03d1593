"""A dataset learned in batches equals calls of partial_fit, wherever files end, and resumes."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from sklearn_recft import (
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.scale import StreamError, fit_stream

pa = pytest.importorskip("pyarrow")
ds = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def table():
    X, y = make_interactions(40, 30, 1000, random_state=0, return_X_y=True)
    names = ("user_id", "item_id", "timestamp")
    return pa.table(
        {**dict(zip(names, X.T, strict=True)), "rating": np.round(y), "weight": np.ones(len(y))}
    )


def write(folder, table, cuts=(0, 333, 340, 1000), **options):
    for k, (first, last) in enumerate(pairwise(cuts)):
        pq.write_table(table.slice(first, last - first), folder / f"{k:03}.parquet", **options)
    return folder


def mf():
    return IncrementalMFRecommender(n_factors=4, max_epochs=2, random_state=0)


def in_batches(table, size, weights=False):
    X = np.column_stack([table[name] for name in ("user_id", "item_id", "timestamp")])
    y, model = table["rating"].to_numpy(), mf()
    for first in range(0, len(X), size):
        rows = slice(first, first + size)
        model.partial_fit(X[rows], y[rows], *[np.ones(len(y[rows]))] * weights)
    return model.predict(X), X


COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp"}


def learn(model, dataset, **options):
    return fit_stream(model, dataset, target="rating", columns=COLUMNS, **options)


@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_batches_do_not_depend_on_files_and_row_groups(table, tmp_path, row_group_size):
    folder = write(tmp_path, table, row_group_size=row_group_size)
    expected, X = in_batches(table, 300)
    model, seen = mf(), []
    position = learn(model, folder, batch_rows=300, sample_weight="weight", on_batch=seen.append)
    assert_array_equal(model.predict(table.select(list(COLUMNS))), expected)
    assert [p.n_rows for p in seen] == [300, 600, 900, 1000]
    assert [(p.fragment, p.row) for p in seen] == [(0, 300), (2, 260), (2, 560), (2, 660)]
    assert position == seen[-1]
    assert position.latest == X[-1, 2]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_stopped_stream_resumes_to_the_last_bit(table, tmp_path, stop):
    folder = write(tmp_path, table)
    whole, model, kept = mf(), mf(), []
    learn(whole, folder, batch_rows=300)

    def save(position):
        kept.append((pickle.dumps(model), position))
        if len(kept) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(model, folder, batch_rows=300, on_batch=save)
    saved, position = kept[-1]
    model = pickle.loads(saved)
    learn(model, folder, batch_rows=300, after=pickle.loads(pickle.dumps(position)))
    assert_array_equal(
        model.predict(table.select(list(COLUMNS))), whole.predict(table.select(list(COLUMNS)))
    )


def test_files_that_are_added_later_are_learned_alone(table, tmp_path):
    write(tmp_path, table.slice(0, 600), (0, 300, 600))
    model = PopularityRecommender()
    position = learn(model, tmp_path)
    assert learn(model, tmp_path, after=position) == position
    pq.write_table(table.slice(600), tmp_path / "999.parquet")
    assert learn(model, tmp_path, after=position).n_rows == 1000
    assert_array_equal(np.sort(model.popularity_), np.sort(learned_at_once(table)))
    (tmp_path / "000.parquet").unlink()
    with pytest.raises(
        ValueError, match=r"file 1 of the dataset is .*999.parquet., not .*001.parquet"
    ):
        learn(model, tmp_path, after=position)


def learned_at_once(table):
    X = table.select(["user_id", "item_id"])
    return PopularityRecommender().fit(X, table["rating"].to_numpy()).popularity_


def bad_ids(table):
    users = table["user_id"].to_pylist()
    users[450] = None
    return table.set_column(0, "user_id", pa.array(users))


def back_in_time(table):
    times = table["timestamp"].to_numpy().copy()
    times[450] = times[0]
    return table.set_column(2, "timestamp", pa.array(times))


@pytest.mark.parametrize(
    ("spoil", "message"), [(bad_ids, "user_id"), (back_in_time, "1 rows of this batch.*row 150 of")]
)
def test_an_error_names_the_rows_and_how_far_it_learned(table, tmp_path, spoil, message):
    folder = write(tmp_path, spoil(table))
    model = mf()
    with pytest.raises(StreamError, match=message) as caught:
        learn(model, folder, batch_rows=300)
    error = pickle.loads(pickle.dumps(caught.value))
    assert "000.parquet, row 300, to " in str(error)
    assert "002.parquet, row 260" in str(error)
    assert "The 300 rows before this batch were learned" in str(error)
    assert (error.position.n_rows, error.position.n_batches) == (300, 1)
    write(tmp_path, table)
    learn(model, folder, batch_rows=300, after=error.position)
    assert_array_equal(model.predict(table.select(list(COLUMNS))), in_batches(table, 300)[0])


def test_order_of_time_is_checked_between_batches_and_calls(table, tmp_path):
    folder, model = write(tmp_path, table), PopularityRecommender()
    position = learn(model, folder, batch_rows=300)
    pq.write_table(table.slice(0, 10), tmp_path / "999.parquet")
    with pytest.raises(StreamError, match="Sort the rows by time"):
        learn(model, folder, after=position)
    assert learn(model, folder, after=position, in_order=False).n_rows == 1010


def test_a_damaged_file_and_one_of_another_type_are_named(table, tmp_path):
    folder = write(tmp_path, table)
    (tmp_path / "002.parquet").write_bytes(b"PAR1 no more")
    model = PopularityRecommender()
    with pytest.raises(StreamError, match=r"002.parquet, after row 0.*The 300 rows") as caught:
        learn(model, folder, batch_rows=300)
    assert caught.value.position.n_rows == 300
    names = pa.array([str(v) for v in table["user_id"].to_pylist()])
    pq.write_table(table.set_column(0, "user_id", names), tmp_path / "002.parquet")
    with pytest.raises(StreamError, match=r"002.parquet.*user_id: .*string.*int64"):
        learn(model, folder, batch_rows=300, after=caught.value.position)


def test_a_file_with_a_further_column_is_refused_unless_columns_are_named(table, tmp_path):
    plain = table.select(["user_id", "item_id", "rating"])
    pq.write_table(plain.slice(0, 500), tmp_path / "0.parquet")
    pq.write_table(table.slice(500), tmp_path / "1.parquet")  # else its times would not be read
    model = PopularityRecommender()
    with pytest.raises(StreamError, match=r"1.parquet.*not: \['timestamp', 'weight'\]"):
        fit_stream(model, tmp_path, target="rating", batch_rows=500)
    names = {"user_id": "user_id", "item_id": "item_id"}
    assert fit_stream(mf(), tmp_path, target="rating", columns=names).n_rows == 1000


def test_the_target_and_the_index_of_pandas_are_no_context(table, tmp_path):
    rows = table.select(["user_id", "item_id", "rating"])
    pq.write_table(
        rows.append_column("__index_level_0__", pa.array(np.arange(1000))), tmp_path / "0.parquet"
    )
    model = mf()
    fit_stream(model, tmp_path, target="rating")
    assert model.n_features_in_ == 2
    names = {name: name for name in rows.column_names}
    with pytest.raises(ValueError, match="rating: the target is also in columns"):
        fit_stream(model, tmp_path, target="rating", columns=names)


def test_an_empty_file_of_null_columns_changes_nothing(table, tmp_path):
    folder = write(tmp_path, table.select(list(COLUMNS)))
    pq.write_table(
        pa.table({name: pa.nulls(0) for name in COLUMNS}), tmp_path / "001a.parquet"
    )  # what pandas writes of a frame without rows
    model = PopularityRecommender()
    assert fit_stream(model, folder).n_rows == 1000
    expected = PopularityRecommender().fit(table.select(list(COLUMNS)))
    assert_array_equal(model.popularity_, expected.popularity_)


def test_labels_of_a_classifier_may_be_texts(table):
    labels = np.where(table["rating"].to_numpy() > 3, "like", "skip")
    model = IncrementalMFClassifier(n_factors=2, max_epochs=1, random_state=0)
    X = table.select(list(COLUMNS))
    files = ds.dataset(X.append_column("label", pa.array(labels)))
    fit_stream(model, files, target="label")
    assert_array_equal(model.predict_proba(X), clone(model).fit(X, labels).predict_proba(X))


def test_a_file_that_was_written_anew_with_fewer_rows_is_refused(table, tmp_path):
    folder, model = write(tmp_path, table.slice(0, 300), (0, 300)), PopularityRecommender()
    position = learn(model, folder)
    pq.write_table(table.slice(0, 100), tmp_path / "000.parquet")
    pq.write_table(table.slice(300), tmp_path / "001.parquet")
    with pytest.raises(ValueError, match=r"000.parquet has 100 rows, but 300 of it were learned"):
        learn(model, folder, after=position)


def test_what_is_missing_is_said_before_anything_is_read(table, tmp_path):
    folder, model = write(tmp_path, table), PopularityRecommender()
    for options, message in (
        ({"target": "stars"}, r"no columns \['stars'\]"),
        ({"columns": {"user_id": "user_id"}}, r"no columns \['item_id'\] among"),
        ({"columns": {**COLUMNS, "rating": "user_id"}}, r"columns are read as \['user_id'\]"),
        ({"batch_rows": 0}, "batch_rows"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_stream(model, folder, **options)
    texts = pa.table({"user_id": ["a"], "item_id": ["b"], "rating": ["good"]})
    with pytest.raises(ValueError, match=r"rating.*numbers are needed"):
        fit_stream(model, ds.dataset(texts), target="rating")
    with pytest.raises(TypeError, match=r"pyarrow\.dataset\.Dataset"):
        fit_stream(model, table)
    with pytest.raises(TypeError, match="columns is a list; give a mapping"):
        fit_stream(model, folder, columns=list(COLUMNS))
    with pytest.raises(TypeError, match="after must be an instance of"):
        fit_stream(model, folder, after=3)
    with pytest.raises(TypeError, match="no partial_fit"):
        fit_stream(object(), folder)
    assert not hasattr(model, "item_ids_")


def test_partitions_and_file_systems(table, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    day = pa.array(np.repeat([1, 2], 500))
    ds.write_dataset(
        table.append_column("day", day),
        "/scale_tests/log",
        filesystem=memory,
        format="parquet",
        partitioning=ds.partitioning(pa.schema([("day", pa.int64())]), flavor="hive"),
    )
    files = ds.dataset("/scale_tests/log", filesystem=memory, format="parquet", partitioning="hive")
    model = PopularityRecommender()
    position = learn(model, files, batch_rows=300)
    assert "day=2" in position.path
    assert_array_equal(model.popularity_, learned_at_once(table))
    memory.rm("/scale_tests", recursive=True)
    ds.write_dataset(table, tmp_path, format="parquet")
    with_context = IncrementalMFRecommender(n_factors=2, max_epochs=1, random_state=0)
    fit_stream(with_context, ds.dataset(files.schema.empty_table()))  # no rows, nothing learned
    assert not hasattr(with_context, "item_ids_")


def test_an_unnamed_index_of_pandas_is_no_context(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [3, 4], "timestamp": [5e8, 6e8]}, [9, 7])
    frame.to_parquet(tmp_path / "0.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "0.parquet").names
    model = mf()
    assert fit_stream(model, tmp_path).n_rows == 2
    assert_array_equal(model.predict(frame), model.predict(frame.reset_index(drop=True)))


def test_a_position_needs_the_model_that_learned(table, tmp_path):
    position = learn(mf(), write(tmp_path, table), batch_rows=300)
    with pytest.raises(ValueError, match=r"after: 1000 rows .* is not fitted"):
        learn(mf(), tmp_path, after=position)


def test_a_folder_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*gone"):
        fit_stream(mf(), tmp_path / "gone")
    with pytest.raises(ValueError, match="no Parquet files"):
        fit_stream(mf(), tmp_path)


def test_files_of_a_path_are_read_by_their_numbers(table, tmp_path):
    for k, name in enumerate(("day=2/part-9", "day=2/part-10", "day=10/part-1")):
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table.slice(300 * k, 300), path)
    seen, model = [], mf()
    learn(model, tmp_path, batch_rows=300, on_batch=seen.append)
    assert [p.path.split("/", tmp_path.as_posix().count("/") + 1)[-1] for p in seen] == [
        "day=2/part-9.parquet",
        "day=2/part-10.parquet",
        "day=10/part-1.parquet",
    ]
    expected, _ = in_batches(table.slice(0, 900), 300)
    assert_array_equal(model.predict(table.select(list(COLUMNS)).slice(0, 900)), expected)


def test_classes_tell_a_classifier_labels_that_come_later(table, tmp_path):
    likes = np.sort(table["rating"].to_numpy() >= 3)
    folder = write(tmp_path, table.set_column(3, "rating", pa.array(likes)), cuts=(0, 1000))
    model = IncrementalMFClassifier(n_factors=4, max_epochs=2, random_state=0)
    with pytest.raises(StreamError, match="one class only"):
        learn(clone(model), folder, batch_rows=100)
    learn(model, folder, batch_rows=100, classes=[False, True])
    assert model.classes_.tolist() == [False, True]
    with pytest.raises(ValueError, match="classes: IncrementalMFRecommender is no classifier"):
        learn(mf(), folder, classes=[False, True])
