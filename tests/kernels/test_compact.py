"""Kernels of compressed rows against the same in numpy, number by number."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import kernels


@pytest.mark.parametrize("width", [1, 3, 16, 64, 70])
def test_int8_products_are_those_of_expanded_rows(width):
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (37, width)).astype(np.int8)
    scales, bias = rng.random(37).astype(np.float32), rng.standard_normal(37).astype(np.float32)
    p, base = rng.standard_normal((3, width)).astype(np.float32), np.float32([0.5, -2, 0])
    out = np.empty((3, 37), np.float32)
    kernels.int8_products(codes, scales, bias, p, base, out)
    slow = p.astype(float) @ (scales[:, None] * codes.astype(float)).T + bias + base[:, None]
    assert_allclose(out, slow, rtol=1e-5, atol=1e-4)


def test_expanded_rows_are_exact():
    codes = np.array([[-127, 0, 127], [1, 2, 3]], np.int8)
    scales = np.float32([0.1, 3])
    out = np.full((2, 5), 9, np.float32)
    kernels.expand_int8(codes, scales, out)
    assert_array_equal(out[:, :3], codes.astype(np.float32) * scales[:, None])
    assert_array_equal(out[:, 3:], 9)


def test_upper_halves_are_numbers():
    numbers = np.float32([[1.0, -2.5], [0.0, 3.140625]])
    halves = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    out = np.zeros((2, 3), np.float32)
    kernels.expand_bfloat16(halves, out.view(np.uint32))
    assert_array_equal(out[:, :2], numbers)
    assert_array_equal(out[:, 2], 0)
