"""Quality while serving: the loss before learning, and what became of the lists that were shown."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from sklearn_recft.metrics import (
    catalogue_coverage_at_k,
    gini_index_at_k,
    ndcg_at_k,
)

# Smallest probability of what happened in the log loss, as in scikit-learn.
_TINY = float(np.finfo(np.float64).eps)
_N_BINS = 10
# Half-lives, in events, of the recent loss and of the loss it is compared with.
_RECENT, _USUAL = 500, 10_000
# The drift is not given before so many events.
_FEW = 1000


class DecayedMean:
    """Mean in which a value counts half after ``half_life`` further values."""

    def __init__(self, half_life: float) -> None:
        self._decay = 0.5 ** (1.0 / half_life)
        self._total, self._weight = 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        """Add values, oldest first, shape (n,)."""
        n = len(values)
        weights = self._decay ** np.arange(n - 1, -1, -1)
        shrink = self._decay**n
        self._total = self._total * shrink + float(weights @ values)
        self._weight = self._weight * shrink + float(weights.sum())

    @property
    def value(self) -> float:
        """The mean; NaN before the first value."""
        return self._total / self._weight if self._weight else math.nan


class Quality:
    """Monitor of the predictions before each event is learned, and of the lists shown.

    Parameters
    ----------
    probability : bool
        Whether predictions are probabilities: the loss is then the log loss, and otherwise the
        squared error, of which the root is given.
    n_lists : int, default=2000
        The newest lists that are kept.
    """

    def __init__(self, *, probability: bool, n_lists: int = 2000) -> None:
        self.metric = "log_loss" if probability else "rmse"
        self._n_lists = n_lists
        self._lock = threading.Lock()
        self._n, self._loss, self._bias = 0, 0.0, 0.0
        self._recent, self._usual = DecayedMean(_RECENT), DecayedMean(_USUAL)
        self._bins = np.zeros((3, _N_BINS))  # rows, sum of predictions, sum of feedback
        self._unknown = {"users": DecayedMean(_RECENT), "items": DecayedMean(_RECENT)}
        self._lists: OrderedDict[str, Sequence[Hashable]] = OrderedDict()
        self._hits: dict[str, set[Hashable]] = {}

    # ------------------------------------------------------------------------------ what happens

    def add_predictions(
        self, y: np.ndarray, predictions: np.ndarray, classes: np.ndarray | None = None
    ) -> None:
        """Add what was predicted for events before they were learned.

        Parameters
        ----------
        y : ndarray of shape (n,)
            Feedback, or labels of a classifier.
        predictions : ndarray of shape (n,)
            Feedback, or probabilities of the second class.
        classes : ndarray of shape (2,), default=None
            ``classes_`` of a classifier: the log loss is that of these labels, and rows of others
            are left out. None takes ``y`` as probabilities, such as 0 and 1.
        """
        y, p = self._targets(np.asarray(y), classes), np.asarray(predictions, np.float64)
        with np.errstate(over="ignore"):
            losses = self._losses(y, p)
        kept = np.isfinite(losses)  # a mean would never forget another one
        y, p, losses = y[kept], p[kept], losses[kept]
        with self._lock:
            self._n += len(y)
            self._loss += float(losses.sum())
            self._bias += float((p - y).sum())
            self._recent.add(losses)
            self._usual.add(losses)
            if self.metric == "log_loss":
                codes = np.clip(np.ceil(p * _N_BINS).astype(int) - 1, 0, _N_BINS - 1)
                for row, weights in enumerate((np.ones_like(p), p, y)):
                    self._bins[row] += np.bincount(codes, weights, _N_BINS)

    def add_unknown(self, of: str, unknown: np.ndarray) -> None:
        """Add which events had unknown "users" or "items", shape (n,), bool."""
        with self._lock:
            self._unknown[of].add(unknown.astype(np.float64))

    def add_list(self, list_id: str, items: Sequence[Hashable]) -> None:
        """Add a list that was shown, best item first."""
        with self._lock:
            self._lists[list_id] = items
            while len(self._lists) > self._n_lists:
                self._hits.pop(self._lists.popitem(last=False)[0], None)

    def add_feedback(self, list_id: str, item: Hashable) -> None:
        """Add an item of a list that was taken; lists that are no longer kept are ignored."""
        with self._lock:
            if item in self._lists.get(list_id, ()):
                self._hits.setdefault(list_id, set()).add(item)

    # ------------------------------------------------------------------------------ what to show

    def summary(self, catalogue: Iterable[Hashable]) -> dict[str, float]:
        """Return all figures by name; a figure that is not defined yet is NaN."""
        with self._lock:
            found = {
                "n_events": float(self._n),
                "loss": self._as_metric(self._loss / self._n if self._n else math.nan),
                "loss_recent": self._as_metric(self._recent.value),
                "loss_usual": self._as_metric(self._usual.value),
                "drift": self._drift(),
                "calibration_gap": self._calibration_gap(),
                "unknown_users": self._unknown["users"].value,
                "unknown_items": self._unknown["items"].value,
            }
            lists = list(self._lists.values())
            hits = [self._hits.get(list_id, set()) for list_id in self._lists]
        return found | _of_lists(lists, hits, list(catalogue))

    def _targets(self, y: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
        """Return feedback as numbers, a label as 0 or 1; NaN for what is no label."""
        if classes is None or self.metric == "rmse":
            return np.asarray(y, np.float64)
        first, second = np.asarray(classes).tolist()
        return np.where(y == second, 1.0, np.where(y == first, 0.0, np.nan))

    def _losses(self, y: np.ndarray, p: np.ndarray) -> np.ndarray:
        if self.metric == "rmse":
            return (p - y) ** 2
        p = np.clip(p, _TINY, 1 - _TINY)
        return -(y * np.log(p) + (1 - y) * np.log1p(-p))

    def _as_metric(self, mean: float) -> float:
        return math.sqrt(mean) if self.metric == "rmse" and mean >= 0 else mean

    def _drift(self) -> float:
        """Recent loss divided by the usual one: above 1, the model has become worse."""
        usual = self._usual.value
        return self._recent.value / usual if self._n >= _FEW and usual > 0 else math.nan

    def _calibration_gap(self) -> float:
        if not self._n:
            return math.nan
        if self.metric == "log_loss":
            return float(np.abs(self._bins[2] - self._bins[1]).sum() / self._n)
        return abs(self._bias) / self._n


def _of_lists(
    lists: list[Sequence[Hashable]], hits: list[set[Hashable]], catalogue: list[Hashable]
) -> dict[str, float]:
    found = dict.fromkeys(("hit_rate", "ndcg", "coverage", "gini"), math.nan)
    found["n_lists"] = float(len(lists))
    longest = max(map(len, lists), default=0)
    if longest and catalogue:
        found["hit_rate"] = sum(map(bool, hits)) / len(lists)
        if any(hits):
            found["ndcg"] = float(ndcg_at_k(hits, lists, k=longest))
        found["coverage"] = float(catalogue_coverage_at_k(catalogue, lists, k=longest))
        found["gini"] = float(gini_index_at_k(catalogue, lists, k=longest))
    return found
