"""Similarity of an item to the user's earlier items, by given vectors of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.columns import to_ids
from sklearn_recft.preprocessing._sums import Codes, Sums

_ROWS = 1 << 14  # at once: the vectors of so many rows are in memory
NAME = "user_item_similarity"


@dataclass(init=False, repr=False, eq=False)  # so that `trusted_types` lists it
class PastSimilarity:
    """Cosine between the vector of each row's item and the sum of those of the user's past.

    Parameters
    ----------
    item_vectors : dict of id to array-like of shape (n_dimensions,)
        Items without a vector are left out of the past.
    """

    def __init__(self, item_vectors: Mapping[Any, Any]) -> None:
        vectors = _checked(item_vectors)
        ids = np.fromiter(item_vectors, object, len(item_vectors))
        self.codes = Codes()
        self.codes.extend(to_ids(ids, "item_vectors"), None)
        vectors = _over(vectors, np.abs(vectors).max(axis=1))  # so that no square overflows
        unit = _over(vectors, np.linalg.norm(vectors, axis=1))
        self.vectors = np.vstack([unit, np.zeros((1, unit.shape[1]))])  # the last: unknown items
        self.sums = Sums(unit.shape[1])

    def update(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, counted: np.ndarray
    ) -> np.ndarray:
        """Return the similarity (n, 1) of each row, in the order of time, and add ``counted``."""
        parts = []
        for first in range(0, len(users), _ROWS):
            rows = slice(first, first + _ROWS)
            own = self._own(items[rows])
            found = self.sums.update(users[rows], times[rows], own, counted[rows])
            parts.append(_cosine(found[:, 2:], own))
        return np.concatenate(parts)[:, None]

    def transform(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return the similarity (n, 1) of each row."""
        parts = []
        for first in range(0, len(users), _ROWS):
            rows = slice(first, first + _ROWS)
            found = self.sums.transform(users[rows], times[rows])
            parts.append(_cosine(found[:, 2:], self._own(items[rows])))
        return np.concatenate(parts)[:, None]

    def bound(self, max_keys: int | None) -> None:
        """Drop the users with the oldest newest events, if there are more than ``max_keys``."""
        self.sums.bound(max_keys)

    def _own(self, items: np.ndarray) -> np.ndarray:
        return self.vectors[self.codes.encode(items, None)]


def _checked(item_vectors: Any) -> np.ndarray:
    if not isinstance(item_vectors, Mapping):
        raise TypeError(
            f"item_vectors is a {type(item_vectors).__name__}; give a dict of vectors by item id, "
            "such as dict(zip(model.item_ids_.tolist(), model.item_factors_)), or of a data frame "
            "dict(zip(frame.index, frame.to_numpy()))."
        )
    try:
        vectors = np.array(list(item_vectors.values()), np.float64)
    except (TypeError, ValueError):
        vectors = np.empty(0)
    if vectors.ndim != 2 or not vectors.size or not np.isfinite(vectors).all():
        raise ValueError(
            "item_vectors must map ids of items to finite vectors of one length, for example "
            "dict(zip(model.item_ids_, model.item_factors_))."
        )
    return vectors


def _over(vectors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Divide each vector by its size; a vector of size 0 stays."""
    return vectors / np.where(sizes > 0, sizes, 1.0)[:, None]


def _cosine(past: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return cosines (n,); 0 where nothing is known."""
    norm = np.linalg.norm(past, axis=1)
    return (past * own).sum(1) / np.where(norm > 0, norm, 1.0)
