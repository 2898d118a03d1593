"""Whether two fitted models are of one kind: with the same settings and columns."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

# Settings that change how a model is computed, not what it is.
_FREE = frozenset({"n_threads", "verbose"})


def refuse_other_settings(ours: Any, theirs: Any) -> None:
    """Raise if the settings of two models differ.

    Parameters
    ----------
    ours, theirs : dataclass
        Settings of the model that is merged into, and of the one that is merged.

    Raises
    ------
    ValueError
        With the names of the settings that differ.
    """
    names = [field.name for field in fields(ours) if field.name not in _FREE]
    other = [n for n in names if not _are_equal(getattr(ours, n), getattr(theirs, n))]
    if other:
        first = other[0]
        raise ValueError(
            f"merge: the models differ in {', '.join(other)} ({first}: {getattr(ours, first)!r} "
            f"and {getattr(theirs, first)!r}). Fit them with the same parameters."
        )


def _are_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return bool(one is not None and other is not None and one == other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if is_dataclass(one):
        return all(_are_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
