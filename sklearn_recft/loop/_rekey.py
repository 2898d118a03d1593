"""Another key for a store and its models: in one transaction, and resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sklearn_recft.files import sync_folder
from sklearn_recft.loop._bulk import insert_rows
from sklearn_recft.loop._errors import ServingError
from sklearn_recft.loop._events import NOBODY
from sklearn_recft.loop._folder_lock import CHANGING, FolderLock
from sklearn_recft.loop._schema import KEYED_VERSION, tables
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.loop._store import FeedbackStore
from sklearn_recft.loop._stored_rows import event_of
from sklearn_recft.loop._subjects import PlainIds, Subjects

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sklearn_recft.preprocessing import SecretKey

# Rows that are rewritten at once.
_PAGE = 2_000


class Rekeyed(NamedTuple):
    """What `change_key` did.

    Attributes
    ----------
    n_events : int
        Rows of the log that were rewritten; 0 if an earlier call had done it.
    n_models : int
        Saved models that were written again.
    """

    n_events: int
    n_models: int


def change_key(
    url: str,
    folder: str | os.PathLike[str],
    *,
    key: str | SecretKey | None,
    new_key: str | SecretKey,
    size: int = _PAGE,
) -> Rekeyed:
    """Give a store and the models of its loop another key, or their first one.

    The database is rewritten in one transaction. If the process ends meanwhile, repeat the call: a
    loop does not start before. Numbers of events, surrogates and digests of models stay as they
    are. Stop the loop and those that follow it first. Another process that still appends under the
    old key gets an error, and stores nothing.

    Parameters
    ----------
    url : str
        Of the store.
    folder : str or path-like
        The folder of the `Loop`.
    key : str or SecretKey or None
        The key of today; None: the store is a plain one.
    new_key : str or SecretKey
    size : int, default=2000
        Rows of the database that memory holds at once.

    Returns
    -------
    rekeyed : Rekeyed

    Raises
    ------
    ServingError
        If a loop writes the folder.
    ValueError
        If the store has another key than ``key``, or both keys are the same.

    Notes
    -----
    Keys of users are sealed again, and stay the same: whoever had the old key and the old table
    ``subject`` can read what the users wrote before. The bytes of a plain store are overwritten in
    a file of SQLite; Postgres keeps dead rows until its own vacuum. Copies and backups stay as they
    are.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_recft.preprocessing import SecretKey
    >>> from sklearn_recft.serving import FeedbackStore, change_key
    >>> folder = tempfile.TemporaryDirectory()
    >>> url = f"sqlite:///{folder.name}/feedback.db"
    >>> store = FeedbackStore(url)
    >>> done = store.append([{"user_id": "ann", "item_id": "tea"}])
    >>> store.close()
    >>> key = SecretKey(b"sixteen bytes or more")
    >>> change_key(url, f"{folder.name}/models", key=None, new_key=key)
    Rekeyed(n_events=1, n_models=0)
    >>> store = FeedbackStore(url, key=key)
    >>> store.read().events[0].user_id
    'ann'
    >>> store.close(), folder.cleanup()
    (None, None)
    """
    new = Subjects(new_key)
    if key is not None and Subjects(key).key == new.key:
        raise ValueError("new_key: it is the key that the store has. Give another one.")
    place = Path(folder)
    lock = FolderLock(place)
    lock.take()
    try:
        return _changed(url, place, key, new, size)
    finally:
        lock.release()


def _changed(
    url: str, folder: Path, key: str | SecretKey | None, new: Subjects, size: int
) -> Rekeyed:
    part, n_events, n_models = folder / CHANGING, 0, 0
    try:
        store = FeedbackStore(url, key=key)
    except ValueError:
        if not part.exists():
            raise
        store = FeedbackStore(url, key=new.key)  # the transaction of an earlier call is done
    try:
        if store.key != new.key:
            names = _copied(folder, part, key, new.key)
            n_models = len(names)
            n_events = _Rewriting(store.database.ids, new, size).run(store, names)
        _swap(part, folder)
        store.database.overwrite_deleted()
    finally:
        store.close()
    shutil.rmtree(part)
    return Rekeyed(n_events, n_models)


def _copied(
    folder: Path, part: Path, key: str | SecretKey | None, new_key: SecretKey
) -> dict[str, str]:
    """Write all saved models under the new key, and return their new names by the old ones."""
    if part.exists():  # of a call that ended before its transaction
        shutil.rmtree(part)
    part.mkdir(mode=0o700)
    old, new = Snapshots(folder, key=key), Snapshots(part, 1 << 30, key=new_key)
    names = {}
    for base in (False, True):
        for one in old.saved(base=base):
            names[one.name] = new.save(old.load(one.name, base=base), one.seq, one.step, base=base)
    if old.damaged:
        raise ServingError(
            f"{folder} has models that cannot be read: {old.damaged}. Remove them, or give the key "
            "that they were saved with."
        )
    sync_folder(part)
    return names


def _swap(part: Path, folder: Path) -> None:
    """Put new models in the place of the old ones; the same call goes on after a kill."""
    for own in ("", "bases"):
        source, target = part / own, folder / own
        if (source / "models").exists():
            shutil.rmtree(target / "models", ignore_errors=True)
            target.mkdir(mode=0o700, exist_ok=True)
            os.replace(source / "models", target / "models")
        if (source / "CURRENT").exists():
            os.replace(source / "CURRENT", target / "CURRENT")
        if target.exists():
            sync_folder(target)


class _Rewriting:
    """The tables of a store under another key.

    Parameters
    ----------
    old : PlainIds
    new : Subjects
    size : int
        Rows that memory holds at once.
    """

    def __init__(self, old: PlainIds, new: Subjects, size: int) -> None:
        self.old, self.new, self.size = old, new, size

    def run(self, store: FeedbackStore, names: dict[str, str]) -> int:
        """Rewrite all in one transaction; return how many events there are."""
        was_keyed = isinstance(self.old, Subjects)
        with store.database.writing() as connection:
            self._set_counters(connection, was_keyed)
            if was_keyed:
                self._nobodys_reasons(connection)
            n_events = self._events(connection, was_keyed)
            if was_keyed:
                self._subjects(connection)
            else:
                self._lists(connection)
                self._reasons(connection)
            self._steps(connection, names)
        return n_events

    def _set_counters(self, connection: Connection, was_keyed: bool) -> None:
        from sqlalchemy import insert, update

        counter = tables().counter
        found = {"version": KEYED_VERSION, "key": self.new.counters["key"]}
        if not was_keyed:
            tables().metadata.create_all(connection, tables=[tables().subject])
            rows = [{"name": name, "value": value} for name, value in self.new.counters.items()]
            connection.execute(insert(counter), rows)
        for name, value in found.items():
            connection.execute(update(counter).where(counter.c.name == name).values(value=value))

    def _events(self, connection: Connection, was_keyed: bool) -> int:
        n_events = 0
        for rows in self._pages(connection, "event", ("seq",)):
            n_events += len(rows)
            shown = self.old.show_events(connection, rows)
            ids = [self.new.event_name(event_of(row)) for row in shown]
            if was_keyed:  # all else is under the users' own keys
                hidden: Sequence[tuple[Any, ...]] = [
                    (row[0], name, *row[2:]) for row, name in zip(rows, ids, strict=True)
                ]
            else:
                hidden = self.new.hide_events(connection, shown, ids)
            self._replace(connection, "event", ("seq",), hidden)
        return n_events

    def _lists(self, connection: Connection) -> None:
        own = ("list_id", "position")
        for rows in self._pages(connection, "shown", own):
            self._replace(connection, "shown", own, self.new.hide_lists(connection, rows))

    def _reasons(self, connection: Connection) -> None:
        """Seal the reasons of events of a plain store."""
        for rows in self._pages(connection, "rejected", ("seq",)):
            hidden = self.new.hide_reasons(connection, dict(rows))
            self._replace(connection, "rejected", ("seq",), list(hidden.items()), rows)

    def _nobodys_reasons(self, connection: Connection) -> None:
        """Seal the reasons of new items again: those of users are under the users' own keys."""
        from sqlalchemy import select

        event, rejected = tables().event, tables().rejected
        for rows in self._pages(connection, "rejected", ("seq",)):
            numbers = [row[0] for row in rows]
            query = select(event.c.seq).where(event.c.user_id == NOBODY)
            items = query.where(event.c.seq >= numbers[0], event.c.seq <= numbers[-1])
            wanted = select(rejected).where(rejected.c.seq.in_(items))
            found = {row[0]: row[1] for row in connection.execute(wanted)}
            if found:
                shown = self.old.show_reasons(connection, found)
                hidden = self.new.hide_reasons(connection, shown)
                for seq, text in hidden.items():
                    self._update(connection, "rejected", "seq", seq, reason=text)

    def _subjects(self, connection: Connection) -> None:
        old: Any = self.old
        for rows in self._pages(connection, "subject", ("user_id",)):
            sealed = [(row[0], *self.new.resealed(old.unsealed(row[2]))) for row in rows]
            self._replace(connection, "subject", ("user_id",), sealed)

    def _steps(self, connection: Connection, names: dict[str, str]) -> None:
        for rows in self._pages(connection, "learned", ("step",)):
            for row in rows:
                if row[-1] is None:
                    continue
                details = json.loads(self.old.show_text(row[-1]))
                if details.get("name") in names:
                    details["name"] = names[details["name"]]
                text = self.new.hide_text(json.dumps(details))
                self._update(connection, "learned", "step", row[0], details=text)

    # ------------------------------------------------------------------ private

    def _pages(
        self, connection: Connection, name: str, own: tuple[str, ...]
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Yield the rows of a table in the order of its primary key."""
        from sqlalchemy import select, tuple_

        table = tables()[name]
        keys = [table.c[column] for column in own]
        places = [list(table.c.keys()).index(column) for column in own]
        query = select(table).order_by(*keys).limit(self.size)
        last: tuple[Any, ...] | None = None
        while True:
            further = query if last is None else query.where(tuple_(*keys) > tuple_(*last))
            rows = [tuple(row) for row in connection.execute(further)]
            if not rows:
                return
            last = tuple(rows[-1][place] for place in places)
            yield rows

    def _replace(
        self,
        connection: Connection,
        name: str,
        own: tuple[str, ...],
        rows: Sequence[tuple[Any, ...]],
        old: Sequence[tuple[Any, ...]] | None = None,
    ) -> None:
        """Replace rows that follow each other by others with the same keys."""
        from sqlalchemy import delete, tuple_

        table = tables()[name]
        keys = tuple_(*(table.c[column] for column in own))
        places = [list(table.c.keys()).index(column) for column in own]
        bounds: Callable[[int], Any] = lambda n: tuple_(  # noqa: E731
            *((rows if old is None else old)[n][place] for place in places)
        )
        connection.execute(delete(table).where(keys >= bounds(0), keys <= bounds(-1)))
        insert_rows(connection, name, rows)

    def _update(self, connection: Connection, name: str, own: str, key: Any, **values: Any) -> None:
        from sqlalchemy import update

        table = tables()[name]
        connection.execute(update(table).where(table.c[own] == key).values(**values))
