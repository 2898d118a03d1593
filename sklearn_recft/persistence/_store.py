"""A folder of saved models, of which one is the current one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from sklearn_recft.persistence._folder import (
    MANIFEST,
    load,
    naming,
    read_manifest,
    replace_file,
    save,
    sync_folder,
)

_NAME = re.compile(r"\d{12}-[0-9a-f]{8}")
_CURRENT = "CURRENT"


class ModelStore:
    """Saved models of a learner, for other processes that load the current one.

    Each model is a folder ``models/<seq>-<digest>``, and the file ``CURRENT`` names one of them. It
    is replaced in one step: a reader gets the model before or after, at every moment, and after a
    crash. One process saves; any number of processes load.

    Parameters
    ----------
    folder : str or path-like
        It is made at the first `save`.
    keep : int, default=5
        Number of newest models that stay, at least 1. The current one and the one before it stay,
        too.

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

    def __init__(self, folder: str | os.PathLike[str], keep: int = 5) -> None:
        if type(keep) is not int or keep < 1:
            raise ValueError(f"keep={keep!r}: it must be an integer of at least 1.")
        self.folder = Path(folder)
        self.keep = keep

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
            the same.
        metadata, include_backbone
            As in `save`.
        promote : bool, default=True
            Make the model the current one.

        Returns
        -------
        name : str
            Name of the model in the store: ``<seq>-<digest>``.
        """
        self._models.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".part-", dir=self._models))
        try:
            digest = save(
                model, part, seq=seq, metadata=metadata, include_backbone=include_backbone
            )
            name = f"{seq:012d}-{digest[:8]}"
            if not (self._models / name / MANIFEST).exists():
                os.replace(part, self._models / name)
                sync_folder(self._models)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if promote:
            self.promote(name)
        self._remove_old()
        return name

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
        return load(self._path(self.current() if name is None else name), **options)

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
            with naming(self._path(name) / MANIFEST):
                manifest = read_manifest(self._path(name))
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
            read_manifest(path)
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
        folders = [p for p in self._models.iterdir() if _NAME.fullmatch(p.name)]
        times = {p.name: (p / MANIFEST).stat().st_mtime_ns for p in folders}
        return sorted(times, key=lambda name: (name[:12], times[name], name))

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


def _checked(name: str) -> str:
    """Return a name, which cannot lead out of the store."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a model in a store.")
    return name
