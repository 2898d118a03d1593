"""What a call of `forget` removed, and how much of the influence of the users it removed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from sklearn_recft.models._base import FittedModel

# Levels of `forget`, from the weakest.
ERASED, EXACT, UNLEARNED = "erased", "exact", "unlearned"
# Arrays of a state whose entries are no rows: texts of ids.
_NO_ROWS = ("utf8",)


@dataclass(frozen=True)
class ForgetReceipt:
    """What `forget`, `forget_items` or `unlearn` did. It holds numbers only, and no id.

    Attributes
    ----------
    level : {"erased", "exact", "unlearned"}
        "erased": ids, histories, seen items, stored rows and own parameters are gone. What other
        parameters learned from them stays. "exact": the model equals a fit without them, up to
        rounding. "unlearned": the model was fitted again without them.
    n_users, n_items : int
        How many of the given users or items were known, and are gone.
    removed : dict of str to int
        Number of rows removed from each part of the model, by the name of the part. Empty after
        `unlearn`, which makes a new model.
    n_rows : int
        Number of rows of the log that `unlearn` left out; 0 otherwise.
    time : str
        When the call ended: UTC, ISO 8601.
    seconds : float
        How long the call took.
    """

    level: str
    n_users: int
    n_items: int
    removed: dict[str, int]
    n_rows: int
    time: str
    seconds: float

    def __str__(self) -> str:
        gone = f"{self.n_users:,} users, {self.n_items:,} items"
        lines = [f"{self.level}: {gone}, at {self.time} in {self.seconds:.3f} s"]
        lines += [f"{n:>12,} rows of {name}" for name, n in self.removed.items()]
        if self.n_rows:
            lines.append(f"{self.n_rows:>12,} rows of the log")
        return "\n".join(lines)


def copy_without(
    model: FittedModel,
    remove: Callable[[FittedModel], None],
    level: str,
    counts: tuple[int, int],
) -> tuple[FittedModel, ForgetReceipt]:
    """Return a copy of a model after ``remove``, and the receipt.

    Parameters
    ----------
    model : FittedModel
        It does not change.
    remove : callable
        Removes users or items from the copy.
    level : str
    counts : tuple of int
        Numbers of users and of items to remove.
    """
    start = time.perf_counter()
    twin = copy.deepcopy(model)
    before = _sizes(twin.state())
    remove(twin)
    removed = _removed_rows(before, _sizes(twin.state()))
    level = level if twin.is_whole else ERASED
    seconds = time.perf_counter() - start
    return twin, ForgetReceipt(level, *counts, removed, 0, utc_now(), seconds)


def utc_now() -> str:
    """Return the time now in UTC, as text in seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


Sizes = dict[str, dict[str, tuple[int, ...]]]


def _sizes(state: dict[str, Any]) -> Sizes:
    """Return the shapes of all arrays of `FittedModel.state`, by part."""
    named = {**state["parts"], **state["values"]}
    return {name: dict(_shapes(value, "")) for name, value in named.items()}


def _removed_rows(before: Sizes, after: Sizes) -> dict[str, int]:
    """Return how many rows each part has lost: the largest loss of one of its arrays."""
    found = {}
    for name, shapes in before.items():
        left = after.get(name, {})
        lost = [
            old - new
            for path, shape in shapes.items()
            if path in left
            for old, new in zip(shape, left[path], strict=False)
        ]
        if max(lost, default=0) > 0:
            found[name] = max(lost)
    return found


def _shapes(value: Any, path: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the path and the shape of each array or list inside of plain values."""
    if isinstance(value, np.ndarray):
        yield path, value.shape
    elif isinstance(value, list):
        yield path, (len(value),)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NO_ROWS:
                yield from _shapes(inner, f"{path}/{name}")
