"""Kernels of the Bayesian factorization against ten lines of NumPy each."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import kernels

D = 4
ROW, COLUMN = np.triu_indices(D)
SIZE = len(ROW)


def draw_posteriors(rng, n):
    """Return means (n, D) and covariances (n, D, D)."""
    roots = rng.normal(size=(n, D, D))
    return rng.normal(size=(n, D)), roots @ roots.transpose(0, 2, 1) / D


def moments_of(means, covariances):
    """Return E[x x^T] and E[x b] of x = [1, factors], b the bias, row by row."""
    x = means.copy()
    x[:, 0] = 1
    square = x[:, :, None] * x[:, None, :]
    square[:, 1:, 1:] += covariances[:, 1:, 1:]
    product = x * means[:, :1]
    product[:, 1:] += covariances[:, 0, 1:]
    return square, product


def test_moments_are_added_by_event():
    rng = np.random.default_rng(0)
    square, product = moments_of(*draw_posteriors(rng, 6))
    moments = np.concatenate([square[:, ROW, COLUMN], product], axis=1)
    rows, starts = np.array([3, 0]), np.array([0, 5, 7])
    others, targets, weights = rng.integers(6, size=7), rng.normal(size=7), rng.random(7)
    sums = rng.normal(size=(4, SIZE + D))
    expected = sums.copy()
    for event, row in enumerate([3] * 5 + [0] * 2):
        other, weight = others[event], weights[event]
        vector = targets[event] * square[other, 0] - product[other]
        expected[row] += weight * np.r_[square[other][ROW, COLUMN], vector]
    events = rows, starts, others, targets, weights
    kernels.add_moments(0, 2, *events, moments, D, sums)
    assert_allclose(sums, expected, rtol=1e-12)


@pytest.mark.parametrize("n_features", [1, 3])
def test_posteriors_solve_the_normal_equations(n_features):
    rng = np.random.default_rng(1)
    n = 5
    _, precisions = draw_posteriors(rng, n)
    vectors, noise = rng.normal(size=(n, D)), 0.7
    sums = np.concatenate([precisions[:, ROW, COLUMN], vectors], axis=1)
    features, weights = rng.normal(size=(n, n_features)), rng.normal(size=(n_features, D))
    prior = np.linalg.inv(draw_posteriors(rng, 1)[1][0])
    rows, places = rng.permutation(n), np.array([0, 2, 3])
    found = [np.full((n, width), np.nan) for width in (D, SIZE, SIZE + D)]
    given = places, rows, sums, features, weights, prior, noise
    kernels.gaussian_posteriors(0, 3, *given, *found)
    means, covariances, moments = found
    for k, row in enumerate(rows):
        if k not in places:
            assert np.isnan(means[k]).all()
            continue
        covariance = np.linalg.inv(prior + precisions[row] / noise)
        mean = covariance @ (prior @ (features[k] @ weights) + vectors[row] / noise)
        assert_allclose(means[k], mean, rtol=1e-9)
        assert_allclose(covariances[k], covariance[ROW, COLUMN], rtol=1e-9, atol=1e-12)
        square, product = moments_of(mean[None], covariance[None])
        assert_allclose(moments[k], np.r_[square[0][ROW, COLUMN], product[0]], rtol=1e-9)
    only_means, nothing = np.full((n, D), np.nan), np.empty((0, 0))
    kernels.gaussian_posteriors(0, 3, *given, only_means, nothing, nothing)
    assert_array_equal(only_means, means)


def test_score_moments_are_those_of_drawn_vectors():
    rng = np.random.default_rng(2)
    users, items = draw_posteriors(rng, 2), draw_posteriors(rng, 3)
    users[1][:] *= 0.3
    square, product = moments_of(*items)
    moments = np.concatenate([square[:, ROW, COLUMN], product], axis=1)
    pairs = np.array([1, 0, 1]), np.array([2, 0, 1])
    found = np.full((3, 2), np.nan)
    # Contiguous, as in the model: kernels are compiled for each layout.
    triangles = [covariances[:, ROW, COLUMN].copy() for _, covariances in (users, items)]
    given = users[0], triangles[0], items[0], triangles[1], moments
    kernels.score_moments(0, 2, *pairs, *given, found)
    for n in range(2):
        user, item = pairs[0][n], pairs[1][n]
        w = users[0][user]
        second = users[1][user] + np.outer(w, w)
        x, bias = np.r_[1, items[0][item, 1:]], items[0][item, 0]
        assert_allclose(found[n, 0], bias + x @ w, rtol=1e-12)
        expected = np.sum(square[item] * second) + 2 * product[item] @ w
        assert_allclose(found[n, 1], expected + bias**2 + items[1][item, 0, 0], rtol=1e-12)
    assert np.isnan(found[2]).all()
