"""The log of feedback: append-only, idempotent, in SQLite or Postgres."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.loop._bulk import (
    Fresh,
    event_parts,
    insert_rows,
    known_ids,
    pieces,
    raise_counter,
    read_counter,
)
from sklearn_recft.loop._database import Database
from sklearn_recft.loop._events import (
    NOBODY,
    Appended,
    Event,
    EventBatch,
    as_json,
    check_id,
    check_stored_events,
    from_json,
    texts_of,
)
from sklearn_recft.loop._lists import ShownList, check_lists
from sklearn_recft.loop._schema import tables
from sklearn_recft.loop._stored_rows import (
    CLIPPED,
    LEARNED,
    READ,
    Row,
    columns_of,
    event_of,
    exported,
    row_of,
)
from sklearn_recft.loop._subjects import ErasedError, ids_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sklearn_recft.preprocessing import SecretKey


@dataclass(frozen=True)
class StoreReceipt:
    """What `FeedbackStore.forget` removed. It holds numbers only, and no id.

    Attributes
    ----------
    n_users : int
        How many of the given users had rows.
    removed : dict of str to int
        Rows removed, by table.
    time : float
        When the call ended, in seconds since 1970.
    """

    n_users: int
    removed: dict[str, int]
    time: float


class FeedbackStore:
    """Keep events of users in a database, each once and in one order.

    `append` returns after the commit. An event whose ``event_id`` is stored already is not stored
    again, so a client that got no answer sends the same events again. Events have numbers, ``seq``,
    from 1 on and without gaps. A reader that has read up to a number has read all before it.

    Any number of threads and processes may use one store. Those that write wait for each other.

    Parameters
    ----------
    url : str, default="sqlite:///feedback.db"
        A URL of SQLAlchemy, of a SQLite file or of Postgres: ``postgresql://user@host/name`` (extra
        ``[postgres]``). SQLite writes ahead (WAL).
    retention_days : float, default=None
        `expire` removes events and lists that arrived earlier than this. None keeps all.
    batch_size : int, default=512
        Largest number of events in one statement.
    durable : bool, default=True
        Commits wait for the disk. Otherwise, a power failure may undo the last commits; the end of
        the process never does.
    max_late, max_future : float, default=None and 300
        Timestamps that lie further than this before or after the arrival, in seconds, are moved to
        this limit, and counted by `counts`. None moves none. Events without a timestamp get the
        time of arrival, which never runs backwards within a process.
    clock : callable, default=time.time
        Returns seconds since 1970.
    key : str or SecretKey, default=None
        Keep users as surrogates, integers that lead to no user without this key: the name of an
        environment variable that holds the key, or the key itself. The ids of events, their
        context and the reasons why a model refused them are encrypted under a key of the user's
        own. `forget` destroys it, so that no copy of the other tables can be read either. Items,
        kinds, times, values and the ids of lists stay as they are. `change_key` gives a
        store another key, or its first one. It needs the extra ``[privacy]``. A `Loop` also
        encrypts its saved models by this key.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_recft.serving import FeedbackStore
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = FeedbackStore(f"sqlite:///{folder.name}/feedback.db")
    >>> store.append([{"event_id": "a", "user_id": "ann", "item_id": 7, "kind": "purchase"}])
    Appended(seq=[1], duplicates=0)
    >>> store.append([{"event_id": "a", "user_id": "ann", "item_id": 7, "kind": "purchase"}])
    Appended(seq=[1], duplicates=1)
    >>> [(event.user_id, event.item_id) for event in store.read(after=0).events]
    [('ann', 7)]
    >>> store.forget(["ann"]).removed["event"]
    1
    >>> store.close(), folder.cleanup()
    (None, None)
    """

    def __init__(
        self,
        url: str = "sqlite:///feedback.db",
        *,
        retention_days: float | None = None,
        batch_size: int = 512,
        durable: bool = True,
        max_late: float | None = None,
        max_future: float | None = 300.0,
        clock: Callable[[], float] = time.time,
        key: str | SecretKey | None = None,
    ) -> None:
        for name, value in (
            ("retention_days", retention_days),
            ("max_late", max_late),
            ("max_future", max_future),
        ):
            if value is not None and not value >= 0:
                raise ValueError(f"{name}={value!r}: give a number of at least 0, or None.")
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size={batch_size!r}: give an integer of at least 1.")
        self.retention_days = retention_days
        self.batch_size = batch_size
        self.max_late = max_late
        self.max_future = max_future
        self._clock = clock
        self._latest = -np.inf
        self._fresh = Fresh()
        self.key = key
        self._ids = ids_of(key)
        self.database = Database(url, durable, self._ids)

    # ------------------------------------------------------------------ events

    def append(self, events: Any) -> Appended:
        """Store events, and return after the commit: all of them, or none on an error.

        Parameters
        ----------
        events : iterable of dict, or data frame
            ``user_id`` and ``item_id`` (integers or texts), and optionally ``event_id`` (by which
            an event is stored once; drawn at random if it is missing), ``timestamp``, ``kind``
            ("click" if missing), ``value``, ``list_id`` and ``context`` (a dict of numbers and
            texts; in a frame, all further columns).

        Returns
        -------
        appended : Appended
            ``seq`` of each event, and the number of ``duplicates``.

        Raises
        ------
        ValueError, TypeError
            If an event is not valid. The message names the row.
        StoreError
            If the database cannot store them.
        """
        return self.append_all([check_stored_events(events)])[0]

    def append_all(
        self,
        groups: Sequence[Sequence[Event]],
        also: Callable[[Connection, EventBatch], object] | None = None,
    ) -> list[Appended]:
        """Store the checked events of several callers in one commit.

        Parameters
        ----------
        groups : sequence of sequences of Event
        also : callable, default=None
            ``also(connection, batch)`` writes more in the same transaction; ``batch`` has the
            events that are new.

        Returns
        -------
        appended : list of Appended, one for each group
        """
        now = self._now()
        if not any(groups):
            return [Appended([], 0) for _ in groups]
        with self.database.writing() as connection:
            last = self.database.check_key(connection)["seq"]
            found, rows = self._append(connection, groups, now, last)
            new = [event_of(row) for row in rows]
            seqs = np.array([row[0] for row in rows], np.int64)
            if also is not None and new:
                also(connection, EventBatch(seqs, new))
            generation = self._fresh.generation
        self._fresh.add(zip(seqs.tolist(), new, strict=True), generation)
        return found

    def read(self, after: int = 0, limit: int = 1000, *, until: int | None = None) -> EventBatch:
        """Return the next events after a number.

        Parameters
        ----------
        after : int, default=0
            The last number that the reader has.
        limit : int, default=1000
            Largest number of events.
        until : int, default=None
            The last number to return.

        Returns
        -------
        batch : EventBatch
            ``seq`` of shape (n,), and ``events``.
        """
        from sqlalchemy import select

        event = tables().event
        query = select(*[event.c[name] for name in READ]).where(event.c.seq > after)
        if until is not None:
            query = query.where(event.c.seq <= until)
        rows = self._rows(query.order_by(event.c.seq).limit(limit))
        return EventBatch(np.array([row[0] for row in rows], np.int64), list(map(event_of, rows)))

    def read_columns(self, after: int, until: int) -> EventBatch:
        """Return the events of ``(after, until]``, as far as a model without context learns them.

        Parameters
        ----------
        after, until : int

        Returns
        -------
        batch : EventBatch
            In less time than by `read`. Its ``events`` have no ids, lists and context, unless some
            rows are new items.
        """
        found = None
        if self.key is None:  # else texts are to be opened
            with self.database.reading() as connection:
                found = columns_of(event_parts(connection, LEARNED, after, until))
        return self.read(after, until - after, until=until) if found is None else found

    def fresh(self, after: int, limit: int) -> tuple[EventBatch, bool] | None:
        """Return the next events from memory, if this store has just stored them.

        Parameters
        ----------
        after, limit : int
            As in `read`.

        Returns
        -------
        found : (EventBatch, bool) or None
            The same events as those of `read`, possibly fewer, and whether memory has more. None if
            the log must be read.
        """
        return self._fresh.after(after, limit)

    def identity(self) -> int:
        """Return a random number that this store keeps for its life; 0 if it has none yet."""
        from sqlalchemy import select

        counter = tables().counter
        own = select(counter.c.value).where(counter.c.name == "identity")
        with self.database.reading() as connection:
            return connection.execute(own).scalar() or 0

    def identify(self) -> int:
        """Return `identity`, which is drawn by the first call."""
        from sqlalchemy import insert, select

        counter = tables().counter
        own = select(counter.c.value).where(counter.c.name == "identity")
        with self.database.writing() as connection:
            found = connection.execute(own).scalar()
            if found is None:
                found = secrets.randbits(62) | 1
                connection.execute(insert(counter), [{"name": "identity", "value": found}])
        return int(found)

    def last_seq(self) -> int:
        """Return the number of the newest event, 0 for an empty log."""
        return self._counter("seq")

    def counts(self) -> dict[str, int]:
        """Return the numbers of ``events``, ``late``, ``future`` and ``rejected`` ones."""
        from sqlalchemy import func, select

        counter = tables().counter
        with self.database.reading() as connection:
            rows = connection.execute(select(counter.c.name, counter.c.value))
            found = {row[0]: row[1] for row in rows}
            n_events, n_rejected = (
                connection.execute(select(func.count()).select_from(tables()[name])).scalar_one()
                for name in ("event", "rejected")
            )
        return {
            "events": n_events,
            "late": found["late"],
            "future": found["future"],
            "rejected": n_rejected,
        }

    # ------------------------------------------------------------------ lists

    def append_lists(
        self, lists: Iterable[Mapping[str, Any] | ShownList], *, durable: bool = True
    ) -> int:
        """Store lists that users saw.

        Parameters
        ----------
        lists : iterable of dict
            ``list_id``, ``user_id``, ``items``, and optionally ``scores``, ``seq`` and ``model``. A
            list that is stored already stays as it is.
        durable : bool, default=True
            Wait for the disk, if the store does. Otherwise, a power failure may undo it.

        Returns
        -------
        n_lists : int
            How many of them are new.
        """
        checked, now = check_lists(lists), self._now()
        with self.database.writing(durable) as connection:
            self.database.check_key(connection)
            return self._insert_lists(connection, checked, now)

    def shown(self, list_id: str) -> ShownList | None:
        """Return a list that was stored, or None.

        Parameters
        ----------
        list_id : str

        Returns
        -------
        shown : ShownList or None
            ``list_id``, ``user_id``, ``items``, ``scores``, ``seq`` and ``model``.
        """
        from sqlalchemy import select

        shown = tables().shown
        query = select(shown).where(shown.c.list_id == list_id).order_by(shown.c.position)
        with self.database.reading() as connection:
            rows = connection.execute(query).all()
            try:
                user = self._ids.show_user(connection, rows[0].user_id) if rows else None
            except ErasedError:
                user = None
        if user is None:
            return None
        return ShownList(
            list_id,
            from_json(user),
            [from_json(row.item_id) for row in rows],
            [row.score for row in rows],
            rows[0].seq,
            rows[0].model,
        )

    # ------------------------------------------------------------------ privacy

    def export(self, user_id: Any) -> dict[str, Any]:
        """Return all that is stored of a user, as plain values that JSON can hold.

        Parameters
        ----------
        user_id : int or str

        Returns
        -------
        found : dict
            ``user_id``, and a list of dicts for each of ``events`` and ``lists``.
        """
        found: dict[str, Any] = {"user_id": user_id, "events": [], "lists": []}
        for name, rows in self.export_parts(user_id):
            found[name] += rows
        return found

    def export_parts(
        self, user_id: Any, size: int = 1000
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yield the rows of `export` in parts, so that memory holds one part at a time.

        Parameters
        ----------
        user_id : int or str
        size : int, default=1000
            Largest number of rows of a part.

        Yields
        ------
        name : str
            "events", and then "lists".
        rows : list of dict
        """
        from sqlalchemy import select, tuple_

        own, event, shown = as_json(check_id(user_id, "user_id")), tables().event, tables().shown
        with self.database.reading() as connection:
            codes = self._ids.codes(connection, [own])
        after = 0
        own_events = select(event).where(event.c.user_id.in_(codes)).order_by(event.c.seq)
        while events := self._rows(own_events.where(event.c.seq > after).limit(size)):
            after = events[-1][0]
            yield "events", [exported(event.c.keys(), row) for row in events]
        place = shown.c.received, shown.c.list_id, shown.c.position
        query = select(shown).where(shown.c.user_id.in_(codes)).order_by(*place).limit(size)
        last: tuple[Any, ...] | None = None
        while True:
            further = query if last is None else query.where(tuple_(*place) > tuple_(*last))
            with self.database.reading() as connection:
                rows = [dict(row) for row in connection.execute(further).mappings()]
            if not rows:
                return
            last = tuple(rows[-1][column.name] for column in place)
            yield "lists", [exported(row, [*{**row, "user_id": own}.values()]) for row in rows]

    def forget(self, user_ids: Iterable[Any]) -> StoreReceipt:
        """Remove all rows of users, and overwrite their bytes in a file of SQLite.

        Their events leave gaps in ``seq``, which no new event fills. An event of theirs that is
        sent again later is stored again.

        Parameters
        ----------
        user_ids : iterable of int or str
            Unknown users are ignored.

        Returns
        -------
        receipt : StoreReceipt
        """
        from sqlalchemy import delete, func, select

        own = texts_of(user_ids, "user_ids")
        event, shown, rejected = tables().event, tables().shown, tables().rejected
        removed, n_users = {"event": 0, "shown": 0, "rejected": 0}, 0
        with self.database.writing() as connection:
            self.database.check_key(connection)
            codes = self._ids.codes(connection, own)
            parts: list[Any] = list(pieces(codes, 500))
            for part in parts:
                n_users += connection.execute(
                    select(func.count(event.c.user_id.distinct())).where(event.c.user_id.in_(part))
                ).scalar_one()
            for part in [*parts, *self._ids.erase(connection, codes)]:
                theirs = select(event.c.seq).where(event.c.user_id.in_(part))
                for name, statement in (
                    ("rejected", delete(rejected).where(rejected.c.seq.in_(theirs))),
                    ("shown", delete(shown).where(shown.c.user_id.in_(part))),
                    ("event", delete(event).where(event.c.user_id.in_(part))),
                ):
                    removed[name] += connection.execute(statement).rowcount
            self._fresh.clear()
        self.database.overwrite_deleted()
        return StoreReceipt(n_users, removed, self._now())

    def expire(self, until: int) -> int:
        """Remove events up to a number, and lists, that are older than ``retention_days``.

        New items stay: they are of no user.

        Parameters
        ----------
        until : int
            Events after this number stay, whatever their age: the loop needs them to restart.

        Returns
        -------
        n_events : int
        """
        from sqlalchemy import delete, select

        if self.retention_days is None:
            return 0
        oldest = self._now() - self.retention_days * SECONDS_PER_DAY
        event, shown, rejected = tables().event, tables().shown, tables().rejected
        with self.database.writing() as connection:
            connection.execute(delete(shown).where(shown.c.received < oldest))
            old = event.c.seq <= until, event.c.received < oldest, event.c.user_id != NOBODY
            gone = select(event.c.seq).where(*old)
            connection.execute(delete(rejected).where(rejected.c.seq.in_(gone)))
            self._fresh.clear()
            n_events = connection.execute(delete(event).where(*old)).rowcount
            self._ids.drop_unused(connection)
        return n_events

    def close(self) -> None:
        """Close the connections. The store cannot be used afterwards."""
        self.database.close()

    # ------------------------------------------------------------------ private

    def _now(self) -> float:
        """Return the time, which does not run backwards."""
        self._latest = max(self._latest, float(self._clock()))
        return self._latest

    def _counter(self, name: str) -> int:
        with self.database.reading() as connection:
            return read_counter(connection, name)

    def _rows(self, query: Any) -> Sequence[Row]:
        """Return rows of events as they were."""
        with self.database.reading() as connection:
            try:
                return self._ids.show_events(connection, connection.execute(query).all())
            except ErasedError:  # perhaps between the two queries
                return self._ids.show_events(connection, connection.execute(query).all())

    def _append(
        self, connection: Connection, groups: Sequence[Sequence[Event]], now: float, last: int
    ) -> tuple[list[Appended], list[Row]]:
        """Insert what is new; return an answer for each group, and the new rows."""
        if not any(groups):
            return [Appended([], 0) for _ in groups], []
        names = [[self._ids.event_name(one) for one in group] for group in groups]
        ids = [name for own in names for name in own]
        stored: dict[str, int] = dict(
            known_ids(connection, "event", ("event_id", "seq"), ids, self.batch_size)
        )
        found: list[Appended] = []
        rows: list[Row] = []
        new: list[str] = []
        for group, own in zip(groups, names, strict=True):
            seqs, duplicates = [], 0
            for one, name in zip(group, own, strict=True):
                if name in stored:
                    duplicates += 1
                else:
                    stored[name] = last = last + 1
                    new.append(name)
                    rows.append(row_of(one, last, now, self.max_late, self.max_future))
                seqs.append(stored[name])
            found.append(Appended(seqs, duplicates))
        hidden = self._ids.hide_events(connection, rows, new)
        insert_rows(connection, "event", hidden, self.batch_size)
        moved = Counter(row[CLIPPED] for row in rows)
        for name, added in (("seq", len(rows)), ("late", moved[1]), ("future", moved[-1])):
            if added:
                raise_counter(connection, name, added)
        return found, rows

    def _insert_lists(self, connection: Connection, lists: Sequence[ShownList], now: float) -> int:
        ids, most = [one.list_id for one in lists], self.batch_size
        known = dict(known_ids(connection, "shown", ("list_id", "seq"), ids, most))
        new = {one.list_id: one for one in lists if one.list_id not in known}
        rows = [row for one in new.values() for row in one.rows(now)]
        insert_rows(connection, "shown", self._ids.hide_lists(connection, rows), most)
        return len(new)
