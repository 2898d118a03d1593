"""Bayesian logistic factorization: labels of rare and of common classes, in closed form."""

import copy
import functools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from sklearn_recft import BayesianMFClassifier, BayesianMFRecommender
from sklearn_recft.models._bayesian_labels import bound_curvature, expected_slope, moderated

N_USERS, N_NEW, N_ITEMS, N_ROWS = 600, 200, 50, 30


@functools.cache
def drawn():
    """Draw rare labels from the model: warm rows, and rows and probabilities of new users."""
    rng = np.random.default_rng(0)
    n_users, d = N_USERS + N_NEW, 2
    b, q = rng.normal(0, 1, N_ITEMS), rng.normal(0, 1, (N_ITEMS, d))
    c, p = rng.normal(0, 0.7, n_users), rng.normal(0, 1.0, (n_users, d))
    items = np.argsort(rng.random((n_users, N_ITEMS)), axis=1)[:, :N_ROWS]
    f = b[items] + c[:, None] + np.einsum("ud,und->un", p, q[items]) - 3.5
    y = (rng.random(f.shape) < expit(f)).astype(int)
    X = np.stack([np.arange(n_users)[:, None] + np.zeros_like(items), items], axis=2)
    warm = X[:N_USERS].reshape(-1, 2), y[:N_USERS].ravel()
    return warm, X[N_USERS:], y[N_USERS:], expit(f[N_USERS:])


@functools.cache
def _fitted():
    return BayesianMFClassifier(n_factors=2, random_state=0).fit(*drawn()[0])


def fitted():
    return copy.deepcopy(_fitted())


def support(k):
    _, X, y, _ = drawn()
    return X[:, :k].reshape(-1, 2), y[:, :k].ravel()


def query():
    _, X, _, probability = drawn()
    return X[:, 20:].reshape(-1, 2), probability[:, 20:].ravel()


def loss_of(predicted):
    """Return the expected log loss."""
    p = query()[1]
    return -np.mean(p * np.log(predicted) + (1 - p) * np.log1p(-predicted))


def test_a_few_labels_lower_the_log_loss_and_squared_error_is_worse():
    X = query()[0]
    squared = BayesianMFRecommender(n_factors=2, random_state=0).fit(*drawn()[0])
    losses = []
    for k in (0, 3, 20):
        model, other = fitted(), copy.deepcopy(squared)
        if k:
            model.adapt(*support(k))
            other.adapt(*support(k))
        losses.append(loss_of(model.predict_proba(X)[:, 1]))
        best = loss_of(np.clip(other.predict(X), 0.01, 0.99))
        assert losses[-1] < best + (0.001 if k == 0 else -0.002)
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.02


def test_probabilities_are_calibrated():
    X, p = query()
    predicted = fitted().adapt(*support(20)).predict_proba(X)[:, 1]
    for group in np.array_split(np.argsort(predicted), 5):
        assert abs(predicted[group].mean() - p[group].mean()) < 0.025
    assert abs(predicted.mean() - p.mean()) < 0.01


def test_order_and_calls_do_not_matter():
    X, y = support(10)
    order = np.random.default_rng(0).permutation(len(X))
    once, shuffled, twice = fitted().adapt(X, y), fitted().adapt(X[order], y[order]), fitted()
    twice.adapt(X[order[:700]], y[order[:700]]).observe(X[order[700:]], y[order[700:]])
    expected = once.predict_proba(query()[0], return_std=True)
    for model in (shuffled, twice):
        for found, wanted in zip(
            model.predict_proba(query()[0], return_std=True), expected, strict=True
        ):
            assert_allclose(found, wanted, rtol=1e-10)


def test_adapt_leaves_the_others_and_equals_a_dense_solution():
    model, before = fitted(), fitted()
    X, y = support(5)
    own = X[:, 0] == X[0, 0]
    model.adapt(X[own], y[own])
    assert_array_equal(model.item_means_, before.item_means_)
    assert_array_equal(model.user_means_[:N_USERS], before.user_means_)
    inner = before._model
    prior, mean = inner.user_table.late_prior, inner.user_table.unknown
    precision, vector = prior.precision.copy(), prior.precision @ mean
    items, d = inner.of_items(inner.items.encode(X[own, 1])), 3
    row, column = np.triu_indices(d)
    for n, label in enumerate(y[own]):
        x, bias = items.inputs[n], items.means[n, 0]
        covariance = np.zeros((d, d))
        covariance[row, column] = covariance[column, row] = items.covariances[n]
        square, product = np.outer(x, x), x * bias
        square[1:, 1:] += covariance[1:, 1:]
        product[1:] += covariance[0, 1:]
        second = np.sum(square * (prior.covariance + np.outer(mean, mean))) + 2 * product @ mean
        f = inner.center + bias + x @ mean
        variance = second + bias**2 + covariance[0, 0] - (f - inner.center) ** 2
        given = np.array([f]), np.array([variance])
        p, c = (float(value[0]) for value in expected_slope(*given))
        c = np.sqrt(c * bound_curvature(np.array([f**2 + variance]))[0])
        precision += c * square
        vector += (c * (f - inner.center) + label - p) * x - c * product
    assert_allclose(model.user_means_[-1], np.linalg.solve(precision, vector), rtol=1e-8)


def test_the_bound_is_above_the_log_loss_and_touches_it():
    f, xi = np.linspace(-6, 6, 49), 1.5
    c = bound_curvature(np.array([xi**2]))[0]
    bound = c * (f**2 - xi**2) / 2 - (f - xi) / 2 + np.log1p(np.exp(-xi))
    exact = np.log1p(np.exp(-f))
    assert (bound >= exact - 1e-12).all()
    touching = np.isclose(np.abs(f), xi)
    assert_allclose(bound[touching], exact[touching])
    assert_allclose(bound_curvature(np.array([0.0])), 0.25, rtol=1e-6)


def test_expected_probability_and_slope_are_near_to_those_of_draws():
    rng = np.random.default_rng(0)
    for mean, variance in ((0.5, 0.2), (-2.0, 1.5), (1.0, 4.0)):
        drawn_odds = expit(mean + np.sqrt(variance) * rng.standard_normal(200_000))
        p, c = expected_slope(np.array([mean]), np.array([variance]))
        assert_allclose(p, drawn_odds.mean(), atol=0.01)
        assert_allclose(p, expit(moderated(np.array([mean]), np.array([variance]))))
        assert_allclose(c, np.mean(drawn_odds * (1 - drawn_odds)), rtol=0.1)


def test_partial_fit_moves_items_and_lists_are_probabilities():
    model = fitted()
    X, y = support(20)
    model.partial_fit(X, y)
    assert not np.array_equal(model.item_means_, fitted().item_means_)
    assert roc_auc_score(query()[1] > 0.2, model.predict_proba(query()[0])[:, 1]) > 0.8
    user = X[0, 0]
    items, scores = model.recommend([user], n_recommendations=5)
    rows = np.column_stack([np.full(5, user), items[0]])
    assert_allclose(scores[0], model.predict_proba(rows)[:, 1], atol=1e-6)
    careful = model.recommend([user], n_recommendations=5, exploration=-1.0)[1]
    assert (careful < scores).all()


def test_deviations_fall_and_questions_lower_them():
    model = fitted()
    user = 10_000
    rows = np.column_stack([np.full(N_ITEMS, user), np.arange(N_ITEMS)])
    before = model._model.deviation(model._model.encode(model._check_rows(rows))).mean()
    asked = model.ask([user], n_items=5)[0]
    others = np.setdiff1d(np.arange(N_ITEMS), model.ask([user], n_items=N_ITEMS - 5)[0])
    falls = []
    for chosen in (asked, others):
        one = fitted().adapt(np.column_stack([np.full(5, user), chosen]), [0, 1, 0, 1, 0])
        inner = one._model
        falls.append(before - inner.deviation(inner.encode(one._check_rows(rows))).mean())
    assert falls[0] > falls[1] > 0
    y_proba, y_std = model.predict_proba(rows, return_std=True)
    assert_array_equal(y_proba, model.predict_proba(rows))
    assert y_std.shape == (N_ITEMS,)
    assert (y_std > 0).all()


def test_labels_of_any_kind_and_a_first_call_without_one_of_them():
    (X, y), few = drawn()[0], 400
    labels = np.where(y == 1, "yes", "no")
    model = BayesianMFClassifier(n_factors=2, max_epochs=3, random_state=0)
    numbers = copy.deepcopy(model).fit(X[:few], y[:few])
    model.fit(X[:few], labels[:few])
    assert model.classes_.tolist() == ["no", "yes"]
    assert_array_equal(model.predict_proba(X[:9]), numbers.predict_proba(X[:9]))
    no = labels == "no"
    later = BayesianMFClassifier(n_factors=2, max_epochs=3, random_state=0)
    later.partial_fit(X[no][:50], labels[no][:50], classes=["no", "yes"])
    later.partial_fit(X[~no][:50], labels[~no][:50])
    assert np.isfinite(later.predict_proba(X[:50])).all()
    with pytest.raises(ValueError, match="classes"):
        later.partial_fit(X[:2], labels[:2], classes=["a", "b"])


def test_features_of_new_users_tell_their_labels():
    rng = np.random.default_rng(3)
    group = rng.integers(0, 2, 300)
    users = [{"user_id": n, "group": "ab"[g]} for n, g in enumerate(group)]
    pd = pytest.importorskip("pandas")
    X = np.column_stack([np.repeat(np.arange(300), 10), rng.integers(0, 20, 3000)])
    y = rng.random(3000) < np.where(group[X[:, 0]] == 1, 0.3, 0.03)
    model = BayesianMFClassifier(n_factors=2, max_epochs=10, random_state=0)
    model.fit(X[:2000], y[:2000], users=pd.DataFrame(users))
    p = model.predict_proba(X[2000:])[:, 1]
    assert log_loss(y[2000:], p) < log_loss(y[2000:], np.full(1000, y[:2000].mean())) - 0.02
