"""Lists of ids, however ragged, as flat arrays; and one value per list, with its mean."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from sklearn.utils import check_consistent_length

from sklearn_recft.vocabulary import Vocabulary

Lists = Sequence[Collection[Hashable]]
ItemValues = Mapping[Hashable, Any] | tuple[Any, Any]


def check_k(k: int) -> None:
    """Raise where no place of a list would count."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")


def check_same_queries(lists: Lists, name: str, recommended: Any) -> None:
    """Raise unless there are as many collections as recommended lists."""
    if len(lists) != len(recommended):
        raise ValueError(
            f"{name} has {len(lists)} queries and recommended has {len(recommended)}: "
            "one collection and one list per query are needed."
        )


def flatten(lists: Any, name: str, k: int | None = None) -> tuple[np.ndarray, np.ndarray, Any]:
    """Row, place and id of every element of ``lists``, each list cut after ``k``.

    The ids come as an array of numbers or strings, or as a list of any hashables: both are
    what a ``Vocabulary`` reads fastest.
    """
    if isinstance(lists, np.ndarray) and lists.ndim == 2:
        cut = lists[:, :k]
        query, place = np.indices(cut.shape).reshape(2, -1)
        return query, place, cut.ravel().tolist() if cut.dtype == object else cut.ravel()
    _check_rows(lists, name)
    rows = [row[:k] if isinstance(row, (np.ndarray, list)) else list(row)[:k] for row in lists]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    query = np.repeat(np.arange(len(rows)), lengths)
    place = np.arange(len(query)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return query, place, _joined([row for row in rows if len(row)])


def distinct(keys: np.ndarray) -> np.ndarray:
    """Sort keys of 0 or more, each once; ``np.unique`` takes ten times as long for this."""
    ordered = np.sort(keys)
    return ordered[np.diff(ordered, prepend=-1) != 0]


def shown(items: Vocabulary, lists: Any, name: str, k: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Query and code of the distinct items of each list, queries ascending; `items` grows."""
    if k is not None:
        check_k(k)
    query, _, ids = flatten(lists, name, k)
    code = items.extend(ids)
    keys = distinct(query * max(len(items), 1) + code)
    query, code = np.divmod(keys, max(len(items), 1))
    return query, code


def item_values(table: ItemValues, name: str) -> tuple[Vocabulary, Any]:
    """Items and what belongs to each, in the same order."""
    if isinstance(table, Mapping):
        table = list(table), list(table.values())
    try:
        ids, values = table
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be a mapping from item id to value, or a pair (item_ids, values), "
            f"got {type(table).__name__}."
        ) from error
    check_consistent_length(ids, values)
    items = Vocabulary(ids)
    if len(items) < len(ids):
        raise ValueError(
            f"{name}: {len(ids)} rows for {len(items)} items; give each item one value."
        )
    return items, values


def mean_of_defined(values: np.ndarray, counts: np.ndarray, vector: bool) -> Any:
    """Per-user values, NaN where ``counts`` is 0; or their mean over the others."""
    defined = counts > 0
    if vector:
        return np.where(defined, values, np.nan)
    return float(values[defined].mean()) if defined.any() else float("nan")


def _check_rows(lists: Any, name: str) -> None:
    for kind in set(map(type, lists)):
        # A string is a collection too, but of letters: one flat list of ids comes this way.
        if issubclass(kind, (str, bytes)) or not issubclass(kind, Collection):
            raise ValueError(
                f"{name} must hold one collection of ids per query, but it holds a value of "
                f"type {kind.__name__}; for one query write [[...]]."
            )
    if any(isinstance(row, np.ndarray) and row.ndim != 1 for row in lists):
        raise ValueError(
            f"{name} holds arrays that are not 1-d; give one list per query (of what "
            "`recommend` returns the items alone, not the scores)."
        )


def _joined(rows: list[Any]) -> Any:
    if rows and all(isinstance(row, np.ndarray) for row in rows):
        kinds = {row.dtype for row in rows}
        # Arrays of unlike types would be turned into one type, numbers into strings.
        if len(kinds) == 1 and kinds != {np.dtype(object)}:
            return np.concatenate(rows)
    return list(
        chain.from_iterable(row.tolist() if isinstance(row, np.ndarray) else row for row in rows)
    )
