"""The predict-score-learn loop: a log in time order, the metrics, and the progress of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import log_loss
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d
from sklearn.utils.validation import _num_samples

from sklearn_recft.columns import SECONDS_PER_DAY, to_numbers
from sklearn_recft.interactions import items_of, users_of
from sklearn_recft.metrics import (
    RANKING_METRICS,
    grouped_roc_auc_score,
    recommend_up_to,
    relevant_rows,
    top_k_task,
)
from sklearn_recft.vocabulary import Vocabulary

# log_loss clips predictions that are no probabilities to this distance from 0 and 1.
_NEARLY_SURE = 1e-6


def _log_loss(y: np.ndarray, predictions: np.ndarray) -> float:
    """Return the log loss; if a prediction is no probability, all are clipped to nearly 0 and 1."""
    if predictions.min() < 0 or predictions.max() > 1:
        predictions = np.clip(predictions.astype(np.float64), _NEARLY_SURE, 1 - _NEARLY_SURE)
    return float(log_loss(y, predictions, labels=[0, 1]))


_DEFINED: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "rmse": lambda y, p: float(np.sqrt(np.mean((p - y) ** 2))),
    "mae": lambda y, p: float(np.mean(np.abs(p - y))),
    "log_loss": _log_loss,
    "auc": lambda y, p: grouped_roc_auc_score(y, p, np.zeros(len(y), dtype=np.int64)),
}
POINTWISE_METRICS = tuple(_DEFINED)


def pointwise_metric(name: str, y: Any, predictions: np.ndarray) -> float:
    """Compute a metric of ``POINTWISE_METRICS``; NaN where a prediction is NaN or infinite.

    ``log_loss`` takes predictions as probabilities if all are from 0 to 1; if not, all are
    clipped to [1e-6, 1 - 1e-6]. It and ``auc`` need y of 0 and 1.
    """
    if not np.isfinite(predictions).all():
        return float("nan")
    truth = to_numbers(y, "y")
    if name in ("log_loss", "auc") and not np.isin(truth, (0, 1)).all():
        raise ValueError(
            f"{name} needs feedback of 0 and 1; {int((~np.isin(truth, (0, 1))).sum())} of "
            f"{len(truth)} rows are other numbers. Use rmse or mae, or give y > threshold."
        )
    return _DEFINED[name](truth, predictions)


@dataclass(frozen=True)
class PrequentialStep:
    """Result of one chunk of a prequential evaluation, before the chunk was learned.

    Attributes
    ----------
    rows : ndarray of int
        Rows of ``X`` in this chunk, in time order.
    first_timestamp, last_timestamp : float
        Seconds since 1970; NaN where ``X`` has no timestamps.
    metrics : dict of str to float
        ``"rmse"``, …, ``"ndcg@10"``, …; NaN where undefined (one class only, nothing relevant).
    n_queries : int
        Number of lists of each top-k metric: one for each user with relevant rows in this chunk.
        0 without top-k metrics.
    n_unknown_users, n_unknown_items : int
        Rows whose user, or item, had not been learned when they were predicted.
    predict_seconds, learn_seconds : float
        Wall time of predicting and recommending, and of learning afterwards.
    predictions : ndarray of shape (n_rows,) or None
        Predictions before learning; None without pointwise metrics.
    """

    rows: np.ndarray = field(repr=False)
    first_timestamp: float
    last_timestamp: float
    metrics: dict[str, float]
    n_queries: int
    n_unknown_users: int
    n_unknown_items: int
    predict_seconds: float
    learn_seconds: float
    predictions: np.ndarray | None = field(repr=False)

    @property
    def n_rows(self) -> int:
        """Number of rows in this chunk."""
        return len(self.rows)


@dataclass(frozen=True)
class MetricSet:
    """The metrics to compute, and their parameters."""

    pointwise: tuple[str, ...]
    ranking: tuple[str, ...]
    k: int
    relevance_threshold: float | None
    exclude_seen: bool

    @classmethod
    def of(
        cls, scoring: Sequence[str], y: Any, k: int, threshold: float | None, exclude_seen: bool
    ) -> MetricSet:
        """Validate the names in ``scoring``, and split them into pointwise and ranking metrics."""
        names = (scoring,) if isinstance(scoring, str) else tuple(scoring)
        known = (*POINTWISE_METRICS, *RANKING_METRICS)
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"scoring must be among {known}, got {unknown}.")
        pointwise = tuple(name for name in names if name in POINTWISE_METRICS)
        if pointwise and y is None:
            raise ValueError(f"{pointwise[0]} needs y; without y use top-k metrics.")
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}.")
        ranking = tuple(name for name in names if name in RANKING_METRICS)
        return cls(pointwise, ranking, k, threshold, exclude_seen)

    def of_predictions(self, y: Any, predictions: np.ndarray) -> dict[str, float]:
        """Return the pointwise metrics of a chunk."""
        return {name: pointwise_metric(name, y, predictions) for name in self.pointwise}

    def of_row_lists(
        self, rows: np.ndarray, items: np.ndarray, lists: list[np.ndarray]
    ) -> tuple[dict[str, float], int]:
        """Return what `of_lists` does for chunks of one row, of which ``rows`` are relevant."""
        relevant, lists = [items[row : row + 1] for row in rows], [lists[row] for row in rows]
        return self._of_lists(relevant, lists), len(rows)

    def relevant(self, X: Any, y: Any) -> np.ndarray:
        """Return the places of the relevant rows."""
        return np.flatnonzero(relevant_rows(X, y, self.relevance_threshold))

    def of_lists(self, estimator: Any, X: Any, y: Any) -> tuple[dict[str, float], int]:
        """Return the top-k metrics of a chunk, and their number of lists."""
        rows = self.relevant(X, y)
        relevant: list[np.ndarray] = []
        lists: list[np.ndarray] = []
        if len(rows):
            recommender, queries, relevant, _ = top_k_task(estimator, X, rows)
            lists = recommend_up_to(recommender, queries, self.k, exclude_seen=self.exclude_seen)
        return self._of_lists(relevant, lists), len(relevant)

    def _of_lists(self, relevant: list[np.ndarray], lists: list[np.ndarray]) -> dict[str, float]:
        return {
            f"{name}@{self.k}": RANKING_METRICS[name](relevant, lists, k=self.k)
            for name in self.ranking
        }


class Replay:
    """A log in time order, and the number of rows that an estimator has learned of it.

    Rows are numbered in the order of time. Labels arrive in the order of their events, so the
    learned rows are always the first ones: ``known`` is their number.
    """

    def __init__(
        self,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any,
        times: np.ndarray | None,
        label_delay: float,
        learn: str,
        metric_set: MetricSet,
        begin: int,
    ) -> None:
        check_consistent_length(X, y, sample_weight)
        n = _num_samples(X)
        self.order = np.arange(n) if times is None else np.argsort(times, kind="stable")
        self.times = np.full(n, np.nan) if times is None else times[self.order]
        self.delay = label_delay * SECONDS_PER_DAY
        self.estimator, self.how, self.metric_set, self.begin = estimator, learn, metric_set, begin
        self.known = 0
        self.X = _safe_indexing(X, self.order)
        self.y = None if y is None else column_or_1d(y)[self.order]
        self.weight = None if sample_weight is None else column_or_1d(sample_weight)[self.order]
        # Ids of an estimator that is already fitted are known, unless `warm_up` fits it anew.
        known_users, known_items = (
            () if begin else getattr(estimator, name, ()) for name in ("user_ids_", "item_ids_")
        )
        self.user_first = _first_places(users_of(self.X), known_users)
        self.item_first = _first_places(items_of(self.X), known_items)

    def steps(self, bounds: np.ndarray, compiled: bool) -> Iterator[PrequentialStep]:
        """Warm up, then predict, score and learn between each two of ``bounds``."""
        if self.begin:
            self.known = self._arrived(self.begin)
            if not self.known:
                raise ValueError(
                    f"None of the {self.begin} rows of warm_up has its label before the first "
                    "chunk; lengthen warm_up or shorten label_delay."
                )
            self._learn("fit", 0, self.known)
        step = self._compiled_step if compiled else self._step
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            yield step(start, stop)

    def _step(self, start: int, stop: int) -> PrequentialStep:
        clock = perf_counter()
        X = _safe_indexing(self.X, slice(start, stop))
        y = None if self.y is None else self.y[start:stop]
        predictions = predict_feedback(self.estimator, X) if self.metric_set.pointwise else None
        lists, n_queries = (
            self.metric_set.of_lists(self.estimator, X, y) if self.metric_set.ranking else ({}, 0)
        )
        predict_seconds = perf_counter() - clock
        known, clock = self.known, perf_counter()
        self._learn_arrived(stop)
        return self._report(
            start,
            stop,
            known,
            predictions,
            lists,
            n_queries,
            predict_seconds,
            perf_counter() - clock,
        )

    def _compiled_step(self, start: int, stop: int) -> PrequentialStep:
        clock, metric_set = perf_counter(), self.metric_set
        metrics: dict[str, float] = {}
        n_queries = 0
        if metric_set.ranking:
            X = _safe_indexing(self.X, slice(start, stop))
            y = None if self.y is None else self.y[start:stop]
            items, predictions = self.estimator.partial_fit_recommend(
                X, y, n_recommendations=metric_set.k, exclude_seen=metric_set.exclude_seen
            )
            sizes = (items != np.array(None)).sum(axis=1)
            lists = [row[:size] for row, size in zip(items, sizes, strict=True)]
        else:
            predictions = self._learn("partial_fit_predict", start, stop)
        seconds = perf_counter() - clock
        if metric_set.ranking:
            rows = metric_set.relevant(X, y)
            metrics, n_queries = metric_set.of_row_lists(rows, items_of(X), lists)
        known = np.arange(start, stop)  # each row is predicted when all before it are learned
        return self._report(start, stop, known, predictions, metrics, n_queries, 0.0, seconds)

    def _report(
        self,
        start: int,
        stop: int,
        known: int | np.ndarray,
        predictions: np.ndarray | None,
        lists: dict[str, float],
        n_queries: int,
        predict_seconds: float,
        learn_seconds: float,
    ) -> PrequentialStep:
        metrics = dict(lists)
        if predictions is not None and self.y is not None:
            metrics = self.metric_set.of_predictions(self.y[start:stop], predictions) | metrics
        return PrequentialStep(
            rows=self.order[start:stop],
            first_timestamp=float(self.times[start]),
            last_timestamp=float(self.times[stop - 1]),
            metrics=metrics,
            n_queries=n_queries,
            n_unknown_users=int((self.user_first[start:stop] >= known).sum()),
            n_unknown_items=int((self.item_first[start:stop] >= known).sum()),
            predict_seconds=predict_seconds,
            learn_seconds=learn_seconds,
            predictions=predictions,
        )

    def _arrived(self, place: int) -> int:
        """Return the number of rows whose labels are known when the row at ``place`` arrives."""
        if not self.delay:
            return place
        clock = self.times[min(place, len(self.times) - 1)]
        return int(np.searchsorted(self.times, clock - self.delay, side="right"))

    def _learn_arrived(self, place: int) -> None:
        arrived = self._arrived(place)
        if self.how == "never" or arrived <= self.known:
            return
        if self.how == "refit":
            self._learn("fit", 0, arrived)
        else:
            self._learn(self.how, self.known, arrived)
        self.known = arrived

    def _learn(self, method: str, start: int, stop: int) -> Any:
        rows = slice(start, stop)
        y = None if self.y is None else self.y[rows]
        weight = {} if self.weight is None else {"sample_weight": self.weight[rows]}
        return getattr(self.estimator, method)(_safe_indexing(self.X, rows), y, **weight)


def predict_feedback(estimator: Any, X: Any) -> np.ndarray:
    """Return expected feedback; of a classifier, the probability of its second class.

    For a classifier with a single class, the probability is 1 if that class is positive, else 0.
    """
    if hasattr(estimator, "predict_proba"):
        chances = np.asarray(estimator.predict_proba(X))
        if chances.ndim == 2 and chances.shape[1] == 1:
            (only,) = getattr(estimator, "classes_", [1])
            return chances[:, 0] * float(only > 0)
        return chances[:, 1]
    return np.asarray(estimator.predict(X))


def _first_places(ids: np.ndarray, known: Any) -> np.ndarray:
    """Return the first row (n,) in which each row's id occurs; -1 for ids known beforehand."""
    vocabulary = Vocabulary(known)
    n_known = len(vocabulary)
    codes, first, inverse = np.unique(
        vocabulary.extend(ids), return_index=True, return_inverse=True
    )
    return np.where(codes < n_known, -1, first)[inverse]
