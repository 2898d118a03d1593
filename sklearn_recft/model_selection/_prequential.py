"""Prequential evaluation of a log in the order of time: predict, score, then learn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import Bunch, _safe_indexing, column_or_1d
from sklearn.utils.validation import _num_samples, check_is_fitted
from tqdm import tqdm

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.interactions import times_or_none
from sklearn_recft.model_selection._replay import (
    POINTWISE_METRICS,
    MetricSet,
    PrequentialStep,
    Replay,
    pointwise_metric,
)

_TOTALS = (
    "n_rows",
    "n_queries",
    "n_unknown_users",
    "n_unknown_items",
    "predict_seconds",
    "learn_seconds",
)


class Monitor(Protocol):
    """Interface of objects that watch a prequential evaluation: two methods."""

    def begin(self, X: Any, y: Any) -> None:
        """Read the rows of the warm-up, in time order, before the first step."""

    def after_step(self, estimator: Any, X: Any, y: Any, step: PrequentialStep) -> None:
        """Read the rows of a step, in time order, after the estimator has learned."""


def iter_prequential(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    chunk_size: int | None = None,
    period: float | None = None,
    warm_up: float = 0.0,
    label_delay: float = 0.0,
    learn: str = "partial_fit",
    scoring: Sequence[str] = ("rmse",),
    k: int = 10,
    relevance_threshold: float | None = None,
    exclude_seen: bool = True,
    sample_weight: Any = None,
    report_every: int = 1000,
    monitors: Sequence[Monitor] = (),
) -> Iterator[PrequentialStep]:
    """Evaluate prequentially, chunk by chunk: predict, score, learn; yield each chunk's result.

    Rows are taken in time order (stable: ties keep their order in ``X``; row order where
    there are no timestamps). Nothing of a chunk is learned before all of it is predicted.

    Parameters
    ----------
    estimator : recommender
        It learns **in place**; pass a ``clone`` to keep yours unchanged. If `warm_up` is 0, it
        must be fitted, and continues from there.
    X : table of n rows
    y : array-like of shape (n,), default=None
        Feedback. None: every row is a positive, and only top-k metrics can be computed.
    chunk_size : int, default=None
        Rows per chunk; 1000 if `period` is not given either.
    period : float, default=None
        Days per chunk, counted from the first row after `warm_up`. Periods without rows are
        skipped.
    warm_up : int or float, default=0.0
        Number or fraction of the first rows. ``fit`` learns them, and they are not scored.
    label_delay : float, default=0.0
        Days from an event until its feedback may be learned. The clock is the first
        timestamp of the next chunk, so feedback may be learned later than after this delay.
    learn : {"partial_fit", "refit", "never"}, default="partial_fit"
        What to do after a chunk: ``partial_fit`` on rows newly known, ``fit`` on all rows
        known so far (needs `warm_up`), or nothing.
    scoring : sequence of str, default=("rmse",)
        Pointwise: ``"rmse"``, ``"mae"``, ``"log_loss"``, ``"auc"`` (the last two need y of
        0 and 1). They evaluate ``predict``, or the probability of the second class if there is
        a ``predict_proba``. ``"log_loss"`` clips the predictions of a model to
        [1e-6, 1 - 1e-6] if one of them is below 0 or above 1; any metric is NaN where a
        prediction is NaN or infinite. Top-k: ``"recall"``, ``"ndcg"``, ``"hit_rate"``,
        ``"precision"``, ``"mrr"``, ``"map"``. They compare one list per user of the chunk, made
        before the chunk is learned, with all relevant items of the user in the chunk.
    k : int, default=10
        Length of the lists.
    relevance_threshold : float, default=None
        Rows with ``y >= relevance_threshold`` are relevant. None: rows with ``y > 0``, or all rows
        without `y`.
    exclude_seen : bool, default=True
        Passed to ``recommend``. Use False for repeat purchases.
    sample_weight : array-like of shape (n,), default=None
        Passed to ``fit`` and ``partial_fit``. Metrics are not weighted.
    report_every : int, default=1000
        Rows per step of the compiled pass (see Notes); no effect elsewhere.
    monitors : sequence of objects, default=()
        Each has two methods: ``begin(X, y)`` gets the rows of the warm-up, and
        ``after_step(estimator, X, y, step)`` those of each step once the step is over, for
        instance :class:`~sklearn_recft.inspection.DriftMonitor`. They must not change the
        estimator. With `label_delay` they see feedback before the estimator does.

    Yields
    ------
    PrequentialStep

    Raises
    ------
    ValueError
        If a parameter is out of range, timestamps are missing for `period` or `label_delay`, a
        pointwise metric is given without `y`, or the estimator is unfitted and `warm_up` is 0.

    Notes
    -----
    With ``chunk_size=1`` and ``learn="partial_fit"``, an estimator that has
    ``partial_fit_predict`` learns by this method, which is made for single rows. With pointwise
    metrics only and no delay, one compiled pass then handles `report_every` rows. It still predicts
    each row before it learns the row, and the estimator may be unfitted. ``learn_seconds``
    includes prediction there, because the two cannot be timed separately. The pass also makes the
    lists of top-k metrics if the estimator has ``partial_fit_recommend`` and there is no
    `sample_weight`.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_recft.model_selection import iter_prequential
    >>> X = [["ann", "tea", 1], ["bob", "tea", 2], ["ann", "milk", 3], ["cem", "milk", 4]]
    >>> steps = iter_prequential(
    ...     DummyRegressor(), X, [4, 2, 5, 1], warm_up=2, chunk_size=1, learn="refit"
    ... )
    >>> for step in steps:
    ...     print(step.rows, step.metrics, step.n_unknown_users, step.n_unknown_items)
    [2] {'rmse': 2.0} 0 1
    [3] {'rmse': 2.66...} 1 0
    """
    metric_set = MetricSet.of(scoring, y, k, relevance_threshold, exclude_seen)
    watching = _checked_monitors(monitors)
    if learn not in ("partial_fit", "refit", "never"):
        raise ValueError(f"learn must be 'partial_fit', 'refit' or 'never', got {learn!r}.")
    if label_delay < 0:
        raise ValueError(f"label_delay must be at least 0 days, got {label_delay}.")
    times = times_or_none(X)
    if times is None and (period is not None or label_delay):
        raise ValueError("period and label_delay need X to have a `timestamp`.")
    begin = _warm_up_rows(warm_up, _num_samples(X))
    # For single rows, `partial_fit_predict` if the estimator has it; `partial_fit` is for chunks.
    follows = chunk_size == 1 and learn == "partial_fit"
    follows = follows and hasattr(estimator, "partial_fit_predict")
    lists = sample_weight is None and hasattr(estimator, "partial_fit_recommend")
    compiled = follows and not label_delay and (lists or not metric_set.ranking)
    if not (begin or compiled):
        _check_can_begin(estimator, learn)
    how = "partial_fit_predict" if follows else learn
    replay = Replay(estimator, X, y, sample_weight, times, label_delay, how, metric_set, begin)
    bounds = _bounds(replay.times, begin, report_every if compiled else chunk_size, period)
    steps = replay.steps(bounds, compiled)
    return _watched(replay, steps, watching) if watching else steps


def _checked_monitors(monitors: Any) -> tuple[Monitor, ...]:
    """Return the monitors; raise if one is none."""
    given = () if monitors is None else monitors
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    methods = "begin", "after_step"
    wrong = [m for m in found if isinstance(m, type) or not all(hasattr(m, n) for n in methods)]
    if wrong or not isinstance(given, Iterable):
        raise TypeError(
            "monitors must be a sequence of objects with the methods begin and after_step, such as "
            f"[DriftMonitor()], got {wrong[0] if wrong else monitors!r}."
        )
    return found


def _watched(
    replay: Replay, steps: Iterator[PrequentialStep], monitors: Sequence[Monitor]
) -> Iterator[PrequentialStep]:
    """Show the warm-up and every step to the monitors."""

    def rows(start: int, stop: int) -> tuple[Any, Any]:
        X = _safe_indexing(replay.X, slice(start, stop))
        return X, None if replay.y is None else replay.y[start:stop]

    start = replay.begin
    for monitor in monitors if start else ():
        monitor.begin(*rows(0, start))
    for step in steps:
        for monitor in monitors:
            monitor.after_step(replay.estimator, *rows(start, start + step.n_rows), step)
        start += step.n_rows
        yield step


def prequential_score(
    estimator: Any, X: Any, y: Any = None, *, verbose: int = 0, **options: Any
) -> Bunch:
    """Evaluate a clone of `estimator` prequentially, and summarize.

    Parameters
    ----------
    estimator : recommender
        It is cloned, so it stays unchanged, and the clone is unfitted: set `warm_up`.
    X, y, **options
        As in :func:`iter_prequential`.
    verbose : int, default=0
        1 shows a progress bar over rows.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        ``metrics``: each metric over the whole evaluation. Pointwise metrics are computed from all
        predictions at once (so RMSE is the root of the mean over rows, not a mean of RMSEs).
        Top-k metrics are means over all (user, chunk) lists.
        ``n_rows``, ``n_steps``, ``n_queries``, ``n_unknown_users``, ``n_unknown_items``: sums
        over the steps.
        ``warm_up_seconds``, ``predict_seconds``, ``learn_seconds``: wall time in total, and
        ``seconds_per_step`` of predicting and learning together.
        ``steps``: list of :class:`PrequentialStep`; ``estimator``: the clone after the last step.

    Examples
    --------
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn_recft.model_selection import prequential_score
    >>> X = [["ann", "tea", 1], ["bob", "tea", 2], ["ann", "milk", 3], ["cem", "milk", 4]]
    >>> y = [4, 2, 5, 1]
    >>> result = prequential_score(DummyRegressor(), X, y, warm_up=0.5, learn="never")
    >>> result.metrics, result.n_unknown_users
    ({'rmse': 2.0}, 1)
    """
    model = clone(estimator)
    steps: list[PrequentialStep] = []
    n_rows = _num_samples(X)
    replay = iter_prequential(model, X, y, **options)
    clock, warm_up_seconds = perf_counter(), 0.0
    n_scored = n_rows - _warm_up_rows(options.get("warm_up", 0.0), n_rows)
    with tqdm(total=n_scored, unit="row", disable=not verbose) as bar:
        for step in replay:
            if not steps:
                spent = step.predict_seconds + step.learn_seconds
                warm_up_seconds = perf_counter() - clock - spent
            steps.append(step)
            bar.update(step.n_rows)
    totals = {name: sum(getattr(step, name) for step in steps) for name in _TOTALS}
    seconds = totals["predict_seconds"] + totals["learn_seconds"]
    return Bunch(
        metrics=_overall(steps, y),
        **totals,
        n_steps=len(steps),
        warm_up_seconds=warm_up_seconds,
        seconds_per_step=seconds / len(steps),
        steps=steps,
        estimator=model,
    )


def _overall(steps: list[PrequentialStep], y: Any) -> dict[str, float]:
    """Compute pointwise metrics from all predictions at once, top-k metrics over all lists."""
    queries = np.array([step.n_queries for step in steps])
    has_lists = queries > 0
    overall = {}
    for name in steps[0].metrics:
        if name in POINTWISE_METRICS:
            truth = column_or_1d(y)[np.concatenate([step.rows for step in steps])]
            predictions = np.concatenate([step.predictions for step in steps])
            overall[name] = pointwise_metric(name, truth, predictions)
        elif has_lists.any():
            values = np.array([step.metrics[name] for step in steps])
            overall[name] = float(np.average(values[has_lists], weights=queries[has_lists]))
        else:
            overall[name] = float("nan")
    return overall


def _warm_up_rows(warm_up: float, n_rows: int) -> int:
    rows = int(warm_up) if isinstance(warm_up, (int, np.integer)) else int(warm_up * n_rows)
    if not 0 <= rows < n_rows:
        raise ValueError(
            f"warm_up={warm_up} means {rows} of {n_rows} rows; it must leave at least one to "
            "predict (a fraction is below 1.0, a number of rows is an int)."
        )
    return rows


def _check_can_begin(estimator: Any, learn: str) -> None:
    """Raise an error if there is no `warm_up` and no fitted estimator."""
    if learn == "refit":
        raise ValueError("learn='refit' fits on the rows of X alone: give warm_up.")
    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ValueError(
            "There is nothing to predict the first chunk from: give warm_up, or a fitted "
            "estimator to iter_prequential."
        ) from error


def _bounds(times: np.ndarray, begin: int, size: int | None, period: float | None) -> np.ndarray:
    """Return the first row of every chunk, and the end of the last chunk."""
    if size is not None and period is not None:
        raise ValueError("Give chunk_size (rows) or period (days), not both.")
    if period is None:
        size = 1000 if size is None else size
        if size < 1:
            raise ValueError(f"chunk_size and report_every must be at least 1, got {size}.")
        return np.append(np.arange(begin, len(times), size), len(times))
    if period <= 0:
        raise ValueError(f"period must be positive, got {period} days.")
    number = np.floor((times[begin:] - times[begin]) / (period * SECONDS_PER_DAY))
    return np.append(begin + np.flatnonzero(np.diff(number, prepend=-1.0)), len(times))
