"""Lists that are made event by event, inside of one pass over the events."""

from __future__ import annotations

import numpy as np

from sklearn_recft.events import Events
from sklearn_recft.history import SeenItems, link


class Listing:
    """Lists of the best items for the user of each event, just before it is learned.

    Parameters
    ----------
    length : int
        Items of a list; 0 makes none.
    exclude_seen : bool, default=True
        Whether to leave out what the user took before the event.

    Attributes
    ----------
    lists : ndarray of shape (n, length), int32
        Item codes, best first, and -1 behind the end of a list.
    """

    def __init__(self, length: int, exclude_seen: bool = True) -> None:
        self.length, self.exclude_seen = length, exclude_seen
        self._last = self._previous = self._item = np.empty(0, np.int32)
        self.lists = np.empty((0, length), np.int32)

    def start(self, seen: SeenItems) -> None:
        """Copy what users have seen before the first event."""
        if self.exclude_seen:
            self._last, self._previous, self._item = seen.log()

    def extend(self, events: Events, n_users: int) -> None:
        """Add events to the log of seen items: entry ``begin + t`` is of event t."""
        n, self._begin = len(events), len(self._item)
        self.lists = np.empty((n, self.length), np.int32)
        if not self.length:
            return
        last = np.full(n_users, -1, np.int32)
        last[: len(self._last)] = self._last[:n_users]
        self._previous = np.append(self._previous, np.full(n, -1, np.int32))
        self._item = np.append(self._item, events.item.astype(np.int32))
        if self.exclude_seen:
            link(events.user, self._begin, last, self._previous)

    def of_rows(self, start: int, n: int) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """Return the last arguments of the kernel for ``n`` events from ``start`` on."""
        rows = self.lists[start : start + n]
        return rows, self._begin + start, self._previous, self._item
