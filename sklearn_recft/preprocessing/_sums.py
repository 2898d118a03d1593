"""State of features that are made of a stream: sums by key, and codes of the values of columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.vocabulary import Vocabulary

_FREE = 8  # smallest number of slots; always at least twice the number of keys
# When keys are dropped, this share of the largest number stays: dropping takes a pass over all.
_KEPT = 0.8


@dataclass(init=False, repr=False, eq=False)  # so that `trusted_types` lists it
class Sums:
    """Sums over the events of each key, for rows strictly after them.

    Parameters
    ----------
    n_sums : int
        Number of values of each event.
    half_lives : sequence of float
        Days; the sums are also kept with these time decays.

    Attributes
    ----------
    n_keys : int
    """

    def __init__(self, n_sums: int, half_lives: tuple[float, ...] = ()) -> None:
        self.n_sums = n_sums
        self.half_lives = half_lives
        self.n_keys = 0
        self._slots = np.empty(0, np.int64)
        self._undo: _Undo | None = None
        self._load(np.empty(0, np.int64), np.empty((0, self._width)))

    @property
    def _width(self) -> int:
        return kernels.TIMES + self.n_sums * (2 + len(self.half_lives))

    def update(
        self, keys: np.ndarray, times: np.ndarray, values: np.ndarray, counted: np.ndarray
    ) -> np.ndarray:
        """Return `transform` of each row as of its own time, then add its values.

        Parameters
        ----------
        keys : ndarray of shape (n,), int64
            At least 0; -1 is a row without a key, which is not counted.
        times : ndarray of shape (n,)
            Seconds, ascending.
        values : ndarray of shape (n, n_sums)
        counted : ndarray of shape (n,), bool
            Rows to add; the others are only described.
        """
        places = np.empty(len(keys), np.int64)
        row = 0
        while row < len(keys):
            row, self.n_keys = kernels.add_keys(
                keys, row, self.n_keys, self._slots, self._keys, places
            )
            if row < len(keys):
                self._reserve(max(2 * len(self._keys), _FREE))
        out = np.empty((len(keys), kernels.GAPS + self.n_sums * (1 + len(self.half_lives))))
        # One layout of arrays: each other one would be compiled.
        times, values = np.array(times, np.float64), np.array(values, np.float64, order="C")
        if self._undo is not None:
            self._undo.save(self._state, places)
        kernels.update_sums(places, times, values, counted, self._seconds, self._state, out)
        return out

    def transform(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return what is known of each key before a time; unknown keys (-1) have no events.

        Returns
        -------
        found : ndarray of shape (n, 2 + n_sums * (1 + n_half_lives))
            Seconds since the newest and the first event, infinite without one; sums; decayed sums.
        """
        places = np.empty(len(keys), np.int64)
        kernels.find_keys(keys, self._slots, self._keys, places)
        out = np.empty((len(keys), kernels.GAPS + self.n_sums * (1 + len(self.half_lives))))
        times = np.array(times, np.float64)  # one layout: each other one would be compiled
        kernels.transform_sums(places, times, self._seconds, self.n_sums, self._state, out)
        return out

    def bound(self, max_keys: int | None) -> None:
        """Drop the keys with the oldest newest events, if there are more than ``max_keys``."""
        if max_keys is None or self.n_keys <= max_keys:
            return
        newest = self._state[: self.n_keys, 1]
        kept = np.sort(np.argsort(-newest, kind="stable")[: max(int(_KEPT * max_keys), 1)])
        self._load(self._keys[kept], self._state[kept])

    def mark(self) -> _Undo:
        """Return what `restore` needs; until `release`, rows are saved before they change."""
        self._undo = _Undo(self._keys, self._state, self._slots, self.n_keys)
        return self._undo

    def restore(self, mark: _Undo) -> None:
        """Undo all changes since ``mark``."""
        self._keys, self._state, self.n_keys = mark.keys, mark.state, mark.n_keys
        for places, rows in reversed(mark.saved):
            mark.state[places] = rows
        mark.state[mark.n_keys :] = self._nothing
        self._slots = mark.slots
        self._slots[:] = -1
        kernels.link_keys(self.n_keys, self._slots, self._keys)

    def release(self) -> None:
        """Keep all changes since `mark`."""
        self._undo = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "n_sums": self.n_sums,
            "half_lives": list(self.half_lives),
            "keys": self._keys[: self.n_keys].copy(),
            "state": self._state[: self.n_keys].copy(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.n_sums, self.half_lives = state["n_sums"], tuple(state["half_lives"])
        self._undo = None
        keys, sums = state["keys"], state["state"]
        if keys.dtype != np.int64 or sums.dtype != np.float64 or keys.min(initial=0) < 0:
            raise ValueError("sums by key: keys must be integers of at least 0, and sums float64.")
        if sums.shape != (keys.size, self._width) or keys.ndim != 1:
            raise ValueError(
                f"sums by key: the shape is {sums.shape}, and must be {(keys.size, self._width)}."
            )
        self._load(keys.copy(), sums.copy())

    def _load(self, keys: np.ndarray, state: np.ndarray) -> None:
        self._seconds = np.array(self.half_lives, np.float64) * SECONDS_PER_DAY
        self._keys, self._state, self.n_keys = keys, state, len(keys)
        self._reserve(max(len(keys), _FREE))

    def _reserve(self, capacity: int) -> None:
        """Make room for ``capacity`` keys."""
        keys, state = np.empty(capacity, np.int64), np.empty((capacity, self._width))
        state[len(self._state) :] = self._nothing
        keys[: self.n_keys] = self._keys[: self.n_keys]
        state[: len(self._state)] = self._state
        slots = np.full(1 << (2 * capacity - 1).bit_length(), -1, np.int64)
        kernels.link_keys(self.n_keys, slots, keys)
        self._keys, self._state, self._slots = keys, state, slots

    @property
    def _nothing(self) -> np.ndarray:
        """State of a key without events."""
        return np.r_[np.inf, -np.inf, -np.inf, np.zeros(self._width - kernels.TIMES)]


@dataclass(eq=False)
class _Undo:
    """Tables of `Sums` as they were, and rows of them before they changed."""

    keys: np.ndarray
    state: np.ndarray
    slots: np.ndarray
    n_keys: int
    saved: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def save(self, state: np.ndarray, places: np.ndarray) -> None:
        """Save rows of a table, if it is still the one of the mark."""
        if state is not self.state:
            return
        rows = np.unique(places)
        rows = rows[(rows >= 0) & (rows < self.n_keys)]
        self.saved.append((rows, state[rows]))


@dataclass(frozen=True)
class Lists:
    """Codes of the values of a column: any number of them in each row.

    Attributes
    ----------
    starts : ndarray of shape (n + 1,), int64
        Where the values of each row begin.
    codes : ndarray of shape (starts[n],), int64
        -1 is an unknown value.
    """

    starts: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, codes: np.ndarray) -> Lists:
        """Return lists of one value for each row, or none where a code is -1."""
        known = codes >= 0
        if known.all():
            return cls(np.arange(len(codes) + 1), codes)
        return cls(np.concatenate([[0], np.cumsum(known)]), codes[known])

    def times(self, other: Lists) -> Lists:
        """Return every pair of a value and another value of each row, as one number."""
        counts = np.diff(self.starts) * np.diff(other.starts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        codes = np.empty(starts[-1], np.int64)
        kernels.cross_lists(self.starts, self.codes, other.starts, other.codes, starts, codes)
        return Lists(starts, codes)


@dataclass(eq=False)
class Codes:
    """Codes of the values of a column, in the order of their first appearance."""

    values: Vocabulary = field(default_factory=Vocabulary)

    def extend(self, cells: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        """Return the code (n,) of each cell, and add values that are new; -1 where missing."""
        return _by_distinct(self.values.extend, cells, missing)

    def mark(self) -> int:
        """Return what `restore` needs."""
        return self.values.mark()

    def restore(self, mark: int) -> None:
        """Remove the values that were added since ``mark``."""
        self.values.restore(mark)

    def release(self) -> None:
        """Keep the values that were added; there is nothing to do."""

    def encode(self, cells: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        """Return the code (n,) of each cell; -1 where it is missing or unknown."""
        return _by_distinct(self.values.encode, cells, missing)

    def lists(self, cells: np.ndarray, missing: np.ndarray | None, *, learning: bool) -> Lists:
        """Return the codes of each cell; new values get one if ``learning``."""
        return Lists.of((self.extend if learning else self.encode)(cells, missing))

    def __getstate__(self) -> dict[str, Any]:
        return {"values": self.values.state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.values = Vocabulary()
        self.values.load_state(state["values"])


@dataclass(eq=False)
class SeparatedCodes(Codes):
    """Codes of the values of a column of texts, each of several values with a separator between."""

    separator: str = "|"

    def lists(self, cells: np.ndarray, missing: np.ndarray | None, *, learning: bool) -> Lists:
        """Return the codes of each cell; new values get one if ``learning``."""
        distinct = Vocabulary()
        places = Codes(distinct).extend(cells, missing)
        read = self.values.extend if learning else self.values.encode
        members = [read(_split(cell, self.separator)) for cell in distinct.ids.tolist()]
        return _gathered(members, places)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "separator": self.separator}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.separator = state["separator"]


def _by_distinct(
    encode: Callable[[Any], np.ndarray], cells: np.ndarray, missing: np.ndarray | None
) -> np.ndarray:
    """Encode cells, each distinct text once; -1 where they are missing."""
    known = cells if missing is None else cells[~missing]
    if known.dtype == object:
        listed = known.tolist()
        index = dict.fromkeys(listed)
        distinct = np.fromiter(index, object, len(index))
        codes_of = dict(zip(index, encode(distinct).tolist(), strict=True))
        codes = np.fromiter(map(codes_of.__getitem__, listed), np.int64, len(listed))
    else:
        codes = encode(known)
    if missing is None:
        return codes
    spread = np.full(len(missing), -1, np.int64)
    spread[~missing] = codes
    return spread


def _split(cell: str, separator: str) -> list[str]:
    """Return the distinct values of a cell, in their order."""
    return list(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))


def _gathered(members: list[np.ndarray], places: np.ndarray) -> Lists:
    """Return the values of each row: those of the place of its cell, none for -1."""
    lengths = np.array([*map(len, members), 0], np.int64)
    firsts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    flat = np.concatenate([*members, np.empty(0, np.int64)]).astype(np.int64)
    counts = lengths[places]
    starts = np.concatenate([[0], np.cumsum(counts)])
    shift = np.repeat(firsts[places] - starts[:-1], counts)
    return Lists(starts, flat[np.arange(starts[-1]) + shift])
