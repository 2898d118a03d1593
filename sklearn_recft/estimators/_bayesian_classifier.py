"""Bayesian logistic matrix factorization of labels: `BayesianMFClassifier`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._bayesian_base import BayesianMixin
from sklearn_recft.estimators._labels import BinaryLabelsMixin
from sklearn_recft.models import BayesianMFSettings


class BayesianMFClassifier(BayesianMixin, BinaryLabelsMixin, ClassifierMixin, BaseEstimator):
    """Predict clicks, likes or dislikes of new users from a few labels, by Bayesian factorization.

    The probability of the second class for user u and item i is

    ``1 / (1 + exp(-(mu + b_i + c_u + p_u . q_i)))``,

    ``[c_u, p_u] ~ N(m, S)``,   ``[b_i, q_i] ~ N(g, L)``.

    `fit` learns the two priors, and a mean and a covariance for each user and item, by variational
    EM. A weighted squared error in place of each label keeps all solutions in closed form. So
    `adapt` adds further labels and solves one small system, as `BayesianMFRecommender` does.

    Parameters
    ----------
    n_factors : int, default=12
        Length of ``p_u`` and ``q_i``.
    max_epochs : int, default=30
        Number of sweeps over users and items in `fit`.
    user_features, item_features : list of str, default=None
        Features of users and of items, as in `BayesianMFRecommender`: columns of ``X``, or of the
        tables ``users`` and ``items`` of `fit`. None reads all columns of these tables, and none of
        ``X``.
    backbone : str, default=None
        Text encoder of items: a folder, a name on the Hugging Face hub, or "auto" for a small one.
        It reads the column ``text`` of ``X`` or ``items``. None reads no texts.
    text_components : int, default=32
        Number of principal components of the encoded texts.
    half_life : float, default=None
        Half-life of events in days, as in `BayesianMFRecommender`. None disables the decay.
    n_jobs : int, default=None
        Number of threads; None is 1, -1 all cores. The result does not depend on it.
    random_state : int, RandomState instance or None, default=None
        Seed of the first vectors of the items.
    verbose : int, default=0
        1 shows the progress of `fit`, with the time left. The loss shown is the mean log loss of
        the rows.

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    user_means_ : ndarray of shape (n_users_, 1 + n_factors), float64
        Posterior means of ``[c_u, p_u]``, in the order of the ids.
    item_means_ : ndarray of shape (n_items_, 1 + n_factors), float64
        Posterior means of ``[b_i, q_i]``, in the order of the ids.
    intercept_ : float
        ``mu``, the log-odds of the second class over all rows of `fit`.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The notes of `BayesianMFRecommender` on `adapt`, `partial_fit`, features, memory and new items
    hold here too. Probabilities are expected ones: with the mean m and the variance v of the
    log-odds, the expected probability is about ``1 / (1 + exp(-m / sqrt(1 + pi v / 8)))``. So
    they are near to .5 where little is known, and `recommend` ranks by them.

    With the expected probability p of a label y of 0 or 1, and the expected curvature c of its log
    loss, its squared error has the target ``m + (y - p) / c`` and the weight c. `fit` takes these
    from the posteriors of each sweep (Khan & Lin). In later calls, they are those of a user
    without events, with a larger c. So they depend on the item alone: the order of the events does
    not matter, and two calls of `adapt` equal one call on the rows of both. The price is that
    `adapt` on hundreds of labels is an approximation.

    Use it where one class is rare, such as clicks: there, `BayesianMFRecommender` on 0 and 1 is
    worse. For labels of about equal numbers, the two are level. See :doc:`/guide/few_shot` for
    figures. Without ``y``, every row is a positive, and there is nothing
    to separate positives from: use `BayesianMFRecommender` with ``loss="implicit"``.

    References
    ----------
    Khan, M. E. & Lin, W. (2017). Conjugate-computation variational inference. AISTATS.
    Jaakkola, T. & Jordan, M. (2000). Bayesian parameter estimation via variational methods.
    Statistics and Computing 10 (the larger c: the geometric mean of c and the curvature of their
    bound).

    Examples
    --------
    >>> from sklearn_recft import BayesianMFClassifier
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> X, y = make_checkerboard(20, 20, return_X_y=True)
    >>> clicked = ["yes" if feedback > 0 else "no" for feedback in y]
    >>> model = BayesianMFClassifier(n_factors=2, random_state=0).fit(X, clicked)
    >>> model = model.adapt([["new", 0], ["new", 3]], ["yes", "no"])
    >>> model.predict([["new", 2], ["new", 5]]).tolist()
    ['yes', 'no']
    >>> y_proba, y_std = model.predict_proba([["new", 2]], return_std=True)
    >>> y_proba.shape, y_std.shape
    ((1, 2), (1,))
    """

    _TAGS = RecommenderTags(
        predicts="probability",
        partial_fit="warm start",
        reads=("time",),
        adapts="the user's posterior",
        keeps="sums of moments by user and item, seen items",
        learns="clicks or likes: biases and factors with their uncertainty",
    )

    def __init__(
        self,
        *,
        n_factors: int = 12,
        max_epochs: int = 30,
        user_features: list[str] | None = None,
        item_features: list[str] | None = None,
        backbone: str | None = None,
        text_components: int = 32,
        half_life: float | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_factors = n_factors
        self.max_epochs = max_epochs
        self.user_features = user_features
        self.item_features = item_features
        self.backbone = backbone
        self.text_components = text_components
        self.half_life = half_life
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        users: Any = None,
        items: Any = None,
    ) -> BayesianMFClassifier:
        """Fit priors and posteriors to a log of labels.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, with ``half_life``, ``timestamp``, by name in a frame, by
            position in an array, and features and ``text``, by name in a frame. Other columns
            must be numeric, and are ignored.
        y : array-like of shape (n,), default=None
            Labels of two classes. None means that every row is a positive.
        sample_weight : array-like of shape (n,), default=None
            Weights of rows: a row of weight 2 counts as two rows.
        users, items : tables with a column ``user_id`` or ``item_id``, default=None
            Features, one row for each id. Ids without events become known as well. In a table
            without column names, the ids are the first column.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight, users=users, items=items)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        users: Any = None,
        items: Any = None,
        classes: Any = None,
        batch_id: Any = None,
    ) -> BayesianMFClassifier:
        """Update the users and the items of further rows; on an unfitted estimator, fit.

        Parameters are those of `fit`. A call that fails or is interrupted changes nothing.

        Parameters
        ----------
        classes : array-like of shape (2,), default=None
            Both labels, if the first call may not contain both.
        batch_id : str or int, default=None
            Name of these rows, such as a file name. Rows of one name are learned once.

        Returns
        -------
        self : object
        """
        tables = {"users": users, "items": items}
        self._update(X, y, sample_weight, batch_id=batch_id, classes=classes, **tables)
        return self

    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """Predict the probabilities of both classes for each row.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        return_std : bool, default=False
            Whether to return the standard deviation as well.

        Returns
        -------
        y_proba : ndarray of shape (n, 2), float64
        y_std : ndarray of shape (n,), float64
            Standard deviation of the probability of the second class, by linear approximation:
            that of the log-odds times ``p (1 - p)``. With ``return_std`` only.
        """
        if not return_std:
            return super().predict_proba(X)
        rows, model = self._check_rows(X), self._model
        with model.reading():
            events = model.encode(rows)
            positive, deviation = model.score(events), model.deviation(events)
        both: np.ndarray = np.column_stack([1 - positive, positive])
        return both, positive * (1 - positive) * deviation

    def _settings(self) -> BayesianMFSettings:
        return self._settings_of("log_loss")
