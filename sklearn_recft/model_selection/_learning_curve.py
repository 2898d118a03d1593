"""Quality against events seen: learn a log in order of time, judge on what comes after it."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch, _safe_indexing, check_consistent_length, column_or_1d
from tqdm import tqdm

from sklearn_recft.model_selection._replay import Judge, predict_feedback
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
    """Judge a recommender again and again on the same test rows, while it learns a log.

    The last rows in time are set aside. A clone learns the rows before them in order of time
    and is judged on the rows set aside whenever it has seen one of the numbers of events.

    Parameters
    ----------
    estimator : recommender
    X : table of n rows with a ``timestamp``
    y : array-like of shape (n,), default=None
        Feedback. None: every row is a positive, and only top-k metrics can be computed.
    n_events : sequence of int or float, default=(0.05, 0.1, 0.2, 0.5, 1.0)
        When to judge: numbers of events, or fractions of all train rows. Taken in ascending
        order, each once.
    test_size : int or float, default=0.1
        Last rows to judge on, a number or a fraction of all; every one of them is strictly
        later than all train rows, as in :class:`TemporalSplit`.
    learn : {"partial_fit", "refit"}, default="partial_fit"
        ``partial_fit`` on what is new since the last point (after a ``fit`` up to the first
        one), or ``fit`` on everything so far.
    scoring, k, relevance_threshold, exclude_seen
        As in :func:`iter_prequential`, but for the default: ``("ndcg",)``.
    verbose : int, default=0
        1 shows a progress bar over points.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        ``n_events``: ndarray of int of shape (n_points,). ``metrics``: dict of metric
        (``"ndcg@10"``, …) to ndarray of that shape. ``learn_seconds``: wall time of learning
        spent on each point, of that shape: for ``partial_fit``, on what is new.
        ``n_queries``: lists behind each top-k metric. ``estimator``: the clone, with all
        train rows up to the last point learned.

    Raises
    ------
    ValueError
        If a parameter is out of range, or ``X`` has no timestamps.

    Notes
    -----
    With fewer events, a model knows less **and** what it knows is older: the test rows stay
    where they are in time. To see the first alone, give the latest rows only, or shorten
    the log with :class:`TemporalSplit`'s `max_train_window`.

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
    judge = Judge.of(scoring, y, k, relevance_threshold, exclude_seen)
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
        verb = "partial_fit" if learn == "partial_fit" and seen else "fit"
        rows = part(train[seen if verb == "partial_fit" else 0 : point])
        clock = perf_counter()
        getattr(model, verb)(*rows)
        seconds.append(perf_counter() - clock)
        seen = point
        found = {}
        if judge.pointwise:
            found = judge.of_predictions(y_test, predict_feedback(model, X_test))
        if judge.ranking:
            of_lists, n_queries = judge.of_lists(model, X_test, y_test)
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
    """Numbers of events at which to judge, ascending, each once."""
    values = np.asarray(n_events)
    whole = values.dtype.kind in "iu"
    limit = n_train if whole else 1.0
    if values.ndim != 1 or not len(values) or values.min() <= 0 or values.max() > limit:
        raise ValueError(
            f"n_events must be numbers from 1 to the {n_train} train rows, or fractions of them "
            f"above 0.0 and up to 1.0; got {n_events!r}."
        )
    return np.unique(values if whole else np.maximum(1, np.round(values * n_train)).astype(int))
