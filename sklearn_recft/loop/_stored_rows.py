"""Rows of the table of events, and the events that they hold."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from sklearn_recft.loop._errors import StoreError
from sklearn_recft.loop._events import (
    NOBODY,
    ColumnBatch,
    Columns,
    Event,
    as_json,
    from_json,
    json_of,
)

# A row of the table of events.
Row = tuple[Any, ...]
# The columns that an event is read from, which are the first ones of the table.
READ = (
    "seq",
    "event_id",
    "user_id",
    "item_id",
    "timestamp",
    "kind",
    "value",
    "list_id",
    "context",
    "clipped",
)
# Those that a model without context learns.
LEARNED = ("seq", "user_id", "item_id", "timestamp", "kind", "value")
CLIPPED = READ.index("clipped")


def row_of(event: Event, seq: int, now: float, late: float | None, future: float | None) -> Row:
    """Return a row: the columns `READ`, and the time of arrival.

    Parameters
    ----------
    event : Event
    seq : int
    now : float
        Time of arrival, in seconds since 1970.
    late, future : float or None
        How far the timestamp may lie before or after it.
    """
    timestamp, clipped = _clip(event.timestamp, now, late, future)
    user, item = as_json(event.user_id), as_json(event.item_id)
    own = (timestamp, event.kind, event.value, event.list_id, json_of(event.context), clipped)
    return seq, event.event_id, user, item, *own, now


def event_of(row: Any) -> Event:
    """Return the event of a row."""
    _, event_id, user, item, timestamp, kind, value, list_id, context, clipped = row[: len(READ)]
    try:
        past = json.loads(context) if context else {}
        user, item = from_json(user), from_json(item)
    except ValueError:
        raise StoreError(f"Event {row[0]} is damaged: restore the store from a copy.") from None
    return Event(event_id, user, item, timestamp, kind, value, list_id, past, clipped)


def columns_of(parts: Iterable[Sequence[Row]]) -> ColumnBatch | None:
    """Return rows of the columns `LEARNED`; None if one is a new item, or damaged.

    Parts of some hundred rows keep the collector of garbage from searching the whole process.
    """
    columns: list[list[Any]] = [[] for _ in LEARNED]
    for rows in parts:
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True):
            column += cells
    seq, users, items, *others = columns
    if NOBODY in users:
        return None
    try:
        own = list(map(from_json, users)), list(map(from_json, items))
    except ValueError:
        return None
    return ColumnBatch(np.array(seq, np.int64), Columns(*own, *others))


def exported(names: Any, row: Any) -> dict[str, Any]:
    """Return a row as a dict of plain values."""
    found = dict(zip(names, row, strict=True))
    for name in ("user_id", "item_id", "context"):
        if found.get(name) is not None:
            found[name] = json.loads(found[name])
    return found


def _clip(
    timestamp: float | None, now: float, late: float | None, future: float | None
) -> tuple[float, int]:
    """Move a time into the window around now; 1 if it was late, -1 if it lay in the future."""
    if timestamp is None:
        return now, 0
    if late is not None and timestamp < now - late:
        return now - late, 1
    if future is not None and timestamp > now + future:
        return now + future, -1
    return timestamp, 0
