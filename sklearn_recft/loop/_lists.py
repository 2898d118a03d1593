"""Lists that users saw, to be joined with what they did next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_recft.loop._events import Id, as_json, check_id, check_text, listed_id
from sklearn_recft.tables import table_of_queries

_NAMES = {"list_id", "user_id", "items", "scores", "seq", "model"}


@dataclass(frozen=True)
class ShownList:
    """A list that a user saw.

    Attributes
    ----------
    list_id : str
    user_id : int or str
    items : sequence of int or str
        Best first.
    scores : sequence of float or None
    seq : int
        Number of the last event that the model had learned.
    model : str
        Name of the model.
    """

    list_id: str
    user_id: Id
    items: Sequence[Id]
    scores: Sequence[float | None] = field(default_factory=list)
    seq: int = 0
    model: str = ""

    def rows(self, now: float) -> list[tuple[Any, ...]]:
        """Return the rows of the table ``shown``, in the order of its columns."""
        scores = self.scores or [None] * len(self.items)
        user, rest = as_json(self.user_id), (self.seq, self.model, now)
        return [
            (self.list_id, position, user, as_json(item), score, *rest)
            for position, (item, score) in enumerate(zip(self.items, scores, strict=True), 1)
        ]


@dataclass(frozen=True)
class Recommended:
    """What `Loop.recommend` returns.

    Attributes
    ----------
    list_ids : list of str
        Name of each list, for the events that follow it.
    items : ndarray of shape (n, n_recommendations)
    scores : ndarray of shape (n, n_recommendations), float64
    model : str
        Name of the base that the model comes from.
    seq : int
        Number of the last event that it had learned.
    """

    list_ids: list[str]
    items: np.ndarray
    scores: np.ndarray
    model: str
    seq: int


def shown_lists(users: Any, found: Recommended) -> list[ShownList]:
    """Return the lists of users, or of a table of queries, to be stored."""
    table = table_of_queries(users)
    ids = users if table is None else table.columns(("user_id",))["user_id"]
    ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    rows = zip(found.list_ids, ids, found.items.tolist(), found.scores.tolist(), strict=True)
    return [
        ShownList(
            list_id,
            check_id(user, "user_id"),
            [listed_id(item, "items") for item in items if item is not None],
            [score for item, score in zip(items, scores, strict=True) if item is not None],
            found.seq,
            found.model,
        )
        for list_id, user, items, scores in rows
    ]


def check_lists(lists: Iterable[Mapping[str, Any] | ShownList]) -> list[ShownList]:
    """Check lists before they are stored."""
    return [_checked(one, row) for row, one in enumerate(lists)]


def _checked(one: Mapping[str, Any] | ShownList, row: int) -> ShownList:
    if isinstance(one, ShownList):
        return one
    where = f"lists, row {row}: "
    if not isinstance(one, Mapping) or not {"list_id", "user_id", "items"} <= set(one) <= _NAMES:
        raise ValueError(
            f"{where}give a dict with list_id, user_id and items, and optionally "
            "scores, seq and model."
        )
    if not isinstance(one["items"], (Sequence, np.ndarray)) or isinstance(one["items"], str):
        raise TypeError(f"{where}items must be a list, got {type(one['items']).__name__}.")
    items = [check_id(item, "items", where) for item in one["items"]]
    scores = [None if s is None else float(s) for s in one.get("scores") or [None] * len(items)]
    if len(scores) != len(items) or any(s is not None and not math.isfinite(s) for s in scores):
        raise ValueError(f"{where}scores: give {len(items)} finite numbers or None, one per item.")
    list_id = check_text(one["list_id"], f"{where}list_id")
    user = check_id(one["user_id"], "user_id", where)
    seq, model = check_id(one.get("seq", 0), "seq", where), one.get("model", "")
    if not isinstance(seq, int) or not 0 <= seq < 2**63 or not isinstance(model, str):
        raise ValueError(f"{where}seq must be an integer of 64 bits, and model a text.")
    return ShownList(list_id, user, items, scores, seq, model)
