"""The reservoir sample against lists, and its rollback."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import Reservoir


class FirstOfAll:
    """Generator stub that always draws the highest number."""

    def integers(self, low, high):
        return np.asarray(high) - 1


def offer(sample, values, rng):
    slots = sample.slots(len(values), rng)
    sample.put(slots, {"item": np.array(values), "pair": np.array(values)[:, None] * [1, -1]})


@given(st.integers(0, 12), st.lists(st.integers(0, 15), max_size=6), st.integers(0, 99))
@settings(deadline=None)
def test_reservoir_is_algorithm_r(capacity, sizes, seed):
    sample, kept, offered = Reservoir(capacity), [], 0
    rng = np.random.default_rng(seed)
    for size in sizes:
        slots = sample.slots(size, rng)
        assert slots.shape == (size,)
        values = np.arange(offered, offered + size)
        for value, slot in zip(values.tolist(), slots.tolist(), strict=True):
            assert 0 <= slot <= value
            if value < capacity:
                assert slot == value
                kept.append(value)
            elif slot < capacity:
                kept[slot] = value
        sample.put(slots, {"item": values, "pair": values[:, None] * [1, -1]})
        offered += size
        assert sample.n_offered == offered
        assert len(sample) == len(kept) == min(offered, capacity)
        if kept:
            rows = sample.take(np.arange(len(kept)))
            assert rows["item"].tolist() == kept
            assert rows["pair"].tolist() == [[value, -value] for value in kept]
            drawn = sample.draw(40, rng)
            assert set(drawn["item"].tolist()) <= set(kept)
            np.testing.assert_array_equal(drawn["pair"][:, 0], drawn["item"])


def test_reservoir_keeps_every_row_with_equal_probability():
    """Chi-squared test over arrival positions, for batches of every size."""
    runs, offered, capacity = 4000, 60, 15
    rng, hits = np.random.default_rng(0), np.zeros(offered)
    for _ in range(runs):
        sample = Reservoir(capacity)
        for piece in np.split(np.arange(offered), [1, 4, 20, 21, 50]):
            offer(sample, piece, rng)
        hits[sample.take(np.arange(capacity))["item"]] += 1
    chance = capacity / offered
    z = (hits - runs * chance) / np.sqrt(runs * chance * (1 - chance))
    # Draws without replacement: the sum of squares has mean 60 and about 59 degrees of freedom.
    assert 30 < (z**2).sum() < 100
    assert np.abs(z).max() < 4


def test_reservoir_draws_uniformly_with_replacement():
    sample, rng = Reservoir(8), np.random.default_rng(0)
    offer(sample, np.arange(5), rng)
    counts = np.bincount(sample.draw(10_000, rng)["item"], minlength=8)
    assert counts[5:].tolist() == [0, 0, 0]
    assert np.abs(counts[:5] - 2000).max() < 200


@given(st.integers(0, 12), st.integers(0, 20), st.integers(0, 30), st.integers(0, 99))
@settings(deadline=None)
def test_restore_resets_the_reservoir(capacity, first, second, seed):
    rng = np.random.default_rng(seed)
    sample, twin = Reservoir(capacity), Reservoir(capacity)
    slots = sample.slots(first, rng)
    for each in (sample, twin):
        each.put(slots, {"item": np.arange(first)})
    slots = sample.slots(second, rng)
    mark = sample.mark(slots)
    sample.put(slots, {"item": np.arange(100, 100 + second)})
    sample.restore(mark)
    assert len(sample) == len(twin)
    assert sample.n_offered == twin.n_offered
    places = np.arange(len(twin))
    for name in twin.rows:
        assert sample.take(places)[name].tolist() == twin.take(places)[name].tolist()
    assert set(sample.rows) == set(twin.rows)


def test_a_reservoir_of_capacity_zero_stores_nothing():
    sample, rng = Reservoir(0), np.random.default_rng(0)
    offer(sample, np.arange(50), rng)
    assert len(sample) == 0
    assert sample.rows == {}
    assert sample.n_offered == 50


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_reservoir_memory_is_bounded(batch):
    sample, rng = Reservoir(100), np.random.default_rng(0)
    offer(sample, np.arange(1000), rng)
    tracemalloc.start()
    for _ in range(200):
        offer(sample, np.zeros(batch, np.int64), rng)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 20_000
    assert [len(column) for column in sample.rows.values()] == [100, 100]


def test_reservoir_storage_grows_with_the_rows():
    sample = Reservoir(10**9)
    offer(sample, np.arange(3), FirstOfAll())
    assert len(sample.rows["item"]) < 10
