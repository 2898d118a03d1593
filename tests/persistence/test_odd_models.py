"""What is saved can be loaded: odd values, odd tables, and stores that others write to."""

import json
import os
import stat
import threading
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft import (
    AdaptiveRecommender,
    IncrementalDCNRecommender,
    PopularityRecommender,
    RP3BetaRecommender,
    trusted_types,
)
from sklearn_recft.cli import main
from sklearn_recft.persistence import ModelStore, _folder, inspect, load, save
from tests.contract.discovery import small
from tests.contract.helpers import make_log
from tests.persistence.processes import Started


def popularity(*items):
    return PopularityRecommender().fit(np.array([[1, item] for item in items]))


def with_value(value):
    model = PopularityRecommender()
    model.half_life = value
    return model


# ------------------------------------------------------------------ values

VALUES = {
    "ascending": np.sort(np.arange(300) % 10),
    "complex": np.complex128(1j),
    "complex of no axis": np.array(2j),
    "frozenset": frozenset({1, 2}),
    "sets as keys": {frozenset({1}): 2},
    "text of another byte order": np.array(["ab", "ç"], ">U2"),
    "big endian": np.arange(100, dtype=">i4"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back(name, tmp_path):
    value = VALUES[name]
    save(with_value(value), tmp_path / "model")
    found = load(tmp_path / "model").half_life
    assert type(found) is type(value)
    assert_array_equal(found, value)
    assert np.shape(found) == np.shape(value)


def nested(wrap, n):
    value = 1.0
    for _ in range(n):
        value = wrap(value)
    return value


LOOP: list = []
LOOP.append(LOOP)
REFUSED = {
    "a list in itself": LOOP,
    "deep lists": nested(lambda value: [value], 5000),
    "deep dicts": nested(lambda value: {"a": value}, 150),
    "deep tuples": nested(lambda value: (value,), 150),
    "many axes": np.zeros((1,) * 9),
    "a mask": np.ma.array([1, 2], mask=[False, True]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_loaded_is_not_saved(name, tmp_path):
    before = save(popularity(7), tmp_path / "model")
    with pytest.raises(TypeError, match=r"half_life.*cannot be saved"):
        save(with_value(REFUSED[name]), tmp_path / "model")
    assert load(tmp_path / "model", digest=before).n_items_ == 1


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"a": np.int64(1)}, r"metadata\['a'\]: a int64"),
        ({"a": [{1: 2}]}, r"metadata\['a'\]\[0\]: a dict"),
        ({"a": float("nan")}, r"metadata\['a'\]: nan"),
        ({"a": LOOP}, "or in itself"),
        ({"a": "x" * 2**20}, "takes 1048584 bytes"),
        (["a"], "metadata is a list"),
    ],
)
def test_metadata_that_are_not_plain_leave_the_model(metadata, match, tmp_path):
    before = save(popularity(7), tmp_path / "model")
    with pytest.raises((TypeError, ValueError), match=match):
        save(popularity(7, 8), tmp_path / "model", metadata=metadata)
    assert load(tmp_path / "model", digest=before).n_items_ == 1


def test_numbers_of_events(tmp_path):
    save(popularity(7), tmp_path / "model", seq=np.int64(3))
    assert inspect(tmp_path / "model").seq == 3
    for seq in (True, 2**63, 10**5000, 1.0, "1"):
        with pytest.raises(ValueError, match="seq="):
            save(popularity(7), tmp_path / "model", seq=seq)
    store = ModelStore(tmp_path / "store")
    with pytest.raises(ValueError, match="a store needs the number"):
        store.save(popularity(7), seq=None)
    assert not store.folder.exists()
    for seq in (9, 10**12, 1_764_460_000_000_000_000):
        store.save(popularity(7), seq=seq)
    assert [one.seq for one in store.list()] == [9, 10**12, 1_764_460_000_000_000_000]


# ------------------------------------------------------------------ models


def tables(X):
    rng = np.random.default_rng(0)
    log = pd.DataFrame(X[:, :3], columns=["user_id", "item_id", "timestamp"])
    log["price"] = X[:, 0] / 2
    users = pd.DataFrame({"user_id": np.unique(X[:, 0])})
    users["age"] = users["user_id"] * 1.0
    items = pd.DataFrame({"item_id": np.unique(X[:, 1])})
    items["tags"] = ["a|b" if place % 2 else "c" for place in range(len(items))]
    items["vector"] = list(rng.normal(size=(len(items), 3)))
    log["vector_of_row"] = list(rng.normal(size=(len(log), 2)))
    return log, users, items


@pytest.mark.parametrize("use_ids", [True, False])
@pytest.mark.parametrize("has_tables", [True, False])
def test_a_cross_network(use_ids, has_tables, tmp_path):
    X, y = make_log(80)
    log, users, items = tables(X)
    if not has_tables:
        log = log.drop(columns="vector_of_row")
    model = small(IncrementalDCNRecommender).set_params(use_ids=use_ids)
    model.fit(log, y, **({"users": users, "items": items} if has_tables else {}))
    digest = model.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert_array_equal(twin.predict(log), model.predict(log))
    assert twin.save(tmp_path / "again") == digest
    for one in (twin, model):
        one.partial_fit(log[:20], y[:20])
    assert_array_equal(twin.predict(log), model.predict(log))
    assert twin.save(tmp_path / "model") == model.save(tmp_path / "again")


def test_a_cross_network_that_has_adapted_to_new_ids(tmp_path):
    X, y = make_log(80)
    new = X[:6].copy()
    new[:, :2] += 900
    model = small(IncrementalDCNRecommender).fit(X, y).adapt(new, y[:6])
    model.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert_array_equal(twin.predict(new), model.predict(new))
    assert_array_equal(
        twin.partial_fit(new, y[:6]).predict(new), model.partial_fit(new, y[:6]).predict(new)
    )


def test_edges_of_items(tmp_path):
    X, _ = make_log(80)
    edges = [(int(item), "kind", f"k{int(item) % 3}") for item in np.unique(X[:, 1])]
    model = RP3BetaRecommender(edges=edges).fit(X)
    digest = model.save(tmp_path / "model")
    twin = load(tmp_path / "model")
    assert_array_equal(twin.predict(X), model.predict(X))
    assert_array_equal(twin.partial_fit(X[:9]).predict(X), model.partial_fit(X[:9]).predict(X))
    assert load(tmp_path / "model").save(tmp_path / "again") == digest
    assert "sklearn_recft.edges.Edges" in trusted_types()


def test_blends_of_blends(tmp_path):
    X, y = make_log(80)
    model = AdaptiveRecommender([("one", PopularityRecommender())], random_state=0)
    for _ in range(5):
        model = AdaptiveRecommender([("blend", model)], random_state=0)
    model.fit(X, y).save(tmp_path / "model")
    assert_array_equal(load(tmp_path / "model").predict(X), model.predict(X))


# ------------------------------------------------------------------ folders


def test_a_file_that_is_missing(tmp_path):
    save(popularity(7), tmp_path / "model")
    next((tmp_path / "model").glob("*.safetensors")).unlink()
    for read in (load, inspect):
        with pytest.raises(ValueError, match=r"safetensors: the manifest names it"):
            read(tmp_path / "model")
    with pytest.raises(TypeError, match="give a class"):
        load(tmp_path / "model", expect="PopularityRecommender")


def test_a_format_is_a_number(tmp_path):
    save(popularity(7), tmp_path / "model")
    path = tmp_path / "model" / "MANIFEST.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": True}))
    with pytest.raises(ValueError, match="its format is True"):
        load(tmp_path / "model")


@pytest.mark.parametrize("in_store", [True, False])
def test_a_model_is_loaded_while_others_are_saved(in_store, tmp_path):
    models = [popularity(7), popularity(7, 8)]
    store = ModelStore(tmp_path / "store", keep=1)
    put = [lambda n: save(models[n % 2], tmp_path / "model")]
    if in_store:
        put = [lambda n: store.save(models[n % 2], seq=n)]
    put[0](0)
    failed, done = [], threading.Event()

    def read():
        while not done.is_set():
            try:
                found = store.load() if in_store else load(tmp_path / "model")
                assert found.n_items_ in (1, 2)
            except Exception as error:
                failed.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(1, 40):
        put[0](n)
    done.set()
    reader.join()
    assert failed == []


def test_a_model_is_loaded_while_two_others_are_saved_and_the_last_is_the_first(
    tmp_path, monkeypatch
):
    models = [popularity(7), popularity(7, 8)]
    save(models[0], tmp_path / "model")
    reads = []

    @contextmanager
    def opened_late(*args):
        reads.extend(args[1:2] if args[1] == "tensors" else [])
        if reads == ["tensors"]:  # the manifest was read: its files go, and come back
            save(models[1], tmp_path / "model")
        try:
            with opened(*args) as file:
                yield file
        finally:
            if reads == ["tensors"]:
                save(models[0], tmp_path / "model")

    opened = _folder._opened
    monkeypatch.setattr(_folder, "_opened", opened_late)
    assert load(tmp_path / "model").n_items_ == 1
    assert len(reads) == 2


# ------------------------------------------------------------------ stores


@pytest.mark.skipif(os.name == "nt", reason="rights of POSIX")
def test_others_may_read_a_model_of_a_store(tmp_path):
    store = ModelStore(tmp_path / "store")
    name = store.save(popularity(7), seq=1)
    own = stat.S_IMODE((store.folder / "models").stat().st_mode)
    assert stat.S_IMODE((store.folder / "models" / name).stat().st_mode) == own


def test_a_store_with_files_of_others(tmp_path):
    store = ModelStore(tmp_path / "store")
    name = store.save(popularity(7), seq=1)
    models = store.folder / "models"
    (models / "notes").mkdir()
    (models / "000000000008-00000000").mkdir()
    (models / "000000000009-00000000").write_text("no folder")
    later = store.save(popularity(7, 8), seq=2)
    assert [one.name for one in store.list()] == [name, later]
    assert store.rollback() == name


@pytest.mark.parametrize("damaged", ["MANIFEST.json", "tensors"])
def test_a_damaged_model_is_saved_again(damaged, tmp_path):
    store = ModelStore(tmp_path / "store")
    name = store.save(popularity(7), seq=1)
    for path in (store.folder / "models" / name).glob(f"{damaged}*"):
        path.unlink()
    assert store.save(popularity(7), seq=1, metadata={"try": 2}) == name
    assert store.load().n_items_ == 1
    assert store.save(popularity(7), seq=1, metadata={"try": 3}) == name
    assert [one.metadata for one in store.list()] == [{"try": 3}]


SAVER = """
import sys
import numpy as np
from sklearn_recft import PopularityRecommender
from sklearn_recft.persistence import ModelStore
folder, first = sys.argv[1], int(sys.argv[2])
model = PopularityRecommender().fit(np.array([[1, 7]]))
for n in range(25):
    ModelStore(folder, keep=3).save(model.partial_fit(np.array([[n, first + n]])), seq=n)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no lock")
def test_two_processes_save_to_one_store(tmp_path):
    processes = [Started(SAVER, tmp_path / "store", first) for first in (100, 200)]
    assert [process.output() for process in processes] == ["", ""]
    assert ModelStore(tmp_path / "store").load().n_items_ > 20


# ------------------------------------------------------------------ the console script


def test_no_model_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", "--model", "", "--user", "3"]) == 1
    error = capsys.readouterr().err
    assert "MANIFEST.json" in error
    assert "NoneType" not in error
