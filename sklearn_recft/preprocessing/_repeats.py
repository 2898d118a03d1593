"""Which events repeat an earlier one: the same user and the same item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_recft.preprocessing._sums import Sums

NAME = "repeat"


@dataclass(init=False, repr=False, eq=False)  # so that `trusted_types` lists it
class Repeats:
    """Whether a pair of user and item had an earlier event, and how often that was so by then.

    Attributes
    ----------
    pairs : Sums
        Number of events of each pair.
    totals : Sums
        Number of all events, and of those that repeat.
    """

    def __init__(self) -> None:
        self.pairs = Sums(1)
        self.totals = Sums(2)

    def update(
        self, pairs: np.ndarray, times: np.ndarray, counted: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return of each row, in the order of time, what is known strictly before it.

        Returns
        -------
        again : ndarray of shape (n,)
            1 if the pair had an event.
        sums : ndarray of shape (n, 2)
            Number of all events, and of those that repeat.
        """
        ones = np.ones((len(pairs), 1))
        again = (self.pairs.update(pairs, times, ones, counted)[:, 2] > 0).astype(np.float64)
        zeros = np.zeros(len(pairs), np.int64)
        found = self.totals.update(zeros, times, np.column_stack([ones, again]), counted)
        return again, found[:, 2:]

    def transform(self, times: np.ndarray) -> np.ndarray:
        """Return the number of all events before each time, and of those that repeat, (n, 2)."""
        return self.totals.transform(np.zeros(len(times), np.int64), times)[:, 2:]

    def bound(self, max_keys: int | None) -> None:
        """Drop the pairs with the oldest newest events, if there are more than ``max_keys``."""
        self.pairs.bound(max_keys)
