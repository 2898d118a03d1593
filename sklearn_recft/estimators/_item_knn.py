"""Item-based nearest neighbours: what is met together with what the user has met."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft.base import ObserveMixin, RecommenderMixin, RecommenderTags
from sklearn_recft.interactions import Interactions
from sklearn_recft.models import ItemKNNModel, ItemKNNSettings


class ItemKNNRecommender(ObserveMixin, RecommenderMixin, RegressorMixin, BaseEstimator):
    """Recommend the nearest neighbours of what the user has met.

    Let ``x_ui`` be the feedback of user u on item i summed over their events, each faded by
    ``2^(-age / half_life)``; without feedback every event counts 1. Then

    ``s_ij = sum_u x_ui x_uj / (|x_i| |x_j| + shrinkage)``   (``similarity="cosine"``)
    ``s_ij = sum_u b_ui b_uj``   (``similarity="bm25"``)

    with ``b_ui = idf_u x_ui (bm25_k1 + 1) / (bm25_k1 (1 - bm25_b + bm25_b L_i) + x_ui)``, where
    ``idf_u = log(n_items / (1 + n_u))`` counts the user's items and ``L_i`` is the item's sum
    over the mean item's. Each item keeps its ``n_neighbors`` most similar, and `recommend`
    ranks by ``sum_j x_uj s_ji`` over the user's items j that keep i; there x fades by
    ``history_half_life`` too.

    Parameters
    ----------
    n_neighbors : int, default=1000
        Neighbours kept for an item, itself included.
    similarity : {"cosine", "bm25"}, default="bm25"
        How alike two items are. Under ``"bm25"`` feedback below 0 counts as 0.
    shrinkage : float, default=100.0
        Makes cosines that few users stand for small; the less the feedback, the less of it. No
        effect on ``"bm25"``.
    bm25_k1, bm25_b : float, default=5.0 and 0.25
        How soon feedback saturates, and how much popular items are held back (0 to 1).
    half_life : float, default=None
        Days after which an event counts half. None: events never fade.
    history_half_life : float, default=None
        Events after which what a user did counts half **in that user's own list**: a small
        number looks for what comes next, None for all that may still come.
    n_jobs : int, default=None
        Threads; None is 1, -1 all cores. The result does not depend on it.

    Attributes
    ----------
    similarity_ : csr_array of shape (n_items_, n_items_), float32
        ``s_ij`` of the neighbours j of item i, in catalogue order.
    user_ids_, item_ids_ : ndarray
        Known ids. ``n_users_`` and ``n_items_`` count them.
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    `partial_fit` is exact: the same as `fit` on all rows together, if a user's events come in
    the order of their time where ``history_half_life`` is given. Sums are added to, and
    neighbours found anew from them, which costs as much as in `fit`. It keeps the neighbours and
    20 bytes (with ``history_half_life`` 40) per distinct (user, item) pair: nothing of size
    items x items.

    The defaults have the best mean rank of NDCG@10 over the validation parts of four time lines
    (Amazon Beauty, MovieLens 100K and 1M, Online Retail; ``benchmarks/defaults``). For catalogues
    of a few items take ``similarity="cosine"``: BM25 gives no weight to a user who has all items
    but one. Small feedback (ratings of 0 and 1, short half-lives) wants less ``shrinkage``.

    A user nobody knows is answered by popularity; and so are, behind all others, the items that
    no neighbour of the user's leads to.

    References
    ----------
    Deshpande, M. & Karypis, G. (2004). Item-based top-N recommendation algorithms. ACM TOIS
    22(1). Robertson, S. & Zaragoza, H. (2009). The probabilistic relevance framework: BM25 and
    beyond. Foundations and Trends in Information Retrieval 3(4).

    Examples
    --------
    >>> from sklearn_recft import ItemKNNRecommender
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "milk"], ["cem", "rice"],
    ...      ["dan", "tea"]]
    >>> ItemKNNRecommender(similarity="cosine").fit(X).recommend(["dan"], n_recommendations=2)[0]
    array([['milk', 'rice']], dtype=object)
    """

    _FIXED = ("half_life", "history_half_life")
    _TAGS = RecommenderTags(
        predicts="feedback",
        lists_by="own score",
        partial_fit="exact",
        reads=("time",),
        keeps="sums of distinct pairs, neighbours",
        learns="items that occur together: cosine or BM25, shrinkage",
    )
    _parameter_constraints: ClassVar[dict] = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "similarity": [StrOptions({"cosine", "bm25"})],
        "shrinkage": [Interval(Real, 0, None, closed="left")],
        "bm25_k1": [Interval(Real, 0, None, closed="neither")],
        "bm25_b": [Interval(Real, 0, 1, closed="both")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "history_half_life": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        n_neighbors: int = 1000,
        similarity: str = "bm25",
        shrinkage: float = 100.0,
        bm25_k1: float = 5.0,
        bm25_b: float = 0.25,
        half_life: float | None = None,
        history_half_life: float | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.similarity = similarity
        self.shrinkage = shrinkage
        self.bm25_k1 = bm25_k1
        self.bm25_b = bm25_b
        self.half_life = half_life
        self.history_half_life = history_half_life
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ItemKNNRecommender:
        """Count from nothing and find every item's neighbours.

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
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> ItemKNNRecommender:
        """Count further rows and find the neighbours anew; parameters as in `fit`."""
        self._update(X, y, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of each row from the user's own on similar items.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)

        Returns
        -------
        y : ndarray of shape (n,), float64
            The user's feedback weighted by ``s_ji``, over the sum of ``|s_ji|``; where that says
            nothing, the item's mean, and for unknown items the mean of all. Without feedback in
            `fit`, the scores of `recommend`.
        """
        return self._predict(X)

    @property
    def similarity_(self) -> csr_array:
        """Similarities of each item's neighbours, shape (n_items_, n_items_), float32."""
        return self._fitted("similarity_").similarity

    def _settings(self) -> ItemKNNSettings:
        return ItemKNNSettings(
            half_life=self.half_life,
            history_half_life=self.history_half_life,
            n_threads=self._n_threads(),
            n_neighbors=self.n_neighbors,
            similarity=self.similarity,
            shrinkage=self.shrinkage,
            bm25_k1=self.bm25_k1,
            bm25_b=self.bm25_b,
        )

    def _make_model(self, rows: Interactions) -> ItemKNNModel:
        return ItemKNNModel(rows, self._settings())
