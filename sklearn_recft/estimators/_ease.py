"""EASE: a linear autoencoder of what users meet, in closed form."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import get_lapack_funcs
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft import kernels
from sklearn_recft.base import RecommenderMixin
from sklearn_recft.estimators import _feedback
from sklearn_recft.interactions import Interactions
from sklearn_recft.parallel import blas_threads, in_threads, n_threads
from sklearn_recft.ranking import TileScorer

_BLOCK = 512


class EASERecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend by a linear model of each item from all others (EASE).

    Let ``X`` hold the feedback of user u on item i summed over their events, each faded by
    ``2^(-age / half_life)``; without feedback every event counts 1. The item weights B minimise

    ``|X - X B|^2 + reg |B|^2``   with ``B_ii = 0``,

    so that ``B_ij = -P_ij / P_jj`` with ``P = (X^T X + reg I)^-1``. Without that condition, for
    goods that users come back to, ``B = I - reg P``. `recommend` ranks by ``(X B)_ui``; there X
    fades by ``history_half_life`` too.

    Parameters
    ----------
    reg : float, default=500.0
        Penalty on weights, in squared feedback: the more events, the more. Events that fade
        ask for less.
    zero_diagonal : bool, default=True
        Whether an item must say nothing of itself. False where people buy the same again.
    half_life : float, default=None
        Days after which an event counts half. None: events never fade.
    history_half_life : float, default=None
        Events after which what a user did counts half **in that user's own list**: a small
        number looks for what comes next, None for all that may still come.
    n_jobs : int, default=None
        Threads; None is 1, -1 all cores.

    Attributes
    ----------
    item_weights_ : ndarray of shape (n_items_, n_items_), float32
        B.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    `partial_fit` is exact: the same as `fit` on all rows together, if a user's events come in
    the order of their time where ``history_half_life`` is given. Sums are added to and the
    matrix is inverted anew, which costs as much as in `fit`, O(n_items^3). It keeps B, 4 n_items^2
    bytes, and 20 bytes (with ``history_half_life`` 40) per distinct (user, item) pair; learning
    takes 8 n_items^2 more: 19 GB for 40,000 items, before which `ItemKNNRecommender` is the
    one to take.

    ``reg=500`` is best, of decades tried, for the next item on MovieLens 1M; the items of the
    coming months want 10 times that, sparser logs (Amazon Beauty) a tenth.

    `predict` gives the feedback that a pair is expected to sum up to, no event counting as 0. A
    user nobody knows is answered by popularity.

    References
    ----------
    Steck, H. (2019). Embarrassingly shallow autoencoders for sparse data. WWW.

    Examples
    --------
    >>> from sklearn_recft import EASERecommender
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"], ["cem", "rice"],
    ...      ["dan", "tea"]]
    >>> EASERecommender(reg=1.0).fit(X).recommend(["dan"], n_recommendations=2)[0]
    array([['milk', 'rice']], dtype=object)
    """

    _parameter_constraints: ClassVar[dict] = {
        "reg": [Interval(Real, 0, None, closed="neither")],
        "zero_diagonal": ["boolean"],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        reg: float = 500.0,
        zero_diagonal: bool = True,
        half_life: float | None = None,
        history_half_life: float | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.reg = reg
        self.zero_diagonal = zero_diagonal
        self.half_life = half_life
        self.history_half_life = history_half_life
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> EASERecommender:
        """Count from nothing and solve for the item weights.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, if events fade, ``timestamp``.
        y : array-like of shape (n,), default=None
            Feedback; None counts every row as 1.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        return _feedback.learn(self, X, y, sample_weight, reset=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> EASERecommender:
        """Count further rows and solve anew; parameters as in `fit`."""
        return _feedback.learn(self, X, y, sample_weight, reset=not self.__sklearn_is_fitted__())

    def predict(self, X: Any) -> np.ndarray:
        """Predict what each row's feedback is expected to sum up to.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
            The scores of `recommend`.
        """
        events = self._check_rows(X)
        users, items = self._users.encode(events.user_ids), self._items.encode(events.item_ids)
        return _feedback.pair_scores(self, self.item_weights_, users, items)

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Solve for the item weights."""
        matrix = self._feedback.total()
        self._popularity = _feedback.popularity(self._feedback)
        turned = _feedback.by_item(matrix)
        n_items = matrix.shape[1]
        gram = np.zeros((n_items, n_items))
        arrays = [a for m in (turned, matrix) for a in (m.indptr, m.indices, m.data)]
        in_threads(
            lambda first, last: kernels.gram_rows(first, last, *arrays, gram),
            np.diff(turned.indptr) * np.arange(1.0, n_items + 1),
            n_threads(self.n_jobs),
        )
        np.fill_diagonal(gram, gram.diagonal() + self.reg)
        with blas_threads(n_threads(self.n_jobs)):
            gram = _inverse(gram)
        scale = -1.0 / gram.diagonal() if self.zero_diagonal else np.full(n_items, -self.reg)
        diagonal = np.zeros(n_items) if self.zero_diagonal else 1.0 + scale * gram.diagonal()
        weights = np.empty((n_items, n_items), np.float32)
        for first in range(0, n_items, _BLOCK):
            block = slice(first, first + _BLOCK)
            np.multiply(gram[block], scale, out=weights[block], casting="same_kind")
        np.fill_diagonal(weights, diagonal)
        self.item_weights_ = weights

    def _tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        return _feedback.tile_scorer(self, self.item_weights_, users, columns)


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Invert, in its own memory, a positive definite matrix given by its lower triangle."""
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
