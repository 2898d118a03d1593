"""A baseline for repeat purchases: what a user takes again."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval

from sklearn_recft.base import RecommenderMixin, RecommenderTags
from sklearn_recft.estimators._verbs import ExplainMixin
from sklearn_recft.events import Interactions
from sklearn_recft.models import HabitModel, HabitSettings


class HabitRecommender(ExplainMixin, RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend what a user takes again and again, then what is popular.

    The score of user u and item i at time t is ``p_i + a_i S(u, i, t)``. S is the decayed count
    of the user's earlier baskets with the item, ``sum_k 2^(-(t - t_k) / habit_half_life)``.
    ``a_i = sqrt((repeats_i + m a) / (exposures_i + m))`` says how often the item is taken again;
    ``p_i`` is the popularity of `PopularityRecommender`, scaled to at most 0.2. A basket is all
    that a user takes at one time; it counts an item once.

    Parameters
    ----------
    habit_half_life : float, default=90.0
        Days after which a basket of the user counts half. None: no decay.
    half_life : float, default=28.0
        Days after which an event counts half in the popularity. None: no decay.
    item_weights : bool, default=True
        Whether habits are weighed by ``a_i``; False sets ``a_i = 1``. With
        ``habit_half_life=None`` as well, the model is the baseline "own favourites": it ranks by
        how often the user took the item, and popularity only orders ties.

    Attributes
    ----------
    repeat_weight_ : ndarray of shape (n_items_,), float64
        ``a_i``, in catalogue order.
    popularity_ : ndarray of shape (n_items_,), float64
        Decayed counts of all users' events.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    ``repeats_i`` counts the baskets in which users took the item again. ``exposures_i`` sums ``S``
    over all baskets of users who had taken it before. ``a`` is the ratio of all repeats to all
    exposures, and m = 30.

    `partial_fit` is exact if a user's events come in the order of their time: counting on gives the
    lists of one `fit` on all rows. It keeps about 90 bytes per distinct (user, item) pair and
    learns an event in one look-up and one step for each known pair of its user.

    Repeat purchases are listed only with ``recommend(..., exclude_seen=False)``. With the default,
    ``exclude_seen=True``, only popularity is left. Rows with ``y <= 0`` are no habit.

    The defaults are the best on five weeks of The Complete Journey before the test weeks (NDCG@10
    of a weekly list of all products; ``benchmarks/groceries``).

    References
    ----------
    Hu, H., He, X., Gao, J., & Zhang, Z.-L. (2020). Modeling personalized item frequency
    information for next-basket recommendation. SIGIR.

    Examples
    --------
    >>> from sklearn_recft import HabitRecommender
    >>> day = 86_400
    >>> X = [["ann", "tea", 0], ["bob", "milk", 0], ["ann", "tea", 7 * day],
    ...      ["bob", "milk", 9 * day], ["cem", "milk", 9 * day], ["ann", "rice", 9 * day]]
    >>> model = HabitRecommender().fit(X)
    >>> model.recommend(["ann", "cem"], n_recommendations=2, exclude_seen=False)[0]
    array([['tea', 'rice'],
           ['milk', 'tea']], dtype=object)
    """

    _FIXED = ("habit_half_life", "half_life", "item_weights")
    _NEED_TIME = ()
    _TAGS = RecommenderTags(
        predicts="order",
        partial_fit="exact",
        reads=("time",),
        finds_new=False,
        forget="exact",
        merges="parts by users",
        keeps="a count and a time of each pair, two sums an item",
        learns="what each user takes again, by decayed counts; needs `exclude_seen=False`",
    )
    _parameter_constraints: ClassVar[dict] = {
        "habit_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "item_weights": ["boolean"],
    }

    def __init__(
        self,
        habit_half_life: float | None = 90.0,
        half_life: float | None = 28.0,
        item_weights: bool = True,
    ) -> None:
        self.habit_half_life = habit_half_life
        self.half_life = half_life
        self.item_weights = item_weights

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> HabitRecommender:
        """Count from nothing.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and ``timestamp``. Without a ``timestamp``, each row is a
            basket of its own, and nothing decays.
        y : array-like of shape (n,), default=None
            Feedback; None counts every row as 1.
        sample_weight : array-like of shape (n,), default=None
            Weights in the popularity. Rows of weight 0 are no habit.

        Returns
        -------
        self : object
        """
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, sample_weight: Any = None, *, batch_id: Any = None
    ) -> HabitRecommender:
        """Count further rows; parameters as in `fit`.

        Rows of a ``batch_id`` (a string or an integer, such as a file name) are learned once.
        """
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Score (n,) of each row before its own time; an unknown item has 0.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        """
        return self._predict(X)

    @property
    def repeat_weight_(self) -> np.ndarray:
        """How often each item is taken again, shape (n_items_,), float64."""
        return self._fitted("repeat_weight_").habits.repeat_weight()

    @property
    def popularity_(self) -> np.ndarray:
        """Popularity of each item, in catalogue order, shape (n_items_,), float64."""
        return self._fitted("popularity_").popularity.copy()

    def _settings(self) -> HabitSettings:
        return HabitSettings(
            half_life=self.half_life,
            habit_half_life=self.habit_half_life,
            item_weights=self.item_weights,
        )

    def _make_model(self, rows: Interactions) -> HabitModel:
        return HabitModel(rows, self._settings())
