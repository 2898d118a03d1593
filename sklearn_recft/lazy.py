"""Names of a package that are imported when they are first used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``, which imports each name from its home.

    Importing torch takes longer than fitting a classical model, so it is imported only
    with the first name that needs it.

    Parameters
    ----------
    package : str
        The package's ``__name__``.
    homes : mapping of str to str
        For each name the module that defines it, below the package; with a dot, another room.

    Examples
    --------
    >>> from sklearn_recft.lazy import lazy_names
    >>> get = lazy_names("sklearn_recft", {"Vocabulary": "vocabulary"})
    >>> get("Vocabulary").__name__
    'Vocabulary'
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name] if "." in homes[name] else f"{package}.{homes[name]}"
        value = getattr(importlib.import_module(home), name)
        setattr(sys.modules[package], name, value)
        return value

    return get
