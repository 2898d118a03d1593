"""Item neighbourhoods: the most similar items of each item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._item_based import pair_sums
from sklearn_recft.models._user_item import UserItemModel, UserItemSettings, by_item
from sklearn_recft.parallel import in_threads
from sklearn_recft.ranking import TileScorer


@dataclass(frozen=True)
class ItemKNNSettings(UserItemSettings):
    """Settings of `ItemKNNModel`: as the parameters of the estimator."""

    n_neighbors: int = 300
    similarity: str = "cosine"
    shrinkage: float = 100.0
    bm25_k1: float = 1.2
    bm25_b: float = 0.75


class ItemKNNModel(UserItemModel):
    """Similarities of items, recomputed from the sums after every call.

    Attributes
    ----------
    similarity : csr_array of shape (n_items, n_items), float32
    """

    kind = "ItemKNNRecommender"
    settings: ItemKNNSettings

    def __init__(self, rows: Interactions, settings: ItemKNNSettings) -> None:
        super().__init__(rows, settings)
        self.similarity = csr_array((0, 0), dtype=np.float32)

    def score(self, events: Events) -> np.ndarray:
        """Return the weighted mean of the user's feedback on similar items.

        Without feedback in `fit`, the scores of `tile_scorer`.
        """
        users, items = events.user, events.item
        if self.positives_only:
            return self._item_scores(self.similarity, users, items)
        sums = self.feedback.sums.sum(axis=0)
        mean = sums.sum().imag / sums.sum().real if sums.any() else 0.0  # 0 without users
        item_mean = np.divide(sums.imag, sums.real, np.full(len(sums), mean), where=sums.real > 0)
        total = pair_sums(self.profiles.total, self.similarity, users, items)
        weight = pair_sums(self.profiles.weight, self.similarity, users, items, sizes=True)
        fallback = np.where(items >= 0, item_mean[items], mean)
        return np.divide(total, weight, fallback, where=weight > 0)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes sums of similarities to the user's items."""
        return self._item_tiles(self.similarity, users, columns)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes similarities; 0 for items that are no neighbours."""
        near = self.similarity[items]

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = 0
            kernels.add_to_tile(near.indptr, near.indices, near.data, r0, c0, out)

        return score

    def explain(self, events: Events) -> Explanation:
        """Return the scores of `tile_scorer` as sums ``x_uj s_ji`` over the user's items."""
        return self._item_explanation(self.similarity, events)

    def _extend(self, users: np.ndarray) -> None:
        """Give new items no neighbours."""
        near, n_new = self.similarity, self.n_items - self.similarity.shape[0]
        if n_new:
            indptr = np.pad(near.indptr, (0, n_new), mode="edge")
            self.similarity = csr_array(
                (near.data, near.indices, indptr), (self.n_items, self.n_items)
            )

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Find the neighbours of all items."""
        settings = self.settings
        matrix = self.feedback.total()
        n_items = matrix.shape[1]
        if settings.similarity == "bm25":
            matrix, size, shrinkage = self._bm25(matrix), np.ones(n_items), 0.0
        else:
            size = np.sqrt(np.bincount(matrix.indices, matrix.data.astype(float) ** 2, n_items))
            shrinkage = float(settings.shrinkage)
        turned = by_item(matrix)
        k = min(settings.n_neighbors, n_items)
        found, n_found = np.empty((n_items, k), np.int32), np.empty(n_items, np.int64)
        nearness = np.empty((n_items, k), np.float32)
        arrays = [a for m in (turned, matrix) for a in (m.indptr, m.indices, m.data)]

        def step(first: int, last: int) -> None:
            kernels.nearest_items(first, last, *arrays, size, shrinkage, found, nearness, n_found)

        work = turned @ np.diff(matrix.indptr).astype(np.float32)
        in_threads(step, np.abs(work), settings.n_threads)
        kept = np.arange(k) < n_found[:, None]
        starts = np.concatenate([[0], np.cumsum(n_found)])
        if starts[-1] < np.iinfo(np.int32).max:
            starts = starts.astype(np.int32)  # otherwise the codes would be converted to int64
        near = csr_array((nearness[kept], found[kept], starts), (n_items, n_items))
        near.sum_duplicates()  # marks the matrix as free of duplicates
        self.similarity = near

    def _bm25(self, matrix: csr_array) -> csr_array:
        """Compute BM25 weights of feedback, with items as documents and users as words."""
        k1, b = self.settings.bm25_k1, self.settings.bm25_b
        values = np.maximum(matrix.data, 0).astype(float)
        n_own = np.diff(matrix.indptr)
        length = np.bincount(matrix.indices, values, matrix.shape[1])
        below = 1 - b + b * length / max(length.mean(), 1e-300)
        values *= (k1 + 1) / (k1 * below[matrix.indices] + values + 1e-300)
        values *= np.repeat(np.log(matrix.shape[1] / (1.0 + n_own)), n_own)
        return csr_array((values.astype(np.float32), matrix.indices, matrix.indptr), matrix.shape)
