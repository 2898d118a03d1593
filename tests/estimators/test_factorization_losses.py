"""IncrementalMFRecommender: what holds for every loss."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.metrics import roc_auc_score

from sklearn_recft import IncrementalMFRecommender

DAY = 86_400
[_options] = IncrementalMFRecommender._parameter_constraints["loss"]
LOSSES = sorted(_options.options)
POSITIVES = {"bpr", "softmax"}  # learned without negatives


@pytest.fixture(scope="module")
def log():
    """Make likes (0 or 1) of two tastes: a like where user and item have the same parity."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(60 * 40)[:1600]
    user, item = pairs // 40, pairs % 40
    X = np.column_stack([user, item, 1_600_000_000 + 3600 * np.arange(len(pairs))])
    return X, (user % 2 == item % 2).astype(float)


def make(loss, **params):
    small = {"n_factors": 8, "max_epochs": 50, "random_state": 0}
    return IncrementalMFRecommender(loss=loss, **small | params)


def given(loss, X, y):
    """Return what the loss is fed: all rows, or likes alone."""
    return (X[y > 0], y[y > 0]) if loss in POSITIVES else (X, y)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_and_is_updated(loss, log):
    X, y = log
    model = make(loss).fit(*given(loss, X[:1000], y[:1000]))
    late, liked = X[1000:], y[1000:]
    said = model.predict(late)
    assert said.shape == (600,)
    assert roc_auc_score(liked, said) > 0.95
    items, scores = model.recommend(np.arange(60), n_recommendations=5, exclude_seen=False)
    assert (items % 2 == np.arange(60)[:, None] % 2).mean() > 0.95
    assert (np.diff(scores) <= 0).all()
    # The same seed and the same rows lead to the same model, saved in between or not.
    twin = pickle.loads(pickle.dumps(make(loss).fit(*given(loss, X[:1000], y[:1000]))))
    rows = given(loss, late[:300], liked[:300])
    before = model.partial_fit_predict(*rows)
    assert_array_equal(twin.partial_fit_predict(*rows), before)
    assert_array_equal(twin.predict(X), model.predict(X))
    # A new user's taste is known after some events.
    news = np.array([[777, item, X[-1, 2] + DAY + item] for item in range(20)])
    for _ in range(5):
        model.partial_fit(*given(loss, news, news[:, 1] % 2.0))
    asked = np.array([[777, item, X[-1, 2] + 2 * DAY] for item in range(20, 40)])
    assert roc_auc_score(asked[:, 1] % 2, model.predict(asked)) > 0.9


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("is_fitted", [False, True])
def test_every_loss_answers_rows_that_do_not_count(loss, is_fitted, log):
    """Rows of weight 0 are predicted, also as the very first rows, and leave no trace."""
    X, y = log
    models = [make(loss), make(loss)]
    if is_fitted:
        models = [model.fit(*given(loss, X[:600], y[:600])) for model in models]
    rows, y = X[600:640].copy(), np.ones(40)
    rows[:3, :2] = 888, 999
    weight = np.where(np.arange(40) % 4 == 3, 1.0, 0.0)
    said = models[0].partial_fit_predict(rows, y, sample_weight=weight)
    assert np.isfinite(said).all()
    assert_array_equal(
        models[1].partial_fit_predict(rows[weight > 0], y[weight > 0]), said[weight > 0]
    )
    assert_array_equal(models[0].predict(X), models[1].predict(X))
    assert 888 not in models[0].user_ids_
    assert 999 not in models[0].item_ids_


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", [1e6, 7e28])
def test_every_loss_stays_finite_under_large_weights(loss, weight, log):
    """Or the call is refused, which names the weights, and nothing is learned."""
    X, y = given(loss, *log)
    model = make(loss).fit(X[:300], y[:300])
    before, weights, refusal = model.predict(X), np.full(40, weight), ""
    try:
        model.partial_fit(X[300:340], y[300:340], sample_weight=weights)
    except ValueError as error:
        refusal = str(error)
    assert np.isfinite(model.predict(X)).all()
    assert (model.predict(X) == before).all() == bool(refusal)
    assert not refusal or "scale 'sample_weight' (up to" in refusal
