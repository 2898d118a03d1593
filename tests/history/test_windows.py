"""Past events and training windows against lists and loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_recft.events import Events
from sklearn_recft.history import (
    EventHistory,
    Past,
    Spans,
    in_order,
    log_windows,
    past_at,
    past_in,
    sequences_of,
    training_windows,
    windows_before,
    windows_of_last,
)
from sklearn_recft.training import LogWindows, SequenceWindows

N_USERS, N_ITEMS, START, DAY = 4, 6, 1.7e9, 86_400.0
seeds = st.integers(0, 10_000)
time_spans = st.sampled_from([3, 40, 10**6])  # ties are the rule, or rare
quick = settings(deadline=None, max_examples=30)


# --------------------------------------------------------------------------- windows of a log


rows = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 6)), max_size=40)


@given(rows, st.integers(0, 5))
def test_windows_hold_the_last_strictly_earlier_events(rows, max_history):
    users, times = np.array(rows, np.int64).reshape(-1, 2).T
    order, start, stop = log_windows(users, times * 0.5, max_history)
    assert order.tolist() == sorted(range(len(rows)), key=lambda row: (rows[row], row))
    assert len(start) == len(stop) == len(rows)
    for row, (user, time) in enumerate(rows):
        past = [j for j in order.tolist() if rows[j][0] == user >= 0 and rows[j][1] < time]
        expected = past[-max_history:] if max_history else []
        assert order[start[row] : stop[row]].tolist() == expected
        assert 0 <= start[row] <= stop[row] <= len(rows)


@pytest.mark.parametrize("later", [[], [5.0, 5, 6], [4.0]], ids=str)
def test_later_rows_do_not_change_a_window(later):
    times = np.array([3.0, 1, 5, 4, 4])
    past = []
    for log in (times, np.r_[times, later]):
        order, start, stop = log_windows(np.zeros(len(log), np.int64), log, 3)
        past.append([order[start[row] : stop[row]].tolist() for row in (0, 1, 3, 4)])
    assert past[0] == past[1] == [[1], [], [1, 0], [1, 0]]


@given(rows, rows, st.integers(0, 5))
@quick
def test_windows_of_queries_hold_the_last_strictly_earlier_events(rows, asked, max_history):
    rows = sorted((user, time) for user, time in rows if user >= 0)
    user, time = np.array(rows, np.int64).reshape(-1, 2).T
    none = np.zeros(len(rows))
    log = Events(user, user, time * 0.5, none, none, np.empty((len(rows), 0)))
    users, times = np.array(asked, np.int64).reshape(-1, 2).T
    spans = windows_before(log, users, times * 0.5, max_history)
    for row, (start, stop) in enumerate(zip(spans.start, spans.stop, strict=True)):
        past = [j for j, (u, t) in enumerate(rows) if u == users[row] and t < times[row]]
        assert list(range(start, stop)) == (past[-max_history:] if max_history else [])


# ------------------------------------------------------------------------------------ the past


def make_log(seed, size, span, *, ordered=False):
    rng = np.random.default_rng(seed)
    times = START + rng.integers(0, span, size) * 7_200.0
    users, items = rng.integers(0, N_USERS, size), rng.integers(0, N_ITEMS, size)
    feedback = rng.normal(size=size).astype(np.float32)
    times = np.sort(times) if ordered else times
    return Events(users, items, times, feedback, np.ones(size), np.empty((size, 0)))


def by_hand(log, user, now, max_history):
    """Return item, feedback and age of a user's events strictly before now, newest first."""
    columns = log.user, log.item, log.feedback, log.time
    events = zip(*(column.tolist() for column in columns), strict=True)
    past = [(t, i, f) for u, i, f, t in events if u == user and t < now]
    past = sorted(past, key=lambda event: event[0])[::-1][:max_history]
    return [(i, f, pytest.approx((now - t) / DAY, rel=1e-6)) for t, i, f in past]


def rows_of(past):
    """Return the events of each row as tuples, and check the padding."""
    found = []
    for items, feedback, age in zip(past.item, past.feedback, past.age, strict=True):
        n = int((items >= 0).sum())
        assert (items[n:] == -1).all()
        assert not feedback[n:].any()
        assert not age[n:].any()
        assert (age[:n] > 0).all()
        columns = (column[:n].tolist() for column in (items, feedback, age))
        found.append(list(zip(*columns, strict=True)))
    return found


@given(st.integers(1, 50), seeds, time_spans, st.integers(1, 6), st.integers(0, 30))
@quick
def test_windows_of_the_last_rows_are_their_past(size, seed, span, max_history, n_known):
    log, n_known = make_log(seed, size, span), min(n_known, size - 1)
    last = log.take(slice(n_known, None))
    ordered, windows = windows_of_last(log, len(last), max_history)
    expected = [by_hand(log, *row, max_history) for row in zip(last.user, last.time, strict=True)]
    past = past_in(ordered, windows, last.time, max_history)
    assert past.item.dtype == np.int64
    assert [column.dtype for column in (past.feedback, past.age)] == [np.float32] * 2
    assert past.item.shape == past.feedback.shape == past.age.shape == (len(last), max_history)
    assert rows_of(past) == expected
    assert windows.size.tolist() == [len(row) for row in expected]


@given(st.integers(1, 50), seeds, time_spans, st.integers(1, 6))
@quick
def test_a_batch_collates_windows_like_past_in(size, seed, span, max_history):
    log = make_log(seed, size, span)
    ordered, windows = windows_of_last(log, size, max_history)
    features = np.ones((size, 2), np.float32)
    given = {"item": log.item, "features": features}
    columns = {**given, "start": windows.start, "stop": windows.stop, "time": log.time}
    past = past_in(ordered, windows, log.time, max_history)
    written = {**given, "past": past.item, "feedback": past.feedback, "age": past.age}
    collate = LogWindows(ordered.item, ordered.feedback, ordered.time)
    chosen = np.random.default_rng(seed).permutation(size)[: 1 + size // 2]
    batch = collate({name: torch.from_numpy(column[chosen]) for name, column in columns.items()})
    assert set(batch) == set(written)
    longest = batch["past"].shape[1]
    assert longest == max(1, int(windows.take(chosen).size.max()))
    for name, column in written.items():
        part = column[chosen]
        if name in ("past", "feedback", "age"):
            assert (part[:, longest:] == (-1 if name == "past" else 0)).all()
            part = part[:, :longest]
        assert batch[name].numpy().tolist() == part.tolist()
        assert batch[name].numpy().dtype == column.dtype


@given(st.integers(0, 50), seeds, time_spans, st.integers(1, 6))
@quick
def test_the_past_of_a_history_equals_that_of_a_log(size, seed, span, max_history):
    """For rows after all stored events; an unknown user has no past."""
    log = make_log(seed, size, span, ordered=True)
    history = EventHistory(max_history)
    history.append(log.user, log.item, log.feedback, log.time, N_USERS)
    users, times = np.arange(-1, N_USERS), np.full(N_USERS + 1, START + span * 7_200.0 + 60)
    found = past_at(history, users, times)
    assert found.item.dtype == np.int64
    assert found.item.shape == (N_USERS + 1, max_history)
    expected = [by_hand(log, *row, max_history) for row in zip(users, times, strict=True)]
    assert rows_of(found) == expected
    n = len(users)
    queries = Events(users, 0 * users, times, np.zeros(n, np.float32), np.ones(n), np.empty((n, 0)))
    ordered, windows = windows_of_last(log.joined(queries), n, max_history)
    written = past_in(ordered, windows, times, max_history)
    assert written.item.tolist() == found.item.tolist()
    assert written.feedback.tolist() == found.feedback.tolist()
    np.testing.assert_allclose(written.age, found.age, rtol=1e-6)


def test_pasts_of_fixed_length_are_padded():
    """The sum of a row is then bitwise equal in any batch."""
    log = make_log(0, 30, 40)
    ordered, windows = windows_of_last(log, 30, 4)
    columns = {"start": windows.start, "stop": windows.stop, "time": log.time}
    past = past_in(ordered, windows, log.time, 4)
    written = {"past": past.item, "feedback": past.feedback, "age": past.age}
    collate = LogWindows(ordered.item, ordered.feedback, ordered.time, longest=4)
    for rows in (slice(None), slice(0, 1), np.flatnonzero(windows.size == 0)):
        batch = {name: torch.from_numpy(column[rows]) for name, column in columns.items()}
        for name, column in collate(batch).items():
            assert column.numpy().tolist() == written[name][rows].tolist()


@given(st.integers(0, 50), seeds, time_spans, st.integers(1, 6))
@quick
def test_a_past_is_cut_to_its_longest_row(size, seed, span, max_history):
    log = make_log(seed, size, span)
    ordered, windows = windows_of_last(log, size, max_history)
    past = past_in(ordered, windows, log.time, max_history)
    shorter = past.shortened()
    assert shorter.item.shape[1] == max(1, int(windows.size.max(initial=0)))
    assert rows_of(shorter) == rows_of(past)
    rows = np.arange(size)[::-2]
    assert rows_of(past.take(rows)) == [rows_of(past)[row] for row in rows]


# ----------------------------------------------------------------------------------- sequences


@given(st.integers(0, 60), seeds, time_spans, st.integers(1, 6))
@quick
def test_sequences_are_of_each_user_in_order_of_time_then_arrival(size, seed, span, max_history):
    log, history = make_log(seed, size, span), EventHistory(max_history)
    history.append(log.user, log.item, log.feedback, log.time, N_USERS)
    users = np.random.default_rng(seed).permutation(np.arange(-1, N_USERS))
    found, spans = sequences_of(history, users)
    assert len(spans) == len(users)
    assert spans.size.sum() == len(found)
    for user, start, stop in zip(users, spans.start, spans.stop, strict=True):
        rows = np.flatnonzero(log.user == user)[-2 * max_history :]
        rows = rows[np.argsort(log.time[rows], kind="stable")]
        own = found.take(slice(start, stop))
        assert (own.user == user).all()
        for name in ("item", "time", "feedback"):
            assert getattr(own, name).tolist() == getattr(log, name)[rows].tolist()


@given(st.integers(0, 60), seeds, time_spans)
@quick
def test_in_order_sorts_by_user_time_and_arrival(size, seed, span):
    log = make_log(seed, size, span)
    rows = sorted(range(size), key=lambda row: (log.user[row], log.time[row], row))
    found = in_order(log)
    for name in ("user", "item", "time", "feedback"):
        assert getattr(found, name).tolist() == getattr(log, name)[rows].tolist()


# ---------------------------------------------------------------------------- training windows


def draw_log(seed, size, weights=(1.0,)):
    """Draw events sorted by user and time; each has its own item."""
    rng = np.random.default_rng(seed)
    users, times = rng.choice([0, 1, 5, 6], size), START + rng.integers(0, 20, size) / 2
    weight = rng.choice(np.array(weights, np.float32), size)
    order = np.lexsort((times, users))
    feedback = rng.normal(size=size).astype(np.float32)
    context = rng.normal(size=(size, 2)).astype(np.float32)
    return Events(users[order], np.arange(size), times[order], feedback, weight[order], context)


def columns_of(log):
    names = ("item", "feedback", "time", "weight", "context")
    return {name: getattr(log, name) for name in names}


def as_batch(windows):
    columns = {"start": windows.start, "size": windows.size}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def windows_by_hand(log, max_history, until):
    """Compute start and length of the windows, from each user's newest event back."""
    found = []
    for user in np.unique(log.user):
        rows = np.flatnonzero((log.user == user) & (log.time <= until)).tolist()
        while len(rows) > 1:
            inputs, targets = rows[-1 - max_history : -1], rows[-max_history:]
            targets = targets[-len(inputs) :]
            if log.weight[targets].any():
                found.append((inputs[0], len(inputs)))
            rows = rows[: -len(inputs)]
    return sorted(found)


@given(seeds, st.integers(0, 60), st.integers(1, 8), st.sampled_from([np.inf, START + 4, 0.0]))
@settings(deadline=None, max_examples=40)
def test_windows_are_cut_from_the_newest_back(seed, size, max_history, until):
    log = draw_log(seed, size, weights=(0.0, 1.0, 2.5))
    found = training_windows(log, max_history, until)
    assert isinstance(found, Spans)
    pairs = sorted(zip(found.start.tolist(), found.size.tolist(), strict=True))
    assert pairs == windows_by_hand(log, max_history, until)


@given(seeds, st.integers(1, 60), st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_each_event_with_a_predecessor_is_a_target_once(seed, size, max_history):
    """In its window, exactly the events right before it precede it."""
    log = draw_log(seed, size)
    cut = as_batch(training_windows(log, max_history))
    first = np.r_[True, log.user[1:] != log.user[:-1]]
    if not len(cut["start"]):
        assert first.all()
        return
    batch = SequenceWindows(columns_of(log))(cut)
    real = batch["weight"] > 0
    assert sorted(batch["target"][real].tolist()) == np.flatnonzero(~first).tolist()
    assert batch["item"].shape == (len(cut["start"]), int(cut["size"].max()))
    assert cut["size"].max() <= max_history
    assert (real.sum(1) == cut["size"]).all()
    # Items are places: inputs ascend by one to the place before the target.
    assert torch.equal(batch["item"][real] + 1, batch["target"][real])
    users = torch.from_numpy(log.user)
    assert (users[batch["item"]] == users[batch["item"][:, :1]]).all()


@given(seeds, st.integers(2, 40), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_windows_collate_the_columns_of_their_events(seed, size, max_history):
    log = draw_log(seed, size, weights=(0.0, 1.0, 2.5))
    cut = training_windows(log, max_history)
    if not len(cut):
        return
    batch = SequenceWindows(columns_of(log))(as_batch(cut))
    for row, (start, n) in enumerate(zip(cut.start, cut.size, strict=True)):
        now, behind = np.s_[start : start + n], np.s_[start + 1 : start + n + 1]
        for name, column, rows in (
            ("item", "item", now),
            ("feedback", "feedback", now),
            ("time", "time", now),
            ("query_times", "time", behind),
            ("target", "item", behind),
            ("weight", "weight", behind),
            ("context", "context", behind),
        ):
            assert_array_equal(batch[name][row, :n], getattr(log, column)[rows])
        assert not batch["weight"][row, n:].any()
        assert (np.diff(batch["time"][row].numpy()) >= 0).all(), "padding is no earlier"
    plain = SequenceWindows({**columns_of(log), "context": np.empty((size, 0), np.float32)})
    assert "context" not in plain(as_batch(cut))


def test_steps_of_a_past_grow_from_its_oldest_event():
    item = np.array([[5, 3, -1], [-1, -1, -1], [7, 8, 9]])
    feedback = np.where(item >= 0, item / 10, 0).astype(np.float32)
    past = Past(item, feedback, 2 * feedback)
    row, added, n_kept = past.steps()
    assert row.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert added.tolist() == [-1, 3, 5, -1, -1, 9, 8, 7]
    assert n_kept.tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    some = past.take(row).oldest(n_kept)
    none = [-1, -1, -1]
    expected = [none, [3, -1, -1], [5, 3, -1], none, none, [9, -1, -1], [8, 9, -1], [7, 8, 9]]
    assert some.item.tolist() == expected
    assert_array_equal(
        some.feedback, np.where(some.item >= 0, some.item / 10, 0).astype(np.float32)
    )
    assert_array_equal(some.age, 2 * some.feedback)
