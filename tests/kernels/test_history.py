"""Compiled reads of users' past events against lists, and against windows of a log."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sklearn_recft import kernels
from sklearn_recft.history import EventHistory, log_windows

N_USERS, START = 4, 1.7e9
sizes = st.lists(st.integers(0, 90), max_size=6)
seeds = st.integers(0, 10_000)
spans = st.sampled_from([3, 40, 10**6])  # quarters of a second: ties are the rule, or rare


def draw(rng, size, span):
    return (
        rng.integers(0, N_USERS, size),
        rng.integers(0, 6, size),
        rng.integers(-2, 6, size) / 2,
        START + rng.integers(0, span, size) / 4,
    )


def in_order(columns):
    """Sort the rows of a log by time; the sort is stable."""
    order = np.argsort(columns[3], kind="stable")
    return tuple(column[order] for column in columns)


def gather(history, users, times):
    """Return the events of each row as tuples, and check the padding."""
    length = history.max_history
    items = np.full((len(users), length), 77, np.int32)
    feedback, age = np.full((2, len(users), length), np.nan, np.float32)
    counts = kernels.gather_past(users, times, *history.log, length, items, feedback, age)
    assert counts.shape == (len(users),)
    found = []
    for row, count in enumerate(counts.tolist()):
        assert (items[row, count:] == -1).all()
        assert (feedback[row, count:] == 0).all()
        assert (age[row, count:] == 0).all()
        assert (age[row, :count] > 0).all()
        assert (np.diff(age[row, :count]) >= 0).all()
        columns = (each[row, :count].tolist() for each in (items, feedback, age))
        found.append(list(zip(*columns, strict=True)))
    return found


def brute_force(log, user, now, max_history):
    """Return the user's last arrivals before now, by time and then arrival, newest first."""
    arrivals = [event for event in zip(*(c.tolist() for c in log), strict=True) if event[0] == user]
    window = arrivals[::-1][: 2 * max_history]
    past = sorted((e for e in window if e[3] < now), key=lambda e: -e[3])[:max_history]
    return [(item, y, float(np.float32((now - time) / 86_400))) for _, item, y, time in past]


@given(sizes, seeds, spans, st.booleans(), st.integers(0, 7))
def test_past_is_the_users_last_events_strictly_earlier(sizes, seed, span, ordered, max_history):
    rng = np.random.default_rng(seed)
    log = draw(rng, sum(sizes), span)
    log = in_order(log) if ordered else log
    history, cuts = EventHistory(max_history), np.cumsum([0, *sizes])
    users = rng.integers(-1, N_USERS + 2, 12)  # unknown users, and users beyond the table
    times = START + rng.integers(-1, span + 2, 12) / 4
    for begin, end in pairwise(cuts):
        history.append(*(column[begin:end] for column in log), N_USERS)
        known = tuple(column[:end] for column in log)
        expected = [
            brute_force(known, user, now, max_history)
            for user, now in zip(users.tolist(), times.tolist(), strict=True)
        ]
        assert gather(history, users, times) == expected


def window_of(log, user, now, max_history):
    """Return the events before a query that is the last row of the log, newest first."""
    users, times = np.r_[log[0], user], np.r_[log[3], now]
    order, start, stop = log_windows(users, times, max_history)
    past = order[start[-1] : stop[-1]][::-1]
    ages = ((now - times[past]) / 86_400).astype(np.float32)
    return list(zip(log[1][past].tolist(), log[2][past].tolist(), ages.tolist(), strict=True))


@given(st.integers(0, 150), seeds, spans, st.integers(1, 7))
def test_serving_and_training_see_the_same_events(size, seed, span, max_history):
    """For a log in time order, and queries that skip at most ``max_history`` newer events."""
    rng = np.random.default_rng(seed)
    log = in_order(draw(rng, size, span))
    history = EventHistory(max_history)
    for piece in zip(*(np.array_split(column, 5) for column in log), strict=True):
        history.append(*piece, N_USERS)
    users = rng.integers(-1, N_USERS, 10)
    newest = max(log[3], default=START)
    times = newest + rng.integers(-2, 3, 10) / 4
    passed = [((log[0] == u) & (log[3] >= now)).sum() for u, now in zip(users, times, strict=True)]
    few = np.array(passed) <= max_history
    assume(few.any())
    expected = [
        window_of(log, user, now, max_history)
        for user, now in zip(users[few], times[few], strict=True)
    ]
    assert gather(history, users[few], times[few]) == expected


@given(st.integers(0, 60), seeds, spans)
@settings(deadline=None)
def test_serving_and_training_see_the_same_events_in_any_order(size, seed, span):
    """For out-of-order events of users whose whole history is stored."""
    rng = np.random.default_rng(seed)
    log = draw(rng, size, span)
    max_history = max(1, -(-np.bincount(log[0], minlength=1).max() // 2))
    history = EventHistory(max_history)
    history.append(*log, N_USERS)
    users, times = rng.integers(-1, N_USERS, 10), START + rng.integers(0, span + 2, 10) / 4
    expected = [
        window_of(log, user, now, max_history) for user, now in zip(users, times, strict=True)
    ]
    assert gather(history, users, times) == expected


@pytest.mark.parametrize(("n_ties", "n_found"), [(0, 3), (2, 3), (3, 3), (4, 2), (5, 1), (6, 0)])
def test_events_at_the_query_time_are_skipped(n_ties, n_found):
    """Up to ``max_history`` ties are free; each further tie costs one event."""
    times = np.r_[START + np.arange(9.0), np.full(n_ties, START + 20)]
    history, users = EventHistory(3), np.zeros(len(times), np.int64)
    history.append(users, np.arange(len(times)), np.ones(len(times)), times, n_users=1)
    (found,) = gather(history, np.array([0]), np.array([START + 20]))
    assert [item for item, _, _ in found] == [8, 7, 6][:n_found]


def test_no_later_event_changes_what_is_found():
    """At most ``max_history`` events at or after the query time have no effect."""
    rng = np.random.default_rng(0)
    log = in_order(draw(rng, 40, 100))
    history, queried = EventHistory(6), np.arange(N_USERS)
    history.append(*log, N_USERS)
    times = np.full(N_USERS, log[3][-1] + 0.25)
    before = gather(history, queried, times)
    assert all(len(each) == 6 for each in before)
    for later in (0.0, 0.25, 1e6):
        history.append(queried, queried, np.ones(N_USERS), times + later, N_USERS)
        assert gather(history, queried, times) == before


# --------------------------------------------------------------- which events a query sees


def known_by_hand(events, item, now):
    """Count the events of a user, in order, before a query for ``item``."""
    count = 0
    for its_item, _, then in events:
        if then > now or (then == now and its_item == item):
            break
        count += 1
    return count


@given(st.integers(0, 80), seeds, spans)
def test_a_query_sees_the_events_before_it(size, seed, span):
    """All events before its time, and events at its time up to its own item."""
    rng = np.random.default_rng(seed)
    users, items, feedback, times = draw(rng, size, span)
    order = np.lexsort((times, users))
    users, items, feedback, times = (c[order] for c in (users, items, feedback, times))
    start = np.searchsorted(users, np.arange(N_USERS))
    stop = np.searchsorted(users, np.arange(N_USERS), side="right")
    owners, queried = rng.integers(0, N_USERS, 20), rng.integers(-1, 6, 20)
    now = START + rng.integers(-1, span + 1, 20) / 4
    if size:  # half of the queries are events of the log
        rows = rng.integers(0, size, 10)
        owners[:10], queried[:10], now[:10] = users[rows], items[rows], times[rows]
    out = np.full(20, 77)
    kernels.count_past(owners, now, queried, start, stop, items, times, out)
    log = list(zip(items.tolist(), feedback.tolist(), times.tolist(), strict=True))
    assert out.tolist() == [
        known_by_hand(log[start[u] : stop[u]], item, t)
        for u, item, t in zip(owners.tolist(), queried.tolist(), now.tolist(), strict=True)
    ]


@pytest.mark.parametrize(("item", "n_known"), [(5, 1), (7, 2), (9, 4), (8, 5), (-1, 5)])
def test_events_at_one_time_are_seen_in_log_order(item, n_known):
    """A query for an item of a basket sees the items before it in the basket."""
    items, times = np.array([9, 5, 7, 5, 9, 8]), START + np.array([0.0, 1, 1, 1, 1, 2])
    out, nobody = np.zeros(1, np.int64), np.zeros(1, np.int64)
    now = np.array([START + 1])
    kernels.count_past(nobody, now, np.array([item]), nobody, np.array([6]), items, times, out)
    assert out.tolist() == [n_known]


@given(sizes, seeds, st.integers(1, 5), st.integers(0, 12))
@settings(deadline=None, max_examples=50)
def test_the_latest_events_are_the_last_to_arrive(sizes, seed, max_history, limit):
    rng, history = np.random.default_rng(seed), EventHistory(max_history)
    log = draw(rng, sum(sizes), 40)
    for begin, end in pairwise(np.cumsum([0, *sizes])):
        history.append(*(column[begin:end] for column in log), N_USERS)
    users = rng.permutation(np.r_[-1, np.arange(N_USERS + 2)])
    last, previous, item, feedback, time = history.log
    counts, limit = np.full(len(users), 77), min(limit, 2 * max_history)
    kernels.latest_events(users, last, previous, limit, counts, np.empty(0, np.int64))
    expected = [np.flatnonzero(log[0] == user)[max(0, (log[0] == user).sum() - limit) :]
                for user in users]  # fmt: skip
    assert counts.tolist() == [len(rows) for rows in expected]
    again, places = np.full(len(users), 77), np.full(counts.sum(), -7)
    kernels.latest_events(users, last, previous, limit, again, places)
    assert again.tolist() == counts.tolist()
    rows = np.concatenate(expected)
    for found, column in zip((item, feedback, time), log[1:], strict=True):
        assert found[places].tolist() == column[rows].tolist()
    if limit == 2 * max_history:
        remembered, sizes = history.events_of(users)
        assert sizes.tolist() == counts.tolist()
        for name, found in (("item", item), ("feedback", feedback), ("time", time)):
            assert getattr(remembered, name).tolist() == found[places].tolist()
