"""Tables of requests, in the form that the model was fitted on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.tables import of_rows

Answer = TypeVar("Answer")


def as_ids(ids: Sequence[Any]) -> np.ndarray:
    """Return ids as an array that keeps their types, shape (n,)."""
    return np.fromiter(ids, object, len(ids))


def event_table(rows: Sequence[Any]) -> Any:
    """Return a table of users, items and, if any row has one, times.

    Parameters
    ----------
    rows : sequence of messages
        With ``user_id``, ``item_id``, ``timestamp`` and optionally ``context``.
    """
    return _table(rows, (USER, ITEM), timed=any(row.timestamp is not None for row in rows))


def query_table(queries: Sequence[Any]) -> Any:
    """Return a table of queries: users and, if given, times, search words and context."""
    return _table(queries, (USER,), timed=any(one.timestamp is not None for one in queries))


class RowForm:
    """Whether rows of the model need times: found out with the first call.

    A request may leave out times. A model that was fitted with times then takes the time of now.
    """

    def __init__(self) -> None:
        self._timed = False

    def call(self, function: Callable[[Any], Answer], rows: Sequence[Any]) -> Answer:
        """Return ``function(table)`` of rows, with times if it needs them."""
        if self._timed or any(row.timestamp is not None for row in rows):
            return function(_table(rows, (USER, ITEM), timed=True))
        try:
            return function(_table(rows, (USER, ITEM), timed=False))
        except ValueError:
            answer = function(_table(rows, (USER, ITEM), timed=True))
        self._timed = True
        return answer


def _table(rows: Sequence[Any], names: tuple[str, ...], *, timed: bool) -> Any:
    now = time.time()
    columns: dict[str, list[Any]] = {n: [getattr(row, n) for row in rows] for n in names}
    if timed:
        columns[TIME] = [now if row.timestamp is None else row.timestamp for row in rows]
    further = list(dict.fromkeys(key for row in rows for key in _further(row)))
    if not further:
        return of_rows(list(zip(*columns.values(), strict=True)))
    for name in further:
        columns[name] = [_further(row).get(name) for row in rows]
    return _frame(columns)


def _further(row: Any) -> dict[str, Any]:
    """Return the context of a row, and its search words."""
    found = dict(getattr(row, "context", None) or {})
    words = getattr(row, "query", None)
    return found if words is None else {**found, "query": words}


def _frame(columns: dict[str, list[Any]]) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("Context and search words need a data frame: install pandas.") from error
    return pandas.DataFrame(columns)
