"""Windows of a log that the sequence model learns from, against loops."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_recft.estimators._realtime_learning import _windows
from sklearn_recft.training._windows import SequenceWindows

START = 1.6e9
seeds = st.integers(0, 10_000)
quick = settings(deadline=None, max_examples=80)


def draw_log(seed, size, weights=(1.0,)):
    """Events sorted by user and time; each has an item of its own."""
    rng = np.random.default_rng(seed)
    log = {
        "user": rng.choice([0, 1, 5, 6], size), "time": START + rng.integers(0, 20, size) / 2,
        "weight": rng.choice(np.array(weights, np.float32), size),
    }  # fmt: skip
    order = np.lexsort((log["time"], log["user"]))
    log = {name: column[order] for name, column in log.items()}
    log["item"] = np.arange(size)
    log["feedback"] = rng.normal(size=size).astype(np.float32)
    log["context"] = rng.normal(size=(size, 2)).astype(np.float32)
    return log


def windows_by_hand(log, max_history, until):
    """Where windows begin and how long they are, from each user's newest back."""
    found = []
    for user in np.unique(log["user"]):
        rows = np.flatnonzero((log["user"] == user) & (log["time"] <= until)).tolist()
        while len(rows) > 1:
            inputs, targets = rows[-1 - max_history : -1], rows[-max_history:]
            targets = targets[-len(inputs) :]
            if log["weight"][targets].any():
                found.append((inputs[0], len(inputs)))
            rows = rows[: -len(inputs)]
    return sorted(found)


@given(seeds, st.integers(0, 60), st.integers(1, 8), st.sampled_from([np.inf, START + 4, 0.0]))
@quick
def test_windows_are_cut_from_the_newest_back(seed, size, max_history, until):
    log = draw_log(seed, size, weights=(0.0, 1.0, 2.5))
    found = _windows(log, max_history, until)
    pairs = sorted(zip(found["start"].tolist(), found["size"].tolist(), strict=True))
    assert pairs == windows_by_hand(log, max_history, until)


@given(seeds, st.integers(1, 60), st.integers(1, 8))
@quick
def test_each_event_with_a_predecessor_is_a_target_once(seed, size, max_history):
    """And follows, in its window, the events that came right before it, and no others."""
    log = draw_log(seed, size)
    cut = {name: torch.from_numpy(c) for name, c in _windows(log, max_history).items()}
    first = np.r_[True, log["user"][1:] != log["user"][:-1]]
    if not len(cut["start"]):
        assert first.all()
        return
    batch = SequenceWindows(log)(cut)
    real = batch["weight"] > 0
    assert sorted(batch["target"][real].tolist()) == np.flatnonzero(~first).tolist()
    assert batch["item"].shape == (len(cut["start"]), int(cut["size"].max()))
    assert cut["size"].max() <= max_history
    assert (real.sum(1) == cut["size"]).all()
    # Items are places: inputs ascend by one to the place before the target.
    assert torch.equal(batch["item"][real] + 1, batch["target"][real])
    users = torch.from_numpy(log["user"])
    assert (users[batch["item"]] == users[batch["item"][:, :1]]).all()


@given(seeds, st.integers(2, 40), st.integers(1, 6))
@quick
def test_windows_hand_on_the_columns_of_their_events(seed, size, max_history):
    log = draw_log(seed, size, weights=(0.0, 1.0, 2.5))
    cut = _windows(log, max_history)
    if not len(cut["start"]):
        return
    batch = SequenceWindows(log)({name: torch.from_numpy(c) for name, c in cut.items()})
    for row, (start, n) in enumerate(zip(cut["start"], cut["size"], strict=True)):
        now, behind = np.s_[start : start + n], np.s_[start + 1 : start + n + 1]
        for name, column, rows in (
            ("item", "item", now), ("feedback", "feedback", now), ("time", "time", now),
            ("asked", "time", behind), ("target", "item", behind), ("weight", "weight", behind),
            ("context", "context", behind),
        ):  # fmt: skip
            assert_array_equal(batch[name][row, :n], log[column][rows])
        assert not batch["weight"][row, n:].any()
        assert (np.diff(batch["time"][row].numpy()) >= 0).all(), "padding is no earlier"
    plain = SequenceWindows({**log, "context": np.empty((size, 0), np.float32)})
    assert "context" not in plain({name: torch.from_numpy(c) for name, c in cut.items()})
