"""Pseudonyms: keyed, equal everywhere, never beside their key, and back again by a vault."""

import hashlib
import hmac
import pickle
import zlib

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from sklearn_recft import EASERecommender
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import Pseudonymizer, SecretKey

SECRET = b"a secret of the tests"
KEY = SecretKey(SECRET)
X = [["ann", "tea", 1], ["bob", "tea", 2], ["bob", "rye", 3]]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TEST_KEY", SECRET.decode())


def test_a_pseudonym_is_the_hmac_of_the_column_and_the_typed_id():
    expected = hmac.new(SECRET, b"user_id\0sann", hashlib.sha256).hexdigest()[:32]
    assert Pseudonymizer(KEY).fit_transform(X)[0].tolist() == [expected, "tea", 1]
    number = Pseudonymizer("TEST_KEY", kind="int64").pseudonyms(["ann"])
    assert number.dtype == np.int64
    assert number.tolist() == [int(expected[:16], 16) >> 1]


def test_equal_ids_are_equal_and_others_differ():
    model = Pseudonymizer(KEY)
    ids = [1, "1", b"1", (1,), ("1",), ("1", 1), ("1,1",), 1.5, -1, "", "é"]
    assert len(set(model.pseudonyms(ids))) == len(ids)
    assert model.pseudonyms([1.0, True]).tolist() == model.pseudonyms([1, 1]).tolist()
    assert model.pseudonyms(["ann"], "item_id")[0] != model.pseudonyms(["ann"])[0]
    other = Pseudonymizer(SecretKey(b"another key of the tests"))
    assert other.pseudonyms(["ann"])[0] != model.pseudonyms(["ann"])[0]


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_stay_frames_and_are_read_by_name(library):
    frame = library.DataFrame({"item_id": ["tea", "rye"], "user_id": ["ann", "bob"], "age": [1, 2]})
    if library is pd:
        frame.index = [7, 3]
    model = Pseudonymizer(KEY, columns=["user_id", "item_id"])
    found = model.fit_transform(frame)
    assert type(found) is type(frame)
    assert list(found.columns) == ["item_id", "user_id", "age"]
    assert list(found["user_id"]) == model.pseudonyms(["ann", "bob"]).tolist()
    assert list(found["item_id"]) == model.pseudonyms(["tea", "rye"], "item_id").tolist()
    assert list(found["age"]) == [1, 2]
    assert list(frame["user_id"]) == ["ann", "bob"]
    assert model.get_feature_names_out().tolist() == ["item_id", "user_id", "age"]
    if library is pd:
        assert found.index.tolist() == [7, 3]


def test_a_key_is_never_printed_or_pickled():
    model = Pseudonymizer(KEY).fit(X)
    pipe = make_recommender_pipeline(model, EASERecommender())
    for text in (repr(model), repr(pipe), str(model.get_params()), model._repr_html_()):
        assert SECRET.decode() not in text
    assert clone(model).key == KEY
    with pytest.raises(TypeError, match="environment variable"):
        pickle.dumps(model)
    named = Pseudonymizer("TEST_KEY").fit(X)
    assert SECRET not in pickle.dumps(named)
    again = pickle.loads(pickle.dumps(named))
    assert again.transform(X).tolist() == model.transform(X).tolist()


def test_a_pipeline_learns_the_same_and_forgets_by_the_real_id():
    log = [[f"subscriber {n % 7}", f"item {(n * n) % 11}"] for n in range(60)]
    names = Pseudonymizer("TEST_KEY")
    pipe = make_recommender_pipeline(names, EASERecommender(reg=1.0)).fit(log)
    plain = EASERecommender(reg=1.0).fit(log)
    options = {"n_recommendations": 3, "exclude_seen": False}
    for ours, theirs in zip(
        pipe.recommend(["subscriber 3", "nobody"], **options),
        plain.recommend(["subscriber 3", "nobody"], **options),
        strict=True,
    ):
        assert ours.tolist() == theirs.tolist()
    vault = names.vault([f"subscriber {n}" for n in range(7)])
    assert [vault[user] for user in pipe.user_ids_] == plain.user_ids_.tolist()
    gone = names.pseudonyms(["subscriber 3"])[0]
    assert gone.encode() in pickle.dumps(pipe)
    assert b"subscriber" not in pickle.dumps(pipe)
    pipe.forget(["subscriber 3"])
    assert gone.encode() not in pickle.dumps(pipe)
    assert pipe.n_users_ == 6
    assert pipe.forget_receipt_.level == "exact"
    assert pipe.forget_items(["item 4"]).forget_receipt_.n_items == 1


def test_rotation_maps_old_pseudonyms_to_new_ones(monkeypatch):
    old, new = Pseudonymizer("TEST_KEY"), Pseudonymizer(SecretKey(b"the key of next year"))
    table = new.rotation(["ann", "bob"], "TEST_KEY")
    users = old.fit_transform(X)[:, 0]
    assert [table[user] for user in users] == new.fit_transform(X)[:, 0].tolist()
    monkeypatch.setenv("TEST_KEY", "the key of next year")
    with pytest.raises(ValueError, match="another key than in fit"):
        old.transform(X)


@pytest.mark.parametrize(
    ("options", "table", "error", "message"),
    [
        ({"key": "NO_SUCH_KEY"}, X, ValueError, "no variable 'NO_SUCH_KEY'"),
        ({"key": b"raw bytes, which repr prints"}, X, ValueError, "'key' parameter"),
        ({"columns": ["timestamp"]}, X, ValueError, "columns must name"),
        ({"columns": []}, X, ValueError, "columns must name"),
        ({"kind": "md5"}, X, ValueError, "'kind' parameter"),
        ({}, [[None, "tea"], ["bob", "tea"]], ValueError, "user_id"),
        ({}, [[frozenset("a"), "tea"], ["bob", "tea"]], TypeError, "1 of 2 rows .* frozenset"),
    ],
)
def test_bad_input_is_one_error_that_names_the_fix(options, table, error, message):
    with pytest.raises(error, match=message):
        Pseudonymizer(**{"key": KEY, **options}).fit(table)


def test_numbers_of_numpy_are_equal_to_those_of_python():
    """Beside texts, a column keeps the scalars that it was given."""
    given = np.empty(4, object)
    given[:] = [np.float64(1.5), np.int64(2), (np.int32(3), np.float64(0.5)), "a"]
    plain = np.empty(4, object)
    plain[:] = [1.5, 2, (3, 0.5), "a"]
    names = Pseudonymizer(KEY)
    assert names.pseudonyms(given).tolist() == names.pseudonyms(plain).tolist()
    with pytest.raises(ValueError, match="column must be 'user_id' or 'item_id'; got 'user'"):
        names.pseudonyms(["a"], column="user")


def test_parameters_that_are_set_after_fit_count_from_the_next_fit():
    names = Pseudonymizer(KEY).fit(X)
    before = names.transform(X)
    names.set_params(columns=["item_id"], kind="int64")
    assert names.transform(X).tolist() == before.tolist()
    assert names.fit(X).transform(X)[0, 0] == "ann"


def test_short_keys_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="at least 16 bytes, got 5"):
        SecretKey(b"short")
    with pytest.raises(TypeError, match="must be bytes"):
        SecretKey("a text of more than 16 characters")
    monkeypatch.setenv("TEST_KEY", "short")
    with pytest.raises(ValueError, match=r"'TEST_KEY'.*at least 16 bytes"):
        Pseudonymizer("TEST_KEY").fit(X)


class AsNumbers(Pseudonymizer, auto_wrap_output_keys=None):
    """The same with a number for each text, because scikit-learn compares by subtraction."""

    def transform(self, X):
        return as_numbers(super().transform(X))


def as_numbers(table):
    values = np.asarray(table, object).copy()
    values[:, 0] = [zlib.crc32(text.encode()) for text in values[:, 0]]
    return values.astype(float)


def test_all_of_scikit_learns_checks_pass_where_pseudonyms_can_be_compared():
    results = check_estimator(AsNumbers("TEST_KEY"), on_skip=None)
    assert {result["status"] for result in results} == {"passed"}
    assert len(results) >= 45
