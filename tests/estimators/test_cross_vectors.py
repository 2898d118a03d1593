"""Vectors that were made elsewhere, as features of a deep & cross network."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import IncrementalDCNClassifier, IncrementalDCNRecommender
from sklearn_recft.persistence import trusted_types

PLAIN = {"n_factors": 0, "random_state": 0}
FEW_STEPS = {"batch_size": 256}
N_KNOWN, N_ITEMS = 50, 70


def images(n=2500, seed=0):
    """Return rows whose click depends on the vector of the item, and a table of vectors."""
    rng = np.random.default_rng(seed)
    vectors = 1 + 3 * rng.normal(size=(N_ITEMS, 8))
    items = pd.DataFrame({"item_id": np.arange(N_ITEMS), "image": list(vectors)})
    X = pd.DataFrame({"user_id": rng.integers(0, 40, n), "item_id": rng.integers(0, N_KNOWN, n)})
    liked = vectors[:, :4].sum(1) > vectors[:, 4:].sum(1)
    return X, liked[X["item_id"]].astype(int), items, liked


@pytest.fixture(scope="module")
def seen():
    """Return a classifier of items by their images, and its data."""
    X, y, items, liked = images()
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=8, net_params={"batch_size": 64})
    return model.fit(X, y, items=items[:60]), X, y, items, liked


def test_items_without_events_are_judged_by_their_vectors(seen):
    model, _, _, _, liked = seen
    rows = pd.DataFrame({"user_id": 0, "item_id": np.arange(N_KNOWN, 60)})
    assert (model.predict(rows) == liked[N_KNOWN:60]).mean() >= 0.9
    assert model.feature_columns_ == ["image"]
    listed, _ = model.recommend([0, "new"], n_recommendations=5, exclude_seen=False)
    assert liked[listed.astype(int)].mean() > 0.9


def test_an_unknown_item_is_judged_by_the_vector_in_its_row(seen):
    model, _, _, items, liked = seen
    rows = items[60:].assign(user_id=0)
    assert (model.predict(rows) == liked[60:]).mean() >= 0.75
    alone = model.predict_proba(rows[:1])
    assert_array_equal(model.predict_proba(rows)[:1], alone)
    without = model.predict_proba(rows[["user_id", "item_id"]])[:, 1]
    assert np.ptp(without) == 0  # all are the learned vector of a missing one
    assert 0.05 < without[0] < 0.95


def test_a_known_item_keeps_its_vector(seen):
    model, X, _, items, _ = seen
    expected = model.predict_proba(X[:50])
    wrong = X[:50].assign(image=[items["image"][0]] * 50)
    assert_array_equal(model.predict_proba(wrong), expected)


def test_vectors_of_new_items_are_learned_and_a_failure_changes_nothing(seen):
    model, X, y, items, liked = seen
    model = pickle.loads(pickle.dumps(model))
    rows = items[60:].assign(user_id=0)[["user_id", "item_id"]]
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=r"image: all 10 rows are vectors of width 2, and fit had"):
        model.partial_fit(
            rows, liked[60:].astype(int), items=items[60:].assign(image=[[0.1, 0.2]] * 10)
        )
    with pytest.raises(TypeError, match="image: all 10 rows are numbers, and fit had vectors"):
        model.partial_fit(rows, liked[60:].astype(int), items=items[60:].assign(image=0.5))
    assert pickle.dumps(model) == before
    model.partial_fit(X[:100], y[:100], items=items[60:])
    assert (model.predict(rows) == liked[60:]).mean() >= 0.75
    twin = pickle.loads(pickle.dumps(model))
    assert_array_equal(twin.predict_proba(rows), model.predict_proba(rows))


def test_an_interrupted_update_forgets_new_vectors(seen, monkeypatch):
    model, X, y, items, _ = seen
    model = pickle.loads(pickle.dumps(model))
    rows = items[60:].assign(user_id=0)[["user_id", "item_id"]]
    before = model.predict_proba(rows)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(model._model.network, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(X[:50], y[:50], items=items[60:])
    monkeypatch.undo()
    assert_array_equal(model.predict_proba(rows), before)
    model.partial_fit(X[:50], y[:50], items=items[60:])
    assert (model.predict_proba(rows) != before).any()


def test_a_saved_model_has_its_vectors(seen):
    skops = pytest.importorskip("skops.io")
    model, X, _, _, _ = seen
    twin = skops.loads(skops.dumps(model), trusted=trusted_types())
    assert_array_equal(twin.predict_proba(X), model.predict_proba(X))


def test_vectors_of_users_are_removed_with_them():
    X, y, items, _ = images(600)
    users = pd.DataFrame({"user_id": np.arange(40), "face": list(np.eye(40)[:, :6] + 0.5)})
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=1, net_params=FEW_STEPS).fit(
        X, y, users=users, items=items
    )
    kept = X[X["user_id"] > 9]
    expected = model.predict_proba(kept)
    assert_array_equal(model.forget(np.arange(10)).predict_proba(kept), expected)
    assert len(model._model.columns.cells["user_id"].vectors) == 30


def test_users_with_other_features_than_vectors_are_removed():
    X, y, items, _ = images(300)
    users = pd.DataFrame({"user_id": np.arange(40), "age": np.arange(40.0)})
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=1, net_params=FEW_STEPS).fit(
        X, y, users=users, items=items
    )
    kept = X[X["user_id"] > 9]
    expected = model.predict_proba(kept)
    assert_array_equal(model.forget(np.arange(10)).predict_proba(kept), expected)


def test_vectors_of_rows_are_context():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"user_id": rng.integers(0, 30, 2000), "item_id": rng.integers(0, 20, 2000)})
    query = rng.normal(size=(2000, 5))
    X["request"] = list(query)
    X.at[7, "request"] = None
    y = query[:, 0] + query[:, 1]
    model = IncrementalDCNRecommender(**PLAIN, max_epochs=8).fit(X[:1500], y[:1500])
    assert model.partial_fit(X[1500:1700], y[1500:1700]).score(X[1700:], y[1700:]) > 0.7
    assert model._model.reservoir.rows["row_vectors"].shape[1] == 5
    frame = pl.DataFrame({"user_id": X["user_id"], "item_id": X["item_id"], "request": query})
    other = IncrementalDCNRecommender(**PLAIN, max_epochs=1, net_params=FEW_STEPS).fit(frame, y)
    assert other._model.columns.vector_widths == (5,)  # of polars, an array of two dimensions
    assert_allclose(model.predict(frame[1700:]), model.predict(X[1700:]), rtol=1e-6)
    assert np.isfinite(model.predict(X[["user_id", "item_id"]])).all()
    listed, scores = model.recommend(X[["user_id", "request"]][10:12], n_recommendations=2)
    rows = X[10:11].assign(item_id=listed[0, 0])
    assert_allclose(model.predict(rows), scores[0, 0], rtol=1e-5)


def test_training_does_not_depend_on_the_scale_of_vectors():
    X, y, items, _ = images(400)
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=1, net_params=FEW_STEPS)
    expected = model.fit(X, y, items=items).predict_proba(X)
    items["image"] *= 1e20
    assert_allclose(model.fit(X, y, items=items).predict_proba(X), expected, atol=1e-5)


def test_constant_vectors_are_learned():
    X, y, items, _ = images(200)
    items["image"] = [[0.5, 0.5]] * N_ITEMS
    model = IncrementalDCNClassifier(**PLAIN, max_epochs=1, net_params=FEW_STEPS).fit(
        X, y, items=items
    )
    assert np.isfinite(model.predict_proba(X)).all()


def test_an_array_without_an_axis_is_refused_by_name():
    X = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "image": [np.array(0.5)] * 2})
    with pytest.raises(TypeError, match="image: a cell is an array without an axis"):
        IncrementalDCNClassifier().fit(X, [0, 1])
