"""Whether two fitted models are of one kind: with the same settings and columns."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import numpy as np

# Settings that change how a model is computed, not what it is.
_FREE = frozenset({"n_threads", "verbose"})


class _Fitted(Protocol):
    """What is read of a fitted model."""

    settings: Any
    positives_only: bool
    timed: bool
    context_names: tuple[str, ...]


def check_alike(ours: _Fitted, theirs: _Fitted) -> None:
    """Raise if two models cannot be merged, because their settings or columns differ.

    Parameters
    ----------
    ours, theirs : FittedModel

    Raises
    ------
    ValueError
        With the names of the settings that differ.
    """
    columns = [(m.positives_only, m.timed, m.context_names) for m in (ours, theirs)]
    if columns[0] != columns[1]:
        raise ValueError(
            "merge: both models must be fitted with feedback or both without, with timestamps or "
            "both without, and with the same context columns."
        )
    one, two = ours.settings, theirs.settings
    names = [field.name for field in fields(one) if field.name not in _FREE]
    other = [n for n in names if not _are_equal(getattr(one, n), getattr(two, n))]
    if other:
        first = other[0]
        raise ValueError(
            f"merge: the models differ in {', '.join(other)} ({first}: {getattr(one, first)!r} "
            f"and {getattr(two, first)!r}). Fit them with the same parameters."
        )


def _are_equal(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return bool(one is not None and other is not None and one == other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if is_dataclass(one):
        return all(_are_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
