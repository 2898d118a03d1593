"""How many of the recent events were the first of their item: how often people take new items."""

from __future__ import annotations

from typing import Any

import numpy as np

_N_PERIODS = 64  # the newest periods that are counted


class FirstEvents:
    """Counts of events, and of first events of items, in the newest 64 periods.

    Immutable: `after` returns a new object. Counts do not depend on how events are split into
    calls, if calls are in the order of time.

    Attributes
    ----------
    periods : ndarray of shape (n,), int64
        Periods with events, ascending.
    n_events, n_first : ndarray of shape (n,), int64
        Events of each period, and those that were the first of their item.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.models._first_events import FirstEvents
    >>> first = FirstEvents().after(np.array([0, 1, 0, 0]), np.arange(4.0), np.zeros(2), 1.0)
    >>> first.share
    0.5
    """

    def __init__(self) -> None:
        self.periods = self.n_events = self.n_first = np.empty(0, np.int64)

    @property
    def share(self) -> float:
        """Share of first events; 0 without events."""
        return float(self.n_first.sum() / max(self.n_events.sum(), 1))

    def after(
        self, items: np.ndarray, times: np.ndarray, n_before: np.ndarray, period: float
    ) -> FirstEvents:
        """Return the counts with further events.

        Parameters
        ----------
        items : ndarray of shape (n,)
            Item codes.
        times : ndarray of shape (n,)
            Seconds.
        n_before : ndarray of shape (n_items,)
            Number of earlier events of each item.
        period : float
            Length of a period in seconds.
        """
        if not len(items):
            return self
        place = np.floor(times / period).astype(np.int64)
        order = np.argsort(times, kind="stable")
        first = order[np.unique(items[order], return_index=True)[1]]
        first = first[n_before[items[first]] == 0]
        both = np.concatenate([self.periods, place])
        counts = FirstEvents()
        counts.periods, index = np.unique(both, return_inverse=True)
        old, new = index[: len(self.periods)], index[len(self.periods) :]
        counts.n_events = np.bincount(new, minlength=len(counts.periods))
        counts.n_first = np.bincount(new[first], minlength=len(counts.periods))
        counts.n_events[old] += self.n_events
        counts.n_first[old] += self.n_first
        kept = counts.periods > counts.periods[-1] - _N_PERIODS
        for name, column in counts.state().items():
            setattr(counts, name, column[kept])
        return counts

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
