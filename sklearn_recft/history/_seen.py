"""Who met which items: distinct pairs, append-only, in memory proportional to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.history._log import grown, link, without


class SeenItems:
    """Distinct items of each user, append-only, in memory proportional to distinct pairs.

    A log of (user, item) codes in which each entry points at the user's previous one, so an
    append is O(1) and a user's items are found without an index. When the log is full it is
    sorted by user and freed of repeats, and doubled only if that did not halve it: the cost of
    an append is amortised, and repeats of a pair (purchases do repeat) cannot fill memory.

    Attributes
    ----------
    last : ndarray of shape (n_users,), int32
        Place in the log of each user's latest entry, -1 for none.
    previous, item : ndarray of shape (capacity,), int32
        For each entry, the place of the user's entry before it (-1: none) and the item code.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import SeenItems
    >>> seen = SeenItems()
    >>> seen.append(np.array([0, 1, 0]), np.array([7, 7, 3]), n_users=2)
    >>> seen.items_of(0)
    array([3, 7])
    """

    def __init__(self) -> None:
        self.last = np.empty(0, np.int32)
        self.previous = np.empty(0, np.int32)
        self.item = np.empty(0, np.int32)
        self._user = np.empty(0, np.int32)
        self.size = 0

    def append(self, users: np.ndarray, items: np.ndarray, n_users: int) -> None:
        """Remember that ``users[j]`` met ``items[j]`` (codes, shape (n,))."""
        self.last = grown(self.last, n_users)
        if not len(users):
            return
        if self.size + len(users) > len(self.item):
            self._make_room(users, items)
        else:
            self._write(users, items)

    def items_of(self, user: int) -> np.ndarray:
        """Distinct item codes of one user, ascending."""
        found, place = [], int(self.last[user]) if user < len(self.last) else -1
        while place >= 0:
            found.append(int(self.item[place]))
            place = int(self.previous[place])
        return np.unique(np.array(found, np.int64))

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Whether each pair of codes was seen, (n,) bool; False for codes of -1."""
        known = (users >= 0) & (items >= 0)
        found = np.zeros(len(users), bool)
        wanted = users[known].astype(np.int64) << 32 | items[known].astype(np.int64)
        found[known] = np.isin(wanted, _keys(self._user[: self.size], self.item[: self.size]))
        return found

    def mark(self, users: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo appends of ``users`` made from here on."""
        known = users[users < len(self.last)]
        return (self.last, self.previous, self.item, self._user, self.size), known, self.last[known]

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo every append since ``mark``."""
        arrays, known, last = mark
        self.last, self.previous, self.item, self._user, self.size = arrays
        self.last[self.last >= self.size] = -1
        self.last[known] = last

    def _write(self, users: np.ndarray, items: np.ndarray) -> None:
        begin, end = self.size, self.size + len(users)
        self.item[begin:end], self._user[begin:end] = items, users
        link(users, begin, self.last, self.previous)
        self.size = end

    def _make_room(self, users: np.ndarray, items: np.ndarray) -> None:
        keys = _keys(np.r_[self._user[: self.size], users], np.r_[self.item[: self.size], items])
        capacity = max(len(self.item), 64)
        while len(keys) * 2 > capacity:
            capacity *= 2
        self.item, self._user = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self.previous = np.empty(capacity, np.int32)
        self.last = np.full(len(self.last), -1, np.int32)
        self.size = 0
        self._write((keys >> 32).astype(np.int32), keys.astype(np.int32))

    def state(self) -> dict[str, np.ndarray]:
        """Return the distinct pairs ``user``, ``item``, sorted: the same for the same pairs."""
        keys = _keys(self._user[: self.size], self.item[: self.size])
        return {"user": (keys >> 32).astype(np.int32), "item": keys.astype(np.int32)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Become what `state` described."""
        self.__init__()  # type: ignore[misc]
        self.append(state["user"], state["item"], int(state["user"].max(initial=-1)) + 1)

    def forget(self, users: np.ndarray) -> None:
        """Erase all pairs of ``users`` (codes); the codes behind them move up."""
        state = self.state()
        kept, moved = without(state["user"], users)
        self.load_state({"user": moved, "item": state["item"][kept]})

    def __getstate__(self) -> dict[str, np.ndarray]:
        return self.state()

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        self.load_state(state)


def _keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return distinct pairs as sorted numbers of 64 bits."""
    keys = users.astype(np.int64) << 32
    keys |= items.astype(np.int64)
    keys.sort()
    return keys[np.r_[True, keys[1:] != keys[:-1]]] if len(keys) else keys
