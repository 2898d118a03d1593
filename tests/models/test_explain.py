"""How contributions are laid out."""

from dataclasses import replace

import numpy as np
from numpy.testing import assert_array_equal

from sklearn_recft.models._explain import Explanation


def test_parts_are_added_sorted_and_padded():
    row = np.array([2, 0, 0, 0, 2, 0])
    item = np.array([5, 1, 4, 1, 3, 2])
    value = np.array([-1.0, 2.0, 5.0, 1.0, 0.0, 5.0])
    found = Explanation.of_parts(3, (row, item, value), {"a": np.array([1.0, 2, 3])})
    assert_array_equal(found.item, [[2, 4, 1], [-1, -1, -1], [5, -1, -1]])  # ties: lower code
    assert_array_equal(found.contribution, [[5, 5, 3], [0, 0, 0], [-1, 0, 0]])
    assert_array_equal(found.score, [14, 2, 2])


def test_rows_without_parts_have_one_empty_place():
    nothing = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found = Explanation.of_parts(2, nothing, {"a": np.ones(2), "b": np.zeros(2)})
    assert_array_equal(found.item, [[-1], [-1]])
    assert_array_equal(found.score, [1, 1])


def test_joined_blocks_have_the_width_of_the_widest():
    row, none = np.array([0, 0]), {"a": np.zeros(1)}
    blocks = [Explanation.of_parts(1, (row[:n], np.arange(n), np.ones(n)), none) for n in (1, 2)]
    paths = [np.full((1, n), "same users", object) for n in (1, 2)]
    blocks = [replace(b, about={"path": p}) for b, p in zip(blocks, paths, strict=True)]
    found = Explanation.joined(blocks)
    assert_array_equal(found.item, [[0, -1], [0, 1]])
    assert found.about["path"].tolist() == [["same users", None], ["same users", "same users"]]


def test_steps_are_changes_of_a_value():
    row, item = np.array([0, 0, 0, 1, 2, 2]), np.array([-1, 4, 1, -1, -1, 4])
    value = np.array([1.0, 3.0, 2.5, 7.0, 0.0, -1.0])
    found = Explanation.of_steps(row, item, value, {"more": np.array([10.0, 20.0, 30.0])})
    assert_array_equal(found.item, [[4, 1], [-1, -1], [4, -1]])
    assert_array_equal(found.contribution, [[2, -0.5], [0, 0], [-1, 0]])
    assert_array_equal(found.terms["base"], [1, 7, 0])
    assert_array_equal(found.score, [12.5, 27, 29])
