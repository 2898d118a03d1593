"""Trends against sums over all events, for any split and order of calls."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import Trends, _trends

HALF_LIVES, PERIOD = (0.5, 3.0, np.inf), 43_200.0
seeds = st.integers(0, 10_000)


def draw(rng, n, n_items=5, n_periods=12):
    """Draw items and times in any order."""
    return rng.integers(n_items, size=n), rng.integers(n_periods * 8, size=n) * PERIOD / 8


def trends_of(*parts, n_items=5):
    trends = Trends(HALF_LIVES, PERIOD)
    for items, times in parts:
        trends = trends.after(items, times, n_items)
    return trends


def by_hand(items, times, query_time, n_items):
    """Compute log-shares (n_half_lives, n_items) at the start of the period of one time."""
    begin = np.floor(query_time / PERIOD) * PERIOD
    ends = (np.floor(times / PERIOD) + 1) * PERIOD
    past = ends <= begin
    shares = np.full(n_items + 1, 0.01)
    for half_life in HALF_LIVES[::-1]:
        weight = 0.5 ** ((begin - ends[past]) / 86_400 / half_life)
        counts = np.zeros(n_items + 1)  # the last is never taken
        for item, w in zip(items[past], weight, strict=True):
            counts[item] += w
        shares = (counts + 100 * shares) / (counts.sum() + 100)
        yield np.log(100 * shares)


@given(seeds, st.integers(0, 80))
@settings(deadline=None)
def test_shares_are_sums_over_the_events_of_earlier_periods(seed, n):
    rng = np.random.default_rng(seed)
    items, times = draw(rng, n)
    query_time = rng.uniform(-PERIOD, 20 * PERIOD, 7)
    places, shares = trends_of((items, times)).known_at(query_time, 5)
    for place, time in zip(places, query_time, strict=True):
        expected = list(by_hand(items, times, time, 5))[::-1]
        np.testing.assert_allclose(shares[place], expected, rtol=1e-5, atol=1e-6)


@given(seeds)
@settings(deadline=None)
def test_shares_do_not_depend_on_calls_and_order(seed):
    rng = np.random.default_rng(seed)
    items, times = draw(rng, 60)
    query_time = np.arange(-1, 15) * PERIOD
    places, expected = trends_of((items, times)).known_at(query_time, 5)
    order, trends = rng.permutation(60), trends_of()
    for rows in np.array_split(order, 7):
        trends = trends.after(items[rows], times[rows], 5)
        trends.known_at(rng.choice(query_time, rng.integers(1, 4)), 5)  # whatever is kept of it
    again = trends.known_at(query_time, 5)
    assert (again[0] == places).all()
    assert again[1].tobytes() == expected.tobytes()
    one_by_one = np.stack(
        [trends.known_at(query_time[row : row + 1], 5)[1][0] for row in range(16)]
    )
    assert one_by_one[np.argsort(np.argsort(query_time))].tobytes() == expected[places].tobytes()


def test_shares_use_events_of_earlier_periods_only():
    rng = np.random.default_rng(0)
    items, times = draw(rng, 200)
    query_time = np.array([5.5 * PERIOD])
    before = trends_of((items, times)).known_at(query_time, 5)[1]
    other = items.copy()
    other[times >= 5 * PERIOD] = 0
    assert trends_of((other, times)).known_at(query_time, 5)[1].tobytes() == before.tobytes()
    first = np.flatnonzero(times < 5 * PERIOD)[0]
    other[first] = (other[first] + 1) % 5
    assert trends_of((other, times)).known_at(query_time, 5)[1].tobytes() != before.tobytes()


def test_trends_are_immutable():
    rng = np.random.default_rng(0)
    one, two = draw(rng, 40), draw(rng, 40)
    trends = trends_of(one)
    query_time = np.arange(14) * PERIOD
    before, stored = trends.known_at(query_time, 5)[1], pickle.dumps(trends)
    grown = trends.after(two[0] + 3, two[1], 8)
    assert grown.known_at(query_time, 8)[1].shape == (14, 3, 9)
    assert trends.known_at(query_time, 5)[1].tobytes() == before.tobytes()
    assert pickle.dumps(trends) == stored
    assert trends.after(two[0][:0], two[1][:0], 5) is trends
    assert Trends([], PERIOD).after(*one, 5).known_at(query_time, 5)[1].shape == (14, 0, 6)


def test_new_items_have_no_events():
    trends = trends_of((np.array([0, 0, 1]), np.zeros(3)), n_items=2)
    shares = trends.known_at(np.array([PERIOD]), 4)[1][0]
    assert (shares[:, 2:4] == shares[:, 4:]).all(), "as one of which nothing is known"
    assert (shares[:, 0] > shares[:, 1]).all()
    assert (shares[:, 1] > shares[:, 2]).all()
    more = trends.known_at(np.array([PERIOD]), 7)[1][0]
    assert (more[:, :4] == shares[:, :4]).all(), "later items change nothing"


@pytest.mark.parametrize("in_pieces", [False, True])
def test_old_periods_are_summed(monkeypatch, in_pieces):
    monkeypatch.setattr(_trends, "_N_PERIODS", 3)
    rng = np.random.default_rng(0)
    items = rng.integers(5, size=300)
    times = np.sort(rng.uniform(0, 10 * PERIOD, 300))
    parts = np.array_split(np.arange(300), 9 if in_pieces else 1)
    trends = trends_of(*((items[rows], times[rows]) for rows in parts))
    assert len(trends._counts) == 3
    query_time = np.array([7.5, 8.5, 9.5, 12.5]) * PERIOD
    _, shares = trends.known_at(query_time, 5)
    for row, time in enumerate(query_time):
        expected = list(by_hand(items, times, time, 5))[::-1]
        np.testing.assert_allclose(shares[row], expected, rtol=1e-5, atol=1e-6)
    assert (trends.known_at(np.array([3 * PERIOD]), 5)[1] == 0).all(), "forgotten, not guessed"
    late = trends.after(np.zeros(50, int), np.zeros(50), 5)
    assert (late.known_at(query_time[:1], 5)[1] == shares[:1]).all()
    assert (late.known_at(query_time[1:], 5)[1][:, :, 0] > shares[1:, :, 0]).all()
