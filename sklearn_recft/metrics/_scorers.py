"""From held-out rows to one number: group them by user, recommend, compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import _num_samples

from sklearn_recft.columns import to_numbers
from sklearn_recft.features import feature_columns
from sklearn_recft.interactions import check_interactions, items_of
from sklearn_recft.metrics import _ranking
from sklearn_recft.names import ITEM, TEXT, USER, as_roles
from sklearn_recft.vocabulary import Vocabulary

RANKING_METRICS: dict[str, Callable[..., Any]] = {
    "precision": _ranking.precision_at_k,
    "recall": _ranking.recall_at_k,
    "hit_rate": _ranking.hit_rate_at_k,
    "ndcg": _ranking.ndcg_at_k,
    "mrr": _ranking.mrr_at_k,
    "map": _ranking.map_at_k,
}


def make_ranking_scorer(
    metric: str = "ndcg",
    *,
    k: int = 10,
    relevance_threshold: float | None = None,
    exclude_seen: bool = True,
) -> RankingScorer:
    """Make a scorer of top-k lists for ``scoring=`` in ``cross_validate`` and searches.

    Called as ``scorer(estimator, X, y)``, it groups the rows of ``X`` by user, asks
    ``estimator.recommend`` for one list per user who has something relevant, and returns
    the mean of the metric over those users. Whole catalogue, no sampled negatives.

    A relevant item that the estimator has never met, or has excluded because the user had
    already met it in training, stays in the denominator: it is a miss. Where a user has
    fewer than `k` eligible items left, the list is shorter and its end counts as misses.

    Parameters
    ----------
    metric : {"ndcg", "recall", "precision", "hit_rate", "mrr", "map"}, default="ndcg"
        What to compute; see the functions of that name in :mod:`sklearn_recft.metrics`.
    k : int, default=10
        Length of the lists.
    relevance_threshold : float, default=None
        Rows with ``y >= relevance_threshold`` are relevant. None: rows with ``y > 0``, and
        every row where there is no ``y``.
    exclude_seen : bool, default=True
        Passed to ``recommend``. Use False where users come back to the same items.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y=None, *, sample_weight=None) -> float``; higher is better,
        NaN if no user has a relevant row. It can be pickled, and asks for
        ``sample_weight`` through ``set_score_request(sample_weight=True)`` when metadata
        routing is on. A user then weighs as much as the mean weight of their relevant
        rows; rows of weight 0 are left out, so that weights of 1 change nothing.

    Raises
    ------
    ValueError
        If the metric is unknown or `k` is less than 1.

    Notes
    -----
    ``estimator`` is anything with
    ``recommend(X, *, n_recommendations, candidates, exclude_seen)``, or a pipeline whose
    last step is; it may return the items without scores. A query carries the user, and the
    time and context of their first row, relevant or not, where ``X`` has them; never an item
    or its text. Where ``X`` has neither time nor
    context, queries are plain user ids.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.metrics import make_ranking_scorer
    >>> class Bestsellers:
    ...     def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
    ...         items = np.array(["tea", "milk", "rice"])[:n_recommendations]
    ...         return np.tile(items, (len(X), 1)), np.ones((len(X), len(items)))
    >>> X = [["ann", "milk"], ["ann", "salt"], ["bob", "tea"]]
    >>> make_ranking_scorer("recall", k=2)(Bestsellers(), X)
    0.75
    """
    if metric not in RANKING_METRICS:
        raise ValueError(f"metric must be one of {sorted(RANKING_METRICS)}, got {metric!r}.")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}.")
    return RankingScorer(metric, k, relevance_threshold, exclude_seen)


@dataclass(eq=False, repr=False)
class RankingScorer:
    """The callable that :func:`make_ranking_scorer` returns."""

    metric: str
    k: int
    relevance_threshold: float | None
    exclude_seen: bool
    _request_sample_weight: bool | str | None = None

    def __repr__(self) -> str:
        return (
            f"make_ranking_scorer({self.metric!r}, k={self.k}, "
            f"relevance_threshold={self.relevance_threshold}, exclude_seen={self.exclude_seen})"
        )

    def __call__(
        self, estimator: Any, X: Any, y: Any = None, *, sample_weight: Any = None
    ) -> float:
        """Score the lists that a fitted `estimator` makes for the users of `X`."""
        rows = relevant_rows(X, y, self.relevance_threshold)
        weight = np.ones(len(rows))
        if sample_weight is not None:
            weight = column_or_1d(sample_weight).astype(float)
            check_consistent_length(rows, weight)
            counted = np.flatnonzero(weight > 0)
            X, rows, weight = _safe_indexing(X, counted), rows[counted], weight[counted]
        if not rows.any():
            return float("nan")
        kept = np.flatnonzero(rows)
        recommender, queries, relevant, group = top_k_task(estimator, X, kept)
        lists = recommend_up_to(recommender, queries, self.k, exclude_seen=self.exclude_seen)
        values = RANKING_METRICS[self.metric](relevant, lists, k=self.k, per_user=True)
        user_weight = np.bincount(group, weight[kept]) / np.bincount(group)
        return float(np.average(values, weights=user_weight))

    def set_score_request(self, *, sample_weight: bool | str | None) -> RankingScorer:
        """Ask for ``sample_weight`` (True), refuse it (False), or rename it (str)."""
        self._request_sample_weight = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Tell scikit-learn's metadata routing what this scorer asks for."""
        request = MetadataRequest(owner=repr(self))
        request.score.add_request(param="sample_weight", alias=self._request_sample_weight)
        return request

    def _accept_sample_weight(self) -> bool:
        # What scikit-learn asks scorers of several metrics while metadata routing is off.
        return True


def relevant_rows(X: Any, y: Any, threshold: float | None) -> np.ndarray:
    """Mask of the rows that hold a relevant item, shape (n,), bool."""
    if y is None:
        if threshold is not None:
            raise ValueError("relevance_threshold needs y; without y every row is relevant.")
        return np.ones(_num_samples(X), dtype=bool)
    check_consistent_length(X, y)
    feedback = to_numbers(column_or_1d(y), "y")
    return feedback > 0 if threshold is None else feedback >= threshold


def top_k_task(
    estimator: Any, X: Any, rows: np.ndarray
) -> tuple[Any, Any, list[np.ndarray], np.ndarray]:
    """Split a test set into what to ask a recommender and what would be right.

    Parameters
    ----------
    estimator : recommender, or pipeline of which the last step is one
    X : table of events
        All that is tested on: the first row of a user in it, relevant or not, says when and in
        which context the list is asked for.
    rows : ndarray of int
        The rows of `X` that are relevant, at least one.

    Returns
    -------
    recommender : object with ``recommend``
        `estimator`, or the last step of a pipeline.
    queries : array of user ids or table
        One query per user of `rows`, in order of first appearance there.
    relevant : list of n_queries arrays of item ids
    group : ndarray of shape (len(rows),)
        The query that each row belongs to.
    """
    recommender = estimator
    if isinstance(estimator, Pipeline):
        recommender = estimator[-1]
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
    events = check_interactions(X, features=feature_columns(recommender))
    asked = Vocabulary()
    group = asked.extend(events.user_ids[rows])
    by_group = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group))[:-1]
    relevant = np.split(items_of(X)[rows[by_group]], ends)
    # What else the user did counts for when the list is asked for, or feedback would decide it.
    theirs = asked.encode(events.user_ids)
    times = np.zeros(len(events)) if events.timestamps is None else events.timestamps
    by_user = np.lexsort((times, theirs))
    starts = np.searchsorted(theirs[by_user], np.arange(len(asked)))
    first = by_user[starts]
    if events.timestamps is None and not events.context_names and not events.features:
        return recommender, events.user_ids[first], relevant, group
    return recommender, _query_table(_safe_indexing(X, first)), relevant, group


def _query_table(X: Any) -> Any:
    """Rows of events without the item: by name in a frame, else the second column."""
    if nw.dependencies.is_into_dataframe(X):
        table = nw.from_native(X, eager_only=True)
        roles = dict(zip(table.columns, as_roles(table.columns), strict=True))
        if {USER, ITEM} <= set(roles.values()):
            aside = [name for name, role in roles.items() if role in (ITEM, TEXT)]
            return table.drop(aside).to_native()
        return table.drop(table.columns[1]).to_native()
    table = np.array([list(row) for row in X], dtype=object) if isinstance(X, list) else X
    return np.delete(np.asarray(table), 1, axis=1)


def recommend_up_to(
    recommender: Any, queries: Any, k: int, *, exclude_seen: bool
) -> list[np.ndarray]:
    """Ask for `k` items per query, or all that are eligible where those are fewer.

    ``recommend`` refuses a whole batch when one user has too few items left. Recommenders of this
    package are then asked for padded lists. For others a refused batch is halved until the users
    who are short of items stand alone.
    """
    n_items = min(k, getattr(recommender, "n_items_", k))
    pads = "on_missing" in signature(recommender.recommend).parameters

    def padded() -> list[np.ndarray]:
        items, scores = recommender.recommend(
            queries, n_recommendations=n_items, exclude_seen=exclude_seen, on_missing="pad"
        )
        sizes = (~np.isneginf(scores)).sum(axis=1)
        return [row[:size] for row, size in zip(items, sizes, strict=True)]

    def ask(rows: np.ndarray, n: int, exclude: bool) -> list[np.ndarray]:
        whole = len(rows) == len(queries)
        found = recommender.recommend(
            queries if whole else _safe_indexing(queries, rows),
            n_recommendations=n,
            candidates=None,
            exclude_seen=exclude,
        )
        # Scores are not needed, so a recommender of another house may do without them.
        return list(np.asarray(found[0] if isinstance(found, tuple) else found))

    def lists(rows: np.ndarray, n: int) -> list[np.ndarray]:
        if n == 0:
            return [np.empty(0, dtype=object)]
        try:
            return ask(rows, n, exclude_seen)
        except ValueError:
            if pads:
                return padded()
            # A refusal for any other reason than seen items comes out here.
            ask(rows, n, False)
        if len(rows) == 1:
            return lists(rows, n - 1)
        return [found for half in np.array_split(rows, 2) for found in lists(half, n)]

    return lists(np.arange(len(queries)), n_items)
