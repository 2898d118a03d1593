"""Few statements for many rows: what a commit of events and lists consists of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_recft.loop._events import Event, EventBatch
from sklearn_recft.loop._schema import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

# Largest number of rows of one statement: SQLite of any build takes 999 values.
_MOST_ROWS = 64
# Rows that are fetched at once.
_FETCHED = 256
# Events that are kept for the thread that learns, and seconds for which they are.
_MOST_EVENTS, _SECONDS = 8192, 1.0


def pieces(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield slices of at most so many values."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def insert_rows(
    connection: Connection, name: str, rows: Sequence[tuple[Any, ...]], most: int = _MOST_ROWS
) -> None:
    """Insert rows, with a value for each column.

    The driver of SQLite lets other threads run before each call of a statement, and then waits for
    its turn. So SQLite gets many rows with one call; their numbers are powers of two, because it
    keeps a few statements compiled.

    Parameters
    ----------
    connection : Connection
    name : str
        Name of the table.
    rows : sequence of tuple
    most : int, default=64
        Largest number of rows of one statement.
    """
    table = tables()[name]
    if connection.dialect.name != "sqlite":
        names = [column.name for column in table.columns]
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            connection.execute(table.insert(), [dict(zip(names, r, strict=True)) for r in part])
        return
    for part in _in_powers(rows, min(most, _MOST_ROWS)):
        values = tuple(value for row in part for value in row)
        connection.exec_driver_sql(_insertion(name, len(part)), values)


def event_parts(
    connection: Connection, names: Sequence[str], after: int, until: int
) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Yield columns of the events of ``(after, until]``, in order and some rows at a time.

    The rows of the driver of SQLite are read in half the time that those of SQLAlchemy take.
    """
    from sqlalchemy import select

    event = tables().event
    if connection.dialect.name != "sqlite":
        query = select(*[event.c[name] for name in names]).order_by(event.c.seq)
        query = query.where(event.c.seq > after, event.c.seq <= until)
        yield from connection.execute(query).partitions(_FETCHED)
        return
    wanted = ", ".join(f'"{name}"' for name in names)
    text = f'SELECT {wanted} FROM "event" WHERE "seq" > ? AND "seq" <= ? ORDER BY "seq"'
    cursor: Any = connection.connection.cursor()
    try:
        cursor.execute(text, (after, until))
        while rows := cursor.fetchmany(_FETCHED):
            yield rows
    finally:
        cursor.close()


def known_ids(
    connection: Connection, name: str, columns: tuple[str, str], ids: list[str], most: int
) -> Iterator[tuple[str, Any]]:
    """Yield ids that a table has, each with the value of another column, some of them repeatedly.

    Parameters
    ----------
    connection : Connection
    name : str
        Name of the table.
    columns : (str, str)
        Column of the ids, and of the value.
    ids : list of str
    most : int
        Largest number of ids of one query; no more than 512 are asked for at once.
    """
    from sqlalchemy import select

    key, value = (tables()[name].c[column] for column in columns)
    most = min(most, 512)
    for start in range(0, len(ids), most):
        part = ids[start : start + most]
        if connection.dialect.name != "sqlite":
            found = connection.execute(select(key, value).where(key.in_(part)))
        else:
            size = 1 << (len(part) - 1).bit_length()
            padded = (*part, *(part[-1:] * (size - len(part))))
            found = connection.exec_driver_sql(_lookup(name, *columns, size), padded)
        for row in found:
            yield row[0], row[1]


def read_counter(connection: Connection, name: str) -> int:
    """Return the value of a counter."""
    found: int = connection.execute(_counter_statements()[0], {"which": name}).scalar_one()
    return found


def read_counters(connection: Connection) -> dict[str, int]:
    """Return the values of all counters."""
    if connection.dialect.name != "sqlite":
        return {row[0]: row[1] for row in connection.execute(_counter_statements()[2])}
    cursor: Any = connection.connection.cursor()  # each commit waits for it
    try:
        return dict(cursor.execute('SELECT "name", "value" FROM "counter"').fetchall())
    finally:
        cursor.close()


def raise_counter(connection: Connection, name: str, added: int) -> None:
    """Add to a counter."""
    connection.execute(_counter_statements()[1], {"which": name, "added": added})


@cache
def _counter_statements() -> tuple[Any, Any, Any]:
    """Return two queries and an update, made once: making them takes longer than running them."""
    from sqlalchemy import bindparam, select, update

    value, is_it = tables().counter.c.value, tables().counter.c.name == bindparam("which")
    change = update(tables().counter).where(is_it).values(value=value + bindparam("added"))
    return select(value).where(is_it), change, select(tables().counter.c.name, value)


def _in_powers(rows: Sequence[tuple[Any, ...]], most: int) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Yield pieces of which each has a power of two of rows, at most ``most``."""
    start = 0
    while start < len(rows):
        size = 1 << (min(most, len(rows) - start).bit_length() - 1)
        yield rows[start : start + size]
        start += size


@cache
def _insertion(name: str, n_rows: int) -> str:
    names = [column.name for column in tables()[name].columns]
    row = f"({', '.join('?' * len(names))})"
    quoted = ", ".join(f'"{one}"' for one in names)
    return f'INSERT INTO "{name}" ({quoted}) VALUES {", ".join([row] * n_rows)}'


@cache
def _lookup(name: str, key: str, value: str, n: int) -> str:
    marks = ", ".join("?" * n)
    return f'SELECT "{key}", "{value}" FROM "{name}" WHERE "{key}" IN ({marks})'


class Fresh:
    """The newest events of the log that this process stored, to be learned without reading them.

    They are kept for a second, so another process that removes events from the log meets no copy
    that is older. `clear` drops them, and what a commit before it adds late.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first, self._events = 1, list[Event]()
        self._age, self.generation = -_SECONDS, 0

    def add(self, events: Iterable[tuple[int, Event]], generation: int) -> None:
        """Add events with their numbers, without gaps; ``generation`` is that of their commit."""
        pairs, now = list(events), time.monotonic()
        if not pairs:
            return
        with self._lock:
            if generation != self.generation:
                return
            follows = pairs[0][0] == self._first + len(self._events)
            if not follows or len(self._events) > _MOST_EVENTS or now - self._age > _SECONDS:
                self._first, self._events, self._age = pairs[0][0], [], now
            self._events.extend(event for _, event in pairs)

    def clear(self) -> None:
        """Drop all events: some of them were removed from the log."""
        with self._lock:
            self.generation += 1
            self._events = []

    def after(self, seq: int, limit: int) -> tuple[EventBatch, bool] | None:
        """Return the next events, and whether there are more; None if the log must be read."""
        with self._lock:
            start = seq + 1 - self._first
            if not 0 <= start < len(self._events) or time.monotonic() - self._age > _SECONDS:
                return None
            events = self._events[start : start + limit]
            more = start + limit < len(self._events)
        numbers = np.arange(seq + 1, seq + 1 + len(events), dtype=np.int64)
        return EventBatch(numbers, events), more
