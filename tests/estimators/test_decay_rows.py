"""Rows of the decay model: labels, drawn negatives, and the past of each row, against lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from sklearn_recft.estimators._decay_rows import (
    class_weights,
    draw_negatives,
    encode_labels,
    explicit,
    past_of,
    windows_of,
)
from sklearn_recft.history import EventHistory
from sklearn_recft.training import LogWindows

N_USERS, N_ITEMS, START, DAY = 4, 6, 1.7e9, 86_400.0
seeds = st.integers(0, 10_000)
spans = st.sampled_from([3, 40, 10**6])  # ties are the rule, or rare
quick = settings(deadline=None, max_examples=60)


# ------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize(
    "values",
    [(0, 1), (-1, 1), (1, 5), (0.0, 1.0), (False, True), ("no", "yes"), ("b", "a")],
    ids=str,
)
def test_labels_are_places_among_the_classes(values):
    y = np.array(values)[[1, 0, 0, 1, 1]]
    classes, code = encode_labels(y, None)
    assert classes.tolist() == sorted(values)
    assert code.dtype == np.float64
    assert classes[code.astype(int)].tolist() == y.tolist()
    for later in (y[:1], y[1:2], y):
        known, again = encode_labels(later.tolist(), classes)
        assert known is classes
        assert classes[again.astype(int)].tolist() == later.tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 2, 2], r"binary.*3 classes.*\[0, 1, 2\].*y >= 4"),
        ([3, 3, 3], r"one class only, 3"),
        ([], r"0 sample|empty"),
        (1, r"1d array"),
        ([[0, 1], [1, 0]], r"1d array"),
        ([0.0, 1.0, np.nan], r"Input y.*1 of 3.*NaN"),
        ([0.0, np.inf], r"Input y.*inf"),
        ([0.5, 1.7, 0.2], r"[Uu]nknown label type"),
    ],
    ids=str,
)
def test_what_are_no_two_labels_is_one_clear_error(y, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(y, None)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 5, 3, 9], r"2 of 4 labels are neither .*1.* nor .*5.*first is .*3"),
        ([0], r"1 of 1 labels"),
        (["1", "5"], r"2 of 2 labels"),
    ],
    ids=str,
)
def test_a_later_label_that_is_neither_is_named(y, message):
    with pytest.raises(ValueError, match=message):
        encode_labels(y, np.array([1, 5]))


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}, {1: 2.0}], ids=str)
def test_class_weights_are_those_of_scikit_learn(class_weight):
    classes, code = np.array([0, 1]), np.array([0.0, 1, 1, 1, 0, 1, 1])
    expected = compute_class_weight(class_weight, classes=classes, y=code.astype(int))
    assert class_weights(class_weight, classes, code).tolist() == expected.tolist()


def test_class_weights_are_by_label():
    code = np.array([0.0, 1, 1])
    assert class_weights({"no": 2.0}, np.array(["no", "yes"]), code).tolist() == [2, 1]


def test_positives_alone_weigh_one():
    assert class_weights("balanced", np.array([0, 1]), None).tolist() == [1, 1]


# --------------------------------------------------------------------------------- negatives


@given(
    st.lists(st.integers(0, 8), max_size=30), st.sets(st.integers(0, 12)), st.integers(0, 5), seeds
)
@quick
def test_negatives_follow_their_row_and_are_met_by_then(items, met, n_draws, seed):
    items, before = np.array(items, np.int64), np.array(sorted(met), np.int64)
    event, codes = draw_negatives(items, before, n_draws, np.random.default_rng(seed))
    groups = codes.reshape(len(items), 1 + n_draws)
    assert event.reshape(groups.shape).tolist() == [
        [row] * (1 + n_draws) for row in range(len(items))
    ]
    assert groups[:, 0].tolist() == items.tolist()
    for row, drawn in enumerate(groups[:, 1:]):
        assert set(drawn.tolist()) <= met | set(items[: row + 1].tolist())


def test_negatives_are_uniform_over_what_was_met():
    items, met = np.r_[4, np.zeros(9_999, int)], np.array([0, 1, 6])
    _, codes = draw_negatives(items, met, 2, np.random.default_rng(0))
    shares = np.bincount(codes.reshape(-1, 3)[:, 1:].ravel(), minlength=7) / 20_000
    np.testing.assert_allclose(shares[[0, 1, 4, 6]], 0.25, atol=0.015)
    again = draw_negatives(items, met, 2, np.random.default_rng(0))
    assert again[1].tolist() == codes.tolist()


# ------------------------------------------------------------------------------------ the past


def make_log(seed, size, span, *, ordered=False):
    rng = np.random.default_rng(seed)
    times = START + rng.integers(0, span, size) * 7_200.0
    return {
        "user": rng.integers(0, N_USERS, size), "item": rng.integers(0, N_ITEMS, size),
        "feedback": rng.normal(size=size).astype(np.float32),
        "time": np.sort(times) if ordered else times,
    }  # fmt: skip


def by_hand(log, user, now, max_history):
    """Events of a user strictly before now: item, feedback and age in days, newest first."""
    events = zip(
        *(log[name].tolist() for name in ("user", "item", "feedback", "time")), strict=True
    )
    past = [(t, i, f) for u, i, f, t in events if u == user and t < now]
    past = sorted(past, key=lambda event: event[0])[::-1][:max_history]
    return [(i, f, pytest.approx((now - t) / DAY, rel=1e-6)) for t, i, f in past]


def rows_of(past):
    """Events of each row, as tuples; behind the last there is nothing."""
    found = []
    for items, feedback, age in zip(past["past"], past["feedback"], past["age"], strict=True):
        n = int((items >= 0).sum())
        assert (items[n:] == -1).all()
        assert not feedback[n:].any()
        assert not age[n:].any()
        assert (age[:n] > 0).all()
        columns = (column[:n].tolist() for column in (items, feedback, age))
        found.append(list(zip(*columns, strict=True)))
    return found


@given(st.integers(1, 50), seeds, spans, st.integers(1, 6), st.integers(0, 30))
@quick
def test_windows_of_a_log_are_the_past_of_its_last_rows(size, seed, span, max_history, n_known):
    log, n_known = make_log(seed, size, span), min(n_known, size - 1)
    users, times = log["user"][n_known:], log["time"][n_known:]
    ordered, windows = windows_of(users, times, log, max_history)
    expected = [by_hand(log, *row, max_history) for row in zip(users, times, strict=True)]
    n = len(users)
    columns = {"item": np.arange(n), "features": np.ones((n, 2), np.float32), **windows}
    written = explicit(ordered, columns, max_history)
    assert written["item"] is columns["item"]
    assert written["features"] is columns["features"]
    assert [written[name].dtype for name in ("feedback", "age")] == [np.float32] * 2
    assert written["past"].shape == (n, max_history)
    assert rows_of(written) == expected


@given(st.integers(1, 50), seeds, spans, st.integers(1, 6))
@quick
def test_a_batch_reads_its_windows_as_they_are_written_out(size, seed, span, max_history):
    log = make_log(seed, size, span)
    ordered, windows = windows_of(log["user"], log["time"], log, max_history)
    columns = {"item": log["item"], "features": np.ones((size, 2), np.float32), **windows}
    written = explicit(ordered, columns, max_history)
    gather = LogWindows(ordered["item"], ordered["feedback"], ordered["time"])
    chosen = np.random.default_rng(seed).permutation(size)[: 1 + size // 2]
    batch = gather({name: torch.from_numpy(column[chosen]) for name, column in columns.items()})
    assert set(batch) == {"item", "features", "past", "feedback", "age"}
    longest = batch["past"].shape[1]
    assert longest == max(1, int((windows["stop"] - windows["start"])[chosen].max()))
    for name, column in written.items():
        part = column[chosen]
        if name in ("past", "feedback", "age"):
            assert (part[:, longest:] == (-1 if name == "past" else 0)).all()
            part = part[:, :longest]
        assert batch[name].numpy().tolist() == part.tolist()
        assert batch[name].numpy().dtype == column.dtype


@given(st.integers(0, 50), seeds, spans, st.integers(1, 6))
@quick
def test_what_is_remembered_is_what_a_log_says(size, seed, span, max_history):
    """Of rows that come after all that is remembered; a stranger has no past."""
    log = make_log(seed, size, span, ordered=True)
    history = EventHistory(max_history)
    history.append(*log.values(), N_USERS)
    users, times = np.arange(-1, N_USERS), np.full(N_USERS + 1, START + span * 7_200.0 + 60)
    found = past_of(users, times, history)
    assert found["past"].dtype == np.int64
    assert found["past"].shape == (N_USERS + 1, max_history)
    expected = [by_hand(log, *row, max_history) for row in zip(users, times, strict=True)]
    assert rows_of(found) == expected
    asks = {"user": users, "item": 0 * users, "feedback": np.zeros(len(users), np.float32)}
    joined = {name: np.r_[log[name], {**asks, "time": times}[name]] for name in log}
    ordered, windows = windows_of(users, times, joined, max_history)
    written = explicit(ordered, {"item": users, "features": users, **windows}, max_history)
    for name in ("past", "feedback"):
        assert written[name].tolist() == found[name].tolist()
    np.testing.assert_allclose(written["age"], found["age"], rtol=1e-6)


def test_pasts_of_one_length_are_padded_with_nothing():
    """So that a row is summed up alike to the bit, whatever stands beside it in a batch."""
    log = make_log(0, 30, 40)
    ordered, windows = windows_of(log["user"], log["time"], log, 4)
    columns = {"item": log["item"], "features": np.ones((30, 2), np.float32), **windows}
    written = explicit(ordered, columns, 4)
    gather = LogWindows(ordered["item"], ordered["feedback"], ordered["time"], longest=4)
    for rows in (slice(None), slice(0, 1), np.flatnonzero(windows["start"] == windows["stop"])):
        batch = {name: torch.from_numpy(column[rows]) for name, column in columns.items()}
        for name, column in gather(batch).items():
            assert column.numpy().tolist() == written[name][rows].tolist()
