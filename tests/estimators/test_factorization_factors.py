"""Public factors and biases: the scores follow from them, by every solver and loss."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.base import clone

from sklearn_recft import ALSRecommender, IncrementalMFClassifier, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.models import FittedModel

SMALL = {"n_factors": 3, "max_epochs": 2, "random_state": 0}
NAMES = ("user_factors_", "item_factors_", "user_biases_", "item_biases_")
MODELS = {
    "ratings": IncrementalMFRecommender(**SMALL),
    "ratings, adam": IncrementalMFRecommender(**SMALL, solver="adam"),
    "log_loss": IncrementalMFRecommender(**SMALL, loss="log_loss"),
    "bpr": IncrementalMFRecommender(**SMALL, loss="bpr", half_life=90),
    "bpr, adam": IncrementalMFRecommender(**SMALL, loss="bpr", solver="adam"),
    "softmax": IncrementalMFRecommender(**SMALL, loss="softmax", half_life=90),
    "softmax, next": IncrementalMFRecommender(**SMALL, loss="softmax", history_half_life=2),
    "classifier": IncrementalMFClassifier(**SMALL),
}


@pytest.fixture(scope="module")
def log():
    """Users, items and times in order, with feedback of 0 and 1."""
    X, y = make_interactions(20, 15, 600, random_state=0, return_X_y=True)
    return X, (y > np.median(y)).astype(float)


def score_from_factors(model):
    """Return the scores before the link of all pairs of known ids, by the documented equation."""
    return (
        model.intercept_
        + model.user_biases_[:, None]
        + model.item_biases_
        + model.user_factors_ @ model.item_factors_.T
    )


def predicted(model):
    """Return the predictions of all pairs of known ids."""
    pairs = np.array([[u, i, 2e9] for u in model.user_ids_ for i in model.item_ids_])
    said = model.predict_proba(pairs)[:, 1] if hasattr(model, "classes_") else model.predict(pairs)
    return said.reshape(model.n_users_, model.n_items_)


@pytest.mark.parametrize("name", MODELS)
def test_scores_follow_from_the_factors(name, log):
    X, y = log
    model = clone(MODELS[name]).fit(X[:400], y[:400])
    links = {"log_loss": expit, "classifier": expit}
    links |= dict.fromkeys(("ratings", "ratings, adam"), lambda scores: scores.clip(0, 1))
    for news in (X[400:500], X[500:] + np.array([10, 7, 0])):  # the second with new ids
        model.partial_fit(news, y[400:500])
        assert model.user_factors_.shape == (model.n_users_, 3)
        assert model.item_factors_.shape == (model.n_items_, 3)
        assert model.user_biases_.shape == (model.n_users_,)
        assert model.item_biases_.shape == (model.n_items_,)
        scores = links.get(name, lambda scores: scores)(score_from_factors(model))
        assert_allclose(scores, predicted(model), rtol=1e-5, atol=1e-5)
        assert np.ptp(scores) > 0.01
    model.forget(model.user_ids_[:5])
    scores = links.get(name, lambda scores: scores)(score_from_factors(model))
    assert_allclose(scores, predicted(model), rtol=1e-5, atol=1e-5)


def test_context_is_average_in_the_factors(log):
    X, y = log
    context = np.random.default_rng(0).normal(5, 2, len(X))
    model = clone(MODELS["log_loss"]).fit(np.column_stack([X, context]), y)
    pairs = np.array(
        [[u, i, 0, context.mean()] for u in model.user_ids_ for i in model.item_ids_[:3]]
    )
    expected = expit(score_from_factors(model))[:, :3].ravel()
    assert_allclose(model.predict(pairs), expected, rtol=1e-5)
    assert abs(model.predict(pairs + np.array([0, 0, 0, 9])) - expected).max() > 1e-3


@pytest.mark.parametrize("name", ["ratings", "softmax", "als"])
def test_nobody_writes_to_the_model_through_them(name, log):
    X, y = log
    model = MODELS[name] if name in MODELS else ALSRecommender(3, random_state=0)
    model = clone(model).fit(X, y)
    before = pickle.dumps(model)
    for attribute in NAMES[: 2 if name == "als" else 4]:
        values = getattr(model, attribute)
        assert values.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            values[:] = 0
    assert pickle.dumps(model) == before
    held = model.user_factors_
    kept = held.copy()
    model.partial_fit(X[:50], y[:50])
    assert_array_equal(held, kept)  # a copy: an update does not reach what was read
    assert (model.user_factors_ != kept).any()


def test_unfitted_has_no_factors():
    for name in (*NAMES, "intercept_"):
        assert not hasattr(IncrementalMFRecommender(), name)
        with pytest.raises(AttributeError, match=f"not fitted yet: it has no {name}"):
            getattr(IncrementalMFClassifier(), name)


@pytest.mark.parametrize("name", ["ratings", "ratings, adam", "softmax"])
def test_they_are_read_under_the_lock_of_readers(name, log, monkeypatch):
    """So that a thread never reads tables that another one is writing to."""
    model = clone(MODELS[name]).fit(*log)
    reading, entered = FittedModel.reading, []

    def recorded(self):
        entered.append(self)
        return reading(self)

    monkeypatch.setattr(FittedModel, "reading", recorded)
    for n_reads, attribute in enumerate((*NAMES, "intercept_"), start=1):
        getattr(model, attribute)
        assert entered == [model._model] * n_reads
