"""Seen items against sets, and their rollback."""

import copy
import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft.history import SeenItems

# Few users and items, so that repeats are the rule; batches that fill the first log of 64.
pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), max_size=90)
logs = st.lists(pairs, max_size=6)


def columns(batch):
    return np.array(batch, np.int64).reshape(-1, 2).T


def append(seen, batch, n_users=10):
    users, items = columns(batch)
    seen.append(users, items, n_users)


def as_sets(seen, n_users=14):
    return [seen.items_of(user).tolist() for user in range(n_users)]


def brute_force(batches, n_users=14):
    met = [set() for _ in range(n_users)]
    for batch in batches:
        for user, item in batch:
            met[user].add(item)
    return [sorted(items) for items in met]


@given(logs)
@settings(deadline=None)
def test_seen_items_are_the_set_of_each_user(batches):
    seen = SeenItems()
    for j, batch in enumerate(batches):
        append(seen, batch)
        assert as_sets(seen) == brute_force(batches[: j + 1])
    for twin in (copy.deepcopy(seen), pickle.loads(pickle.dumps(seen))):
        assert as_sets(twin) == as_sets(seen)
        append(twin, [(3, 77)])
        assert as_sets(seen) == brute_force(batches)
        assert 77 in twin.items_of(3)


@given(logs, logs, st.integers(10, 40))
def test_restore_resets_seen_items(before, after, n_users):
    """After compaction, doubling, and users beyond the table."""
    seen, twin = SeenItems(), SeenItems()
    for batch in before:
        append(seen, batch)
        append(twin, batch)
    users = np.concatenate([columns(batch)[0] for batch in after] + [np.empty(0, np.int64)])
    new = np.arange(10, n_users)
    mark = seen.mark(np.concatenate([users, new]))
    for batch in after:
        append(seen, batch)
    seen.append(new, np.zeros(len(new), np.int64), n_users)
    seen.restore(mark)
    assert seen.size == twin.size
    assert as_sets(seen, 50) == as_sets(twin, 50) == brute_force(before, 50)
    for batch in [*after, [(12, 5), (12, 6)]]:
        append(seen, batch, 13)
    assert as_sets(seen) == brute_force([*before, *after, [(12, 5), (12, 6)]])


def test_seen_items_of_unknown_users_are_empty():
    seen = SeenItems()
    assert seen.items_of(0).tolist() == []
    seen.append(np.array([1]), np.array([5]), n_users=2)
    assert seen.items_of(0).tolist() == seen.items_of(1000).tolist() == []


def test_repeated_pairs_do_not_fill_memory():
    rng = np.random.default_rng(0)
    seen = SeenItems()
    for _ in range(400):
        seen.append(rng.integers(0, 20, 100), rng.integers(0, 10, 100), n_users=20)
    # 200 distinct pairs; 40,000 events.
    assert as_sets(seen, 20) == [list(range(10))] * 20
    assert len(seen.item) == len(seen.previous) <= 512
    assert len(pickle.dumps(seen.state())) < 8 * 512 + 1000


def test_append_rarely_copies_the_seen_items():
    seen, logs = SeenItems(), set()
    for j in range(2000):
        seen.append(np.array([j % 7]), np.array([j]), n_users=7)
        logs.add(id(seen.item))
    assert seen.size == 2000
    assert len(logs) < 20
    assert seen.items_of(3).tolist() == list(range(3, 2000, 7))
