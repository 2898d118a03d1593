"""Decayed counts of baskets: against sums over all events, in chunks, undone, erased."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.history import Habits

DAY, N_USERS, N_ITEMS = 86_400, 20, 15


def make_log(n_rows=1500, seed=0):
    """Users, items and times in order; several events share a time, and some a basket twice."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(0, N_USERS, n_rows), rng.integers(0, N_ITEMS, n_rows)
    return users, items, np.sort(rng.integers(0, 200, n_rows)) * 3600.0


def counted(log, user, item, time, half_life):
    """Sum over the distinct earlier times at which a user took an item."""
    times = {t for u, i, t in zip(*log, strict=True) if (u, i) == (user, item) and t < time}
    decay = 0.0 if half_life is None else 1 / (half_life * DAY)
    return sum(2.0 ** (-(time - then) * decay) for then in times)


def appended(log, size, half_life=3.0):
    """Return habits that learned a log in chunks, and the count before each row."""
    habits, before = Habits(half_life), [np.empty(0, np.float32)]
    for start in range(0, len(log[0]), size):
        chunk = (column[start : start + size] for column in log)
        before.append(habits.append(*chunk, N_USERS, N_ITEMS))
    return habits, np.concatenate(before)


@pytest.mark.parametrize("half_life", [None, 0.5, 3.0])
def test_counts_are_sums_over_earlier_baskets(half_life):
    log = make_log()
    habits, before = appended(log, 100, half_life)
    expected = [counted(log, *row, half_life) for row in zip(*log, strict=True)]
    assert_allclose(before, expected, rtol=1e-5, atol=1e-6)
    pairs = np.array([(u, i) for u in range(N_USERS) for i in range(N_ITEMS)])
    late = np.full(len(pairs), 300 * 3600.0)
    now = habits.of_pairs(*pairs.T, late)
    expected = [counted(log, u, i, late[0], half_life) for u, i in pairs]
    assert_allclose(now, expected, rtol=1e-5, atol=1e-6)
    columns = np.array([14, 3, 8])
    users = np.arange(-1, N_USERS)
    indptr, places, counts = habits.of_users(users, late[: len(users)], columns, N_ITEMS)
    table = np.zeros((len(users), 3))
    table[np.repeat(np.arange(len(users)), np.diff(indptr)), places] = counts
    assert_allclose(table[1:], now.reshape(N_USERS, N_ITEMS)[:, columns])
    assert not table[0].any()  # an unknown user


def test_chunks_count_to_the_last_bit_as_one_call():
    log = make_log()
    expected, before = appended(log, len(log[0]))
    for size in (1, 7, 100):  # a basket is cut in two, too
        habits, found = appended(log, size)
        assert_array_equal(found, before)
        assert_array_equal(habits.repeats, expected.repeats)
        assert_array_equal(habits.exposures, expected.exposures)
        assert_array_equal(habits.repeat_weight(), expected.repeat_weight())


def test_repeats_and_exposures_are_sums_over_baskets():
    log = make_log(400)
    habits, before = appended(log, 50)
    users, _, times = log
    taken = {(u, i, t): b for u, i, t, b in zip(*log, before, strict=True)}
    repeats = np.bincount([i for (_, i, _), b in taken.items() if b > 0], minlength=N_ITEMS)
    assert_array_equal(habits.repeats, repeats)
    exposures = np.zeros(N_ITEMS)
    for user, time in set(zip(users, times, strict=True)):
        exposures += [counted(log, user, item, time, 3.0) for item in range(N_ITEMS)]
    assert_allclose(habits.exposures, exposures, rtol=1e-4)
    mean = repeats.sum() / exposures.sum()
    expected = np.sqrt((repeats + 30 * mean) / (exposures + 30))
    assert_allclose(habits.repeat_weight(), expected, rtol=1e-4)


def test_late_events_count_as_if_they_had_come_in_time():
    users, items, times = make_log(600)
    order = np.random.default_rng(1).permutation(600)
    distinct = np.unique(np.stack([users, items, times]), axis=1, return_index=True)[1]
    order = order[np.isin(order, distinct)]
    mixed, _ = appended((users[order], items[order], times[order]), 20)
    habits, _ = appended((users, items, times), 600)
    late = np.full(600, 1e6)
    assert_allclose(
        mixed.of_pairs(users, items, late), habits.of_pairs(users, items, late), rtol=1e-4
    )


def test_what_is_undone_leaves_no_trace():
    log = make_log()
    for n_kept in (0, 700, 1400):  # with and without new tables
        habits, _ = appended([column[:n_kept] for column in log], 100)
        expected = copy.deepcopy(habits).state()
        rest = [column[n_kept:] for column in log]
        mark = habits.mark(rest[0], rest[1])
        learned = habits.append(*rest, N_USERS, N_ITEMS)
        habits.restore(mark)
        for name, value in habits.state().items():
            assert_array_equal(value, expected[name], err_msg=name)
        assert_array_equal(habits.append(*rest, N_USERS, N_ITEMS), learned)


def test_erased_users_are_gone_and_the_others_move_up():
    log = make_log()
    habits, _ = appended(log, 300)
    gone, late = np.array([3, 7]), np.full(N_ITEMS, 1e6)
    left = np.setdiff1d(np.arange(N_USERS), gone)
    items = np.arange(N_ITEMS)
    before = [habits.of_pairs(np.full(N_ITEMS, user), items, late) for user in left]
    habits.forget(gone)
    after = [habits.of_pairs(np.full(N_ITEMS, user), items, late) for user in range(len(left))]
    assert_array_equal(after, before)
    assert len(habits.state()["basket"]) == N_USERS - 2


def test_a_pickle_counts_on_to_the_last_bit():
    log = make_log()
    habits, _ = appended([column[:900] for column in log], 90)
    other, rest = pickle.loads(pickle.dumps(habits)), [column[900:] for column in log]
    assert_array_equal(
        other.append(*rest, N_USERS, N_ITEMS), habits.append(*rest, N_USERS, N_ITEMS)
    )


def test_codes_are_found_whatever_their_hash():
    users, items = (np.arange(3000) * step % 3001 for step in (7, 1031))
    habits = Habits(None)
    habits.append(users, items, np.zeros(3000), 3001, 3001)
    assert_array_equal(habits.of_pairs(users, items, np.ones(3000)), np.ones(3000))
    assert not habits.of_pairs(users, (items + 1) % 3001, np.ones(3000)).any()
    assert not habits.of_pairs(np.array([-1, 5]), np.array([3, -1]), np.ones(2)).any()


def test_the_last_time_of_a_pair():
    habits = Habits(half_life=None)
    habits.append(np.array([0, 1, 0]), np.array([7, 7, 7]), np.array([5.0, 6.0, 9.0]), 2, 8)
    found = habits.last_times(np.array([1, 0, 0, -1, 0]), np.array([7, 7, 3, 7, -1]))
    assert_array_equal(found, [6, 9, np.nan, np.nan, np.nan])
