"""Sequential rules: which item follows which."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags
from sklearn_recft.estimators._verbs import ExplainMixin, HistoryMixin, SimilarItemsMixin
from sklearn_recft.events import Interactions
from sklearn_recft.models import SequentialRulesModel, SequentialRulesSettings


class SequentialRulesRecommender(
    ExplainMixin,
    HistoryMixin,
    SimilarItemsMixin,
    ObserveMixin,
    RecommenderMixin,
    RegressorMixin,
    BaseEstimator,
):
    """Recommend items that followed the user's last items (sequential rules, Markov chain).

    The events of each user are in the order of their time. The weight of the rule "j after i" sums
    over all pairs of an event a on i and a later event b on j of the same user:

    ``C_ij = sum_ab v_a v_b 2^(-(T - t_b) / half_life) 2^(-(t_b - t_a) / gap_half_life) / d_ab``

    ``d_ab`` is the distance: 1 if b is the next event, at most ``max_distance``. v is the weighted
    feedback, 1 without feedback, and T is the time of the newest event. With the decayed sums of
    the items, ``c_i``, the rules are ``r_ij = C_ij / (c_i^alpha c_j^beta)``. Each item keeps the
    ``n_neighbors`` rules of the largest weights. `recommend` ranks by

    ``sum_a v_a 2^(-n_a / history_half_life) r_ij``

    over the user's events a on items i, where n_a is the number of later events of the user.

    Parameters
    ----------
    max_distance : int, default=10
        Largest distance of two events that make a rule. 1 is a first-order Markov chain.
    n_neighbors : int, default=1000
        Number of rules that are kept per item.
    alpha, beta : float, default=0.5 and 0.1
        Penalties of popular items: of those that come first, and of those that follow. ``alpha=1,
        beta=0`` is the confidence of a rule, ``alpha=1, beta=1`` its lift, up to a factor.
    half_life : float, default=None
        Half-life of rules in days. None disables the decay.
    gap_half_life : float, default=None
        Days between two events after which their pair has half the weight. None: distances alone
        count.
    history_half_life : float, default=2.0
        Number of later events of the same user after which an event has half the weight in that
        user's scores. None disables this decay.
    max_history : int, default=500
        Number of newest events of each user that are kept and counted.
    n_jobs : int, default=None
        Number of threads; None is 1, -1 all cores. The result does not depend on it.

    Attributes
    ----------
    rules_ : csr_array of shape (n_items_, n_items_), float32
        ``r_ij``: the weight of the item of the column after that of the row, in catalogue order.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    `partial_fit` is exact: the result equals `fit` on all rows, if the events of a user arrive in
    the order of their time. It stores the events and counts all rules again, which takes
    ``max_distance`` additions per event. The model keeps up to twice ``max_history`` events of a
    user, 24 bytes each in arrays with room to grow, and 8 bytes per rule. `forget` is exact. So is
    `forget_items`, unless a user had more than ``max_history`` events.

    Events at the same time are in the order of the rows. Without timestamps, all are. An item
    several times in a row is one event with the sum of the weights, so no rule says "the same
    again at once"; "again after another item" is a rule. For repeat purchases, call `recommend`
    with ``exclude_seen=False``. Rows with ``y <= 0`` are seen, and make no rule.

    No other of eleven settings was better than the defaults on three of four logs (NDCG@10 before
    each event, on validation rows; ``benchmarks/sequential_rules``). A ``history_half_life`` of 1
    is better for baskets and sparse logs.

    Unknown users get item popularity. Items that no rule leads to are ranked last, by popularity.

    References
    ----------
    Ludewig, M. & Jannach, D. (2018). Evaluation of session-based recommendation algorithms. User
    Modeling and User-Adapted Interaction 28 (sequential rules and Markov chains).

    Examples
    --------
    >>> from sklearn_recft import SequentialRulesRecommender
    >>> X = [["ann", "flour"], ["ann", "yeast"], ["ann", "oven"], ["bob", "flour"],
    ...      ["bob", "yeast"], ["cem", "rice"], ["dan", "flour"]]
    >>> model = SequentialRulesRecommender().fit(X)
    >>> model.recommend(["dan"], n_recommendations=3)[0]
    array([['yeast', 'oven', 'rice']], dtype=object)
    >>> model.similar_items(["yeast"], n_items=1)[0]  # what follows it
    array([['oven']], dtype=object)
    """

    _FIXED = ("max_history",)
    _NEED_TIME = ("half_life", "gap_half_life")
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="exact",
        reads=("time", "order"),
        forget="exact",
        merges="parts by users",
        keeps="the last events of each user, rules",
        learns="which item follows which: sequential rules, Markov chain",
    )
    _parameter_constraints: ClassVar[dict] = {
        "max_distance": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "gap_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "max_history": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        max_distance: int = 10,
        n_neighbors: int = 1000,
        alpha: float = 0.5,
        beta: float = 0.1,
        half_life: float | None = None,
        gap_half_life: float | None = None,
        history_half_life: float | None = 2.0,
        max_history: int = 500,
        n_jobs: int | None = None,
    ) -> None:
        self.max_distance = max_distance
        self.n_neighbors = n_neighbors
        self.alpha = alpha
        self.beta = beta
        self.half_life = half_life
        self.gap_half_life = gap_half_life
        self.history_half_life = history_half_life
        self.max_history = max_history
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> SequentialRulesRecommender:
        """Count the rules of a log of events.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and ``timestamp``. Without a ``timestamp``, the events of a
            user are in the order of the rows.
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
    ) -> SequentialRulesRecommender:
        """Add further rows and count the rules again; parameters as in `fit`.

        Rows of a ``batch_id`` (a string or an integer, such as a file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the score of each row's user and item.

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
    def rules_(self) -> csr_array:
        """Weights of items after others, shape (n_items_, n_items_), float32."""
        return self._fitted("rules_").rules

    def _settings(self) -> SequentialRulesSettings:
        return SequentialRulesSettings(
            max_distance=self.max_distance,
            n_neighbors=self.n_neighbors,
            alpha=self.alpha,
            beta=self.beta,
            half_life=self.half_life,
            gap_half_life=self.gap_half_life,
            history_half_life=self.history_half_life,
            max_history=self.max_history,
            n_threads=self._n_threads(),
        )

    def _make_model(self, rows: Interactions) -> SequentialRulesModel:
        return SequentialRulesModel(rows, self._settings())
