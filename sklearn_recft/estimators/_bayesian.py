"""Bayesian matrix factorization with closed-form updates: `BayesianMFRecommender`."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.base import RecommenderMixin, RecommenderTags
from sklearn_recft.estimators._verbs import SimilarItemsMixin
from sklearn_recft.models import BayesianMFModel, BayesianMFSettings, Call


class BayesianMFRecommender(SimilarItemsMixin, RecommenderMixin, RegressorMixin, BaseEstimator):
    """Bayesian matrix factorization: new users need a few ratings, and no training.

    The model of the feedback of user u on item i is

    ``y = mu + b_i + c_u + p_u . q_i + e``,   ``e ~ N(0, noise^2)``,

    ``[c_u, p_u] ~ N(m, S)``,   ``[b_i, q_i] ~ N(g, L)``.

    `fit` learns the two priors, the noise, and a mean and a covariance for each user and item, by
    variational EM. Given the items, the posterior of a user is a sum over the user's events. So
    `adapt` adds further events and solves one small system, and the result does not depend on the
    order of the events.

    Parameters
    ----------
    n_factors : int, default=12
        Length of ``p_u`` and ``q_i``.
    max_epochs : int, default=30
        Number of sweeps over users and items in `fit`.
    n_jobs : int, default=None
        Number of threads; None is 1, -1 all cores. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of the first vectors of the items.
    verbose : int, default=0
        1 shows the progress of `fit`, with the time left. The loss shown is the expected squared
        error of the rows, in units of the variance of ``y``.

    Attributes
    ----------
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    user_means_ : ndarray of shape (n_users_, 1 + n_factors), float64
        Posterior means of ``[c_u, p_u]``, in the order of the ids.
    item_means_ : ndarray of shape (n_items_, 1 + n_factors), float64
        Posterior means of ``[b_i, q_i]``, in the order of the ids. ``c_u``, ``b_i`` and ``p_u``
        are in units of ``y``; ``q_i`` has no unit.
    intercept_ : float
        ``mu``, the mean of ``y`` in `fit`.
    noise_ : float
        Standard deviation of ``e``, in units of ``y``.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    `adapt` updates the users of its rows and items without earlier events; nothing else changes,
    to the last bit. With known items, two calls equal one call on the rows of both. A new item has
    to be solved for together with its users. Two rounds of this are an approximation, and a later
    call of `adapt` does not move the item again.

    `partial_fit` is a warm start: it adapts, and then adds the rows to the sums of their items,
    given the new posteriors of their users. The priors and the noise stay those of `fit`.

    An unknown user or item has the mean of its prior. Without ``y``, every row is a 1, and there is
    nothing to tell items apart. The model keeps ``(n_factors + 1) (n_factors + 6) / 2`` numbers for
    each user, twice as many for each item, and each user's distinct items.

    References
    ----------
    Lim, Y. J. & Teh, Y. W. (2007). Variational Bayesian approach to movie rating prediction.
    KDD Cup and Workshop.

    Examples
    --------
    >>> from sklearn_recft import BayesianMFRecommender
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> X, y = make_checkerboard(20, 20, return_X_y=True)
    >>> model = BayesianMFRecommender(n_factors=2, random_state=0).fit(X, y)
    >>> model.adapt([["new", 0], ["new", 3]], [1, 0]).predict([["new", 2], ["new", 5]]).round(1)
    array([1., 0.])
    """

    _FIXED = ("n_factors",)
    _TAGS = RecommenderTags(
        predicts="feedback",
        partial_fit="warm start",
        adapts="the user's posterior",
        keeps="sums of moments by user and item, seen items",
        learns="ratings: biases and factors with their uncertainty",
    )
    _parameter_constraints: ClassVar[dict] = {
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        n_factors: int = 12,
        max_epochs: int = 30,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_factors = n_factors
        self.max_epochs = max_epochs
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianMFRecommender:
        """Fit priors and posteriors to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id`` and ``item_id``, by name in a frame, by position in an array. Other columns
            are ignored.
        y : array-like of shape (n,), default=None
            Feedback, such as ratings. None counts every row as 1.
        sample_weight : array-like of shape (n,), default=None
            Weights of rows: a row of weight 2 counts as two rows.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> BayesianMFRecommender:
        """Update the users and the items of further rows; on an unfitted estimator, fit.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing. Rows of
        a ``batch_id`` (a string or an integer, such as a file name) are learned once.

        Returns
        -------
        self : object
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def adapt(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianMFRecommender:
        """Update the users of further rows alone, and items without events before.

        All other users and items stay the same, to the last bit. Parameters are those of `fit`. A
        row that is passed to `partial_fit` as well counts twice.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        self._update(X, y, sample_weight, Call(adapt=True))
        return self

    def observe(self, X: Any, y: Any = None) -> BayesianMFRecommender:
        """Update the users of further rows alone: `adapt`, except that new items learn nothing.

        Items without events before stay at their prior, until `partial_fit` or `adapt` learns them.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Their feedback, if `fit` had any.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        self._update(X, y, None, Call(weights=False))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
        """
        return self._predict(X)

    @property
    def user_means_(self) -> np.ndarray:
        """Posterior means of users, shape (n_users_, 1 + n_factors), float64."""
        model = self._fitted("user_means_")
        with model.reading():
            means: np.ndarray = model.user_table.means * model.scale
        return means

    @property
    def item_means_(self) -> np.ndarray:
        """Posterior means of items, shape (n_items_, 1 + n_factors), float64."""
        model = self._fitted("item_means_")
        with model.reading():
            means: np.ndarray = model.item_table.means.copy()
            means[:, 0] *= model.scale
        return means

    @property
    def intercept_(self) -> float:
        """Mean of the feedback in `fit`."""
        return float(self._fitted("intercept_").center)

    @property
    def noise_(self) -> float:
        """Standard deviation of the noise, in units of the feedback."""
        model = self._fitted("noise_")
        return float(model.scale * np.sqrt(model.noise))

    # ------------------------------------------------------------------ private

    def _settings(self) -> BayesianMFSettings:
        return BayesianMFSettings(
            n_factors=int(self.n_factors),
            max_epochs=int(self.max_epochs),
            n_threads=self._n_threads(),
            verbose=self.verbose,
        )

    def _make_model(self, rows: Any) -> BayesianMFModel:
        return BayesianMFModel(rows, replace(self._settings(), seed=self._seed()))
