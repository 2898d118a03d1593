"""EASE: item weights of a linear autoencoder, in closed form."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.linalg import get_lapack_funcs

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._user_item import UserItemModel, UserItemSettings, by_item
from sklearn_recft.parallel import blas_threads, in_threads
from sklearn_recft.ranking import TileScorer

_BLOCK = 512
# The default penalty, in mean diagonals of X^T X (`benchmarks/defaults`).
_RELATIVE_REG = 5.0


@dataclass(frozen=True)
class EASESettings(UserItemSettings):
    """Settings of `EASEModel`: as the parameters of the estimator."""

    reg: float | None = None
    zero_diagonal: bool = True


class EASEModel(UserItemModel):
    """Item weights, solved for from the sums after every call.

    Attributes
    ----------
    item_weights : ndarray of shape (n_items, n_items), float32
    """

    kind = "EASERecommender"
    settings: EASESettings

    def __init__(self, rows: Interactions, settings: EASESettings) -> None:
        super().__init__(rows, settings)
        self.item_weights = np.empty((0, 0), np.float32)

    def score(self, events: Events) -> np.ndarray:
        """Return the scores of `tile_scorer` for rows."""
        return self._item_scores(self.item_weights, events.user, events.item)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes products of the user's feedback and the weights."""
        return self._item_tiles(self.item_weights, users, columns)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes the weights of ``items`` in the scores of all items."""
        weights = self.item_weights

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = weights[items[r0:r1], c0:c1]

        return score

    def explain(self, events: Events) -> Explanation:
        """Return the scores of rows as sums ``x_uj B_ji`` over the user's items."""
        return self._item_explanation(self.item_weights, events)

    def _extend(self, users: np.ndarray) -> None:
        """Give new items zero weights."""
        n_new = self.n_items - len(self.item_weights)
        if n_new:
            self.item_weights = np.pad(self.item_weights, (0, n_new))

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Solve for the item weights."""
        settings, matrix = self.settings, self.feedback.total()
        turned = by_item(matrix)
        n_items = matrix.shape[1]
        gram = np.zeros((n_items, n_items))
        arrays = [a for m in (turned, matrix) for a in (m.indptr, m.indices, m.data)]
        in_threads(
            lambda first, last: kernels.gram_rows(first, last, *arrays, gram),
            np.diff(turned.indptr) * np.arange(1.0, n_items + 1),
            settings.n_threads,
        )
        reg = settings.reg
        if reg is None:
            reg = _RELATIVE_REG * float(gram.diagonal().mean()) or 1.0
        reg = _usable(reg, gram)
        np.fill_diagonal(gram, gram.diagonal() + reg)
        with blas_threads(settings.n_threads if n_items > _BLOCK else 1):  # threads would wait
            gram = _inverse(gram)
        zero = settings.zero_diagonal
        scale = -1.0 / gram.diagonal() if zero else np.full(n_items, -reg)
        diagonal = np.zeros(n_items) if zero else 1.0 + scale * gram.diagonal()
        weights = np.empty((n_items, n_items), np.float32)
        for first in range(0, n_items, _BLOCK):
            block = slice(first, first + _BLOCK)
            np.multiply(gram[block], scale, out=weights[block], casting="same_kind")
        np.fill_diagonal(weights, diagonal)
        self.item_weights = weights


def _usable(reg: float, gram: np.ndarray) -> float:
    """Return ``reg``, or the smallest penalty that is not lost in rounding."""
    least = 16 * len(gram) * np.finfo(np.float64).eps * gram.diagonal().max(initial=0.0)
    if reg >= least:
        return reg
    warnings.warn(
        f"reg={reg:g} is lost in rounding beside sums of squared feedback of up to "
        f"{gram.diagonal().max():g}: reg={least:g} is used. Divide y by its largest value, or "
        "raise reg.",
        stacklevel=2,
    )
    return least


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Invert a positive definite matrix in place, given its lower triangle."""
    factor, invert = get_lapack_funcs(("potrf", "potri"), (matrix,))
    upper, info = factor(matrix.T, lower=0, clean=0, overwrite_a=1)  # LAPACK reads columns
    if info:
        raise np.linalg.LinAlgError("X^T X + reg I is not positive definite; raise reg.")
    upper, _ = invert(upper, lower=0, overwrite_c=1)
    inverse = upper.T
    for first in range(0, len(inverse), _BLOCK):
        last = min(first + _BLOCK, len(inverse))
        inverse[first:last, last:] = inverse[last:, first:last].T
        corner = inverse[first:last, first:last]
        corner[:] = np.tril(corner) + np.tril(corner, -1).T
    return inverse
