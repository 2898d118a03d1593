"""Logistic matrix factorization of two classes: `IncrementalMFClassifier`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._factorization_base import FactorizationMixin
from sklearn_recft.estimators._labels import BinaryLabelsMixin
from sklearn_recft.estimators._verbs import AdaptMixin
from sklearn_recft.models import Call, FactorizationSettings
from sklearn_recft.training import FineTuning


class IncrementalMFClassifier(
    AdaptMixin, BinaryLabelsMixin, FactorizationMixin, ClassifierMixin, BaseEstimator
):
    """Predict whether a user will click, buy or like an item, by matrix factorization.

    The probability of the second class is
    ``1 / (1 + exp(-(mu + b_u + b_i + p_u . q_i + w . context)))``. It is the model of
    `IncrementalMFRecommender` with ``loss="log_loss"``, for labels of two classes.

    Parameters
    ----------
    n_factors : int, default=64
        Length of ``p_u`` and ``q_i``.
    solver : {"sgd", "adam"}, default="sgd"
        "sgd": compiled stochastic gradient descent on the CPU. "adam": a skorch net, on any
        device, configurable by ``net_params``; slower.
    learning_rate : float, default=None
        None uses a tuned value for the solver.
    reg : float, default=None
        L2 penalty per event. None uses a tuned value for the solver.
    max_epochs : int, default=None
        Number of passes over the rows in `fit`. None is 30.
    half_life : float, default=None
        Half-life of event weights in days, relative to the newest event of a call. None disables
        the decay.
    replay_size : int, default=0
        Number of past events that are stored (a uniform sample). `partial_fit` rehearses one of
        them per new event.
    drift : {"follow"}, default=None
        "follow": a second copy of the tables, whose steps stay large, beside the first one;
        probabilities mix the scores of both by how well each has predicted lately. With "sgd" only.
    training : FineTuning, default=None
        How the net of ``solver="adam"`` is trained. None is ``FineTuning()``. With "sgd" it must be
        None.
    n_jobs : int, default=None
        Number of threads. None is one, which is bitwise reproducible. With more, "sgd" is lock-free
        and not reproducible.
    random_state : int, RandomState instance or None, default=None
        Seed of everything random.
    verbose : int, default=0
        1 shows progress.
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet` for ``solver="adam"``; not with "sgd".

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
        The labels; the second is the positive class.
    module_ : torch.nn.Module
        The model: tables of factors and biases with one row per code.
    net_ : skorch.NeuralNet
        The net around ``module_``, with ``solver="adam"`` only.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    user_factors_, item_factors_ : ndarray of shape (n_users_, n_factors) or (n_items_, n_factors)
        ``p_u`` and ``q_i``, in the order of the ids.
    user_biases_, item_biases_ : ndarray of shape (n_users_,) or (n_items_,)
        ``b_u`` and ``b_i``.
    intercept_ : float
        ``mu``.
    drift_ : Bunch
        With ``drift="follow"`` only. ``fast_weight``: the weight ``v`` of the fast copy.
        ``losses``, shape (n, 2): mean losses of the slow and of the fast copy over 32 events each
        before these were learned, newest last, at most 1024; squared errors are in units of the
        variance of ``y``. ``n_blocks``: how many there were so far.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The notes of `IncrementalMFRecommender` on `partial_fit`, unknown ids, memory, fitted
    attributes and drift hold here too. Without ``y``, every row is a positive and ``classes_`` is
    [0, 1]. There is nothing to separate positives from then: supply negatives, or use
    `IncrementalMFRecommender` with ``loss="bpr"`` or ``loss="softmax"``.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFClassifier
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> X, y = make_checkerboard(20, 20, return_X_y=True)
    >>> clicked = ["yes" if feedback > 0 else "no" for feedback in y]
    >>> model = IncrementalMFClassifier(n_factors=4, random_state=0).fit(X, clicked)
    >>> model.predict(X[:2]).tolist() == clicked[:2]
    True
    >>> model.partial_fit([["ann", 0]], ["yes"]).predict_proba([["ann", 0]]).shape
    (1, 2)
    """

    _TAGS = RecommenderTags(
        predicts="probability",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's factors and bias",
        keeps="tables, seen items, `replay_size` events",
        splits_fit=True,
        learns="clicks or likes: biases, factors, context",
    )

    def __init__(
        self,
        n_factors: int = 64,
        solver: str = "sgd",
        learning_rate: float | None = None,
        reg: float | None = None,
        max_epochs: int | None = None,
        half_life: float | None = None,
        replay_size: int = 0,
        drift: str | None = None,
        training: FineTuning | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.solver = solver
        self.learning_rate = learning_rate
        self.reg = reg
        self.max_epochs = max_epochs
        self.half_life = half_life
        self.replay_size = replay_size
        self.drift = drift
        self.training = training
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> IncrementalMFClassifier:
        """Fit the model to a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Columns ``user_id``, ``item_id``, optionally ``timestamp`` and numeric context; by
            name in a frame, by position in an array.
        y : array-like of shape (n,), default=None
            Labels of two classes. None means that every row is a positive.
        sample_weight : array-like of shape (n,), default=None
            Weights of rows; they scale the steps.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        classes: Any = None,
        batch_id: Any = None,
    ) -> IncrementalMFClassifier:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`.

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
        self._update(X, y, sample_weight, batch_id=batch_id, classes=classes)
        return self

    def partial_fit_predict_proba(
        self, X: Any, y: Any = None, sample_weight: Any = None
    ) -> np.ndarray:
        """Predict each row, then learn it, row by row: the prequential loop in one call.

        Parameters are those of `fit`. The prediction of a row does not use the row itself or later
        rows. With ``solver="sgd"`` it is one compiled pass. An unfitted estimator learns each row
        once. Rows of weight 0 are predicted, but not learned.

        Returns
        -------
        y_proba : ndarray of shape (n,), float64
            Probability of the second class of each row just before it was learned.
        """
        self._validate_params()
        return self._update(X, y, sample_weight, Call(predict=True))

    def _settings(self) -> FactorizationSettings:
        return self._solver_settings(loss="log_loss")
