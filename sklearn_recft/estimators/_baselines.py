"""Baselines with exact updates: popularity and damped means."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import RecommenderMixin, RecommenderTags
from sklearn_recft.events import Interactions
from sklearn_recft.models import BiasModel, BiasSettings, PopularityModel, PopularitySettings


class PopularityRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend the most popular items, with optional time decay.

    The popularity of item i is ``s_i = sum_e w_e y_e 2^(-(T - t_e) / half_life)`` over its
    events e of the last ``window`` days. T is the time of the newest event, and ``y_e = 1`` without
    feedback. `recommend` ranks by ``s_i``. `predict` returns the item's mean feedback with the
    same weights, and the overall mean for an unknown item.

    Parameters
    ----------
    half_life : float, default=None
        Half-life of events in days. None disables the decay.
    window : float, default=None
        Age in days after which events are ignored. None uses all events.

    Attributes
    ----------
    popularity_ : ndarray of shape (n_items_,), float64
        ``s_i``, in catalogue order.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    `partial_fit` is exact: the result equals `fit` on all rows. The model keeps two numbers per
    item, each user's distinct items, and the events inside ``window``. Without ``window``, it keeps
    32 bytes for each distinct pair of user and item, which `forget` subtracts.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]]
    >>> PopularityRecommender().fit(X).recommend(["cat"], n_recommendations=2)
    (array([['tea', 'rice']], dtype=object), array([[2., 1.]]))
    """

    _FIXED = ("half_life", "window")
    _TAGS = RecommenderTags(
        predicts="feedback",
        lists_by="own score",
        partial_fit="exact",
        reads=("time",),
        personal=False,
        forget="exact",
        merges="any parts",
        keeps="two sums an item, sums of distinct pairs, seen items",
        learns="counts that decay by `half_life` or end by `window`",
    )
    _parameter_constraints: ClassVar[dict] = {
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "window": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, half_life: float | None = None, window: float | None = None) -> None:
        self.half_life = half_life
        self.window = window

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> PopularityRecommender:
        """Fit the counts to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, with ``half_life`` or ``window``, ``timestamp``.
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
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> PopularityRecommender:
        """Add further rows to the counts; parameters as in `fit`.

        Rows of a ``batch_id`` (a string or an integer, such as a file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the mean feedback of each row's item.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        return self._predict(X)

    @property
    def popularity_(self) -> np.ndarray:
        """Popularity of each item, in catalogue order, shape (n_items_,), float64."""
        return self._fitted("popularity_").popularity.copy()

    def _settings(self) -> PopularitySettings:
        return PopularitySettings(self.half_life, self.window)

    def _make_model(self, rows: Interactions) -> PopularityModel:
        return PopularityModel(rows, self._settings())


class BiasRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Predict by damped means: ``y = mu + b_u + b_i``.

    ``b_i = sum_e w_e (y_e - mu) / (sum_e w_e + damping)`` over the item's events, then
    ``b_u`` likewise from what remains, ``y_e - mu - b_i``, over the user's.

    Parameters
    ----------
    damping : float, default=5.0
        Number of pseudo-events with the average feedback per id.

    Attributes
    ----------
    mean_ : float
        ``mu``, the weighted mean of all feedback.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    `partial_fit` is exact for ``mu`` and ``b_i``. In ``b_u``, old events of a user keep the ``b_i``
    at their arrival. The model keeps two numbers per id, and each user's distinct items with
    32 bytes for each, which `forget` subtracts.

    References
    ----------
    Funk, S. (2006). Netflix update: try this at home.

    Examples
    --------
    >>> from sklearn_recft import BiasRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]]
    >>> BiasRecommender(damping=1.0).fit(X, [5, 4, 3]).predict([["cat", "tea"]]).round(2)
    array([4.33])
    """

    _TAGS = RecommenderTags(
        predicts="feedback",
        partial_fit="exact for items",
        personal=False,
        forget="exact",
        merges="any parts",
        keeps="two sums an id, sums of distinct pairs, seen items",
        learns="damped user and item means",
    )
    _parameter_constraints: ClassVar[dict] = {"damping": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, damping: float = 5.0) -> None:
        self.damping = damping

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BiasRecommender:
        """Fit the means to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
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
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> BiasRecommender:
        """Add further rows to the means; parameters as in `fit`.

        Rows of a ``batch_id`` (a string or an integer, such as a file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row; an unknown id has a bias of 0.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        return self._predict(X)

    @property
    def mean_(self) -> float:
        """Weighted mean of all feedback."""
        return self._fitted("mean_").mean

    def _settings(self) -> BiasSettings:
        return BiasSettings(self.damping)

    def _make_model(self, rows: Interactions) -> BiasModel:
        return BiasModel(rows, self._settings())
