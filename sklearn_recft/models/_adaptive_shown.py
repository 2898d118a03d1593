"""Weights of a blend from displayed lists, where the place of an item counts too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_recft.events import Interactions
from sklearn_recft.models._adaptive_parts import N_AHEAD, N_PLACES, Blend, Pools
from sklearn_recft.models._adaptive_tiles import Queries


@dataclass(frozen=True)
class Shown:
    """Shown items of n rows, list by list and place by place.

    Attributes
    ----------
    lists : ndarray of shape (n,), int64
        Number of the list of each row, from 0.
    user_ids, item_ids : ndarray of shape (n,)
    place : ndarray of shape (n,), int64
        From 0.
    clicked : ndarray of shape (n,), bool
    times : ndarray of shape (n,), or None
        Seconds.
    """

    lists: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    place: np.ndarray
    clicked: np.ndarray
    times: np.ndarray | None

    def with_clicks(self, items: np.ndarray) -> tuple[Shown, np.ndarray]:
        """Return the rows of known ``items`` (codes) in lists with a click on one, and the codes.

        Lists are numbered anew.
        """
        useful = np.bincount(self.lists, self.clicked & (items >= 0)) > 0
        rows = np.flatnonzero(useful[self.lists] & (items >= 0))
        _, lists = np.unique(self.lists[rows], return_inverse=True)
        times = None if self.times is None else self.times[rows]
        found = Shown(
            lists, self.user_ids[rows], self.item_ids[rows], self.place[rows], self.clicked[rows],
            times,
        )  # fmt: skip
        return found, items[rows]

    def queries(self) -> Interactions:
        """Return one query for each list: its user and time."""
        _, first = np.unique(self.lists, return_index=True)
        times = None if self.times is None else self.times[first]
        none = np.empty((len(first), 0))
        return Interactions(self.user_ids[first], None, None, times, None, none, ())

    def pools(self, queries: Queries, items: np.ndarray) -> Pools:
        """Return one pool for each click: the items of its list, with a feature for each place."""
        n = len(queries)
        nth = np.arange(len(items)) - np.searchsorted(self.lists, self.lists)
        shape = n, int(nth.max(initial=0)) + 1
        table, place = np.full(shape, -1, np.int64), np.zeros(shape, np.int64)
        table[self.lists, nth] = items
        place[self.lists, nth] = np.minimum(self.place, N_PLACES - 1)
        features = np.concatenate([b.features(table[b.first : b.last]) for b in queries.blocks()])
        at_place = (np.arange(N_PLACES) == place[:, :, None]).astype(np.float32)
        clicks = np.flatnonzero(self.clicked)
        rows = self.lists[clicks]
        return Pools(
            table[rows],
            (table >= 0).sum(axis=1)[rows],
            np.concatenate([features, at_place], axis=2)[rows],
            queries.contexts[rows, :N_AHEAD],
            nth[clicks],
        )

    def learn(self, blend: Blend, pools: Pools, options: tuple[float, float]) -> None:
        """Learn the weights of a blend and of the places, one step for the clicks of a list."""
        clicks, lists = np.bincount(self.lists, self.clicked), self.lists[self.clicked]
        blend.learn_places(pools, 1.0 / clicks[lists], lists, (*options, pools.items.shape[1]))
