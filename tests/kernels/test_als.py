"""Compiled alternating least squares against solved normal equations."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from sklearn_recft import kernels

N_ROWS, N_OTHERS = 14, 40


@pytest.fixture(scope="module")
def values():
    """Make a sparse matrix with positive, negative and zero values, and one empty row."""
    rng = np.random.default_rng(0)
    shape = N_ROWS, N_OTHERS
    dense = rng.choice([-3, -0.5, 99, 0.7, 1, 1, 8], shape) * (rng.random(shape) < 0.3)
    dense[5] = 0
    matrix = csr_array(dense.astype(np.float32))
    matrix.data[matrix.data == 99] = 0  # an event whose feedback is 0
    return matrix


def factors_of(n, n_factors, seed):
    return np.random.default_rng(seed).normal(0, 0.4, (n, n_factors)).astype(np.float32)


def move(values, others, factors, *, rows=None, reg=0.5, n_steps, first=0, last=None):
    """Return the factors after `als_rows` has updated ``rows``."""
    rows = np.arange(len(factors)) if rows is None else np.asarray(rows)
    matrix, moved = values[rows], factors.copy()
    kernels.als_rows(
        first, len(rows) if last is None else last, rows, matrix.indptr, matrix.indices,
        matrix.data, others.T @ others, np.float32(reg), n_steps, others, moved,
    )  # fmt: skip
    return moved


def equations(row, others, reg):
    """Build the matrix and right-hand side of weighted least squares over all others."""
    confidence, target = 1 + np.abs(row.astype(float)), (row > 0).astype(float)
    others = others.astype(float)
    matrix = others.T @ (confidence[:, None] * others) + reg * np.eye(others.shape[1])
    return matrix, others.T @ (confidence * target)


def solve(values, others, reg=0.5):
    return np.stack([np.linalg.solve(*equations(r, others, reg)) for r in values.toarray()])


def loss(row, p, others, reg=0.5):
    confidence, target = 1 + np.abs(row.astype(float)), row > 0
    return confidence @ (target - others.astype(float) @ p) ** 2 + reg * (p.astype(float) @ p)


@pytest.mark.parametrize("n_factors", [1, 3, 16])
@pytest.mark.parametrize("reg", [0.01, 0.5, 30])
@pytest.mark.parametrize("start", [0, 1])
def test_as_many_steps_as_factors_solve_the_equations(values, n_factors, reg, start):
    others, p = factors_of(N_OTHERS, n_factors, 1), start * factors_of(N_ROWS, n_factors, 2)
    moved = move(values, others, p, reg=reg, n_steps=2 * n_factors)
    assert_allclose(moved, solve(values, others, reg), rtol=1e-4, atol=2e-5)


def test_only_the_given_rows_change(values):
    others, p = factors_of(N_OTHERS, 6, 1), factors_of(N_ROWS, 6, 2)
    rows = [11, 2, 5, 7]
    moved = move(values, others, p, rows=rows, n_steps=12)
    assert_array_equal(np.delete(moved, rows, axis=0), np.delete(p, rows, axis=0))
    assert_allclose(moved[rows], solve(values[rows], others), rtol=1e-4, atol=2e-5)
    middle = move(values, others, p, rows=rows, n_steps=12, first=1, last=3)
    assert_array_equal(middle[[2, 5]], moved[[2, 5]])
    assert_array_equal(middle[[11, 7]], p[[11, 7]])


def test_a_row_without_positives_shrinks_to_zero(values):
    others, p = factors_of(N_OTHERS, 4, 1), factors_of(N_ROWS, 4, 2)
    row = csr_array(-np.abs(values.toarray()))
    assert_allclose(move(row, others, p, n_steps=8), 0, atol=1e-5)
    assert_array_equal(move(row, others, 0 * p, n_steps=8), 0)


def conjugate_gradients(matrix, right, p, n_steps):
    rest = right - matrix @ p
    direction = rest
    for _ in range(n_steps):
        image = matrix @ direction
        step = rest @ rest / (direction @ image)
        p, newer = p + step * direction, rest - step * image
        direction, rest = newer + newer @ newer / (rest @ rest) * direction, newer
    return p


@pytest.mark.parametrize("n_steps", [1, 2, 3, 5])
def test_each_step_is_one_of_conjugate_gradients(values, n_steps):
    others, p = factors_of(N_OTHERS, 8, 1), factors_of(N_ROWS, 8, 2)
    moved, before = (move(values, others, p, n_steps=n) for n in (n_steps, n_steps - 1))
    for row, new, old, start in zip(values.toarray(), moved, before, p, strict=True):
        expected = conjugate_gradients(*equations(row, others, 0.5), start.astype(float), n_steps)
        assert_allclose(new, expected, rtol=1e-3, atol=1e-4)
        assert loss(row, new, others) <= loss(row, old, others) * (1 + 1e-6)


def test_a_solved_row_does_not_change(values):
    others = factors_of(N_OTHERS, 6, 1)
    solved = solve(values, others).astype(np.float32)
    assert_allclose(move(values, others, solved, n_steps=20), solved, rtol=1e-4, atol=1e-5)


def test_without_steps_nothing_changes(values):
    others, p = factors_of(N_OTHERS, 6, 1), factors_of(N_ROWS, 6, 2)
    assert_array_equal(move(values, others, p, n_steps=0), p)
