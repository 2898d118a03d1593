"""`adapt` of factorizations: the ridge solution, whatever the order and the company."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import IncrementalMFClassifier, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions

DAY = 86_400


@pytest.fixture(scope="module")
def log():
    return make_interactions(40, 25, 1500, random_state=0, return_X_y=True)


@pytest.fixture
def model(log):
    return IncrementalMFRecommender(n_factors=6, max_epochs=6, random_state=0).fit(*log)


def few(log, user="new", n=4, first=0):
    """Return rows of a user: other items each time, and times after the log."""
    X, _ = log
    rows = np.empty((n, 3), object)
    rows[:, 0], rows[:, 1] = user, np.arange(first, first + n)
    rows[:, 2] = X[:, 2].max() + DAY * np.arange(1, n + 1)
    return rows, 1.0 + (np.arange(first, first + n) * 7) % 5


def row_of(model, user):
    place = list(model.user_ids_).index(user)
    return np.append(model.user_factors_[place], model.user_biases_[place]).astype(float)


def solution(model, rows, y, start, earlier, weight=None):
    """Solve for a user densely, as the docstring says."""
    items = [list(model.item_ids_).index(item) for item in rows[:, 1]]
    weight = np.ones(len(y)) if weight is None else weight
    design = np.column_stack([model.item_factors_[items], np.ones(len(y))]).astype(float)
    rest = y - model.intercept_ - model.item_biases_[items] - design @ start
    n, scale = weight.sum(), model._model.scale
    ridge = np.full(design.shape[1], scale * (0.02 * (n + earlier) + 5))
    ridge[-1] = 0.02 * n + 5 + earlier
    weighted = design.T * weight
    return start + np.linalg.solve(weighted @ design + np.diag(ridge), weighted @ rest)


def test_is_the_ridge_solution(model, log):
    X, y = few(log)
    start = np.append(model.user_factors_.mean(0), model.user_biases_.mean())
    weight = np.array([1, 0.5, 2, 3])
    expected = solution(model, X, y, start, 0, weight)
    model.adapt(X, y, weight)
    assert_allclose(row_of(model, "new"), expected, rtol=1e-4, atol=1e-6)
    more, y_more = few(log, n=3, first=9)
    expected = solution(model, more, y_more, expected, weight.sum())
    model.adapt(more, y_more)
    assert_allclose(row_of(model, "new"), expected, rtol=1e-4, atol=1e-6)


def test_a_known_user_is_held_by_the_events_of_fit(model, log):
    X, y = few(log, user=3)
    start, earlier = row_of(model, 3), (log[0][:, 0] == 3).sum()
    expected = solution(model, X, y, start, earlier)
    model.adapt(X, y)
    assert_allclose(row_of(model, 3), expected, rtol=1e-4, atol=1e-6)
    assert (row_of(model, 3) != start).all()


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("half_life", [None, 2.0])
def test_order_and_other_users_do_not_matter(log, solver, half_life):
    model = IncrementalMFRecommender(
        n_factors=6, max_epochs=2, solver=solver, half_life=half_life, random_state=0
    ).fit(*log)
    (X, y), (others, y_others) = few(log), few(log, user="later", n=5, first=3)
    others[:, 2] += 900 * DAY
    alone = copy.deepcopy(model).adapt(X, y)
    expected = row_of(alone, "new")
    turned = copy.deepcopy(model).adapt(X[::-1], y[::-1])
    assert_array_equal(row_of(turned, "new"), expected)
    both = np.concatenate([others, X]), np.concatenate([y_others, y])
    assert_array_equal(row_of(model.adapt(*both), "new"), expected)


def test_duplicates_count_twice(model, log):
    X, y = few(log)
    twice = copy.deepcopy(model).adapt(np.concatenate([X, X]), np.concatenate([y, y]))
    assert_allclose(row_of(twice, "new"), row_of(model.adapt(X, y, np.full(4, 2.0)), "new"),
                    rtol=1e-5)  # fmt: skip


def test_new_items_are_fitted_to_their_users_and_known_ones_stay(model, log):
    X, y = few(log, user=3)
    X[:, 1] = ["x", "x", 0, 1]
    before = model.item_factors_, model.item_biases_
    alone = copy.deepcopy(model).adapt(X[2:], y[2:])
    model.adapt(X, y)
    assert_array_equal(row_of(model, 3), row_of(alone, 3))  # the new item tells nothing of users
    assert_array_equal(model.item_factors_[:25], before[0])
    assert_array_equal(model.item_biases_[:25], before[1])
    q, b = model.item_factors_[25], model.item_biases_[25]
    user, scale = row_of(model, 3), model._model.scale
    rest = y[:2] - model.intercept_ - user[-1] - before[1].mean()
    design = np.tile(np.append(user[:-1], 1.0), (2, 1))
    ridge = np.append(np.full(6, scale * (0.02 * 2 + 5)), 0.02 * 2 + 5)
    expected = np.linalg.solve(design.T @ design + np.diag(ridge), design.T @ rest)
    assert_allclose(np.append(q, b - before[1].mean()), expected, rtol=1e-3, atol=1e-6)


def test_the_range_of_predictions_and_the_rehearsed_rows_stay(log):
    model = IncrementalMFRecommender(n_factors=4, max_epochs=2, replay_size=50, random_state=0)
    X, y = few(log)
    model.fit(*log).adapt(X, y + 1000)
    assert model.predict(X).max() == pytest.approx(log[1].max(), rel=1e-6)
    assert model._model.reservoir.state()["n_offered"] == len(log[1])


def test_a_few_likes_move_probabilities(log):
    X, y = log
    model = IncrementalMFClassifier(n_factors=6, random_state=0).fit(X, y > 3)
    rows, _ = few(log, n=6)
    none = model.predict_proba(rows)[:, 1]
    likes = copy.deepcopy(model).adapt(rows, np.ones(6, bool)).predict_proba(rows)[:, 1]
    dislikes = model.adapt(rows, np.zeros(6, bool)).predict_proba(rows)[:, 1]
    assert (likes > none).all()
    assert (none > dislikes).all()
    with pytest.raises(ValueError, match="y"):
        model.adapt(rows, np.arange(6))


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
def test_losses_without_a_closed_form_have_no_adapt(loss):
    model = IncrementalMFRecommender(loss=loss)
    assert not hasattr(model, "adapt")
    assert model.__recommender_tags__().adapts == ""


def test_adapted_users_learn_on(model, log):
    model.adapt(*few(log))
    before = row_of(model, "new")
    X, y = few(log, n=10, first=5)
    model.partial_fit(X, y)
    assert (row_of(model, "new") != before).all()
    model.forget(["new"])
    assert "new" not in model.user_ids_.tolist()
