"""EASE: a linear autoencoder of what users meet, in closed form."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags
from sklearn_recft.interactions import Interactions
from sklearn_recft.models import EASEModel, EASESettings


class EASERecommender(ObserveMixin, RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend by a linear model of each item from all others (EASE).

    Let ``X`` hold the feedback of user u on item i summed over their events, each faded by
    ``2^(-age / half_life)``; without feedback every event counts 1. The item weights B minimise

    ``|X - X B|^2 + reg |B|^2``   with ``B_ii = 0``,

    so that ``B_ij = -P_ij / P_jj`` with ``P = (X^T X + reg I)^-1``. Without that condition, for
    goods that users come back to, ``B = I - reg P``. `recommend` ranks by ``(X B)_ui``; there X
    fades by ``history_half_life`` too.

    Parameters
    ----------
    reg : float, default=None
        Penalty on weights, in squared feedback. None is 5 times the mean diagonal of ``X^T X``,
        so that rescaled feedback gives the same lists.
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

    The default of ``reg`` has the best mean rank of NDCG@10 over the validation parts of four
    time lines (Amazon Beauty, MovieLens 100K and 1M, Online Retail; ``benchmarks/defaults``).
    Repeat purchases want less, the items of the coming months on MovieLens 1M more.

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

    _FIXED = ("half_life", "history_half_life")
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="exact",
        reads=("time",),
        keeps="sums of distinct pairs, items × items weights",
        learns="each item from all others, in closed form",
    )
    _parameter_constraints: ClassVar[dict] = {
        "reg": [Interval(Real, 0, None, closed="neither"), None],
        "zero_diagonal": ["boolean"],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        reg: float | None = None,
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
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> EASERecommender:
        """Count further rows and solve anew; parameters as in `fit`."""
        self._update(X, y, sample_weight)
        return self

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
        return self._predict(X)

    @property
    def item_weights_(self) -> np.ndarray:
        """Weights of items in each other's scores, shape (n_items_, n_items_), float32."""
        return self._fitted("item_weights_").item_weights

    def _settings(self) -> EASESettings:
        return EASESettings(
            half_life=self.half_life,
            history_half_life=self.history_half_life,
            n_threads=self._n_threads(),
            reg=self.reg,
            zero_diagonal=self.zero_diagonal,
        )

    def _make_model(self, rows: Interactions) -> EASEModel:
        return EASEModel(rows, self._settings())
