"""EASE against the inverse of NumPy, and against its objective."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import EASERecommender
from sklearn_recft.datasets import make_interactions
from tests.estimators.dense_feedback import dense_sums, known_pairs

OPTIONS = [{}, {"reg": 3.0}, {"half_life": 50.0, "reg": 0.5}, {"reg": 1e5}]
options = pytest.mark.parametrize("options", OPTIONS, ids=str)
diagonals = pytest.mark.parametrize("zero_diagonal", [True, False])


def log_of(kind, n_users=40, n_items=30, n_rows=500):
    X, y = make_interactions(n_users, n_items, n_rows, random_state=0, return_X_y=True)
    order = np.random.default_rng(0).permutation(n_rows)
    X, y, weight = X[order], y[order], np.random.default_rng(1).uniform(0.2, 2, n_rows)
    return X, *{"positives": (None, None), "ratings": (y, None), "dislikes": (y - 3, weight)}[kind]


def weights_by_hand(total, reg, zero_diagonal):
    eye = np.eye(total.shape[1])
    inverse = np.linalg.inv(total.T @ total + reg * eye)
    return (1 - eye) * -inverse / inverse.diagonal() if zero_diagonal else eye - reg * inverse


def penalty(model, x):
    """Return the penalty of a model: the default is 5 times the mean diagonal of X^T X."""
    return 5 * np.square(x).sum(axis=0).mean() if model.reg is None else model.reg


@options
@diagonals
@pytest.mark.parametrize("kind", ["positives", "ratings", "dislikes"])
def test_weights_equal_the_closed_form(options, zero_diagonal, kind):
    log = log_of(kind)
    model = EASERecommender(**options, zero_diagonal=zero_diagonal).fit(*log)
    _, total = dense_sums(*log, model.half_life)
    expected = weights_by_hand(total, penalty(model, total), zero_diagonal)
    assert_allclose(model.item_weights_, expected, rtol=1e-4, atol=1e-6)
    assert model.item_weights_.dtype == np.float32
    if zero_diagonal:
        assert_array_equal(model.item_weights_.diagonal(), 0)


@options
@diagonals
def test_weights_minimize_the_objective(options, zero_diagonal):
    """The gradient of the loss is zero, except for weights fixed at zero."""
    log = log_of("ratings")
    model = EASERecommender(**options, zero_diagonal=zero_diagonal).fit(*log)
    _, x = dense_sums(*log, model.half_life)
    b = model.item_weights_.astype(float)
    reg = penalty(model, x)
    slope = x.T @ (x @ b - x) + reg * b
    if zero_diagonal:
        np.fill_diagonal(slope, 0)
    assert abs(slope).max() < 1e-5 * abs(x.T @ x).max()

    def loss(b):
        return ((x - x @ b) ** 2).sum() + reg * (b**2).sum()

    rng = np.random.default_rng(0)
    for _ in range(5):
        other = rng.normal(0, 0.03, b.shape)
        np.fill_diagonal(other, 0)
        assert loss(b + other) > loss(b)


@diagonals
@pytest.mark.parametrize("n_items", [511, 512, 513, 1100])
def test_many_items_are_inverted_block_by_block(n_items, zero_diagonal):
    rng = np.random.default_rng(n_items)
    X = np.column_stack([rng.integers(0, 60, 3000), np.resize(np.arange(n_items), 3000)])
    model = EASERecommender(reg=30.0, zero_diagonal=zero_diagonal).fit(X)
    _, total = dense_sums(np.column_stack([X, np.zeros(3000, int)]))
    expected = weights_by_hand(total, 30.0, zero_diagonal)
    assert_allclose(model.item_weights_, expected, rtol=1e-3, atol=1e-6)


@diagonals
def test_penalty_shrinks_weights(zero_diagonal):
    log = log_of("ratings")
    sizes = [
        np.linalg.norm(EASERecommender(reg, zero_diagonal).fit(*log).item_weights_)
        for reg in (1, 100, 10_000, 1_000_000)
    ]
    assert (np.diff(sizes) < 0).all()
    assert sizes[-1] < 0.01 * sizes[0]


def test_without_zero_diagonal_an_item_predicts_itself():
    """Ann buys tea again: only with a diagonal it is her first recommendation."""
    X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "rice"], ["cem", "tea"]]
    first = {
        zero: EASERecommender(reg=1.0, zero_diagonal=zero).fit(X).recommend(
            ["cem"], n_recommendations=1, exclude_seen=False
        )[0].item()
        for zero in (True, False)
    }  # fmt: skip
    assert first[False] == "tea"
    assert first[True] != "tea"


@diagonals
@pytest.mark.parametrize("kind", ["positives", "dislikes"])
def test_predict_is_the_score_of_a_pair(zero_diagonal, kind):
    log = log_of(kind)
    model = EASERecommender(reg=5.0, zero_diagonal=zero_diagonal, half_life=50.0).fit(*log)
    _, total = dense_sums(*log, 50.0)
    expected = total @ weights_by_hand(total, 5.0, zero_diagonal)
    assert_allclose(model.predict(known_pairs(model)), expected.ravel(), rtol=1e-3, atol=1e-5)


def test_predict_approximates_the_sums_of_pairs():
    X = np.column_stack([*np.divmod(np.arange(400), 20)])
    X = X[(X[:, 0] + X[:, 1]) % 2 == 0]
    model = EASERecommender(reg=0.1).fit(X, np.full(200, 2.5))
    odd = X + [0, 1] * (1 - 2 * (X[:, 1:] == 19))
    assert_allclose(model.predict(X), 2.5, atol=0.01)
    assert_allclose(model.predict(odd), 0, atol=0.01)


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_threads_give_the_same_result(n_jobs):
    log = log_of("ratings", n_users=100, n_items=300, n_rows=4000)
    one, more = (EASERecommender(reg=5.0, n_jobs=n).fit(*log) for n in (None, n_jobs))
    assert_allclose(more.item_weights_, one.item_weights_, rtol=1e-5, atol=1e-7)
    lists = [model.recommend(np.arange(100), n_recommendations=9)[1] for model in (one, more)]
    assert_allclose(*lists, rtol=1e-5)
