"""One database: connections, transactions that write one at a time, and what SQLite needs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sklearn_recft.loop._bulk import read_counters
from sklearn_recft.loop._errors import StoreError, naming_store
from sklearn_recft.loop._schema import KEYED_VERSION, VERSION, tables
from sklearn_recft.loop._subjects import PlainIds

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

# Key of the advisory lock of Postgres that those who append hold until their commit.
_ADVISORY_LOCK = 0x5EC_F7
# Write the log of SQLite into its file, and empty it.
_CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"
# Seconds that a transaction waits for another process, unless the URL has ?timeout=SECONDS.
_PATIENCE = 5.0


class Database:
    """Connections to the database of a store.

    Parameters
    ----------
    url : str
        A URL of SQLAlchemy.
    durable : bool
        Whether `writing` returns only after the disk has the commit.
    ids : PlainIds
        What the tables hold of ids and texts.
    """

    def __init__(self, url: str, durable: bool, ids: PlainIds) -> None:
        from sqlalchemy import make_url

        parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database in (None, "", ":memory:"):
            raise ValueError(
                f"url={url!r}: events in memory are lost; give a file, such as "
                "'sqlite:///feedback.db'."
            )
        if not self.is_sqlite and parsed.get_backend_name() != "postgresql":
            raise ValueError(f"url={url!r}: the store runs on sqlite and postgresql.")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        if self.is_sqlite:
            _make_private(parsed.database)
        self.name = parsed.render_as_string(hide_password=True)
        self.durable = durable
        self.ids = ids
        self._mutex = threading.Lock()
        # Two engines: one whose commits wait for the disk, and one whose commits need not.
        self._engines = {True: self._engine(parsed, durable), False: self._engine(parsed, False)}
        with naming_store(self.name):
            self._make_tables()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read inside a with-block; it sees one state of the database."""
        with naming_store(self.name), self._engines[False].connect() as connection:
            yield connection

    @contextmanager
    def writing(self, durable: bool = True) -> Iterator[Connection]:
        """Write inside a with-block, which commits at its end, or leaves no trace.

        One at a time, over all threads and processes. Without ``durable``, the commit survives the
        end of the process, but a power failure may undo the last ones.
        """
        with self._mutex, naming_store(self.name), self._engines[durable].connect() as connection:
            transaction = self._sqlite if self.is_sqlite else self._postgres
            try:
                with transaction(connection, durable):
                    yield connection
            except BaseException:
                self.ids.clear()
                raise

    def overwrite_deleted(self) -> None:
        """Overwrite what was deleted, where the database keeps it in a file of its own."""
        if not self.is_sqlite:
            return
        with self._mutex, naming_store(self.name), self._engines[True].connect() as connection:
            for statement in (_CHECKPOINT, "VACUUM", _CHECKPOINT):
                found = connection.exec_driver_sql(statement)
                if statement == _CHECKPOINT and found.one()[0]:  # a reader holds the old bytes
                    raise StoreError(
                        f"{self.name}: the rows are deleted, but another connection reads the "
                        "file, so that their bytes could not be overwritten. Repeat the call."
                    )

    def close(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()

    # ------------------------------------------------------------------ private

    @contextmanager
    def _sqlite(self, connection: Connection, _: bool) -> Iterator[None]:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            _rolled_back(connection)
            raise

    @contextmanager
    def _postgres(self, connection: Connection, durable: bool) -> Iterator[None]:
        with connection.begin():
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            if not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            yield

    def _engine(self, url: Any, durable: bool) -> Engine:
        from sqlalchemy import create_engine, event

        if not self.is_sqlite:
            return create_engine(url, pool_size=8, max_overflow=24)
        patience = {} if "timeout" in url.query else {"timeout": _PATIENCE}
        engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=patience)
        synchronous = "FULL" if durable else "NORMAL"

        def prepare(connection: Any, _: Any) -> None:
            connection.execute(f"PRAGMA synchronous={synchronous}")
            connection.execute("PRAGMA secure_delete=ON")

        event.listen(engine, "connect", prepare)
        return engine

    def _make_tables(self) -> None:
        """Make the tables, unless they are there: then nothing is written."""
        from sqlalchemy import insert, inspect, select

        counter = tables().counter
        with self._engines[True].connect() as connection:
            if inspect(connection).has_table("counter"):
                rows = connection.execute(select(counter.c.name, counter.c.value))
                found = {row[0]: row[1] for row in rows}
                if "version" in found:
                    self._check_version(found)
                    return
            if self.is_sqlite:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        with self.writing() as connection:
            own = [one for one in tables().metadata.sorted_tables if self.ids.needs(one.name)]
            tables().metadata.create_all(connection, tables=own)
            rows = connection.execute(select(counter.c.name, counter.c.value))
            found = {row[0]: row[1] for row in rows}
            if found:  # another process was faster
                self._check_version(found)
                return
            first = {"version": self.ids.version, "seq": 0, "late": 0, "future": 0}
            first |= self.ids.counters
            connection.execute(insert(counter), [{"name": n, "value": v} for n, v in first.items()])

    def check_key(self, connection: Connection) -> dict[str, int]:
        """Refuse to write under a key that is no longer that of the database; return counters."""
        found = read_counters(connection)
        self.ids.check(self.name, found["version"], found.get("key"))
        return found

    def _check_version(self, found: Mapping[str, int]) -> None:
        """Refuse tables of another version, or of another key."""
        version = found["version"]
        if version not in (VERSION, KEYED_VERSION):
            raise StoreError(
                f"{self.name}: its tables have the version {version}, and this release "
                f"reads {VERSION} and {KEYED_VERSION}."
            )
        self.ids.check(self.name, version, found.get("key"))


def _make_private(path: str | None) -> None:
    """Make the file of a new database of SQLite, which its owner alone may read and write.

    SQLite gives the same rights to the files beside it.
    """
    with contextlib.suppress(OSError):  # it is there; or SQLite cannot make it either, and says so
        if path and not path.startswith("file:"):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _rolled_back(connection: Connection) -> None:
    """End a transaction of SQLite, which may have ended itself, as on a full disk."""
    if connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        connection.exec_driver_sql("ROLLBACK")
