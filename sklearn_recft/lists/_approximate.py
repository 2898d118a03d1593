"""Lists of single queries, found in an index of items in place of all scores."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.features import feature_columns
from sklearn_recft.interactions import check_queries
from sklearn_recft.lists._index import RowIndex
from sklearn_recft.lists._make import ListOptions, recommend_lists


class ApproximateLists:
    """Lists from an approximate search, where nearly the best items are enough.

    The index is an inverted file of faiss: items are grouped by k-means, and a query reads the
    ``n_probe`` nearest of ``2 sqrt(n_items)`` groups. The scores of a list are exact, but an item
    of the exact list may be missing. ``recommend`` of the recommender itself is always exact.

    Items that `partial_fit` changed or added after the index was built are all scored, so new
    items are found at once. The first query builds the index, and so does a query after which more
    than 2 % of the items have changed.

    Parameters
    ----------
    recommender : estimator
        A fitted `IncrementalMFRecommender`. Lists of other recommenders, of models with habits,
        drift or fewer than about two million item factors, and from frames of ``candidates`` are
        exact: their scores are no products, or all are computed quickly.
    n_probe : int, default=32
        Groups of items that a query reads. More find more of the best items and take longer.

    Raises
    ------
    ImportError
        If faiss-cpu is not installed: ``pip install 'sklearn-recft[ann]'``.

    Notes
    -----
    The index holds a copy of the item factors: ``4 (n_factors + 4)`` bytes per item. It is not
    saved: a copy or a pickle builds its own. With random factors, no group holds the best items,
    and most of them must be read; see the recall in ``benchmarks/lists``, and measure that of your
    model against ``recommend``.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.lists import ApproximateLists
    >>> X = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["bob", "rice"]]
    >>> model = IncrementalMFRecommender(random_state=0).fit(X, [5, 3, 4, 4])
    >>> lists = ApproximateLists(model)  # doctest: +SKIP
    >>> lists.recommend(["ann"], n_recommendations=1)[0].tolist()  # doctest: +SKIP
    [['rice']]
    """

    def __init__(self, recommender: Any, n_probe: int = 32) -> None:
        check_scalar(n_probe, "n_probe", Integral, min_val=1)
        check_is_fitted(recommender)
        self.recommender, self.n_probe = recommender, int(n_probe)
        self._index = RowIndex(self.n_probe)

    def recommend(
        self,
        X: Any,
        *,
        n_recommendations: int = 10,
        candidates: Any = None,
        exclude: Any = None,
        exclude_seen: bool = True,
        on_missing: str = "raise",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recommend nearly the best items for each query, best first.

        Parameters
        ----------
        X : array-like of user ids of shape (n_queries,), or a table of queries
            As in ``recommend`` of the recommender. Each query is searched by itself.
        n_recommendations, candidates, exclude, exclude_seen, on_missing : object
            As in ``recommend`` of the recommender.

        Returns
        -------
        items : ndarray of shape (n_queries, n_recommendations)
        scores : ndarray of shape (n_queries, n_recommendations), float64

        Raises
        ------
        ValueError, TypeError
            As ``recommend`` of the recommender.
        """
        features = feature_columns(self.recommender)
        queries = check_queries(X, self.recommender, features=features)
        options = ListOptions(
            n_recommendations, candidates, exclude, exclude_seen, on_missing, index=self._index
        )
        model = self.recommender.__recommender_model__()
        found = [
            recommend_lists(model, queries.take(np.array([row])), options, 1)
            for row in range(len(queries))
        ]
        items, scores = zip(*found, strict=True)
        return np.concatenate(items), np.concatenate(scores)

    def __reduce__(self) -> tuple[type[ApproximateLists], tuple[Any, int]]:
        return ApproximateLists, (self.recommender, self.n_probe)  # builds its own index
