"""Saved models of a loop: snapshots on the way, and bases that a step of the log names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils import Bunch

from sklearn_recft.loop._model import Served
from sklearn_recft.persistence import ModelStore, inspect

if TYPE_CHECKING:
    from sklearn_recft.preprocessing import SecretKey


class Snapshots:
    """Two stores of models in a folder. New folders and files are those of their owner alone.

    A snapshot is the model after a step of the log, and saves time at a restart. A base is a model
    that no event leads to, such as the first one and that of a nightly `fit`.

    Parameters
    ----------
    folder : path-like
    keep : int
        Snapshots that stay.
    key : str or SecretKey, default=None
        Key of the files.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        keep: int = 5,
        *,
        key: str | SecretKey | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._key = key
        self._stores = {
            False: ModelStore(self.folder, keep=keep, key=key),
            True: ModelStore(self.folder / "bases", keep=2, key=key),
        }
        self.damaged: dict[str, str] = {}

    def save(
        self, model: Served, seq: int, step: int, *, base: bool = False, live: bool = True
    ) -> str:
        """Save a model as it is after a step, and return its name."""
        metadata = {"step": step}
        own: Any = model
        store = self._stores[base]
        for folder in dict.fromkeys((self.folder, store.folder, store.folder / "models")):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _private(store, store.save(own, seq=seq, metadata=metadata, promote=live))

    def load(self, name: str, *, base: bool = False) -> Any:
        """Load a model by name."""
        return self._stores[base].load(name)

    def names(self, *, base: bool = False) -> list[str]:
        """Return the names of the models that are there, whether they can be read or not."""
        return sorted(path.name for path in self._paths(base))

    def saved(self, *, base: bool = False) -> list[Bunch]:
        """Return the models that can be read: ``name``, ``seq``, ``step``, ``digest``, ``kind``."""
        found = []
        for path in sorted(self._paths(base)):
            try:
                about = inspect(path, key=self._key)
                step = int(about.metadata["step"])
            except FileNotFoundError:
                continue  # removed meanwhile
            except (ValueError, KeyError, TypeError) as error:
                self.damaged[path.name] = str(error)
                continue
            found.append(
                Bunch(
                    name=path.name, seq=about.seq, step=step, digest=about.digest, kind=about.kind
                )
            )
        return sorted(found, key=lambda one: one.step)

    def _paths(self, base: bool) -> Iterator[Path]:
        return (self._stores[base].folder / "models").glob("[0-9]*-*")

    def load_newest(self, names: list[tuple[int, str, bool]]) -> tuple[Any, int, str, bool] | None:
        """Load the newest of some models that can be read: (step, name, whether it is a base)."""
        for step, name, base in sorted(names, reverse=True):
            try:
                return self.load(name, base=base), step, name, base
            except FileNotFoundError:
                continue  # an old base, which was removed
            except (ValueError, OSError) as error:
                self.damaged[name] = str(error)
        return None

    def remove(self, name: str, *, base: bool = False) -> None:
        """Remove a model."""
        shutil.rmtree(self._stores[base].folder / "models" / name, ignore_errors=True)

    def rewrite(self, change: Callable[[Any], Any], *, base: bool = False) -> dict[str, str]:
        """Save a changed copy of each model, and return the new names by the old ones.

        The old models stay, but for those that cannot be read.
        """
        names = {}
        store = self._stores[base]
        all_of_them = ModelStore(store.folder, keep=1_000_000, key=self._key)
        try:
            current = store.current()
        except (FileNotFoundError, ValueError):
            current = ""
        for one in self.saved(base=base):
            try:
                model = change(self.load(one.name, base=base))
            except (ValueError, OSError) as error:
                self.damaged[one.name] = str(error)
                continue
            name = all_of_them.save(
                model, seq=one.seq, metadata={"step": one.step}, promote=one.name == current
            )
            names[one.name] = _private(store, name)
        for name in self.damaged:
            self.remove(name, base=base)
        return names


def _private(store: ModelStore, name: str) -> str:
    """Let the owner alone read a saved model; return its name."""
    folder = store.folder / "models" / name
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o600)
    return name
