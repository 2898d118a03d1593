"""Encrypted models: what their files say, and that nobody changes them without the key."""

import io
import json
import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from benchmarks.files.sealed_mutations import (
    SEALED_DAMAGE,
    SealedCopy,
    damage_sealed,
    outcome_of_sealed,
)
from sklearn_recft import DecayBertRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.persistence import ModelStore, _sealed, inspect, load, save
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import Pseudonymizer, SecretKey
from tests.contract.discovery import all_estimators, small
from tests.contract.helpers import as_table, make_log

KEY = SecretKey(b"a key of the tests, 32 bytes....")
OTHER = SecretKey(b"another key of the tests........")
SMALL = 200  # bytes of a segment, so that small files have many


def popularity(*items):
    return PopularityRecommender().fit(np.array([[f"ann-{i}", f"tea-{i}"] for i in items], object))


@pytest.fixture(scope="module")
def model():
    X, y = make_log(120)
    users = np.array([f"user-{code}" for code in X[:, 0]], object)
    items = np.array([f"item-{code}" for code in X[:, 1]], object)
    return IncrementalMFRecommender(n_factors=2, max_epochs=2, random_state=0).fit(
        np.column_stack([users, items]), y
    )


@pytest.fixture(scope="module")
def sources(model, tmp_path_factory):
    """Two encrypted saves of a model, and a readable one."""
    folders = [tmp_path_factory.mktemp("sealed") / name for name in "abc"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sealed, "SEGMENT", SMALL)
        for folder, key in zip(folders, (KEY, KEY, None), strict=True):
            save(model, folder, key=key)
    return folders


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_comes_back_with_the_digest_of_a_readable_one(model, tmp_path):
    digest = save(model, tmp_path / "model", seq=7, metadata={"note": "secret-note"}, key=KEY)
    assert digest == save(model, tmp_path / "readable")
    twin = load(tmp_path / "model", expect=type(model), digest=digest, key=KEY)
    assert_array_equal(twin.user_factors_, model.user_factors_)
    found, readable = inspect(tmp_path / "model", key=KEY), inspect(tmp_path / "readable")
    assert (found.format, found.encrypted, readable.format, readable.encrypted) == (
        (2, True, 1, False)
    )
    assert (found.seq, found.metadata) == (7, {"note": "secret-note"})
    for name in ("kind", "params", "version", "digest", "arrays"):
        assert found[name] == readable[name]
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "model").glob("*.sealed")}
    assert found.sizes == sizes


@pytest.mark.parametrize("name", all_estimators())
def test_every_estimator(name, tmp_path):
    estimator = small(all_estimators()[name])
    digest = save(estimator, tmp_path / "model", key=KEY)
    twin = load(tmp_path / "model", digest=digest, key=KEY)
    assert repr(twin) == repr(estimator)
    assert name.encode() not in b"".join(bytes_of(tmp_path / "model").values())


def test_the_files_tell_nothing(model, tmp_path, monkeypatch):
    """Neither at the end nor at any time before: every write is looked at."""
    written = []
    real = io.open

    class Watched(io.FileIO):
        def write(self, block):
            written.append(bytes(block))
            return super().write(block)

    def opened(path, mode="r", *args, **options):
        return Watched(path, mode) if mode == "wb" else real(path, mode, *args, **options)

    monkeypatch.setattr(io, "open", opened)
    digest = save(model, tmp_path / "model", seq=7654321, metadata={"note": "x-note"}, key=KEY)
    monkeypatch.undo()
    found = bytes_of(tmp_path / "model")
    assert {name.split("-")[0].split(".")[0] for name in found} == {"MANIFEST", "model", "tensors"}
    manifest = json.loads(found["MANIFEST.json"])
    assert set(manifest) == {"cipher", "format", "key_check", "salt", "sealed", "version"}
    everything = b"".join([*found.values(), *written, *map(str.encode, found)])
    assert sum(map(len, written)) == sum(map(len, found.values()))
    secrets = [
        *model.user_ids_, *model.item_ids_, *model.get_params(), type(model).__name__, "x-note",
        "7654321", digest, "user_factors", "safetensors", "float32", "F32",
    ]  # fmt: skip
    assert [secret for secret in secrets if len(secret) > 5 and secret.encode() in everything] == []
    assert "user-1".encode("utf-32-le") not in everything
    block = np.ascontiguousarray(model.user_factors_).tobytes()[:16]
    assert block in b"".join(bytes_of(_saved(model, tmp_path / "readable")).values())
    assert block not in everything


def _saved(model, folder):
    save(model, folder)
    return folder


def test_two_saves_have_no_file_in_common(sources):
    one, two = (bytes_of(folder) for folder in sources[:2])
    assert set(one) & set(two) == {"MANIFEST.json"}
    blocks = [{data[i : i + 16] for data in found.values() for i in range(0, len(data), 16)}
              for found in (one, two)]  # fmt: skip
    shared = {block for block in blocks[0] & blocks[1] if b"sealed" not in block}
    assert len(shared) < 5  # the readable words of the manifests


def test_keys(model, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_KEY", "a key of the environment")
    (tmp_path / "key").write_bytes(b"a key of the environment\n")
    save(model, tmp_path / "model", key="MODEL_KEY")
    assert_array_equal(
        load(tmp_path / "model", key=SecretKey.from_file(tmp_path / "key")).user_factors_,
        load(tmp_path / "model", key="MODEL_KEY").user_factors_,
    )
    for call in (load, inspect):
        with pytest.raises(ValueError, match=r"MANIFEST.*another key: give the key of its save"):
            call(tmp_path / "model", key=KEY)
        with pytest.raises(ValueError, match=r"MANIFEST.*is encrypted: give its key as key="):
            call(tmp_path / "model")
        with pytest.raises(ValueError, match="has no variable 'NO_KEY'"):
            call(tmp_path / "model", key="NO_KEY")
        with pytest.raises(TypeError, match="environment variable or a SecretKey, and not a bytes"):
            call(tmp_path / "model", key=b"a key of the environment")
    with pytest.raises(ValueError, match="mmap=True: an encrypted file cannot be mapped"):
        load(tmp_path / "model", mmap=True, key="MODEL_KEY")
    with pytest.raises(ValueError, match="is encrypted"):
        load(tmp_path / "model", mmap=True)
    save(model, tmp_path / "readable")
    with pytest.raises(ValueError, match="it is not encrypted, so the key does not show who"):
        load(tmp_path / "readable", key=KEY)
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(ValueError, match="needs at least 16 bytes, got 5"):
        SecretKey.from_file(tmp_path / "key")
    with pytest.raises(TypeError, match="not written to files"):
        pickle.dumps(KEY)


def test_a_folder_is_saved_to_again(tmp_path):
    save(popularity(1), tmp_path / "model")
    save(popularity(1, 2), tmp_path / "model", key=KEY)
    assert not list((tmp_path / "model").glob("*.safetensors"))
    save(popularity(1, 2, 3), tmp_path / "model", key=OTHER)  # a new key
    assert load(tmp_path / "model", key=OTHER).n_items_ == 3
    before = bytes_of(tmp_path / "model")
    with pytest.raises(ValueError, match="key=None would replace it by readable files"):
        save(popularity(1), tmp_path / "model")
    assert bytes_of(tmp_path / "model") == before
    assert len(before) == 3


def test_without_cryptography(model, tmp_path, monkeypatch):
    for name in list(sys.modules):
        if name.startswith("cryptography"):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'sklearn-recft\[privacy\]'"):
        save(model, tmp_path / "model", key=KEY)
    assert not (tmp_path / "model").exists()


def test_weights_of_a_text_encoder(tmp_path):
    table = as_table([1, 1, 2, 2], ["tea", "rye", "tea", "oat"], [1, 2, 3, 4])
    model = DecayBertRecommender("scratch", max_epochs=1, width=4, n_factors=2, random_state=0)
    model.fit(table, [0, 1, 1, 0])
    digest = model.save(tmp_path / "model", include_backbone=True, key=KEY)
    twin = load(tmp_path / "model", digest=digest, key=KEY)
    assert_array_equal(twin.predict(table), model.predict(table))


def test_the_key_of_pseudonyms(tmp_path):
    """One key may be that of the pseudonyms and of the file; the file does not hold it."""
    pipe = make_recommender_pipeline(Pseudonymizer("SHOP_KEY"), PopularityRecommender())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_KEY", "the key of the shop")
        X = [["ann", "tea"], ["bob", "rye"]]
        pipe.fit(X).save(tmp_path / "model", key="SHOP_KEY")
        twin = load(tmp_path / "model", key="SHOP_KEY")
        for one, other in zip(
            twin.recommend(["ann"], n_recommendations=1),
            pipe.recommend(["ann"], n_recommendations=1),
            strict=True,
        ):
            assert_array_equal(one, other)


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("change", SEALED_DAMAGE, ids=lambda change: change.__name__)
def test_every_change_is_refused(change, sources, tmp_path, monkeypatch):
    monkeypatch.setattr(_sealed, "SEGMENT", SMALL)
    for seed in range(12):
        copy = SealedCopy(sources, tmp_path / "damaged", np.random.default_rng(seed), SMALL)
        if change(copy) is not False:
            assert outcome_of_sealed(copy.folder, KEY) == "refused", seed


def test_a_bit_of_every_segment(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(_sealed, "SEGMENT", SMALL)
    for role in ("model", "tensors"):
        copy = SealedCopy(sources, tmp_path / "damaged", np.random.default_rng(0), SMALL)
        path = next(copy.folder.glob(f"{role}*"))
        data = path.read_bytes()
        assert len(data) > 5 * copy.segment
        for begin in range(0, len(data), copy.segment):
            changed = bytearray(data)
            changed[begin + copy.rng.integers(min(copy.segment, len(data) - begin))] ^= 1
            path.write_bytes(changed)
            with pytest.raises(ValueError, match=path.name):
                load(copy.folder, key=KEY)
        path.write_bytes(data)
        assert outcome_of_sealed(copy.folder, KEY) == "loaded"


def test_many_changes(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(_sealed, "SEGMENT", SMALL)
    found = []
    for seed in range(100, 200):
        done = damage_sealed(sources, tmp_path / "damaged", seed, SMALL)
        found += [(done, outcome_of_sealed(tmp_path / "damaged", KEY))] if done else []
    assert {outcome for _, outcome in found} == {"refused"}


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 20, 21, 35])
def test_segments(size, monkeypatch):
    """Bytes come back in any cuts; a file that ends early does not open as a shorter one."""
    monkeypatch.setattr(_sealed, "SEGMENT", 10)
    sealing, text = _sealed.Sealing(KEY), bytes(range(size))
    for step in (1, 7, 10, 99):
        file = io.BytesIO()
        writer = sealing.writer(file, "model", b"salt")
        for begin in range(0, size, step):
            writer.write(text[begin : begin + step])
        writer.finish()
        data = file.getvalue()
        assert len(data) == _sealed.sealed_size(size)
        reader = sealing.reader(io.BytesIO(data), "model", b"salt", size)
        assert b"".join(reader.read(step) for _ in range(size // step + 2)) == text
        reader.finish()
    for fewer in range(0, size, 10):
        reader = sealing.reader(io.BytesIO(data), "model", b"salt", fewer)
        with pytest.raises(ValueError, match="damaged"):
            reader.read(fewer + 1), reader.finish()
    with pytest.raises(ValueError, match="damaged"):
        sealing.reader(io.BytesIO(data), "tensors", b"salt", size).finish()


def test_a_file_of_real_segments(tmp_path):
    X = np.column_stack([np.arange(30_000) % 100, np.arange(30_000)])
    model = IncrementalMFRecommender(n_factors=20, max_epochs=1, random_state=0).fit(X)
    digest = save(model, tmp_path / "model", key=KEY)
    assert max(inspect(tmp_path / "model", key=KEY).sizes.values()) > 2 * _sealed.SEGMENT
    twin = load(tmp_path / "model", digest=digest, key=KEY)
    assert_array_equal(twin.item_factors_, model.item_factors_)


# ------------------------------------------------------------------ stores


def test_a_store(tmp_path):
    store = ModelStore(tmp_path / "store", keep=2, key=KEY)
    names = [store.save(popularity(1), seq=1)]
    assert store.save(popularity(1), seq=1, metadata={"again": True}) == names[0]
    assert [one.metadata for one in store.list()] == [{"again": True}]
    assert store.load(names[0]).n_items_ == 1
    names.append(store.save(popularity(1, 2), seq=2))
    digest = store.list()[-1].digest
    assert digest[:8] not in names[1]
    assert b"ann-1" not in b"".join(bytes_of(store.folder).values())
    assert (store.load(digest=digest).n_items_, store.rollback()) == (2, names[0])
    for other in (ModelStore(store.folder), ModelStore(store.folder, key=OTHER)):
        with pytest.raises(ValueError, match="newest model has another key, or one of both"):
            other.save(popularity(9), seq=9)
        for call in (other.load, other.list, lambda other=other: other.promote(names[1])):
            with pytest.raises(ValueError, match=r"is encrypted|another key"):
                call()
        assert other.current() == names[0]
    readable = ModelStore(tmp_path / "readable")
    readable.save(popularity(1), seq=1)
    with pytest.raises(ValueError, match="newest model has another key, or one of both"):
        ModelStore(readable.folder, key=KEY).save(popularity(2), seq=2)


def test_a_damaged_model_of_a_store_makes_way(tmp_path):
    store = ModelStore(tmp_path / "store", key=KEY)
    name = store.save(popularity(1), seq=1)
    file = next((store.folder / "models" / name).glob("tensors*"))
    file.write_bytes(file.read_bytes()[:-1])
    assert store.save(popularity(1), seq=1) == name
    assert store.load().n_items_ == 1
