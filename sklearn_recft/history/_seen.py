"""Seen items of each user, in memory proportional to the number of distinct pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.history._log import are_sorted, grown, link, without


class SeenItems:
    """Distinct items of each user, in memory proportional to the number of distinct pairs.

    Pairs are a linked log of (user, item) codes: each entry points to the previous entry of its
    user. An append is O(1), and the items of a user are found without an index. When the log is
    full, it is sorted by user, and duplicates are removed. It is doubled only if this did not
    halve it. Appends therefore take amortised constant time, and repeated pairs do not fill memory.

    Attributes
    ----------
    last : ndarray of shape (n_users,), int32
        Index in the log of each user's latest entry, -1 for none.
    previous, item : ndarray of shape (capacity,), int32
        For each entry, the index of the user's previous entry (-1: none) and the item code.

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
        """Append pairs of ``users`` and ``items`` (codes, shape (n,))."""
        self.last = grown(self.last, n_users)
        if not len(users):
            return
        if self.size + len(users) > len(self.item):
            self._make_room(users, items)
        else:
            self._write(users, items)

    def append_one(
        self, user: int, item: int
    ) -> tuple[tuple[np.ndarray, int, int], tuple[dict[str, Any], str, int]] | None:
        """Append the pair of a known user, where there is room.

        Returns
        -------
        writes : two tuples (array or dict, key, value), or None
            Until these are written, the pair does not count. None: there is no room.
        """
        size = self.size
        if size == len(self.item) or user >= len(self.last):
            return None
        self.previous[size], self.item[size], self._user[size] = self.last[user], item, user
        return (self.last, user, size), (vars(self), "size", size + 1)

    def items_of(self, user: int) -> np.ndarray:
        """Return the distinct item codes of one user, ascending."""
        found, place = [], int(self.last[user]) if user < len(self.last) else -1
        while place >= 0:
            found.append(int(self.item[place]))
            place = int(self.previous[place])
        return np.unique(np.array(found, np.int64))

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return whether each pair of codes was seen, (n,) bool; False for codes of -1."""
        known = (users >= 0) & (items >= 0)
        found = np.zeros(len(users), bool)
        wanted = users[known].astype(np.int64) << 32 | items[known].astype(np.int64)
        found[known] = np.isin(wanted, _keys(self._user[: self.size], self.item[: self.size]))
        return found

    def log(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return copies of ``last`` (n_users,), ``previous`` and ``item`` (size,)."""
        return self.last.copy(), self.previous[: self.size].copy(), self.item[: self.size].copy()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return ``last``, ``previous`` and ``item``, and the user of each entry, to write to.

        An entry that is written behind the others counts once ``size`` says so.
        """
        return self.last, self.previous, self.item, self._user

    def mark(self, users: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo later appends of ``users``."""
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
        self._allocate(len(keys), len(self.item))
        self.last = np.full(len(self.last), -1, np.int32)
        self.size = 0
        self._write((keys >> 32).astype(np.int32), keys.astype(np.int32))

    def _allocate(self, n_pairs: int, capacity: int) -> None:
        """Allocate a log of at least ``capacity`` that n pairs fill at most by half."""
        capacity = max(capacity, 64)
        while n_pairs * 2 > capacity:
            capacity *= 2
        self.item, self._user = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self.previous = np.empty(capacity, np.int32)

    def state(self) -> dict[str, np.ndarray]:
        """Return the distinct pairs ``user``, ``item`` in sorted order."""
        users, items = self._user[: self.size], self.item[: self.size]
        if are_sorted(users, items):  # as after loading
            return {"user": users.copy(), "item": items.copy()}
        keys = _keys(users, items)
        return {"user": (keys >> 32).astype(np.int32), "item": keys.astype(np.int32)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Load what `state` returned."""
        self.__init__()  # type: ignore[misc]
        users, items = state["user"], state["item"]
        begins = users[1:] != users[:-1]  # of the pairs after the first one: a user begins
        ascending = items[1:] > items[:-1]
        ascending |= begins
        begins = np.flatnonzero(begins) + 1
        if len(users) and ascending.all() and (users[begins] > users[begins - 1]).all():
            self._load_sorted(users, items, begins)
        else:
            self.append(users, items, int(users.max(initial=-1)) + 1)

    def _load_sorted(self, users: np.ndarray, items: np.ndarray, begins: np.ndarray) -> None:
        """Do what `append` does with sorted distinct pairs, in a fraction of its time."""
        self._allocate(len(users), 0)
        self.size = len(users)
        self.item[: self.size], self._user[: self.size] = items, users
        self.previous[: self.size] = np.arange(-1, self.size - 1, dtype=np.int32)
        self.previous[begins] = -1
        ends = np.append(begins, self.size) - 1
        self.last = np.full(int(users[-1]) + 1, -1, np.int32)
        self.last[users[ends]] = ends

    def forget(self, users: np.ndarray) -> None:
        """Remove all pairs of ``users`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["user"], users)
        self.load_state({"user": moved, "item": state["item"][kept]})

    def forget_items(self, items: np.ndarray) -> None:
        """Remove all pairs of ``items`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["item"], items)
        self.load_state({"user": state["user"][kept], "item": moved})


def _keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Encode distinct pairs as sorted 64-bit integers."""
    keys = users.astype(np.int64) << 32
    keys |= items.astype(np.int64)
    keys.sort()
    is_new = keys[1:] != keys[:-1]
    return keys if is_new.all() else keys[np.r_[True, is_new]]
