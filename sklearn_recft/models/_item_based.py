"""Models that score by weights between items: sums over the items of a user's profile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft import kernels
from sklearn_recft.events import Events
from sklearn_recft.history import FeedbackMatrix
from sklearn_recft.models._base import FittedModel
from sklearn_recft.models._explain import Explanation
from sklearn_recft.ranking import TileScorer

# Weight of popularity in the scores, per event of the user: it breaks ties.
_BACKOFF = 1e-9
# Number of rows of `pair_sums` at once: bounds memory.
_BLOCK = 8192


class ItemBasedModel(FittedModel):
    """Scores that are sums over a user's profile: the weights of past items in that user's list.

    Attributes
    ----------
    popularity : ndarray of shape (n_items,), float64
        Mean feedback per user of each item, no event counting as 0.
    """

    popularity: np.ndarray

    def _profiles_of(self, users: np.ndarray) -> FeedbackMatrix:
        """Return the profiles of ``users`` (n,), a row each; those of -1 are empty."""
        raise NotImplementedError

    def _totals_of(self, users: np.ndarray) -> csr_array:
        """Return the sums of weighted feedback in the profiles of ``users``, float32."""
        return self._profiles_of(users).total()

    def _popularity_share(self, profiles: FeedbackMatrix) -> np.ndarray:
        """Return the weight (n,) of popularity in the scores of users; 1 for unknown users."""
        n_events = profiles.n_events()
        return np.where(n_events > 0, _BACKOFF * n_events, 1.0)

    def _item_tiles(self, similarity: Any, users: np.ndarray, columns: np.ndarray) -> TileScorer:
        """Return scores ``sum_j x_uj similarity_ji``; popularity for unknown users.

        ``similarity`` (n_items, n_items) is a dense array or CSR with ascending columns.
        """
        own = self._profiles_of(users)
        profiles, share = own.total(), self._popularity_share(own)
        popular = self.popularity[columns]
        whole = len(columns) == similarity.shape[1]
        near = similarity if whole else similarity[:, columns]

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            np.multiply.outer(share[r0:r1], popular[c0:c1], out=out, casting="same_kind")
            rows = profiles[r0:r1]
            if isinstance(near, np.ndarray):
                out += rows @ near[:, c0:c1]
            else:
                arrays = rows.indptr, rows.indices, rows.data
                kernels.spread(*arrays, near.indptr, near.indices, near.data, c0, out)

        return score

    def _item_scores(self, similarity: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the scores of `_item_tiles` for pairs of codes, -1 for unknown; (n,) float64.

        An item without events is as popular as the mean of the others.
        """
        sums = pair_sums(self._totals_of, similarity, users, items)
        return self._popularity_scores(users, items) + sums

    def _popularity_scores(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the part of the scores of pairs that is popularity, (n,)."""
        popular = self.popularity
        base = np.where(items >= 0, popular[items], popular.mean())
        scores = self._popularity_share(self._profiles_of(users)) * base
        scores[(items < 0) & (users >= 0)] = popular.mean()
        return scores

    def _item_explanation(self, similarity: Any, events: Events) -> Explanation:
        """Return the scores of `_item_scores` as sums over the user's items."""
        users, items = events.user, events.item
        rows = self._totals_of(np.where(items >= 0, users, -1))
        row = np.repeat(np.arange(len(users)), np.diff(rows.indptr))
        shared = _values_at(similarity, rows.indices, items[row])
        parts = row, rows.indices.astype(np.int64), rows.data * shared.astype(np.float64)
        popularity = self._popularity_scores(users, items)
        return Explanation.of_parts(len(users), parts, {"popularity": popularity})


def pair_sums(
    rows_of: Callable[[np.ndarray], csr_array],
    similarity: Any,
    users: np.ndarray,
    items: np.ndarray,
    *,
    sizes: bool = False,
) -> np.ndarray:
    """Compute ``sum_j x_uj similarity_ji`` with ``x_u = rows_of([u])``, (n,); 0 if unknown.

    ``sizes``: sum ``x_uj |similarity_ji|`` instead.
    """
    sums = np.empty(len(users))
    for start in range(0, len(users), _BLOCK):
        block = slice(start, start + _BLOCK)
        rows = rows_of(np.where(items[block] >= 0, users[block], -1))
        n_own = np.diff(rows.indptr)
        row = np.repeat(np.arange(len(n_own)), n_own)
        shared = _values_at(similarity, rows.indices, items[block][row])
        if sizes:
            shared = np.abs(shared)
        sums[block] = np.bincount(row, rows.data * shared, len(n_own))
    return sums


def _values_at(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the values (n,) of a dense or sparse matrix at pairs of indices."""
    if not len(rows):  # which a sparse matrix answers by a sparse array
        return np.empty(0)
    return np.asarray(matrix[rows, columns]).ravel()
