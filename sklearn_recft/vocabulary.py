"""Ids to codes and back, append-only: a code, once given, never changes."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Mapping
from datetime import date, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np

from sklearn_recft.columns import instants

# A table indexed by the integer id itself is the fastest index there is. It is kept while
# the ids are dense enough that it stays within these many slots per id (plus a floor).
_SLOTS_PER_ID = 8
_FREE_SLOTS = 4096

# Rows of a call in which names among numbers are guests, not ids of another type by mistake.
_FEW = 10


# Types of ids whose subclasses, such as those of pandas, may be equal to them.
_KINDS = {
    str: "strings",
    datetime: "datetimes",
    np.datetime64: "datetimes",
    timedelta: "durations",
    np.timedelta64: "durations",
}


# Types of ids that a state holds as plain values.
_PLAIN = (
    type(None), bool, int, float, str, bytes, tuple, date, datetime, timedelta, np.generic,
)  # fmt: skip


class IdTypeWarning(UserWarning):
    """The ids of a call are of another type than all known ones, so that none is known."""


def warn_of_other_types(
    known: Mapping[str, np.ndarray | None],
    given: Mapping[str, np.ndarray],
    *,
    stacklevel: int = 2,
) -> None:
    """Warn, once for all columns, where no id of a call can be known because of its type.

    Numbers and strings are never equal: ``7`` is known, ``"7"`` is not. Unknown ids of the type
    of the known ones are not warned of, nor are names such as ``"guest"`` among numbered users
    where they are few, or the items known.

    Parameters
    ----------
    known : dict of str to ndarray, or to None
        What a column is called, and all its known ids, if any are.
    given : dict of str to ndarray
        The ids of the call, of some of these columns.

    Warns
    -----
    IdTypeWarning
        If the ids of a column have no type in common with the known ones. Where strings that
        spell no number meet numbers: if that is so in all columns, and in more than 10 rows.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from sklearn_recft.vocabulary import warn_of_other_types
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_other_types({"user_id": np.array([7, 8])}, {"user_id": np.array(["7"])})
    >>> print(caught[0].message)
    user_id: none of 1 rows is known: these ids are strings, the known ones are numbers. ...
    """
    differing = {}
    for name, ids in given.items():
        of_fit = known.get(name)
        if of_fit is not None and _differ(of_fit, ids):
            differing[name] = of_fit, ids
    if not differing:
        return
    told = [
        f"{name}: none of {len(ids)} rows is known: these ids are {_spelled(ids)}, the known ones "
        f"are {_spelled(of_fit)}"
        for name, (of_fit, ids) in differing.items()
        if not _are_names(ids, of_fit) or (len(differing) == len(given) and len(ids) > _FEW)
    ]
    if told:
        warnings.warn(
            f"{'; '.join(told)}. Give ids of the type that fit was given.",
            IdTypeWarning,
            stacklevel=stacklevel + 1,
        )


def _differ(known: np.ndarray, ids: np.ndarray) -> bool:
    if not len(known) or not len(ids):
        return False
    if known.dtype == ids.dtype and ids.dtype != object:
        return False
    theirs = _kinds(ids)
    # All known ids are looked through only where the first of them is of another type.
    return theirs.isdisjoint(_kinds(known[:1])) and theirs.isdisjoint(_kinds(known))


def _are_names(ids: np.ndarray, known: np.ndarray) -> bool:
    """Whether ids are names, such as 'guest', where numbers are known."""
    texts = ids[:100].tolist()
    return _kinds(known[:1]) == {"numbers"} and any(
        isinstance(text, str) and not text.strip("-").isdecimal() for text in texts
    )


def _kinds(ids: np.ndarray) -> set[str]:
    """Kinds of ids that may be equal to each other: 'numbers', 'strings' or the name of a type."""
    if ids.dtype.kind in "iufb":
        return {"numbers"}
    if ids.dtype.kind == "U":
        return {"strings"}
    if ids.dtype.kind in "Mm":
        ids = instants(ids)
    return set(map(_kind, set(map(type, ids.tolist()))))


def _kind(type_: type) -> str:
    for kind, name in _KINDS.items():  # numbers last: a timedelta64 is a number to numpy
        if issubclass(type_, kind):
            return name
    numbers = issubclass(type_, (int, float, np.number, np.bool_))
    return "numbers" if numbers else type_.__name__


def _spelled(ids: np.ndarray) -> str:
    return " and ".join(sorted(_kinds(ids)))


class Vocabulary:
    """Append-only map between ids (any hashable) and codes ``0 .. n - 1``.

    Codes are given in order of first appearance and never change, so model rows addressed
    by code survive growth. Ids that are dense integers are looked up in an array indexed
    by the id, everything else in a dictionary; the switch is automatic and one-way.

    Parameters
    ----------
    ids : iterable of hashables, default=()
        First ids, in order.

    Examples
    --------
    >>> from sklearn_recft.vocabulary import Vocabulary
    >>> items = Vocabulary(["tea", "milk"])
    >>> items.extend(["milk", "rice"])
    array([1, 2])
    >>> items.encode(["rice", "salt"])
    array([ 2, -1])
    >>> items.decode([0, 2])
    array(['tea', 'rice'], dtype=object)
    """

    def __init__(self, ids: Iterable[Hashable] = ()) -> None:
        self._size = 0
        self._ids: np.ndarray = np.empty(0, np.int64)
        self._low = 0
        self._table: np.ndarray | None = np.empty(0, np.int32)
        self._index: dict[Hashable, int] = {}
        values = ids if isinstance(ids, np.ndarray) else list(ids)
        if len(values):
            self.extend(values)

    def __len__(self) -> int:
        return self._size

    @property
    def ids(self) -> np.ndarray:
        """All ids in code order, shape (n,): int64 where all are integers, else object."""
        size = self._size  # first: ids that another thread adds are not all there yet
        view = self._ids[:size]
        view.flags.writeable = False
        return view

    def encode(self, ids: Any) -> np.ndarray:
        """Codes of ``ids``, shape (n,), int64; -1 where an id is unknown."""
        values = _as_values(ids)
        if self._table is None:
            return self._encode_by_index(values)
        if values.dtype == np.int64:
            return self._encode_by_table(values)
        if not self._size:
            return np.full(len(values), -1, np.int64)
        found = (self._encode_by_table(_one_integer(v)) for v in values.tolist())
        return np.fromiter((c[0] if c.size else -1 for c in found), np.int64, len(values))

    def code(self, value: int | str) -> int:
        """Code of one id, -1 if it is unknown; `encode` takes many, of any type."""
        table = self._table
        if table is None:
            return self._index.get(value, -1)
        slot = value - self._low if isinstance(value, int) else -1
        return table.item(slot) if 0 <= slot < len(table) else -1

    def add(self, value: int | str) -> int:
        """Add one new id of the type of the known ones; return its code. `extend` takes any."""
        size, table = self._size, self._table
        slot = value - self._low if table is not None and isinstance(value, int) else -1
        if size == len(self._ids) or (table is not None and not 0 <= slot < len(table)):
            self._append(_as_values([value]))
            return size
        self._ids[size] = value  # in the order of `_append`
        self._size = size + 1
        if table is None:
            self._index[value] = size
        else:
            table[slot] = size
        return size

    def extend(self, ids: Any) -> np.ndarray:
        """Encode ``ids`` and add those that are new, in order of first appearance."""
        values = _as_values(ids)
        codes = self.encode(values)
        unknown = codes < 0
        if not unknown.any():
            return codes
        new = self._first_of_each(values[unknown])
        if new is not None:
            self._append(new)
            return self.encode(values)
        new, inverse = _unique_in_order(values[unknown])
        codes[unknown] = inverse + self._size
        self._append(new)
        return codes

    def decode(self, codes: Any) -> np.ndarray:
        """Ids behind ``codes`` (any shape; every code must be known)."""
        return self.ids[np.asarray(codes, dtype=np.int64)]

    def mark(self) -> int:
        """Return what `restore` needs to undo growth from here on."""
        return self._size

    def restore(self, mark: int) -> None:
        """Remove every id that was added since ``mark``."""
        size = mark
        gone = self._ids[size : self._size]
        if self._table is None:
            for value in gone.tolist():
                self._index.pop(value, None)
        else:
            self._table[gone - self._low] = -1
        if self._ids.dtype == object:
            self._ids = _from_sequence(self._ids[:size].tolist())  # int64 again, if it was
        self._size = min(size, self._size)

    # ------------------------------------------------------------------ private

    def _encode_by_table(self, values: np.ndarray) -> np.ndarray:
        table = self._table
        if table is None or not len(table) or not len(values):
            return np.full(len(values), -1, np.int64)
        # Below the first slot, a difference wraps around to a large number without a sign.
        slots = values - self._low
        unsigned = slots.view(np.uint64)
        if unsigned.max() < len(table):
            return table[slots].astype(np.int64)
        inside = unsigned < len(table)
        return np.where(inside, table[np.where(inside, slots, 0)], -1).astype(np.int64)

    def _encode_by_index(self, values: np.ndarray) -> np.ndarray:
        inverse = None
        if values.dtype == np.int64 and len(values) > 64:
            # Few ids make many rows: one dictionary look-up per distinct id.
            values, inverse = np.unique(values, return_inverse=True)
        get = self._index.get
        codes = np.fromiter((get(v, -1) for v in values.tolist()), np.int64, len(values))
        return codes if inverse is None else codes[inverse]

    def _first_of_each(self, values: np.ndarray) -> np.ndarray | None:
        """Distinct new ids in order of first appearance, if the table can hold them.

        Each id's slot takes the last place written to it, so places are written backwards.
        """
        if self._table is None or not self._fits_table(values):
            return None
        slots, places = values - self._low, np.arange(len(values), dtype=np.int32)
        # Not the table itself, where an interrupt would leave places as codes; of this one only
        # the slots just written are read.
        scratch = np.empty(len(self._table), np.int32)
        scratch[slots[::-1]] = places[::-1]
        return values[scratch[slots] == places]

    def _append(self, new: np.ndarray) -> None:
        if self._table is not None and not self._fits_table(new):
            self._index = dict(zip(self.ids.tolist(), range(self._size), strict=True))
            self._table = None
        if new.dtype != self._ids.dtype and self._ids.dtype != object:
            self._ids = self._ids[: self._size].astype(object)
        size = self._size + len(new)
        if size > len(self._ids):
            grown = np.empty(max(size, len(self._ids) * 3 // 2), self._ids.dtype)
            grown[: self._size] = self._ids[: self._size]
            self._ids = grown
        # The ids first: should the rest be interrupted, `restore` finds what to take back.
        self._ids[self._size : size] = new
        self._size = size
        if self._table is None:
            self._index.update(zip(new.tolist(), range(size - len(new), size), strict=True))
        else:
            self._table[new - self._low] = np.arange(size - len(new), size)

    def _fits_table(self, new: np.ndarray) -> bool:
        """Widen the table to hold ``new``; False where it would be too sparse."""
        if new.dtype != np.int64 or self._table is None:
            return False
        low, high = int(new.min()), int(new.max())
        if len(self._table):
            low, high = min(low, self._low), max(high, self._low + len(self._table) - 1)
        span = high - low + 1
        if span > _SLOTS_PER_ID * (self._size + len(new)) + _FREE_SLOTS:
            return False
        if span > len(self._table):
            # Half as much again, on the side that grew, keeps growth amortised.
            slack = len(self._table) // 2
            below = min(slack, low + 2**63) if low < self._low and len(self._table) else 0
            above = 0 if below else slack
            table = np.full(span + below + above, -1, np.int32)
            if len(self._table):
                start = self._low - (low - below)
                table[start : start + len(self._table)] = self._table
            self._table, self._low = table, low - below
        return True

    def state(self) -> dict[str, Any]:
        """Return the ids in code order: an int64 array, or a list of strings, numbers and the like.

        Ids of other types, such as `uuid.UUID`, are an array of objects.
        """
        ids = self._ids[: self._size]
        if ids.dtype == np.int64:
            return {"ids": ids.copy()}
        listed = ids.tolist()
        return {"ids": listed if _are_plain(listed) else ids.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Become the vocabulary that `state` described."""
        if self._load_integers(state["ids"]):
            return
        self.__init__(state["ids"])  # type: ignore[misc]
        if self._size != len(state["ids"]):
            raise ValueError(f"{len(state['ids']) - self._size} ids are there twice.")

    def _load_integers(self, ids: Any) -> bool:
        """Become the vocabulary of distinct integers that a table can hold, if these are so.

        This does what `extend` does, in a fraction of its time.
        """
        if not isinstance(ids, np.ndarray) or ids.dtype != np.int64 or not ids.size:
            return False
        self.__init__()  # type: ignore[misc]
        if not self._fits_table(ids) or self._table is None:
            return False
        slots, codes = ids - self._low, np.arange(len(ids), dtype=np.int32)
        self._table[slots] = codes
        if not np.array_equal(self._table[slots], codes):
            return False  # an id is there twice
        self._ids, self._size = np.array(ids), len(ids)
        return True

    def forget(self, codes: np.ndarray) -> None:
        """Remove the ids of ``codes``, and renumber the others to close the gaps."""
        ids = np.delete(self.ids, codes)
        if ids.dtype == object:
            ids = _from_sequence(ids.tolist())  # int64, if only integers are left
        self.load_state({"ids": ids})

    def __repr__(self) -> str:
        return f"Vocabulary(n={self._size})"


def _are_plain(ids: list[Any]) -> bool:
    """Whether ids are of types that a file can hold without naming a class.

    Times of pandas with nanoseconds are not.
    """
    kinds = set(map(type, ids))
    if not all(issubclass(kind, _PLAIN) for kind in kinds):
        return False
    if any(issubclass(kind, tuple) for kind in kinds):
        cells = chain.from_iterable(v for v in ids if isinstance(v, tuple))
        if not _are_plain(list(cells)):
            return False
    if kinds.issubset(_PLAIN):
        return True
    return not any(getattr(v, "nanosecond", 0) or getattr(v, "nanoseconds", 0) for v in ids)


def _as_values(ids: Any) -> np.ndarray:
    """Return a 1-d array, int64 where every id is an integer, else of Python objects."""
    values = ids if isinstance(ids, np.ndarray) else _from_sequence(ids)
    if values.dtype == np.int64:
        return values
    if values.dtype.kind in "iu" and values.dtype != np.uint64:
        return values.astype(np.int64)
    if values.dtype.kind in "Mm":
        return instants(values)
    return values if values.dtype == object else _from_sequence(values.tolist())


def _from_sequence(ids: Any) -> np.ndarray:
    listed = ids if isinstance(ids, list) else list(ids)
    kinds = set(map(type, listed))
    if any(issubclass(kind, np.generic) for kind in kinds):
        listed = [_own(v) if isinstance(v, np.generic) else v for v in listed]
        kinds = set(map(type, listed))
    if kinds <= {int}:
        try:
            return np.array(listed, np.int64)
        except OverflowError:
            pass  # integers beyond 64 bits are ids like any other hashable
    return np.fromiter(listed, object, len(listed))  # a slice set to times of numpy gets integers


def _own(value: np.generic) -> Any:
    """Return a scalar of numpy as one of Python, if there is one that says the same."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return instants(np.array([value]))[0]
    return value.item()


def _one_integer(value: Any) -> np.ndarray:
    """``[value]`` where it equals an integer of 64 bits, else an empty array."""
    if isinstance(value, np.generic):
        value = _own(value)
    number = isinstance(value, (int, float)) and -(2**63) <= value < 2**63
    if number and value == int(value):
        return np.array([int(value)], np.int64)
    return np.empty(0, np.int64)


def _unique_in_order(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values in order of first appearance, and each row's place among them."""
    if values.dtype == np.int64:
        distinct, first, inverse = np.unique(values, return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return distinct[order], rank[inverse]
    places: dict[Hashable, int] = {}
    inverse = np.fromiter(
        (places.setdefault(v, len(places)) for v in values.tolist()), np.int64, len(values)
    )
    return np.fromiter(places, object, len(places)), inverse
