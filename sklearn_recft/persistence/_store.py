"""A folder of saved models, of which one is the current one."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from sklearn_recft.files import sync_folder
from sklearn_recft.persistence._folder import load, save
from sklearn_recft.persistence._manifest import (
    MANIFEST,
    checked_seq,
    naming,
    opens_with,
    read_manifest,
    replace_file,
    size_of_file,
    state_of_file,
    write_manifest,
)
from sklearn_recft.persistence._sealed import Sealing

if TYPE_CHECKING:
    from sklearn_recft.preprocessing import SecretKey

_NAME = re.compile(r"\d{12,19}-[0-9a-f]{8}")
_CURRENT = "CURRENT"


class ModelStore:
    """Saved models of a learner, for other processes that load the current one.

    Each model is a folder ``models/<seq>-<digest>``, and the file ``CURRENT`` names one of them. It
    is replaced in one step: a reader gets the model before or after, at every moment, and after a
    crash. Any number of processes load. Those that save wait for each other; on Windows, only one
    may save.

    Parameters
    ----------
    folder : str or path-like
        It is made at the first `save`.
    keep : int, default=5
        Number of newest models that stay, at least 1. The current one and the one before it stay,
        too.
    key : str or SecretKey, default=None
        Encrypt all models of this store with this key, as in `save`. Their names stay readable:
        the number of the last event, and digits that tell nothing without the key.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.persistence import ModelStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ModelStore(folder, keep=2)
    ...     model = PopularityRecommender().fit(np.array([[1, 7], [2, 7]]))
    ...     first = store.save(model, seq=2)
    ...     second = store.save(model.partial_fit(np.array([[3, 8]])), seq=3)
    ...     back = store.rollback()
    ...     int(store.load().n_items_), back == first
    (1, True)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: int = 5,
        *,
        key: str | SecretKey | None = None,
    ) -> None:
        if type(keep) is not int or keep < 1:
            raise ValueError(f"keep={keep!r}: it must be an integer of at least 1.")
        self.folder = Path(folder)
        self.keep = keep
        self._sealing = None if key is None else Sealing(key)
        self._key = key

    def save(
        self,
        model: BaseEstimator,
        *,
        seq: int,
        metadata: Any = None,
        include_backbone: bool = False,
        promote: bool = True,
    ) -> str:
        """Save a model, and make it the current one.

        Parameters
        ----------
        model : estimator
        seq : int
            Number of the last event that the model has learned. A later model has a larger one, or
            the same. The same model with the same number is stored once, with the last metadata.
        metadata, include_backbone
            As in `save`.
        promote : bool, default=True
            Make the model the current one.

        Returns
        -------
        name : str
            Name of the model in the store: ``<seq>-<digest>``.

        Raises
        ------
        ValueError
            If the newest model of the store has another key, or one of both has none.
        """
        number = checked_seq(seq)
        if number is None:
            raise ValueError("seq=None: a store needs the number of an event.")
        self._models.mkdir(parents=True, exist_ok=True)
        with _locked(self.folder / "LOCK"):
            return self._save(model, number, metadata, include_backbone, promote)

    def load(self, name: str | None = None, **options: Any) -> Any:
        """Load the current model, or that of a name.

        Parameters
        ----------
        name : str, default=None
        **options : dict
            ``expect``, ``digest`` and ``mmap`` of `load`.

        Returns
        -------
        model : estimator
        """
        if name is not None:
            return load(self._path(name), key=self._key, **options)
        while True:
            before = state_of_file(self.folder / _CURRENT)
            try:
                return load(self._path(self.current()), key=self._key, **options)
            except (FileNotFoundError, ValueError):
                if state_of_file(self.folder / _CURRENT) == before:
                    raise  # otherwise another process has promoted a model and removed this one

    def current(self) -> str:
        """Return the name of the current model.

        Returns
        -------
        name : str

        Raises
        ------
        FileNotFoundError
            If no model was saved.
        ValueError
            If the file ``CURRENT`` is damaged.
        """
        path = self.folder / _CURRENT
        if not path.exists():
            raise FileNotFoundError(
                f"{self.folder}: no model is current in this store. Save one with `save`, or name "
                f"one with `promote`; it has {self._names()}."
            )
        with naming(path):
            return _checked(path.read_bytes()[:100].decode("ascii").strip())

    def list(self) -> Sequence[Bunch]:
        """Return the models, by `seq`, then by name: ``name``, ``seq``, ``digest``, ``current``.

        Returns
        -------
        models : list of Bunch
        """
        current = self.current() if (self.folder / _CURRENT).exists() else None
        found = []
        for name in self._names():
            try:
                with naming(self._path(name) / MANIFEST):
                    manifest = read_manifest(self._path(name), self._sealing)
            except FileNotFoundError:
                continue  # it was removed meanwhile
            found.append(
                Bunch(
                    name=name,
                    seq=manifest["seq"],
                    digest=manifest["digest"],
                    metadata=manifest["metadata"],
                    current=name == current,
                )
            )
        return found

    def promote(self, name: str) -> None:
        """Make a model of the store the current one.

        Parameters
        ----------
        name : str

        Raises
        ------
        ValueError
            If there is no such model, or its manifest is damaged.
        """
        path = self._path(name)
        if not path.is_dir():
            raise ValueError(f"{self.folder} has no model {name!r}; it has {self._names()}.")
        with naming(path / MANIFEST):
            read_manifest(path, self._sealing)
        replace_file(self.folder / _CURRENT, name.encode("ascii") + b"\n")

    def rollback(self) -> str:
        """Make the model before the current one the current one.

        Returns
        -------
        name : str
            Its name.

        Raises
        ------
        ValueError
            If there is none.
        """
        current, names = self.current(), self._names()
        place = names.index(current) if current in names else len(names)
        if not place:
            raise ValueError(f"{self.folder} has no model before {current}.")
        self.promote(names[place - 1])
        return names[place - 1]

    # ------------------------------------------------------------------ private

    @property
    def _models(self) -> Path:
        return self.folder / "models"

    def _path(self, name: str) -> Path:
        return self._models / _checked(name)

    def _names(self) -> Sequence[str]:
        """Return the names of all models that were saved to the end, oldest first."""
        if not self._models.is_dir():
            return []
        times = {p.name: _time_of(p) for p in self._models.iterdir() if _NAME.fullmatch(p.name)}
        names = (name for name, time in times.items() if time is not None)
        return sorted(names, key=lambda name: (int(name.split("-")[0]), times[name], name))

    def _save(
        self, model: BaseEstimator, number: int, metadata: Any, backbone: bool, promote: bool
    ) -> str:
        self._check_key()
        part = self._models / f".part-{secrets.token_hex(8)}"
        part.mkdir()  # with the rights that the process gives to new folders
        try:
            digest = save(
                model,
                part,
                seq=number,
                metadata=metadata,
                include_backbone=backbone,
                key=self._key,
            )
            name = f"{number:012d}-{self._tag_of(digest)[:8]}"
            self._keep(part, self._models / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if promote:
            self.promote(name)
        self._remove_old()
        return name

    def _check_key(self) -> None:
        """Refuse to mix readable and encrypted models, or those of two keys."""
        for name in self._names()[-1:]:
            if opens_with(self._path(name), self._sealing) is False:
                raise ValueError(
                    f"{self.folder}: its newest model has another key, or one of both has none; "
                    "give the key of the store, or take a new folder for a new key."
                )

    def _tag_of(self, digest: str) -> str:
        return digest if self._sealing is None else self._sealing.tag_of(digest)

    def _keep(self, part: Path, path: Path) -> None:
        """Give a new model its name; a damaged one of that name makes way."""
        manifest = read_manifest(part, self._sealing)
        files = _whole_files(path, manifest["digest"], self._sealing)
        if files is not None:
            write_manifest(path, {**manifest, "files": files}, self._sealing)
            return
        if path.exists():
            os.replace(path, self._models / f".part-{secrets.token_hex(8)}")
        os.replace(part, path)
        sync_folder(self._models)

    def _remove_old(self) -> None:
        """Remove models that are too old, and what a crash has left."""
        names = self._names()
        kept = set(names[-self.keep :])
        if (self.folder / _CURRENT).exists() and self.current() in names:
            place = names.index(self.current())
            kept |= set(names[max(place - 1, 0) : place + 1])
        for name in set(names) - kept:
            shutil.rmtree(self._models / name, ignore_errors=True)
        for part in self._models.glob(".part-*"):
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time run the block; the system ends the lock of one that crashes."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _time_of(path: Path) -> int | None:
    """Return when a model was saved, or None if it was not saved to the end."""
    try:
        return (path / MANIFEST).stat().st_mtime_ns
    except OSError:
        return None


def _whole_files(path: Path, digest: str, sealing: Sealing | None) -> dict[str, Any] | None:
    """Return the files of a folder with the model of a digest, if all are there in their sizes."""
    try:
        manifest = read_manifest(path, sealing)
        files: dict[str, Any] = manifest["files"]
        whole = all((path / e["name"]).stat().st_size == size_of_file(e) for e in files.values())
    except (OSError, ValueError):
        return None
    return files if whole and manifest["digest"] == digest else None


def _checked(name: str) -> str:
    """Return a name, which cannot lead out of the store."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a model in a store.")
    return name
