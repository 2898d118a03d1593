"""Counts of first events against a loop over events."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_recft.models._first_events import FirstEvents

RNG = np.random.default_rng(0)
ITEMS, TIMES = RNG.integers(0, 60, 400), np.sort(RNG.uniform(0, 1000, 400))


def share_by_hand(items, times, period, n_periods=64):
    """Count, event by event, those of items that had none before."""
    newest, seen, first, total = int(times[-1] // period), set(), 0, 0
    for item, time in zip(items.tolist(), times.tolist(), strict=True):
        inside = int(time // period) > newest - n_periods
        total += inside
        first += inside and item not in seen
        seen.add(item)
    return first / total


@pytest.mark.parametrize("period", [1.0, 7.5])
@pytest.mark.parametrize("cuts", [[], [1, 150, 390]])
def test_counts_equal_a_loop_for_any_split_into_calls(period, cuts):
    counts, before = FirstEvents(), np.zeros(60)
    for rows in np.split(np.arange(400), cuts):
        mixed = RNG.permutation(rows)  # the order of rows within a call does not matter
        counts = counts.after(ITEMS[mixed], TIMES[mixed], before, period)
        before = before + np.bincount(ITEMS[rows], minlength=60)
    assert counts.share == share_by_hand(ITEMS, TIMES, period)
    other = FirstEvents()
    other.load_state(counts.state())
    assert other.share == counts.share
    assert counts.after(ITEMS[:0], TIMES[:0], before, period) is counts


def test_an_object_never_changes():
    counts = FirstEvents().after(ITEMS[:5], TIMES[:5], np.zeros(60), 1.0)
    kept = counts.n_events.copy()
    counts.after(ITEMS, TIMES, np.zeros(60), 1.0)
    assert_array_equal(counts.n_events, kept)
    assert FirstEvents().share == 0.0
