"""The mixture of two speeds, beside a slow reference in NumPy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklearn_recft import kernels

RATES = np.array([0.25, 1e-3, 4.0])
losses = pytest.mark.parametrize("loss", [kernels.SQUARED_ERROR, kernels.LOG_LOSS])


def make_rows(loss, n=50):
    rng = np.random.default_rng(loss)
    slow, fast = rng.normal(0, 1, (2, n)).astype(np.float32)
    target = rng.integers(0, 2, n) if loss == kernels.LOG_LOSS else rng.normal(1, 1, n)
    weight = rng.uniform(0.2, 1.7, n) * (rng.random(n) < 0.8)
    return slow, fast, target.astype(np.float32), weight.astype(np.float32)


def run(rows, loss, state=None, moments=None):
    state = np.array([0.01, 0, 0, 0, 0]) if state is None else state
    moments = np.array([0, 0, 0, np.inf, -np.inf]) if moments is None else moments
    means, scored = np.zeros((3, 2), np.float32), np.empty(len(rows[0]))
    kernels.mix_pass(*rows, moments, RATES, loss, state, means, scored)
    return scored, state, means, moments


def reference(rows, loss):
    """Mix by the definition: exponential weights of two experts, then a share of each."""
    eta, share, block = RATES
    weights, scored, kept, past, sizes = np.array([0.99, 0.01]), [], [], [], []
    for z_slow, z_fast, y, w in zip(*(column.astype(float) for column in rows), strict=True):
        z = np.array([z_slow, z_fast])
        if loss == kernels.LOG_LOSS:
            scored.append(1 / (1 + np.exp(-weights @ z)))
            p = 1 / (1 + np.exp(-z))
            errors = -y * np.log(p) - (1 - y) * np.log(1 - p)
        else:
            scored.append(np.clip(weights @ z, min(past), max(past)) if past else weights @ z)
            variance = np.cov(past, aweights=sizes, ddof=0) if len(past) > 1 else 0
            errors = (y - z) ** 2 / (variance if variance > 0 and sum(sizes) > 1 else 1)
        if w == 0:
            continue
        past.append(y)
        sizes.append(w)
        kept.append(errors)
        weights = weights * np.exp(-eta * w * errors)
        weights = (1 - share) * weights / weights.sum() + share / 2
    n = len(kept) // int(block)
    means = np.array(kept)[: n * int(block)].reshape(n, int(block), 2).mean(axis=1)
    return scored, weights[1], means


@losses
def test_mix_pass(loss):
    rows = make_rows(loss)
    scored, state, means, _ = run(rows, loss)
    expected, weight, expected_means = reference(rows, loss)
    assert_allclose(scored, expected, rtol=1e-9)
    assert_allclose(state[kernels.FAST_WEIGHT], weight, rtol=1e-9)
    n = len(expected_means)
    assert state[kernels.N_BLOCKS] == n > 3
    for block in range(n - 3, n):  # the ring keeps the last three
        assert_allclose(means[block % 3], expected_means[block], rtol=1e-5)


@losses
def test_mix_pass_row_by_row_equals_one_pass(loss):
    rows = make_rows(loss)
    scored, state, _, moments = run(rows, loss)
    row_state, row_moments, one_by_one = np.array([0.01, 0, 0, 0, 0]), None, []
    for j in range(len(scored)):
        one = [column[j : j + 1] for column in rows]
        value, row_state, _, row_moments = run(one, loss, row_state, row_moments)
        one_by_one.append(value[0])
    assert scored.tolist() == one_by_one
    assert (state.tolist(), moments.tolist()) == (row_state.tolist(), row_moments.tolist())


def test_huge_losses_keep_the_weight_inside_the_share():
    rows = [np.array(column, np.float32) for column in ([1e15], [0.0], [0.0], [1e9])]
    _, state, _, _ = run(rows, kernels.SQUARED_ERROR)
    assert state[kernels.FAST_WEIGHT] == pytest.approx(1 - RATES[1] / 2)
