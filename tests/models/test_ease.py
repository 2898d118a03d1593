"""The inverse that EASE takes in place."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.models._ease import _inverse


@pytest.mark.parametrize("size", [1, 2, 511, 512, 1025])
def test_inverse_takes_the_lower_triangle_and_gives_both(size):
    root = np.random.default_rng(0).normal(size=(size, 20))
    matrix = root @ root.T + 5 * np.eye(size)
    lower = np.tril(matrix) + np.triu(np.full_like(matrix, 77), 1)
    inverse = _inverse(lower)
    assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-8, atol=1e-12)
    assert_array_equal(inverse, inverse.T)


def test_what_cannot_be_inverted_is_told():
    with pytest.raises(ValueError, match="numerically singular; raise reg"):
        _inverse(np.array([[1.0, 0], [2, 1]]))
