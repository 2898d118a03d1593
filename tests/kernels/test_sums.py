"""Sums by key against dicts and plain loops."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft import kernels
from sklearn_recft.preprocessing._sums import Sums

DAY = 86_400.0


def test_every_key_is_found_again():
    rng = np.random.default_rng(0)
    wanted = rng.integers(0, 2**62, 500)[rng.integers(0, 500, 3000)]
    wanted[::7] = -1
    sums, index = Sums(1), {}
    places = [-1 if key < 0 else index.setdefault(key, len(index)) for key in wanted.tolist()]
    ones = np.ones((3000, 1))
    sums.update(wanted, np.arange(3000.0), ones, ones[:, 0] > 0)
    assert sums.n_keys == len(index)
    found = sums.transform(wanted, np.full(3000, 1e9))[:, 2]
    assert_array_equal(
        found, np.where(wanted < 0, 0, np.bincount(np.array(places) + 1)[1:][places])
    )
    assert not sums.transform(rng.integers(0, 2**62, 500), np.full(500, 1e9))[:, 2:].any()


@pytest.mark.parametrize("cut", [0, 25, 50])
def test_sums_of_strictly_earlier_rows(cut):
    rng = np.random.default_rng(cut)
    n, half_lives = 50, (0.5, 3.0)
    keys, times = rng.integers(0, 4, n), np.sort(rng.integers(0, 12, n)) * DAY / 4
    values, counted = rng.normal(size=(n, 2)), rng.random(n) < 0.8
    sums = Sums(2, half_lives)
    parts = [
        sums.update(keys[rows], times[rows], values[rows], counted[rows])
        for rows in (slice(0, cut), slice(cut, None))
    ]
    found = np.concatenate(parts)
    for row in range(n):
        past = (keys == keys[row]) & (times < times[row]) & counted
        ages = times[row] - times[past]
        weights = [np.ones(past.sum()), *(0.5 ** (ages / DAY / days) for days in half_lives)]
        expected = [min(ages, default=np.inf), max(ages, default=np.inf)]
        expected += [total for w in weights for total in w @ values[past]]
        assert_allclose(found[row], expected, atol=1e-12)


def test_every_pair_of_values_of_a_row():
    lists = [[0, 2], [], [5], [1, -1]], [[7], [3, 4], [1, 2, 3], [0, 1]]
    starts = [np.cumsum([0, *map(len, side)]) for side in lists]
    values = [np.array([v for row in side for v in row]) for side in lists]
    made = np.cumsum([0, *(len(a) * len(b) for a, b in zip(*lists, strict=True))])
    out = np.empty(made[-1], np.int64)
    kernels.cross_lists(starts[0], values[0], starts[1], values[1], made, out)
    expected = [
        -1 if a < 0 else a * 2**31 + b
        for first, second in zip(*lists, strict=True)
        for a, b in product(first, second)
    ]
    assert out.tolist() == expected
