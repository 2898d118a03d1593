"""Scores as sums: a contribution of each past item of the user, and terms with a name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Events
from sklearn_recft.history import Habits

# Of what is known of past items; 0 of all else.
_PADDING: dict[str, Any] = {"age": np.nan, "path": None}


@dataclass(frozen=True)
class Explanation:
    """Scores of n rows, each the sum of its contributions and terms.

    Attributes
    ----------
    item : ndarray of shape (n, L), int64
        Codes of past items, largest contribution first; -1 at padding.
    contribution : ndarray of shape (n, L), float64
        0 at padding.
    terms : dict of str to ndarray of shape (n,), float64
        The rest of the score, by name.
    about : dict of str to ndarray of shape (n, L)
        What else is known of the past items.
    """

    item: np.ndarray
    contribution: np.ndarray
    terms: dict[str, np.ndarray]
    about: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_parts(
        cls,
        n: int,
        parts: tuple[np.ndarray, np.ndarray, np.ndarray],
        terms: dict[str, np.ndarray],
    ) -> Explanation:
        """Lay out contributions; those of one row and item are added, and zeros are left out.

        Parameters
        ----------
        n : int
            Number of rows.
        parts : tuple of ndarrays of shape (m,)
            Row, item code and contribution of each part.
        terms : dict of str to ndarray of shape (n,)
        """
        row, item, value = parts
        width = int(item.max(initial=0)) + 1
        there = value != 0
        keys, places = np.unique(row[there] * width + item[there], return_inverse=True)
        value = np.bincount(places, value[there], len(keys))
        row, item = np.divmod(keys, width)
        order = np.lexsort((item, -value, row))
        counts = np.bincount(row, minlength=n)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = n, max(int(counts.max(initial=0)), 1)
        items, values = np.full(shape, -1, np.int64), np.zeros(shape)
        items[row, nth], values[row, nth] = item[order], value[order]
        return cls(items, values, terms)

    @classmethod
    def of_steps(
        cls, row: np.ndarray, item: np.ndarray, value: np.ndarray, terms: dict[str, np.ndarray]
    ) -> Explanation:
        """Lay out the changes of a value as the past events of each row are added one by one.

        Parameters
        ----------
        row : ndarray of shape (m,)
            Row of each step, ascending; every row has a step without events, its first one.
        item : ndarray of shape (m,)
            Item code of the event that the step adds; -1 at first steps.
        value : ndarray of shape (m,)
            Value at each step.
        terms : dict of str to ndarray of shape (n,)
            Further terms. "base", the value at the first step, is added.
        """
        adds, base = item >= 0, value[item < 0]
        parts = row[adds], item[adds], np.diff(value, prepend=0.0)[adds]
        return cls.of_parts(len(base), parts, {"base": base, **terms})

    @classmethod
    def joined(cls, blocks: list[Explanation]) -> Explanation:
        """Return the explanations of all rows of blocks of rows."""
        width = max(block.item.shape[1] for block in blocks)

        def stacked(parts: list[np.ndarray], padding: Any) -> np.ndarray:
            wide = [((0, 0), (0, width - part.shape[1])) for part in parts]
            padded = [
                np.pad(*pair, constant_values=padding) for pair in zip(parts, wide, strict=True)
            ]
            return padded[0] if len(padded) == 1 else np.concatenate(padded)

        return cls(
            stacked([block.item for block in blocks], -1),
            stacked([block.contribution for block in blocks], 0.0),
            {n: np.concatenate([block.terms[n] for block in blocks]) for n in blocks[0].terms},
            {
                name: stacked([block.about[name] for block in blocks], _PADDING.get(name, 0.0))
                for name in blocks[0].about
            },
        )

    @property
    def score(self) -> np.ndarray:
        """The sums, (n,)."""
        score: np.ndarray = self.contribution.sum(axis=1)
        for term in self.terms.values():
            score = score + term
        return score

    def with_habits(self, habits: Habits, events: Events, *, timed: bool = True) -> Explanation:
        """Add what is known of the user's earlier baskets with the row's own item.

        ``count`` is the decayed number of these baskets, 0 for other items. ``age`` is the number
        of days since the last of them, and NaN for other items; it needs times.
        """
        own = (self.item == events.item[:, None]) & (self.item >= 0)
        counts = habits.of_pairs(events.user, events.item, events.time)
        about = {"count": np.where(own, counts[:, None], 0.0)}
        if timed:
            seconds = events.time - habits.last_times(events.user, events.item)
            seconds[seconds <= 0] = np.nan  # of what came before that basket, no time is kept
            about["age"] = np.where(own, seconds[:, None] / SECONDS_PER_DAY, np.nan)
        return replace(self, about={**self.about, **about})
