"""Audit log: each row holds the hash of the row before it, so that a changed row is found."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_FIRST = "0" * 64


class AuditLog:
    """File of JSON lines: who did what and when, each line chained to the one before by SHA-256.

    Changing, inserting or removing a row breaks the chain. To find rows that were cut off at the
    end as well, keep `head` elsewhere and pass it to `verify`.

    Parameters
    ----------
    path : path-like
        The file. It is created with mode 0600.

    Raises
    ------
    ValueError
        If the file exists and its chain is broken.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_recft.serving import AuditLog
    >>> folder = tempfile.TemporaryDirectory()
    >>> log = AuditLog(pathlib.Path(folder.name, "audit.jsonl"))
    >>> head = log.append("admin", "promote", model="2000-1f3a")
    >>> log.verify(head)
    1
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._n, self._head = self._walk(to_append=True)

    @property
    def head(self) -> str:
        """Hash of the last row; zeros if there is none."""
        return self._head

    def append(self, who: str, what: str, **details: Any) -> str:
        """Write a row to disk, and return its hash.

        Parameters
        ----------
        who : str
            Id of a key or subject of a token.
        what : str
            The action.
        **details : JSON values
            No ids of users and no secrets: rows are never erased.
        """
        with self._lock:
            row = {"n": self._n + 1, "time": time.time(), "who": who, "what": what, **details}
            digest = _digest(self._head, row)
            line = json.dumps({**row, "previous": self._head, "hash": digest}) + "\n"
            self._write(line.encode())
            self._head, self._n = digest, self._n + 1
            return digest

    def _write(self, line: bytes) -> None:
        """Append a row, whole or not at all; what an earlier crash has left of one makes way."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            end = _end_of_rows(descriptor)
            os.ftruncate(descriptor, end)
            try:
                if os.pwrite(descriptor, line, end) != len(line):
                    raise OSError(f"{self.path}: the disk is full; the row was not written.")
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, end)
                raise
        finally:
            os.close(descriptor)

    def verify(self, head: str | None = None) -> int:
        """Check the whole chain, and return the number of rows.

        Parameters
        ----------
        head : str, default=None
            The hash that the last row must have.

        Raises
        ------
        ValueError
            It names the first row that was changed.
        """
        n, last = self._walk()
        if head is not None and head != last:
            raise ValueError(
                f"{self.path}: the last row is not the expected one; rows are missing."
            )
        return n

    def _walk(self, *, to_append: bool = False) -> tuple[int, str]:
        """Check the chain; return the number of rows, and the hash of the last.

        Half a row at the end, which a crash or a full disk has left, does not stop those that
        append: nobody was answered that it is written, and the next row takes its place.
        """
        n, previous = 0, _FIRST
        if not self.path.is_file():
            return n, previous
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                if to_append and not line.endswith("\n"):
                    break
                n += 1
                try:
                    row = json.loads(line)
                    found = (row.pop("previous"), row.pop("hash"))
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise ValueError(f"{self.path}: row {n} is damaged: {error}") from error
                if found != (previous, _digest(previous, row)):
                    raise ValueError(f"{self.path}: row {n} was changed, or follows a removed row.")
                previous = found[1]
        return n, previous


def _end_of_rows(descriptor: int) -> int:
    """Return the place after the last whole row of a file."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(end - 4096, 0)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _digest(previous: str, row: dict[str, Any]) -> str:
    content = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}{content}".encode()).hexdigest()
