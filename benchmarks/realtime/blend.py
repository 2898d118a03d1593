"""Lists by the scores of the net plus those of EASE: the net's logits, and EASE's standardized."""

from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import K

_CHUNK = 500  # queries at once


def blended_lists(
    net: Any, ease: Any, weight: float, queried: pd.DataFrame, seen: pd.DataFrame | None
) -> np.ndarray:
    """Rank the catalogue for each event's user at the event's time; shape (n, K), best first.

    Both models know the same events. ``seen`` are events of these users whose items are left out.
    """
    items = np.unique(net.item_ids_)
    lists = []
    for first in range(0, len(queried), _CHUNK):
        rows = queried[first : first + _CHUNK]
        total = _scores(net, rows, items) + weight * standardized(_scores(ease, rows, items))
        if seen is not None:
            total[_hidden(rows, seen, items)] = -np.inf
        lists.append(items[np.argsort(-total, axis=1, kind="stable")[:, :K]])
    return np.concatenate(lists)


def standardized(scores: np.ndarray) -> np.ndarray:
    """Give each row (m,) a mean of 0 and a standard deviation of 1; a constant row is 0."""
    deviation = scores.std(1, keepdims=True)
    return (scores - scores.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1.0)


def _scores(model: Any, rows: pd.DataFrame, items: np.ndarray) -> np.ndarray:
    """Score all ``items``, in their order."""
    found, scores = model.recommend(
        rows[["user_id", "timestamp"]], n_recommendations=len(items), exclude_seen=False
    )
    out = np.empty(scores.shape)
    np.put_along_axis(out, np.searchsorted(items, found), scores, axis=1)
    return out


def _hidden(rows: pd.DataFrame, seen: pd.DataFrame, items: np.ndarray) -> np.ndarray:
    """Mark the items that each row's user has met, (n, m)."""
    users, of_row = np.unique(rows["user_id"], return_inverse=True)
    own = seen[seen["user_id"].isin(users)]
    hidden = np.zeros((len(users), len(items)), bool)
    place = np.searchsorted(items, own["item_id"].to_numpy())
    hidden[np.searchsorted(users, own["user_id"].to_numpy()), place] = True
    return hidden[of_row]
