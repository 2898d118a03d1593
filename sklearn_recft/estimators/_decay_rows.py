"""Rows as the decay net reads them: labels, drawn negatives, and what lies before each row."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY, to_numbers
from sklearn_recft.history import EventHistory, log_windows

Columns = dict[str, np.ndarray]


def encode_labels(y: Any, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return both classes, ascending, and each label as 0.0 or 1.0, shape (n,).

    ``classes`` are those known before; None learns them from ``y``.
    """
    y = np.asarray(y)
    if y.ndim == 0:
        raise ValueError(f"y should be a 1d array, got {y!r}.")
    labels = column_or_1d(y, warn=True)
    if not len(labels):
        raise ValueError(
            "Found array with 0 sample(s) while a minimum of 1 is required: y is empty."
        )
    if labels.dtype.kind == "f":
        to_numbers(labels, "Input y")
    check_classification_targets(labels)
    found = np.unique(labels)
    if classes is not None and len(classes) != 2:
        raise ValueError(f"classes: {classes.tolist()} are not two labels; give both.")
    if classes is None:
        classes = found
        if len(classes) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass: "
                f"y has {len(classes)} classes, the first {classes[:5].tolist()}; make it two, "
                "for example y >= 4."
            )
        if len(classes) < 2:
            raise ValueError(
                f"y has one class only, {classes.tolist()[0]!r}: nothing tells it from another. "
                "For a log of positives leave y out, and negatives are drawn."
            )
    code = np.searchsorted(classes, labels).clip(max=1)
    strange = classes[code] != labels
    if strange.any():
        first, second = classes.tolist()
        raise ValueError(
            f"y: {int(strange.sum())} of {len(labels)} labels are neither {first!r} nor "
            f"{second!r}, the first is {labels[strange].tolist()[0]!r}."
        )
    return classes, code.astype(np.float64)


def class_weights(class_weight: Any, classes: np.ndarray, code: np.ndarray | None) -> np.ndarray:
    """Weight of each class, shape (2,)."""
    if class_weight is None or code is None:
        return np.ones(2)
    return compute_class_weight(class_weight, classes=classes, y=classes[code.astype(int)])


def draw_negatives(
    items: np.ndarray, met: np.ndarray, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Follow each row by ``n_draws`` rows of items drawn uniformly from those met by then.

    ``met`` are the codes of items with events before. Returns the places of the rows
    (n * (1 + n_draws),) that all columns but the item repeat, and the item codes; the first of
    each group is the row itself.
    """
    new, first = np.unique(items, return_index=True)
    first = np.sort(first[~np.isin(new, met)])  # rows that bring an item
    n_met = len(met) + np.searchsorted(first, np.arange(len(items)), side="right")
    places = (rng.random((len(items), n_draws)) * n_met[:, None]).astype(np.int64)
    drawn = np.concatenate([met, items[first]])[places]
    codes = np.column_stack([items, drawn]).ravel()
    return np.repeat(np.arange(len(items)), 1 + n_draws), codes


def windows_of(
    users: np.ndarray, times: np.ndarray, log: Columns, max_history: int
) -> tuple[Columns, Columns]:
    """Sort a log, and find what lies before rows that are its last ones.

    ``log`` has columns ``user``, ``item``, ``feedback`` and ``time``; its last rows are those
    of ``users`` at ``times``. Returns the log sorted by user and time, and for each row the
    places ``start`` and ``stop`` of its past in there.
    """
    order, start, stop = log_windows(log["user"], log["time"], max_history)
    rows = slice(len(order) - len(users), None)
    ordered = {name: column[order] for name, column in log.items()}
    return ordered, {"start": start[rows], "stop": stop[rows], "time": times}


def past_of(users: np.ndarray, times: np.ndarray, history: EventHistory) -> Columns:
    """Read the past of rows off what is remembered: ``past``, ``feedback``, ``age`` (n, L)."""
    shape = len(users), history.max_history
    past, feedback = np.empty(shape, np.int32), np.empty(shape, np.float32)
    age = np.empty(shape, np.float32)
    kernels.gather_past(users, times, *history.log, history.max_history, past, feedback, age)
    return {"past": past.astype(np.int64), "feedback": feedback, "age": age}


def explicit(log: Columns, columns: Columns, max_history: int) -> Columns:
    """Write out the past of a few rows that `windows_of` found, as `past_of` does."""
    start, stop, now = (columns[name][:, None] for name in ("start", "stop", "time"))
    place = stop - 1 - np.arange(max_history)
    there = place >= start
    place = np.where(there, place, 0)
    age = (now - log["time"][place]) / SECONDS_PER_DAY
    return {
        "item": columns["item"],
        "features": columns["features"],
        "past": np.where(there, log["item"][place], -1),
        "feedback": np.where(there, log["feedback"][place], 0).astype(np.float32),
        "age": np.where(there, age, 0).astype(np.float32),
    }
