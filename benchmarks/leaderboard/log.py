"""The events a worker learns from, as codes and counts; imports nothing but numpy and scipy."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

BLOCK = 512  # users whose scores of all items are held at a time


@dataclass(frozen=True)
class Log:
    """Events in time order: codes of users and items, seconds, and the ids behind the codes."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    exclude_seen: bool
    threads: int

    @classmethod
    def of(cls, user, item, time, exclude_seen: bool, threads: int) -> "Log":
        """Encode raw ids; codes follow the order of the ids."""
        user_ids, user = np.unique(user, return_inverse=True)
        item_ids, item = np.unique(item, return_inverse=True)
        return cls(user, item, time, user_ids, item_ids, exclude_seen, threads)

    def take(self, rows: Any) -> "Log":
        """Make a log of some rows only, with codes of its own."""
        ids = self.user_ids[self.user[rows]], self.item_ids[self.item[rows]]
        return Log.of(*ids, self.time[rows], self.exclude_seen, self.threads)

    def once(self) -> "Log":
        """Keep the last event of every pair of user and item."""
        pair = self.user * len(self.item_ids) + self.item
        _, last = np.unique(pair[::-1], return_index=True)
        return self.take(np.sort(len(pair) - 1 - last))

    @cached_property
    def counts(self) -> csr_matrix:
        """How often each user took each item, shape (n_users, n_items), float32."""
        shape = (len(self.user_ids), len(self.item_ids))
        ones = np.ones(len(self.user), np.float32)
        return csr_matrix((ones, (self.user, self.item)), shape)

    @property
    def events(self) -> np.ndarray:
        """Codes and seconds as one table of shape (n, 3), int64."""
        return np.column_stack([self.user, self.item, self.time]).astype(np.int64)

    def best(self, scores_of, users: np.ndarray, k: int) -> np.ndarray:
        """Rank every item by ``scores_of(block of users)``; -1 where none is eligible.

        For libraries that score but do not list. NaN is not eligible; ties go to lower codes.
        """
        found = np.empty((len(users), k), np.int64)
        for start in range(0, len(users), BLOCK):
            block = users[start : start + BLOCK]
            scores = np.array(scores_of(block), dtype=np.float64)
            scores[np.isnan(scores)] = -np.inf
            if self.exclude_seen:
                scores[self.counts[block].nonzero()] = -np.inf
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            eligible = np.isfinite(np.take_along_axis(scores, order, axis=1))
            found[start : start + BLOCK, : order.shape[1]] = np.where(eligible, order, -1)
            found[start : start + BLOCK, order.shape[1] :] = -1
        return found
