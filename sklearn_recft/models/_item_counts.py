"""Event counts of items, and times of their first events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_recft.events import Events


class ItemCounts:
    """Event counts of each item; immutable, `after` returns a new object.

    Attributes
    ----------
    n_events, n_learned : ndarray of shape (n_items,), float64
        Positive events of each item, known and learned from.
    has_events : ndarray of shape (n_items,), bool
        Whether the item is in any event, positive or not.
    first_time : ndarray of shape (n_items,), float64
        When the item was first seen; -inf for items that were given without events.
    """

    def __init__(self) -> None:
        self.n_events = self.n_learned = np.zeros(0)
        self.has_events, self.first_time = np.zeros(0, bool), np.zeros(0)

    def after(self, new: Events, learned: Events | None, n_items: int) -> ItemCounts:
        """Add ``new`` events; the ``learned`` events, used in training, may differ."""
        counts = ItemCounts()
        counts.n_events = _counted(self.n_events, new, n_items)
        counts.n_learned = _counted(self.n_learned, learned, n_items)
        counts.has_events = np.bincount(new.item, minlength=n_items) > 0
        n_known = len(self.has_events)
        counts.has_events[:n_known] |= self.has_events
        first_time = np.full(n_items, np.inf)
        np.minimum.at(first_time, new.item, new.time)
        first_time[:n_known] = np.minimum(first_time[:n_known], self.first_time)
        first_time[first_time == np.inf] = -np.inf  # items of the catalogue without events
        counts.first_time = first_time
        return counts

    def first_of(self, new: Events) -> Events:
        """Return the events of unknown items, with weight 0: they give the first time only."""
        first = new.take(new.item >= len(self.has_events))
        return replace(first, weight=np.zeros(len(first.item)))

    def mark(self, *rows: Any) -> None:
        """Return None: counts never change in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: counts never change in place."""

    def state(self) -> dict[str, Any]:
        """Return the arrays by name."""
        return dict(vars(self))

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        vars(self).update(state)

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: counts are not stored per user."""


def _counted(before: np.ndarray, new: Events | None, n_items: int) -> np.ndarray:
    """Add the positive events of each item (n_items,) to counts."""
    counts = np.zeros(n_items)
    counts[: len(before)] = before
    if new is not None:
        counts += np.bincount(new.item, new.weight > 0, n_items)
    return counts
