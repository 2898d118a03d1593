"""The weights of search words: a posterior mode, found by Newton's method."""

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import softmax

from sklearn_recft.interactions import check_interactions
from sklearn_recft.models._query_model import _split_by_query
from sklearn_recft.models._query_term import Choices, Labels, QueryTerm


def three(weight):
    """Return the weights of meanings, words and letters."""
    return np.array([weight, weight / 2, 0.0])


def choices(weight, n=400, m=12, seed=0):
    """Return rows whose item was drawn from the softmax of base scores and similarities."""
    rng = np.random.default_rng(seed)
    base, similarity = rng.normal(size=(n, m)), rng.uniform(-0.2, 1, size=(n, m, 3))
    chances = softmax(base + similarity @ three(weight), axis=1)
    taken = (chances.cumsum(1) > rng.random((n, 1))).argmax(1)
    order = np.argsort(np.arange(m) != taken[:, None], axis=1, kind="stable")
    base = np.take_along_axis(base, order, 1)
    return Choices(base, np.take_along_axis(similarity, order[..., None], 1), np.ones(n))


def labels(weight, offset, n=2000, seed=0):
    rng = np.random.default_rng(seed)
    base, similarity = rng.normal(size=n), rng.uniform(-0.2, 1, (n, 3))
    chance = 1 / (1 + np.exp(-(base + similarity @ three(weight) + offset)))
    return Labels(base, similarity, (rng.random(n) < chance) * 1.0, np.ones(n), n)


def slow_mode(evidence):
    """Minimize the negative log-posterior without derivatives."""
    prior = QueryTerm()

    def loss(mean):
        away = mean - prior.mean
        return away @ prior.precision @ away / 2 + sum(e.derivatives(mean)[0] for e in evidence)

    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 5000}
    return minimize(loss, prior.mean, method="Nelder-Mead", options=options).x


def test_the_mode_is_that_of_a_slow_search():
    for evidence in ([choices(7.0)], [labels(6.0, -2.0)], [choices(3.0), choices(3.0, seed=1)]):
        assert_allclose(QueryTerm().after(evidence).mean, slow_mode(evidence), atol=1e-3)


def test_planted_weights_are_found():
    for weight in (0.0, 4.0, 20.0):
        found = QueryTerm().after([choices(weight)])
        assert_allclose(found.mean[:-1], three(weight), atol=0.2 * weight + 0.5)
        assert_array_equal(found.lexical_weights, found.mean[1:3])
    found = QueryTerm().after([labels(6.0, -2.0)])
    assert_allclose(found.mean, [*three(6.0), -2.0], atol=0.6)


def test_gradients_and_hessians_are_those_of_differences():
    step, mean = 1e-5, np.array([3.0, 1.0, -2.0, -1.0])
    for evidence in (choices(5.0), labels(5.0, -1.0)):
        _, gradient, hessian = evidence.derivatives(mean)
        for axis in range(4):
            away = step * (np.arange(4) == axis)
            above, below = (evidence.derivatives(mean + sign * away) for sign in (1, -1))
            assert_allclose(
                gradient[axis], (above[0] - below[0]) / (2 * step), rtol=1e-4, atol=1e-4
            )
            assert_allclose(hessian[axis], (above[1] - below[1]) / (2 * step), rtol=1e-4, atol=1e-4)


def test_updates_are_nearly_those_of_all_rows_at_once_and_nothing_changes_in_place():
    parts = [choices(7.0, seed=seed) for seed in range(4)]
    start = QueryTerm()
    stepwise = start
    for part in parts:
        stepwise = stepwise.after([part])
    assert stepwise.n_rows == 1600
    assert abs(stepwise.weight - start.after(parts).weight) < 0.2
    assert start.weight == 10.0
    assert start.n_rows == 0
    assert start.after([]) is start


def test_what_is_remembered_is_bounded_so_that_a_weight_can_turn():
    term = QueryTerm()
    for seed in range(60):
        term = term.after([choices(12.0, seed=seed)])
    for seed in range(60, 140):
        term = term.after([choices(1.0, seed=seed)])
    assert term.weight < 4.5


def test_state_round_trip():
    term, twin = QueryTerm().after([labels(4.0, 1.0)]), QueryTerm()
    twin.load_state(term.state())
    assert_array_equal(twin.mean, term.mean)
    assert_array_equal(twin.after([choices(3.0)]).mean, term.after([choices(3.0)]).mean)


def test_held_out_rows_are_strictly_later_and_have_a_fifth_of_the_words():
    rng = np.random.default_rng(0)
    n = 500
    X = pd.DataFrame({"user_id": 0, "item_id": np.arange(n)})
    X["timestamp"] = rng.integers(0, 40, n)
    X["query"] = np.where(rng.random(n) < 0.5, "tea", None)
    rows = check_interactions(X)
    older, newer = _split_by_query(rows)
    assert sorted([*older, *newer]) == list(range(n))
    assert rows.timestamps[older].max() < rows.timestamps[newer].min()
    share = (rows.query[newer] != "").sum() / (rows.query != "").sum()
    assert 0.2 <= share < 0.25
