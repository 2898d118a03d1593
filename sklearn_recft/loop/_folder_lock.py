"""One process at a time writes the models of a folder, and from one store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from sklearn_recft.loop._errors import ServingError
from sklearn_recft.loop._store import FeedbackStore

# A folder beside the models while their key is changed.
CHANGING = "new-key"


def replace_text(path: Path, text: str) -> None:
    """Replace a small file in one step: a crash leaves the old or the new one."""
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def check_store(folder: Path, store: FeedbackStore, *, writes: bool) -> None:
    """Refuse a store that is not the one of the folder; the first that writes is noted there.

    Raises
    ------
    ServingError
    """
    if (folder / CHANGING).exists():
        raise ServingError(
            f"{folder}: a change of the key was interrupted. Repeat it by `recft rekey` or "
            "change_key."
        )
    path = folder / "STORE"
    known = path.read_text(encoding="ascii").strip() if path.exists() else ""
    if known and known != str(store.identity()):
        raise ServingError(
            f"{folder} has models of another store than {store.database.name}: the two do not "
            "belong together. Give the store that goes with the folder, or another folder."
        )
    if writes and not known:
        replace_text(path, f"{store.identify()}\n")


class FolderLock:
    """A lock of a folder, which the system ends with the process.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "WRITER"
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Take the lock, or raise an error: another process has it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(number, "ab")  # others cannot open it, and so not hold it
        if os.name == "nt":  # no such lock there: only one process may write
            return
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.release()
            raise ServingError(
                f"{self._path.parent}: another loop writes these models. Stop it, or start this "
                "one with follow=True."
            ) from error

    def release(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None
