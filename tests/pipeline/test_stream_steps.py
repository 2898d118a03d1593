"""Features of a stream as steps of a pipeline: predict, then learn, without joins by hand."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from sklearn_recft import IncrementalDCNRecommender, IncrementalMFRecommender
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import ActivityFeatures, PairMeans

ACTIVITY = ActivityFeatures(by=["user_id", "item_id"], half_lives=[1], fill_value=0.0)
PAIRS = PairMeans([("user_id", "genre")])


class Recorder(RegressorMixin, BaseEstimator):
    """A last step that keeps the tables it was given."""

    def fit(self, X, y=None):
        self.seen_ = [X]
        return self

    def partial_fit(self, X, y=None):
        self.seen_ = [*getattr(self, "seen_", []), X]
        return self

    def predict(self, X):
        return X["item_mean"].to_numpy()


def stream(n=240, seed=0):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"user_id": rng.integers(0, 9, n), "item_id": rng.integers(0, 6, n)})
    X["timestamp"] = 3600.0 * np.sort(rng.integers(0, 80, n))  # ties
    X["genre"] = np.where(X["item_id"] % 2, "war", "comedy")
    return X, rng.random(n).round(1)


def appending():
    return [clone(step).set_params(passthrough=True) for step in (ACTIVITY, PAIRS)]


def learned_in_chunks(X, y, cuts):
    pipe, start = make_recommender_pipeline(*appending(), Recorder()), 0
    for stop in (*cuts, len(X)):
        pipe.partial_fit(X[start:stop], y[start:stop])
        start = stop
    return pd.concat(pipe[-1].seen_)


def test_chunks_get_the_features_of_one_pass_over_the_log():
    X, y = stream()
    found = learned_in_chunks(X, y, (100, 150))  # events of one time may be in two chunks
    steps = [clone(step).set_output(transform="pandas") for step in (ACTIVITY, PAIRS)]
    features = [step.fit_transform(X, y) for step in steps]
    pd.testing.assert_frame_equal(found, pd.concat([X, *features], axis=1))


@pytest.mark.parametrize("cut", [60, 120, 200])
def test_no_label_at_or_after_a_row_changes_its_features(cut):
    X, y = stream()
    now = X["timestamp"][cut]
    turned = np.where(X["timestamp"] >= now, 1 - y, y)
    one, other = (learned_in_chunks(X, labels, (100, 150)) for labels in (y, turned))
    past = X["timestamp"] <= now
    pd.testing.assert_frame_equal(one[past], other[past])
    assert not one.equals(other)


def test_predictions_read_the_past_and_change_nothing():
    X, y = stream()
    pipe = make_recommender_pipeline(*appending(), Recorder()).fit(X[:200], y[:200])
    before = pickle.dumps(pipe)
    found = pipe.predict(X[200:])
    assert pickle.dumps(pipe) == before
    alone = [pipe.predict(X[row : row + 1])[0] for row in range(200, 240)]
    assert_array_equal(found, alone)  # rows do not see each other
    assert (pipe.partial_fit(X[200:], y[200:]).predict(X[200:]) != found).any()


def test_a_net_learns_from_them_and_a_failure_changes_no_step():
    X, y = stream(600)
    model = IncrementalDCNRecommender(n_factors=0, max_epochs=2, random_state=0)
    pipe = make_recommender_pipeline(*appending(), model).fit(X[:400], y[:400])
    before = pickle.dumps(pipe)
    with pytest.raises(ValueError, match="y"):
        pipe.partial_fit(X[400:], np.full(200, np.nan))
    assert pickle.dumps(pipe) == before
    pipe.partial_fit(X[400:500], y[400:500])
    assert np.isfinite(pipe.predict(X[500:])).all()
    listed, _ = pipe.recommend([0, "new"], n_recommendations=3, exclude_seen=False)
    assert listed.shape == (2, 3)


def test_the_output_has_the_type_of_the_input():
    X, y = stream()
    names = X.columns.tolist()
    activity = appending()[0]
    made = activity.fit_transform(X, y)
    assert made.columns.tolist() == activity.get_feature_names_out().tolist()
    shuffled = X.sample(frac=1, random_state=0)
    later = activity.transform(shuffled)
    assert_array_equal(later.index, shuffled.index)
    assert_allclose(later["item_mean"][X.index], activity.transform(X)["item_mean"])
    polars = clone(activity).fit_transform(pl.from_pandas(X), y)
    assert isinstance(polars, pl.DataFrame)
    assert_array_equal(polars.drop(names).to_numpy(), made.drop(columns=names).to_numpy())
    array = X[names[:3]].to_numpy()
    plain = clone(activity).fit_transform(array, y)
    assert_array_equal(plain, made.drop(columns="genre").to_numpy(float))
    assert clone(activity).fit_transform(array.astype(object), y).dtype == object


def test_equal_names_are_refused():
    X, y = stream()
    with pytest.raises(ValueError, match=r"passthrough: X has the columns \['item_mean'\]"):
        appending()[0].fit_transform(X.assign(item_mean=0.0), y)


@pytest.mark.parametrize("verb", ["fit", "partial_fit"])
@pytest.mark.parametrize("step", [ACTIVITY, PAIRS])
def test_features_without_ids_are_refused_before_a_recommender(step, verb):
    X, y = stream()
    model = IncrementalMFRecommender(n_factors=2, random_state=0)
    pipe = make_recommender_pipeline(clone(step), StandardScaler(), model)
    with pytest.raises(ValueError, match=f"passthrough=True in {type(step).__name__}, or put it"):
        getattr(pipe, verb)(X, y)
    assert not hasattr(pipe, "n_users_")


def test_features_without_ids_are_fine_where_ids_are_not_read_by_position():
    X, y = stream()
    boosted = make_recommender_pipeline(clone(ACTIVITY), Ridge()).fit(X, y)
    assert boosted.predict(X).shape == y.shape
    ids = ColumnTransformer(
        [("ids", "passthrough", ["user_id", "item_id"]), ("new", clone(ACTIVITY), list(X))]
    )
    model = IncrementalMFRecommender(n_factors=2, random_state=0)
    assert make_recommender_pipeline(ids, model).fit(X, y).n_users_ == X["user_id"].nunique()
    framed = clone(ACTIVITY).set_output(transform="pandas")
    net = IncrementalDCNRecommender(use_ids=False, max_epochs=1, random_state=0)
    assert make_recommender_pipeline(framed, net).fit(X, y).predict(X).shape == y.shape
