"""Rows without ids: the deep & cross network learns from the other columns alone."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import IncrementalDCNClassifier, IncrementalDCNRecommender, load

FEW_STEPS = {"batch_size": 256}


def counts(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"clicks": rng.poisson(4, n), "buys": rng.poisson(1, n)})
    X["device"] = rng.choice(["phone", "desktop"], n)
    y = np.log1p(X["clicks"]) + np.log1p(X["buys"]) + 0.5 * (X["device"] == "phone")
    return X, y.to_numpy()


def with_ids(X):
    return X.assign(user_id=np.arange(len(X)) % 7, item_id=np.arange(len(X)) % 5)


@pytest.fixture(scope="module")
def fitted():
    X, y = counts()
    model = IncrementalDCNRecommender(use_ids=False, max_epochs=8, random_state=0)
    return model.fit(X[:1000], y[:1000]), X, y


def test_counts_without_ids_are_learned(fitted):
    model, X, y = fitted
    model = pickle.loads(pickle.dumps(model))
    assert model.feature_names_in_.tolist() == ["clicks", "buys", "device"]
    assert model.n_features_in_ == 3
    assert model.score(X[1000:], y[1000:]) > 0.9
    assert model.partial_fit(X[1000:1100], y[1000:1100]).score(X[1100:], y[1100:]) > 0.9
    assert (model.n_users_, model.n_items_) == (0, 0)
    polars = pl.from_pandas(X[["device", "buys", "clicks"]])
    assert_array_equal(model.predict(polars), model.predict(X))


@pytest.mark.parametrize("ids", [[], ["user_id"], ["item_id"], ["user_id", "item_id"]])
def test_a_saved_model_without_ids_is_loaded_and_learns(fitted, tmp_path, ids):
    _, X, y = fitted
    X = with_ids(X)[["clicks", "buys", "device", *ids]]
    model = IncrementalDCNRecommender(
        use_ids=False, max_epochs=1, net_params=FEW_STEPS, random_state=0
    )
    model.fit(X[:1000], y[:1000]).save(tmp_path)
    loaded = load(tmp_path)
    assert_array_equal(loaded.predict(X), model.predict(X))
    new = X[1000:], y[1000:]
    assert_array_equal(loaded.partial_fit(*new).predict(X), model.partial_fit(*new).predict(X))


def test_ids_change_nothing(fitted):
    model, X, y = fitted
    expected = model.predict(X)
    assert_array_equal(model.predict(with_ids(X)), expected)
    other = pickle.loads(pickle.dumps(model)).set_params().fit(with_ids(X[:1000]), y[:1000])
    assert_allclose(other.predict(X), expected, rtol=1e-12)
    assert_allclose(other.predict(with_ids(X)), expected, rtol=1e-12)
    assert other.n_items_ == 5
    listed, _ = other.recommend([0], n_recommendations=3, exclude_seen=False)
    assert listed.shape == (1, 3)


def test_rows_with_ids_may_follow(fitted):
    model, X, y = fitted
    model = pickle.loads(pickle.dumps(model)).partial_fit(with_ids(X[1000:]), y[1000:])
    assert (model.n_users_, model.n_items_) == (7, 5)
    model.forget([0]).partial_fit(X[:50], y[:50])
    assert np.isfinite(model.predict(X)).all()


def test_one_of_both_ids_is_enough_for_features_of_items():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"item_id": rng.integers(0, 20, 900), "hour": rng.integers(0, 24, 900)})
    items = pd.DataFrame({"item_id": range(20), "genre": ["war", "comedy"] * 10})
    y = X["item_id"] % 2
    model = IncrementalDCNClassifier(use_ids=False, max_epochs=8, random_state=0)
    model.fit(X, y, items=items)
    assert model.score(X, y) > 0.95
    assert (model.n_users_, model.n_items_) == (0, 20)
    listed, _ = model.recommend(["any"], n_recommendations=5)
    assert (listed % 2 == 1).all()


def test_what_needs_ids_names_them(fitted):
    model, X, y = fitted
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match="recommend: the model was fitted on rows without item_id"):
        model.recommend(["ann"])
    with pytest.raises(ValueError, match=r"X has no column names, and fit had a frame without ids"):
        model.predict(X[["clicks", "buys"]].to_numpy())
    with pytest.raises(ValueError, match=r"X has no column names, and fit had a frame without ids"):
        model.partial_fit(X[["clicks", "buys"]].to_numpy(), y)
    with pytest.raises(ValueError, match=r"users: X has no column user_id, by which features"):
        model.partial_fit(X, y, users=pd.DataFrame({"user_id": [1], "age": [2]}))
    with pytest.raises(ValueError, match=r"Context columns missing: \['clicks'\]"):
        model.predict(X[["buys", "device"]])
    assert pickle.dumps(model) == before


WRONG = {
    "ids are read": ({}, "X has no column user_id and no column item_id.*Or set use_ids=False"),
    "features of users": (
        {"use_ids": False, "user_features": ["device"]},
        "users: X has no column user_id, by which features are stored",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_fit_that_needs_ids_is_refused(case):
    params, message = WRONG[case]
    X, y = counts(60)
    with pytest.raises(ValueError, match=message):
        IncrementalDCNRecommender(**params).fit(X, y)


def test_ids_alone_without_embeddings_are_refused_without_a_warning():
    X = with_ids(counts(60)[0])[["user_id", "item_id"]]
    model = IncrementalDCNClassifier(use_ids=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="use_ids=False: X has no columns to learn from"):
            model.fit(X, np.arange(60) % 2)
    assert not hasattr(model, "module_")
