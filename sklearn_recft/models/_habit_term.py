"""A term of the score for what a user takes again."""

from __future__ import annotations

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import Habits
from sklearn_recft.models._base import Transaction
from sklearn_recft.ranking import TileScorer

# Chosen on the groceries, weeks before the tests; 4 and 16 are nearly as good as 8.
_WEIGHT, _SCALE = 8.0, 0.05


class HabitTerm(Habits):
    """``8 log(1 + S / 0.05)``, added to the score of each pair; 0 until the log shows a repeat.

    S is the decayed count of the user's earlier baskets with the item (`Habits`).
    """

    @property
    def is_shown(self) -> bool:
        """Whether any user has taken an item again."""
        return bool(self.repeats.any())

    def learn(
        self, events: Events, undo: Transaction, shape: tuple[int, int], *, by_time: bool
    ) -> np.ndarray:
        """Count events.

        Parameters
        ----------
        events : Events
        undo : Transaction
        shape : tuple of int
            Numbers of users and of items.
        by_time : bool
            Whether the events of a user are counted in the order of time, else of their rows.

        Returns
        -------
        terms : ndarray of shape (n,), float64
            The term of each row just before the row, from earlier rows alone if not ``by_time``.
        """
        undo.keep(self, events.user, events.item)
        return self._count(events, shape, by_time=by_time)

    def predict_and_learn(
        self, events: Events, undo: Transaction, shape: tuple[int, int]
    ) -> np.ndarray:
        """Count events by their rows; return the terms of all rows, also of those not counted."""
        undo.keep(self, events.user, events.item)
        taken, terms = _taken(events), np.zeros(len(events))
        for rows in np.split(np.arange(len(events)), np.flatnonzero(np.diff(taken)) + 1):
            run = events.take(rows)
            counts = taken[rows].all()
            terms[rows] = self._count(run, shape, by_time=False) if counts else self.of_rows(run)
        return terms

    def _count(self, events: Events, shape: tuple[int, int], *, by_time: bool) -> np.ndarray:
        was_shown, terms = self.is_shown, np.zeros(len(events))
        taken = np.flatnonzero(_taken(events))
        before = self.append(
            events.user[taken], events.item[taken], events.time[taken], *shape, by_time=by_time
        )
        if not was_shown:  # the first repeat is not known before its own row
            first = np.flatnonzero(before > 0)[:1]
            before[: first[0] + 1 if len(first) else len(before)] = 0
        terms[taken] = _term(before)
        return terms

    def of_history(self, rows: Interactions, events: Events, n_users: int) -> HabitTerm:
        """Return the habits of these events alone (``rows`` by code), shown if they are here."""
        if rows.timestamps is None:
            raise ValueError(
                "history: habit_half_life needs the column `timestamp`; add it to history."
            )
        given = HabitTerm(self.half_life)
        taken = events.take(_taken(events))
        given.append(taken.user, taken.item, taken.time, n_users, len(self.repeats))
        given.repeats, given.latest = self.repeats, max(self.latest, given.latest)
        return given

    def of_rows(self, events: Events) -> np.ndarray:
        """Return the term (n,) of each row before its own time."""
        if not self.is_shown:
            return np.zeros(len(events))
        return _term(self.of_pairs(events.user, events.item, events.time))

    def on(
        self,
        tiles: TileScorer,
        users: np.ndarray,
        columns: np.ndarray,
        times: np.ndarray,
        n_items: int,
    ) -> TileScorer:
        """Return a function that writes ``tiles`` and adds the terms of ``users`` at ``times``."""
        if not self.is_shown:
            return tiles
        indptr, places, counts = self.of_users(users, times, columns, n_items)
        values = _term(counts).astype(np.float32)

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            tiles(r0, r1, c0, c1, out)
            kernels.add_to_tile(indptr, places, values, r0, c0, out)

        return score


def _taken(events: Events) -> np.ndarray:
    """Return which rows count."""
    return (events.feedback > 0) & (events.weight > 0)


def _term(counts: np.ndarray) -> np.ndarray:
    return _WEIGHT * np.log1p(counts.astype(np.float64) / _SCALE)
