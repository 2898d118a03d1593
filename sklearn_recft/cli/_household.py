"""One user's list, with the user's own history as the reason beside each item."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.cli._log import Log
from sklearn_recft.vocabulary import Vocabulary

_DAY = 86_400


def recommendations(model: RecommenderMixin, log: Log, user: Any, n: int) -> dict[str, Any]:
    """Ask a fitted model for up to `n` items for one user, after all events of the log.

    Parameters
    ----------
    model : recommender
    log : Log
    user : object
        An id, known or not.
    n : int

    Returns
    -------
    dict
        Plain Python values.
    """
    rows = log.X[Vocabulary([user]).encode(log.X[:, 0]) == 0]
    own = Vocabulary(rows[:, 1])
    n = min(n, model.n_items_ - (0 if log.repeat else len(own)))
    listed = []
    if n:
        one = np.empty(1, object)
        one[0] = user  # which may be a tuple
        items, scores = model.recommend(one, n_recommendations=n, exclude_seen=not log.repeat)
        listed = [
            {
                "item_id": plain(item),
                "title": log.titles.get(item),
                "score": finite(score),
                "reason": _reason(log, rows, item),
            }
            for item, score in zip(items[0], scores[0], strict=True)
        ]
    return {
        "user": plain(user),
        "known": bool(len(own)),
        "called": log.user_word,
        "date": log.date(-1),
        "items": listed,
    }


def busiest_user(log: Log) -> Any:
    """Return the user with the most events."""
    users = Vocabulary()
    counts = np.bincount(users.extend(log.X[:, 0]))
    most = users.ids[counts == counts.max()].tolist()
    try:
        return min(most)
    except TypeError:
        return most[0]  # of several types, which have no order


def _reason(log: Log, rows: np.ndarray, item: Any) -> str:
    """Say how often a user with `rows` has taken an item, else how many others have."""
    wanted = Vocabulary([item])
    own = rows[wanted.encode(rows[:, 1]) == 0]
    if not len(own):
        takers = log.X[wanted.encode(log.X[:, 1]) == 0, 0]
        return f"new, {log.verb} by {_count(len(Vocabulary(takers)), log.user_word)}"
    if not log.has_times:
        return f"{log.verb} {_count(len(own), 'time')}"
    times = np.unique(own[:, 2].astype(np.float64))
    days = math.floor((float(log.X[-1, 2]) - times[-1]) / _DAY)
    ago = f"{_count(days, 'day')} ago" if days else "on the last day"
    return f"{log.verb} {_count(len(times), 'time')}, last {ago}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def plain(value: Any) -> str | int | float:
    """Return an id as a value that JSON has."""
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float)) else str(value)


def finite(value: float) -> float | None:
    """Return a number as JSON has it; None if it is not finite."""
    return float(value) if math.isfinite(value) else None
