"""Sums of events by user and item, as a log that grows at its end and merges repeats."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.columns import fade
from sklearn_recft.history._log import are_sorted, without

_TYPES: dict[str, type[np.generic]] = {"user": np.int32, "item": np.int32}
_TYPES |= dict.fromkeys(("time", "weight", "total"), np.float64)


class PairSums:
    """Weights and weighted feedback of each pair of user and item: what `forget` subtracts.

    An append writes rows at the end. When the log is full, rows of the same pair are merged into
    one row at their newest time. The capacity is doubled only if this did not halve the log. So
    appends take amortised constant time, and 32 bytes are kept of a distinct pair.

    Parameters
    ----------
    half_life : float or None
        Days after which an event counts half; None for no decay.

    Attributes
    ----------
    size : int
        Number of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import PairSums
    >>> pairs = PairSums(None)
    >>> user, item, ones = np.array([0, 0, 1]), np.array([2, 2, 0]), np.ones(3)
    >>> pairs.append(user, item, np.zeros(3), ones, 5 * ones)
    >>> pairs.by_item(3, latest=0.0)
    (array([1., 0., 2.]), array([ 5.,  0., 10.]))
    """

    def __init__(self, half_life: float | None) -> None:
        self.half_life, self.size = half_life, 0
        self._rows = {name: np.empty(0, dtype) for name, dtype in _TYPES.items()}

    @property
    def latest(self) -> float:
        """Time of the newest event; -inf without any."""
        return float(self.column("time").max(initial=-np.inf))

    def column(self, name: str) -> np.ndarray:
        """Return the rows of "user", "item", "time", "weight" or "total" (weighted feedback)."""
        return self._rows[name][: self.size]

    def append(
        self,
        users: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        weight: np.ndarray,
        total: np.ndarray,
    ) -> None:
        """Append rows (n,) of codes, seconds, weights and weighted feedback."""
        new = dict(zip(_TYPES, (users, items, times, weight, total), strict=True))
        end = self.size + len(users)
        if end > len(self._rows["user"]):
            new = self._merged(
                {name: np.concatenate([self.column(name), new[name]]) for name in _TYPES}
            )
            self.size, end = 0, len(new["user"])
            capacity = max(len(self._rows["user"]), 64)
            while 2 * end > capacity:
                capacity *= 2
            self._rows = {name: np.empty(capacity, dtype) for name, dtype in _TYPES.items()}
        for name, values in new.items():
            self._rows[name][self.size : end] = values
        self.size = end

    def append_one(
        self, user: int, item: int, time: float, weight: float, total: float
    ) -> tuple[dict[str, Any], str, int] | None:
        """Append a row, where there is room.

        Returns
        -------
        write : tuple (dict, key, value), or None
            Until this is written, the row does not count. None: there is no room.
        """
        size, columns = self.size, self._rows
        if size == len(columns["user"]):
            return None
        columns["user"][size], columns["item"][size], columns["time"][size] = user, item, time
        columns["weight"][size], columns["total"][size] = weight, total
        return vars(self), "size", size + 1

    def by_item(self, n_items: int, latest: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums of weights, and of weighted feedback, of items at a time, (n_items,)."""
        share, items = self._left(latest - self.column("time")), self.column("item")
        weight, total = self.column("weight") * share, self.column("total") * share
        sums = (np.bincount(items, values, n_items) for values in (weight, total))
        by_weight, by_total = (one.astype(np.float64, copy=False) for one in sums)  # also of no row
        return by_weight, by_total

    def _left(self, seconds: np.ndarray) -> np.ndarray | float:
        return 1.0 if self.half_life is None else fade(seconds, self.half_life)

    def _merged(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return one row for each pair, by user and item, at the time of its newest event."""
        if are_sorted(rows["user"], rows["item"]):
            return rows
        keys = rows["user"].astype(np.int64) << 32 | rows["item"]
        order = np.argsort(keys, kind="stable")
        rows = {name: values[order] for name, values in rows.items()}
        users, items = rows["user"], rows["item"]
        is_first = np.ones(len(users), bool)
        is_first[1:] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
        first = np.flatnonzero(is_first)
        if not len(first):
            return rows
        newest = np.maximum.reduceat(rows["time"], first)
        lengths = np.diff(first, append=len(users))
        share = self._left(np.repeat(newest, lengths) - rows["time"])
        sums = {n: np.add.reduceat(rows[n] * share, first) for n in ("weight", "total")}
        return {"user": users[first], "item": items[first], "time": newest, **sums}

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return what `restore` needs; rows before the end are never written in place."""
        return self._rows, self.size

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo every append since ``mark``."""
        self._rows, self.size = mark

    def state(self) -> dict[str, Any]:
        """Return one row for each pair, sorted by user and item."""
        merged = self._merged({name: self.column(name) for name in _TYPES})
        rows = {name: merged[name].astype(dtype) for name, dtype in _TYPES.items()}
        return {"half_life": self.half_life, **rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.__init__(state["half_life"])  # type: ignore[misc]
        self.append(*(state[name] for name in _TYPES))

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["user"], users)
        rows = {name: state[name][kept] for name in _TYPES}
        self.load_state({**state, **rows, "user": moved})

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the rows of ``items`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["item"], items)
        rows = {name: state[name][kept] for name in _TYPES}
        self.load_state({**state, **rows, "item": moved})
