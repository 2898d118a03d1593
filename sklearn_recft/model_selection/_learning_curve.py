"""Quality by number of events: learn a log in order of time, evaluate on later rows."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch, _safe_indexing, check_consistent_length, column_or_1d
from tqdm import tqdm

from sklearn_recft.model_selection._replay import MetricSet, predict_feedback
from sklearn_recft.model_selection._split import TemporalSplit


def learning_curve_by_events(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    n_events: Sequence[float] = (0.05, 0.1, 0.2, 0.5, 1.0),
    test_size: float = 0.1,
    learn: str = "partial_fit",
    scoring: str | Sequence[str] = ("ndcg",),
    k: int = 10,
    relevance_threshold: float | None = None,
    exclude_seen: bool = True,
    verbose: int = 0,
) -> Bunch:
    """Evaluate a recommender on the same test rows after several numbers of training events.

    The latest rows are the test rows. A clone learns the rows before them in order of time. It is
    evaluated on the test rows after each of the numbers of events.

    Parameters
    ----------
    estimator : recommender
    X : table of n rows with a ``timestamp``
    y : array-like of shape (n,), default=None
        Feedback. None: every row is a positive, and only top-k metrics can be computed.
    n_events : sequence of int or float, default=(0.05, 0.1, 0.2, 0.5, 1.0)
        When to evaluate: numbers of events, or fractions of all train rows. They are sorted, and
        duplicates are dropped.
    test_size : int or float, default=0.1
        Test rows: a number or a fraction of all rows. All are strictly later than all train rows,
        as in :class:`TemporalSplit`.
    learn : {"partial_fit", "refit"}, default="partial_fit"
        ``partial_fit`` on the rows since the last point, after a ``fit`` up to the first one; or
        ``fit`` on all rows up to the point.
    scoring, k, relevance_threshold, exclude_seen
        As in :func:`iter_prequential`, but for the default: ``("ndcg",)``.
    verbose : int, default=0
        1 shows a progress bar over points.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        ``n_events``: ndarray of int of shape (n_points,). ``metrics``: dict of metric
        (``"ndcg@10"``, …) to ndarray of that shape. ``learn_seconds``: ndarray of that shape, the
        wall time of ``partial_fit`` or ``fit`` before each point. ``n_queries``: number of lists
        of each top-k metric. ``estimator``: the clone, fitted up to the last point.

    Raises
    ------
    ValueError
        If a parameter is out of range, or ``X`` has no timestamps.

    Notes
    -----
    With fewer events, a model has less data **and** older data, because the test rows are always
    the same. To measure the effect of less data alone, pass the latest rows only, or shorten the
    log with `max_train_window` of :class:`TemporalSplit`.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> from sklearn_recft.model_selection import learning_curve_by_events
    >>> X, _ = make_interactions(n_interactions=2000, random_state=0, return_X_y=True)
    >>> result = learning_curve_by_events(
    ...     PopularityRecommender(), X, n_events=(20, 200, 1800), exclude_seen=False
    ... )
    >>> result.n_events
    array([  20,  200, 1800])
    >>> few, _, all_of_them = result.metrics["ndcg@10"]
    >>> bool(few < all_of_them)
    True
    """
    metric_set = MetricSet.of(scoring, y, k, relevance_threshold, exclude_seen)
    if learn not in ("partial_fit", "refit"):
        raise ValueError(f"learn must be 'partial_fit' or 'refit', got {learn!r}.")
    check_consistent_length(X, y)
    y = None if y is None else column_or_1d(y)
    [(train, test)] = TemporalSplit(1, test_size=test_size).split(X, y)
    points = _points(n_events, len(train))

    def part(rows: np.ndarray) -> tuple[Any, Any]:
        return _safe_indexing(X, rows), None if y is None else y[rows]

    X_test, y_test = part(test)
    model, seen, n_queries = clone(estimator), 0, 0
    metrics: dict[str, list[float]] = {}
    seconds = []
    for point in tqdm(points.tolist(), unit="point", disable=not verbose):
        method = "partial_fit" if learn == "partial_fit" and seen else "fit"
        rows = part(train[seen if method == "partial_fit" else 0 : point])
        clock = perf_counter()
        getattr(model, method)(*rows)
        seconds.append(perf_counter() - clock)
        seen = point
        found = {}
        if metric_set.pointwise:
            found = metric_set.of_predictions(y_test, predict_feedback(model, X_test))
        if metric_set.ranking:
            of_lists, n_queries = metric_set.of_lists(model, X_test, y_test)
            found |= of_lists
        for name, value in found.items():
            metrics.setdefault(name, []).append(value)
    return Bunch(
        n_events=points,
        metrics={name: np.array(values) for name, values in metrics.items()},
        learn_seconds=np.array(seconds),
        n_queries=n_queries,
        estimator=model,
    )


def _points(n_events: Sequence[float], n_train: int) -> np.ndarray:
    """Return the numbers of events at which to evaluate, ascending and distinct."""
    values = np.asarray(n_events)
    whole = values.dtype.kind in "iu"
    limit = n_train if whole else 1.0
    if values.ndim != 1 or not len(values) or values.min() <= 0 or values.max() > limit:
        raise ValueError(
            f"n_events must be numbers from 1 to the {n_train} train rows, or fractions of them "
            f"above 0.0 and up to 1.0; got {n_events!r}."
        )
    return np.unique(values if whole else np.maximum(1, np.round(values * n_train)).astype(int))
