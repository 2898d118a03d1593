"""The event history against lists, and its rollback."""

import copy
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import EventHistory

N_USERS = 5
NAMES = ("user", "item", "feedback", "time")
# The first log has room for 64: batches that fit, that fill it and that alone are too large.
sizes = st.lists(st.integers(0, 90), max_size=6)
seeds = st.integers(0, 10_000)
lengths = st.integers(0, 9)


def draw(rng, size, n_users=N_USERS):
    """Draw columns of events with frequent repeats and ties, and times in any order."""
    return (
        rng.integers(0, n_users, size),
        rng.integers(0, 4, size),
        rng.integers(-2, 6, size) / 2,
        rng.integers(0, 9, size) * 0.25 + 1.7e9,
    )


def append(history, batches, n_users=N_USERS):
    for batch in batches:
        history.append(*batch, n_users)


def remembered(history, users):
    users = np.array(users, np.int64)
    found, counts = history.events_of(users)
    assert counts.shape == users.shape
    assert found.user.tolist() == np.repeat(users, counts).tolist()
    assert found.weight.tolist() == [1.0] * len(found)
    assert found.context.shape == (len(found), 0)
    return list(zip(*(getattr(found, name).tolist() for name in NAMES), strict=True))


def brute_force(batches, users, max_history):
    events = [event for batch in batches for event in zip(*map(list, batch), strict=True)]
    return [
        event
        for user in users
        for event in [e for e in events if e[0] == user][::-1][: 2 * max_history][::-1]
    ]


@given(sizes, seeds, lengths)
@settings(deadline=None)
def test_events_are_the_last_ones_of_each_user(sizes, seed, max_history):
    rng = np.random.default_rng(seed)
    history, batches = EventHistory(max_history), []
    for size in sizes:
        batches.append(draw(rng, size))
        append(history, batches[-1:])
        queried = rng.permutation([-1, *range(N_USERS), N_USERS + 50]).tolist()
        assert remembered(history, queried) == brute_force(batches, queried, max_history)
    everyone = list(range(N_USERS))
    for twin in (copy.deepcopy(history), pickle.loads(pickle.dumps(history))):
        assert twin.max_history == max_history
        assert remembered(twin, everyone) == remembered(history, everyone)
        more = draw(rng, 80)
        append(twin, [more])
        assert remembered(history, everyone) == brute_force(batches, everyone, max_history)
        assert remembered(twin, everyone) == brute_force([*batches, more], everyone, max_history)


@given(st.lists(st.integers(0, 200), max_size=8), seeds, lengths)
@settings(deadline=None)
def test_the_state_does_not_depend_on_the_split_into_calls(cuts, seed, max_history):
    columns = draw(np.random.default_rng(seed), 200)
    whole, pieces = EventHistory(max_history), EventHistory(max_history)
    append(whole, [columns])
    append(pieces, zip(*(np.split(column, sorted(cuts)) for column in columns), strict=True))
    names = ("user", "item", "feedback", "time")
    rows, twins = ([each.state()[name] for name in names] for each in (whole, pieces))
    assert [column.dtype for column in rows] == [np.int32, np.int32, np.float32, np.float64]
    for column, twin in zip(rows, twins, strict=True):
        assert column.dtype == twin.dtype
        assert column.tolist() == twin.tolist()


@given(sizes, sizes, seeds, lengths, st.integers(10, 40))
def test_restore_resets_events(before, after, seed, max_history, n_users):
    """After compaction, doubling, and users beyond the table."""
    rng = np.random.default_rng(seed)
    before, after = ([draw(rng, size, 8) for size in each] for each in (before, after))
    history, twin = EventHistory(max_history), EventHistory(max_history)
    for each in (history, twin):
        append(each, before, 8)
        append(each, [draw(rng, 0)], 9)  # the table of users has places to spare
    known = np.concatenate([batch[0] for batch in after] + [np.empty(0, np.int64)])
    new = np.arange(9, n_users)
    mark = history.mark(known)  # who is new needs no mark
    append(history, after, 8)
    history.append(new, new, np.zeros(len(new)), np.zeros(len(new)), n_users)
    history.restore(mark)
    assert history.size == twin.size
    everyone = list(range(50))
    assert remembered(history, everyone) == brute_force(before, everyone, max_history)
    last = draw(rng, 30, 13)
    for each in (history, twin):
        append(each, [*after, last], 13)
    expected = brute_force([*before, *after, last], everyone, max_history)
    assert remembered(history, everyone) == remembered(twin, everyone) == expected


def test_events_of_unknown_users_are_empty():
    history = EventHistory(3)
    assert remembered(history, []) == remembered(history, [-1, 0, 7]) == []
    history.append(np.array([1]), np.array([5]), np.array([1.0]), np.array([9.0]), n_users=3)
    assert remembered(history, [0, 2, 3, -1]) == []
    assert remembered(history, [1, 0, 1]) == [(1, 5, 1.0, 9.0)] * 2


def test_memory_is_bounded_for_active_users():
    rng = np.random.default_rng(0)
    history = EventHistory(4)
    for _ in range(400):
        append(history, [draw(rng, 100)])
    # Of 40,000 events 5 users keep 8 each.
    assert len(remembered(history, range(N_USERS))) == 40
    assert len(history.item) == len(history.previous) <= 4 * 40
    assert len(pickle.dumps(history.state())) < 20 * 40 + 1000


def test_append_rarely_copies_the_log():
    history, logs, copies = EventHistory(10), [], 0
    for j in range(3000):
        # A user who comes back all the time, and users who come but once or twice.
        user = np.array([0 if j % 2 else 1 + j // 4])
        history.append(user, user, np.ones(1), np.full(1, float(j)), n_users=1000)
        copies += not (logs and logs[-1] is history.item)
        logs = [history.item]
    assert copies < 30
    assert len(remembered(history, [0])) == 20
