"""The in-place inverse of EASE."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import EASERecommender
from sklearn_recft.models._ease import _inverse


@pytest.mark.parametrize("size", [1, 2, 511, 512, 1025])
def test_inverse_takes_the_lower_triangle_and_gives_both(size):
    root = np.random.default_rng(0).normal(size=(size, 20))
    matrix = root @ root.T + 5 * np.eye(size)
    lower = np.tril(matrix) + np.triu(np.full_like(matrix, 77), 1)
    inverse = _inverse(lower)
    assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-8, atol=1e-12)
    assert_array_equal(inverse, inverse.T)


def test_a_singular_matrix_raises():
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite; raise reg"):
        _inverse(np.array([[1.0, 0], [2, 1]]))


def test_a_penalty_lost_in_rounding_is_raised_with_a_warning():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 20, (300, 2))
    y = rng.integers(1, 3, 300) * 1e9
    with pytest.warns(UserWarning, match="reg=5 is lost in rounding"):
        model = EASERecommender(reg=5.0).fit(X, y)
    assert np.isfinite(model.item_weights_).all()
    assert np.isfinite(model.predict(X)).all()
