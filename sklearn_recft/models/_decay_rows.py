"""Training rows of the decay model: events and sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sklearn_recft import training
from sklearn_recft.events import Events
from sklearn_recft.history import Spans, past_in, windows_of_last


@dataclass(frozen=True)
class Rows:
    """Training rows.

    Attributes
    ----------
    events : Events of length n
        Data of the rows; ``feedback`` is the label, 0.0 or 1.0.
    source : ndarray of shape (n,), int64
        Index of the event of each row.
    real : ndarray of shape (n,), bool
        True for events, False for sampled negatives.
    """

    events: Events
    source: np.ndarray
    real: np.ndarray

    def with_unlearned(self, unlearned: Events | None) -> Rows:
        """Append events of weight 0 that are no events of the log: neither counted nor learned."""
        if unlearned is None:
            return self
        events = self.events.joined(
            replace(unlearned, context=unlearned.context.astype(np.float32))
        )
        if self.events.outcome is not None and unlearned.outcome is not None:
            outcome = np.concatenate([self.events.outcome, unlearned.outcome])
            events = replace(events, outcome=outcome)
        source = np.concatenate([self.source, np.zeros(len(unlearned), int)])
        return Rows(events, source, np.concatenate([self.real, np.zeros(len(unlearned), bool)]))


def rows_of(events: Events) -> Rows:
    """Make a training row of each event."""
    n = len(events)
    events = replace(events, context=events.context.astype(np.float32))
    return Rows(events, np.arange(n), np.ones(n, bool))


def rows_with_negatives(
    events: Events, known: np.ndarray, n_draws: int, rng: np.random.Generator
) -> Rows:
    """Make training rows of positive events, each followed by ``n_draws`` sampled negatives."""
    source, items = draw_negatives(events.item, known, n_draws, rng)
    real = np.r_[True, source[1:] != source[:-1]]
    label = np.where(real, events.feedback[source], 0.0)
    rows = rows_of(replace(events.take(source), item=items, feedback=label))
    return Rows(rows.events, source, real)


def draw_negatives(
    items: np.ndarray, known: np.ndarray, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sample ``n_draws`` negatives after each row, uniformly from the items known by then.

    Parameters
    ----------
    items : ndarray of shape (n,)
        Codes of the rows' items.
    known : ndarray of shape (m,)
        Codes of items with earlier events.
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    source : ndarray of shape (n * (1 + n_draws),)
        Index of the event of each row.
    codes : ndarray of the same shape
        Item codes; the first of each group is that of the event.
    """
    new, first = np.unique(items, return_index=True)
    first = np.sort(first[~np.isin(new, known)])  # rows with a new item
    n_known = len(known) + np.searchsorted(first, np.arange(len(items)), side="right")
    places = (rng.random((len(items), n_draws)) * n_known[:, None]).astype(np.int64)
    drawn = np.concatenate([known, items[first]])[places]
    codes = np.column_stack([items, drawn]).ravel()
    return np.repeat(np.arange(len(items)), 1 + n_draws), codes


def columns_of(
    rows: Rows, features: np.ndarray, log: Events, max_history: int
) -> tuple[Events, training.Columns]:
    """Sort the log, whose last rows are the events, and find the past of each row."""
    n_events = int(rows.source[-1]) + 1
    log_time = log.time[len(log) - n_events :]
    log, spans = windows_of_last(log, n_events, max_history)
    spans = spans.take(rows.source)
    columns = {
        "item": rows.events.item,
        "features": features,
        "start": spans.start,
        "stop": spans.stop,
        "time": log_time[rows.source],
    }
    return log, columns


def target_of(rows: Rows, class_weights: tuple[float, float]) -> np.ndarray:
    """Return label and weight of each row, (n, 2) float32."""
    label = rows.events.feedback
    weight = rows.events.weight * np.asarray(class_weights)[label.astype(int)]
    return np.column_stack([label, weight]).astype(np.float32)


def written_out(
    log: Events,
    columns: training.Columns,
    target: np.ndarray,
    users: np.ndarray,
    max_history: int,
) -> training.Columns:
    """Expand rows with their past, as the reservoir stores them."""
    spans = Spans(columns["start"], columns["stop"])
    past = past_in(log, spans, columns["time"], max_history)
    return {
        "item": columns["item"],
        "features": columns["features"],
        "past": past.item,
        "feedback": past.feedback,
        "age": past.age,
        "target": target,
        "user": users,
    }


def as_log(events: Events, outcome_scale: tuple[float, float], positives_only: bool) -> Events:
    """Convert events to the columns of histories.

    Feedback is the outcome, standardized by the first rows; or the label as -1 or 1; or 1.
    """
    feedback = np.ones(len(events))
    if events.outcome is not None:
        mean, scale = outcome_scale
        feedback = (events.outcome - mean) / scale
    elif not positives_only:
        feedback = 2 * events.feedback - 1
    return replace(
        events,
        feedback=feedback.astype(np.float32),
        context=np.empty((len(events), 0)),
        outcome=None,
        text=None,
    )
