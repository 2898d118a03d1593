"""Which items each query may list: the candidates, less those excluded and those seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import to_ids
from sklearn_recft.interactions import ITEM, USER, check_ids
from sklearn_recft.metrics import distinct
from sklearn_recft.models import FittedModel
from sklearn_recft.names import as_roles
from sklearn_recft.tables import is_frame
from sklearn_recft.vocabulary import Vocabulary, warn_of_other_types

# Queries whose seen items are laid out at a time; bounds memory whatever the query.
_QUERY_BLOCK = 16_384
# Queries whose own candidates are scored together, where that is less than all items for each.
_FEW_QUERIES = 32
# Candidates of queries that are laid out at a time, unless a few queries have more.
_PAIRS_AT_ONCE = 2**22
_NOTHING_SEEN = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int32))


@dataclass(frozen=True)
class Choice:
    """Item ids for all queries, or for the user of the same row.

    Attributes
    ----------
    name : {"candidates", "exclude"}
    items : ndarray of shape (n,)
    users : ndarray of shape (n,), or None
        None means all users.
    """

    name: str
    items: np.ndarray
    users: np.ndarray | None = None

    @classmethod
    def of(cls, given: Any, name: str) -> Choice | None:
        """Read item ids (1-d), or a frame with columns ``user_id`` and ``item_id``; or None."""
        if given is None:
            return None
        if is_pair_table(given, name):
            table = nw.from_native(given, eager_only=True)
            named = dict(zip(as_roles(table.columns), table.columns, strict=True))
            columns = {role: to_ids(table[named[role]], f"{name}: {role}") for role in (USER, ITEM)}
            return cls(name, columns[ITEM], columns[USER])
        return cls(name, check_ids(given, name))

    def codes(self, model: FittedModel, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return the item codes of rows, -1 for unknown items."""
        return model.items.encode(self.items[rows])

    def warn_of_types(self, users: np.ndarray, items: np.ndarray, stacklevel: int) -> None:
        """Warn where no id can be one of ``users`` or ``items``, by its type."""
        known, given = {f"{self.name}: {ITEM}": items}, {f"{self.name}: {ITEM}": self.items}
        if self.users is not None:
            known[f"{self.name}: {USER}"] = users
            given[f"{self.name}: {USER}"] = self.users
        warn_of_other_types(known, given, stacklevel=stacklevel + 1)


def is_pair_table(given: Any, name: str) -> bool:
    """Whether ``given`` is a frame with columns ``user_id`` and ``item_id``, else a list of ids.

    Raises
    ------
    ValueError
        It is a table without these columns.
    """
    if is_frame(given):
        table = nw.from_native(given, eager_only=True, allow_series=True)
        if isinstance(table, nw.Series):
            return False
        missing = [role for role in (USER, ITEM) if role not in as_roles(table.columns)]
        if not missing:
            return True
        raise ValueError(
            f"{name} has no column {' and no column '.join(missing)}: found "
            f"{[str(column) for column in table.columns]}. A table needs {USER} and {ITEM}; for "
            "the same items for all queries, pass one column of item ids."
        )
    kind = _unnamed_table(given)
    if kind:
        raise ValueError(
            f"{name} is {kind}: pass item ids (1-d) for all queries, or a frame with columns "
            f"{USER} and {ITEM} for items by user."
        )
    return False


def _unnamed_table(given: Any) -> str | None:
    """Say what ``given`` is, where it is neither a frame nor ids."""
    if not isinstance(given, (list, tuple, np.ndarray)):
        if nw.dependencies.is_into_lazyframe(given):
            return f"a {type(given).__name__}, not read yet (collect it)"
        if isinstance(given, Mapping):
            return "a dict"
    if isinstance(given, np.ndarray) and given.dtype.names is not None:
        return "a structured array"
    if isinstance(given, (list, tuple)):
        rows = len(given) > 0 and isinstance(given[0], (list, np.ndarray, Mapping))
        return "a list of rows" if rows else None
    dimensions = np.ndim(given) if hasattr(given, "__array__") else 1
    return f"a {dimensions}-d array" if dimensions > 1 else None


@dataclass(frozen=True)
class Offer:
    """What a block of queries may list.

    Attributes
    ----------
    columns : ndarray of shape (m,), int64
        Item codes, ascending.
    indptr, places : ndarray
        CSR layout of places in ``columns``, ascending in each row: those left out, or with
        ``among`` the only ones that count.
    among : bool
    sizes : ndarray of shape (n,)
        Number of eligible items of each query.
    """

    columns: np.ndarray
    indptr: np.ndarray
    places: np.ndarray
    among: bool
    sizes: np.ndarray


class Eligibility:
    """Which items each query may list, by blocks of queries.

    Parameters
    ----------
    model : FittedModel
    user_ids : ndarray of shape (n,)
        The user of each query.
    candidates, exclude : Choice or None
    exclude_seen : bool
    whole : bool
        Whether it is an error if a query has no candidates.
    """

    def __init__(
        self,
        model: FittedModel,
        user_ids: np.ndarray,
        candidates: Choice | None,
        exclude: Choice | None,
        exclude_seen: bool,
        whole: bool,
    ) -> None:
        self._model, self._exclude_seen = model, exclude_seen
        self._users = model.users.encode(user_ids)
        self._allowed: _ItemsOfUsers | None = None
        self._denied: _ItemsOfUsers | None = None
        self._asked: np.ndarray | None = None
        columns = _all_columns(model.n_items)
        if candidates is None and exclude is None:
            self._columns = self._place_of = columns
            return
        asked = Vocabulary()
        if _by_user(candidates, exclude):
            self._asked = asked.extend(user_ids)
        if candidates is not None:
            if candidates.users is None:
                columns = _candidates_of_all(model, candidates, whole)
            else:
                self._allowed = _candidates_of_users(model, candidates, asked)
                if whole:
                    _refuse_absent(self._allowed, asked)
        if exclude is not None:
            exclude.warn_of_types(user_ids, model.items.ids, stacklevel=4)
            if exclude.users is None:
                columns = np.setdiff1d(columns, exclude.codes(model))
            else:
                rows, users = _rows_of(exclude, asked)
                codes = exclude.codes(model, rows)
                known = codes >= 0
                self._denied = _ItemsOfUsers(users[known], codes[known], len(asked), model.n_items)
        self._columns = self._place_of = columns
        if len(columns) < model.n_items:
            self._place_of = np.full(model.n_items, -1, np.int64)
            self._place_of[columns] = np.arange(len(columns))

    @property
    def rows_at_once(self) -> int:
        """Number of queries of a block.

        A block scores all candidates of its queries for each of them. Few queries have few of
        them, if each has few.
        """
        if self._allowed is None:
            return _QUERY_BLOCK
        mean = max(self._allowed.mean(), 1.0)
        if 2 * _FEW_QUERIES * mean < len(self._columns):
            return _FEW_QUERIES
        return min(_QUERY_BLOCK, max(_FEW_QUERIES, int(_PAIRS_AT_ONCE / mean)))

    def users(self, rows: slice) -> np.ndarray:
        """Return the user codes of queries."""
        return self._users[rows]

    def block(self, rows: slice) -> Offer:
        """Return what the queries ``rows`` may list."""
        n, width = len(self._users[rows]), max(len(self._columns), 1)
        hidden = self._hidden(rows, n, width)
        if self._allowed is None:
            indptr, places = hidden
            sizes = len(self._columns) - (indptr[1:] - indptr[:-1])
            return Offer(self._columns, indptr, places, False, sizes)
        keys = self._keys(self._allowed, rows, width)
        indptr, places = _as_csr(_without(keys, _as_keys(*hidden, width)), n, width)
        # Of the candidates of any query, only these are scored.
        used = distinct(places)
        places = np.searchsorted(used, places).astype(np.int32)
        return Offer(self._columns[used], indptr, places, True, np.diff(indptr))

    def _hidden(self, rows: slice, n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the places that each query leaves out, seen or excluded, as CSR."""
        seen = self._model.seen
        log = (seen.last, seen.previous, seen.item) if self._exclude_seen else _NOTHING_SEEN
        indptr, places = kernels.gather_seen(self._users[rows], *log, self._place_of)
        if self._denied is None:
            return indptr, places
        keys = _as_keys(indptr, places, width), self._keys(self._denied, rows, width)
        return _as_csr(distinct(np.concatenate(keys)), n, width)

    def _keys(self, items: _ItemsOfUsers, rows: slice, width: int) -> np.ndarray:
        """Return the keys of the items of each query's user that have a place, ascending."""
        assert self._asked is not None
        indptr, codes = items.of(self._asked[rows])
        keys = _as_keys(indptr, self._place_of[codes], width)
        return keys[self._place_of[codes] >= 0]


@lru_cache(maxsize=1)
def _all_columns(n: int) -> np.ndarray:
    """Return the codes of all items, which nobody writes to; the last ones are kept."""
    return np.arange(n)


class _ItemsOfUsers:
    """Distinct item codes of each user of the queries, ascending, in the layout of CSR."""

    def __init__(self, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> None:
        self.indptr, self._items = _as_csr(distinct(users * n_items + items), n_users, n_items)

    def mean(self) -> float:
        """Return the mean number of items of a user."""
        return len(self._items) / max(len(self.indptr) - 1, 1)

    def of(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return ``indptr`` and codes of the items of users, which may repeat."""
        starts = self.indptr[users]
        counts = self.indptr[users + 1] - starts
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return indptr, self._items[np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], counts)]


def _as_keys(indptr: np.ndarray, places: np.ndarray, width: int) -> np.ndarray:
    """Return one number for each row and place of a CSR layout."""
    return np.repeat(np.arange(len(indptr) - 1), np.diff(indptr)) * width + places


def _as_csr(keys: np.ndarray, n: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending keys as a CSR layout of ``n`` rows."""
    rows, places = np.divmod(keys, width)
    return np.searchsorted(rows, np.arange(n + 1)), places.astype(np.int32)


def _without(keys: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return ascending keys that are not among ``hidden``, which ascend too."""
    if not len(hidden):
        return keys
    near = hidden[np.minimum(np.searchsorted(hidden, keys), len(hidden) - 1)]
    return keys[near != keys]


def _by_user(*choices: Choice | None) -> bool:
    return any(choice is not None and choice.users is not None for choice in choices)


def _rows_of(choice: Choice, asked: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a table whose users are queried, and these users by code."""
    users = asked.encode(choice.users)
    rows = np.flatnonzero(users >= 0)
    return rows, users[rows]


def _candidates_of_all(model: FittedModel, candidates: Choice, whole: bool) -> np.ndarray:
    if not len(candidates.items) and whole:
        raise ValueError("candidates is empty; give item ids, or None for the whole catalogue.")
    codes = candidates.codes(model)
    refuse_unknown(codes, candidates.items, "candidates")
    return np.unique(codes)


def _candidates_of_users(
    model: FittedModel, candidates: Choice, asked: Vocabulary
) -> _ItemsOfUsers:
    rows, users = _rows_of(candidates, asked)
    candidates.warn_of_types(asked.ids, model.items.ids, stacklevel=5)
    codes = candidates.codes(model, rows)
    refuse_unknown(codes, candidates.items[rows], "candidates")
    return _ItemsOfUsers(users, codes, len(asked), model.n_items)


def refuse_unknown(codes: np.ndarray, ids: np.ndarray, name: str) -> None:
    """Raise where an item of the argument ``name`` has no code."""
    unknown = ids[codes < 0].tolist()
    if unknown:
        raise ValueError(
            f"{name}: {len(unknown)} of {len(ids)} items are unknown, the first "
            f"is {unknown[0]!r}; choose from item_ids_."
        )


def _refuse_absent(items: _ItemsOfUsers, asked: Vocabulary) -> None:
    absent = np.flatnonzero(np.diff(items.indptr) == 0)
    if len(absent):
        (user,) = asked.ids[absent[:1]].tolist()
        raise ValueError(
            f"candidates has no rows for {len(absent)} of {len(asked)} queried users, the first "
            f"is {user!r}; add rows for them, or pass on_missing='pad' for empty lists."
        )
