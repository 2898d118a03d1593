"""Classical baselines that keep counting: popularity and damped means."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.columns import SECONDS_PER_DAY, fade
from sklearn_recft.interactions import Interactions
from sklearn_recft.ranking import TileScorer


class PopularityRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend what is most popular, of late if wished.

    The popularity of item i is ``s_i = sum_e w_e y_e 2^(-(T - t_e) / half_life)`` over its
    events e of the last ``window`` days, T being the time of the newest event seen;
    ``y_e = 1`` where no feedback is given. `recommend` ranks by ``s_i``; `predict` gives the
    item's mean feedback under the same weights, and the mean of all for an unknown item.

    Parameters
    ----------
    half_life : float, default=None
        Days after which an event counts half. None: events never fade.
    window : float, default=None
        Days after which an event no longer counts. None: no end.

    Attributes
    ----------
    popularity_ : ndarray of shape (n_items_,), float64
        ``s_i``, in catalogue order.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    `partial_fit` is exact: the same as `fit` on all rows together. It keeps two numbers per
    item, the events inside ``window`` if that is set, and each user's distinct items.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]]
    >>> PopularityRecommender().fit(X).recommend(["cat"], n_recommendations=2)
    (array([['tea', 'rice']], dtype=object), array([[2., 1.]]))
    """

    _parameter_constraints: ClassVar[dict] = {
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "window": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, half_life: float | None = None, window: float | None = None) -> None:
        self.half_life = half_life
        self.window = window

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> PopularityRecommender:
        """Count from nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, if anything fades, ``timestamp``.
        y : array-like of shape (n,), default=None
            Feedback; None counts every row as 1.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        return self._fit(X, y, sample_weight, reset=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> PopularityRecommender:
        """Count further rows; parameters as in `fit`."""
        return self._fit(X, y, sample_weight, reset=not self.__sklearn_is_fitted__())

    def predict(self, X: Any) -> np.ndarray:
        """Predict the mean feedback of each row's item.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        events = self._check_rows(X)
        items = self._items.encode(events.item_ids)
        total = self._weight.sum()
        default = self.popularity_.sum() / total
        with np.errstate(invalid="ignore"):
            mean = np.where(self._weight > 0, self.popularity_ / self._weight, default)
        return np.where(items >= 0, mean[items], default)

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> PopularityRecommender:
        events = self._check_events(X, y, sample_weight, reset=reset)
        weight = np.ones(len(events)) if events.sample_weight is None else events.sample_weight
        feedback = np.ones(len(events)) if events.feedback is None else events.feedback
        times = np.zeros(len(events)) if events.timestamps is None else events.timestamps
        with self._undo(events) as undo:
            if reset:
                self._begin(events)
                self._weight, self.popularity_ = np.empty(0), np.empty(0)
                self._latest, self._recent = -np.inf, np.empty((0, 4))
            _, items = self._remember(events)
            self._count(np.column_stack([items, times, weight, feedback]))
            undo.pop_all()
        return self

    def _count(self, rows: np.ndarray) -> None:
        """Add rows of (item, time, weight, feedback) and fade everything to the newest."""
        latest = max(self._latest, rows[:, 1].max())
        if self.window is not None:
            # Late and expiring events make sums drift; recounting what is inside does not.
            rows = np.concatenate([self._recent, rows])
            rows = rows[rows[:, 1] > latest - self.window * SECONDS_PER_DAY]
            self._recent = rows
            self._weight, self.popularity_ = np.empty(0), np.empty(0)
        grown = self.n_items_ - len(self._weight)
        weight, popularity = (np.pad(a, (0, grown)) for a in (self._weight, self.popularity_))
        now = rows[:, 2]
        if self.half_life is not None:
            if np.isfinite(self._latest):
                left = fade(latest - self._latest, self.half_life)
                weight, popularity = weight * left, popularity * left
            now = now * fade(latest - rows[:, 1], self.half_life)
        items = rows[:, 0].astype(np.int64)
        self._weight = weight + np.bincount(items, now, self.n_items_)
        self.popularity_ = popularity + np.bincount(items, now * rows[:, 3], self.n_items_)
        self._latest = latest

    def _tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        scores = self.popularity_[columns].astype(np.float32)

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = scores[c0:c1]

        return score


class BiasRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Predict by damped means: ``y = mu + b_u + b_i``.

    ``b_i = sum_e w_e (y_e - mu) / (sum_e w_e + damping)`` over the item's events, then
    ``b_u`` likewise from what remains, ``y_e - mu - b_i``, over the user's.

    Parameters
    ----------
    damping : float, default=5.0
        Weight, in events, of the belief that an id is like the average.

    Attributes
    ----------
    mean_ : float
        ``mu``, the weighted mean of all feedback.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    `partial_fit` is exact for ``mu`` and ``b_i``; a user's old events keep the ``b_i`` they
    arrived with. It keeps two numbers per id and each user's distinct items.

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

    _parameter_constraints: ClassVar[dict] = {"damping": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, damping: float = 5.0) -> None:
        self.damping = damping

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BiasRecommender:
        """Take the means from nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Feedback; None takes every row as 1.
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        return self._fit(X, y, sample_weight, reset=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BiasRecommender:
        """Take further rows into the means; parameters as in `fit`."""
        return self._fit(X, y, sample_weight, reset=not self.__sklearn_is_fitted__())

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row; an unknown id counts as average.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        events = self._check_rows(X)
        users, items = self._users.encode(events.user_ids), self._items.encode(events.item_ids)
        b_u, b_i = self._biases()
        return (
            self.mean_
            + np.where(users >= 0, b_u[users], 0.0)
            + np.where(items >= 0, b_i[items], 0.0)
        )

    def _fit(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> BiasRecommender:
        events = self._check_events(X, y, sample_weight, reset=reset)
        weight = np.ones(len(events)) if events.sample_weight is None else events.sample_weight
        feedback = np.ones(len(events)) if events.feedback is None else events.feedback
        with self._undo(events) as undo:
            if reset:
                self._begin(events)
                self._user_sums, self._item_sums = np.zeros((2, 0)), np.zeros((2, 0))
            users, items = self._remember(events)
            self._item_sums = _added(self._item_sums, items, weight, feedback, self.n_items_)
            self.mean_ = float(self._item_sums[1].sum() / self._item_sums[0].sum())
            _, b_i = self._biases()
            self._user_sums = _added(
                self._user_sums, users, weight, feedback - b_i[items], self.n_users_
            )
            undo.pop_all()
        return self

    def _biases(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(  # type: ignore[return-value]
            (total - weight * self.mean_) / np.maximum(weight + self.damping, 1e-12)
            for weight, total in (self._user_sums, self._item_sums)
        )

    def _tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        b_u, b_i = self._biases()
        base = self.mean_ + np.where(users >= 0, b_u[users], 0.0)

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = base[r0:r1, None] + b_i[columns[c0:c1]]

        return score


def _added(
    sums: np.ndarray, codes: np.ndarray, weight: np.ndarray, values: np.ndarray, n: int
) -> np.ndarray:
    """Rows (weight, weighted sum) per code, grown to ``n`` codes and added to."""
    grown = np.pad(sums, ((0, 0), (0, n - sums.shape[1])))
    return grown + np.stack([np.bincount(codes, weight, n), np.bincount(codes, weight * values, n)])
