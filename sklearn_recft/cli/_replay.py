"""Follow a log step by step: predict, score, and learn, refit or stay frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.cli._candidates import CLICKS, POSITIVES, Candidate, Facts
from sklearn_recft.cli._log import Log
from sklearn_recft.metrics import RANKING_METRICS, recommend_up_to, top_k_task
from sklearn_recft.model_selection import iter_prequential
from sklearn_recft.vocabulary import Vocabulary

_N_STEPS = 20
_WEEK = 7.0  # days
_MAX_WEEKS = 30
_K = 10  # items of a list
_DAY = 86_400
_FEW_EVENTS = 100_000  # up to so many, a model is refitted before every step, else before the last


@dataclass(frozen=True)
class Protocol:
    """What is fitted first, and in what steps the rest is followed.

    Attributes
    ----------
    bounds : ndarray of shape (n_steps + 1,)
        First row of each step; the rows before the first are fitted.
    unit : {"week", "step"}
    metric : {"ndcg@10", "auc", "rmse"}
    """

    bounds: np.ndarray
    unit: str
    metric: str

    @classmethod
    def of(cls, log: Log, facts: Facts) -> Protocol:
        """Fit about half of a log, then follow whole weeks, or some 20 steps of equal length."""
        n, begin = len(log.X), len(log.X) // 2
        metric = {POSITIVES: "ndcg@10", CLICKS: "auc"}.get(facts.feedback, "rmse")
        if log.has_times:
            times = log.X[:, 2].astype(np.float64)
            days = (times[-1] - times[begin]) / _DAY
            if days > 0:
                in_weeks = 4 * _WEEK <= days <= _MAX_WEEKS * _WEEK
                period = _WEEK if in_weeks else days / _N_STEPS
                ends = times[-1] - np.arange(math.ceil(days / period), -1, -1) * period * _DAY
                bounds = np.unique(np.searchsorted(times, ends, side="right"))
                return cls(bounds[bounds > 0], "week" if in_weeks else "step", metric)
        return cls(np.unique(np.linspace(begin, n, _N_STEPS + 1).astype(int)), "step", metric)

    @property
    def begin(self) -> int:
        """Number of rows that are fitted at first."""
        return int(self.bounds[0])

    @property
    def n_steps(self) -> int:
        """Number of steps that follow."""
        return len(self.bounds) - 1

    @property
    def n_last(self) -> int:
        """Number of steps that are reported as the last ones."""
        return max(1, min(8, self.n_steps // 3))

    @property
    def refitted(self) -> list[int]:
        """Steps before which a model is also refitted, from nothing."""
        few = self.bounds[-1] <= _FEW_EVENTS
        return list(range(0 if few else self.n_steps - 1, self.n_steps))

    def steps(self) -> Iterator[tuple[int, int]]:
        """Yield the first row of each step, and the row after its last."""
        yield from zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)


@dataclass(frozen=True)
class Step:
    """What one step showed before it was learned.

    Attributes
    ----------
    value : float
        The metric; NaN where it is not defined.
    weight : int
        Number of lists, or of rows, that it is a mean of.
    truth, predictions : ndarray of shape (n_rows,) or None
        With a metric of single rows.
    learn_seconds : float
    """

    value: float
    weight: int
    truth: np.ndarray | None = None
    predictions: np.ndarray | None = None
    learn_seconds: float = 0.0


@dataclass(frozen=True)
class Scores:
    """A metric, step by step."""

    metric: str
    steps: list[Step]

    @property
    def values(self) -> list[float]:
        """The metric of each step."""
        return [step.value for step in self.steps]

    def over(self, chosen: slice | list[int] = slice(None)) -> float:
        """Return the metric over all lists, or rows, of some steps."""
        places = np.arange(len(self.steps))[chosen]
        steps = [self.steps[place] for place in places if self.steps[place].weight]
        if not steps:
            return math.nan
        if self.metric == "auc":
            truth = np.concatenate([step.truth for step in steps])
            predictions = np.concatenate([step.predictions for step in steps])
            usable = len(np.unique(truth)) == 2 and np.isfinite(predictions).all()
            return float(roc_auc_score(truth, predictions)) if usable else math.nan
        values, weights = (
            np.array([getattr(step, name) for step in steps]) for name in ("value", "weight")
        )
        if self.metric == "rmse":
            return float(np.sqrt(np.average(values**2, weights=weights)))
        return float(np.average(values, weights=weights))


@dataclass(frozen=True)
class Followed:
    """How a candidate fared.

    Attributes
    ----------
    name : str
    frozen, learning : Scores
    refit : Scores or None
        Of the refitted steps alone.
    new_frozen, new_learning : Scores or None
        Lists of items that are new to the user, in the last steps.
    fit_seconds, learn_seconds : float
        Of the first fit, and of all updates.
    refit_seconds : float or None
        What a refit after each step would take, by those that were measured.
    estimator : recommender
        After the last update.
    """

    name: str
    frozen: Scores
    learning: Scores
    refit: Scores | None
    new_frozen: Scores | None
    new_learning: Scores | None
    fit_seconds: float
    learn_seconds: float
    refit_seconds: float | None
    estimator: Any


class Replay:
    """Follow one log with several candidates.

    Parameters
    ----------
    log : Log
    protocol : Protocol
    facts : Facts
    """

    def __init__(self, log: Log, protocol: Protocol, facts: Facts) -> None:
        self.log, self.protocol, self.facts = log, protocol, facts
        self._is_first = _first_times(log.X)
        self._tasks: dict[tuple[int, bool], tuple[Any, list[np.ndarray]]] = {}

    def follow(self, candidate: Candidate, *, new_items: bool = False) -> Followed:
        """Fit a candidate once, then follow the log frozen and learning, with a few refits.

        Parameters
        ----------
        candidate : Candidate
        new_items : bool, default=False
            In the last steps, also score lists of items that are new to the user.
        """
        model, fit_seconds = self._fitted(candidate, self.protocol.begin)
        frozen, new_frozen, _ = self._pass(candidate, model, new_items)
        learner = deepcopy(model)
        learning, new_learning, seconds = self._pass(
            candidate, learner, new_items, learner.partial_fit
        )
        refit, refit_seconds = self._refits(candidate)
        return Followed(
            name=candidate.name,
            frozen=frozen,
            learning=learning,
            refit=refit,
            new_frozen=new_frozen,
            new_learning=new_learning,
            fit_seconds=fit_seconds,
            learn_seconds=seconds,
            refit_seconds=refit_seconds,
            estimator=learner,
        )

    def _pass(
        self,
        candidate: Candidate,
        model: RecommenderMixin,
        new_items: bool,
        learn: Callable[..., Any] | None = None,
    ) -> tuple[Scores, Scores | None, float]:
        """Score each step, then pass it to ``learn``; also return the seconds of learning."""
        steps, new, seconds = [], [], 0.0
        for place, (start, stop) in enumerate(self.protocol.steps()):
            if new_items and place >= self.protocol.n_steps - self.protocol.n_last:
                new.append(self._score_new(model, start, stop))
            by_event = learn is not None and candidate.every_event
            step = self._score(model, start, stop, learns=by_event)
            seconds += step.learn_seconds
            if learn is not None and not by_event:
                seconds += self._learn(candidate, learn, start, stop)
            steps.append(step)
        metric = self.protocol.metric
        return Scores(metric, steps), Scores(metric, new) if new_items else None, seconds

    def _refits(self, candidate: Candidate) -> tuple[Scores | None, float | None]:
        """Score fresh fits on all rows before a few of the steps."""
        if candidate.every_event or candidate.deep:
            return None, None
        bounds, steps, seconds, n_rows = self.protocol.bounds.tolist(), [], 0.0, 0
        for place in self.protocol.refitted:
            model, taken = self._fitted(candidate, bounds[place])
            steps.append(self._score(model, *bounds[place : place + 2]))
            seconds, n_rows = seconds + taken, n_rows + bounds[place]
        # A refit takes about as long as it has rows.
        return Scores(self.protocol.metric, steps), seconds * sum(bounds[:-1]) / n_rows

    def _fitted(self, candidate: Candidate, stop: int) -> tuple[Any, float]:
        model = candidate.make(self.facts)
        return model, self._learn(candidate, model.fit, 0, stop)

    def _learn(self, candidate: Candidate, learn: Any, start: int, stop: int) -> float:
        """Pass rows to `fit` or `partial_fit`; return the seconds."""
        X, y = self._rows(start, stop)
        options = {}
        if candidate.reads_texts and self.log.texts is not None:
            known = Vocabulary(X[:, 1]).encode(self.log.texts[:, 0]) >= 0
            options["items"] = self.log.texts[known]
        clock = perf_counter()
        learn(X, y, **options)
        return perf_counter() - clock

    def _rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        return self.log.X[start:stop], None if self.log.y is None else self.log.y[start:stop]

    def _score(
        self, model: RecommenderMixin, start: int, stop: int, *, learns: bool = False
    ) -> Step:
        """Predict some rows, or list items for their users; learn each row at once if wanted."""
        X, y = self._rows(start, stop)
        if y is None:
            # Lists without seen items are scored on what is taken for the first time.
            without_seen = not self.log.repeat
            return self._score_lists(model, start, stop, without_seen=without_seen)
        metric = self.protocol.metric
        (step,) = iter_prequential(
            model,
            X,
            y,
            chunk_size=1 if learns else len(X),
            learn="partial_fit" if learns else "never",
            scoring=(metric,),
            report_every=len(X),
        )
        truth = np.asarray(y, np.float64)
        seconds = step.learn_seconds if learns else 0.0
        return Step(step.metrics[metric], len(X), truth, step.predictions, seconds)

    def _score_new(self, model: RecommenderMixin, start: int, stop: int) -> Step:
        """Score lists without seen items against what users take for the first time."""
        return self._score_lists(model, start, stop, without_seen=True)

    def _score_lists(
        self, model: RecommenderMixin, start: int, stop: int, *, without_seen: bool
    ) -> Step:
        """Ask for one list for each user of some rows, at the time of the user's first row."""
        if (start, without_seen) not in self._tasks:
            rows = (
                np.flatnonzero(self._is_first[start:stop])
                if without_seen
                else np.arange(stop - start)
            )
            task = top_k_task(None, self.log.X[start:stop], rows)[1:3] if len(rows) else (None, [])
            self._tasks[start, without_seen] = task
        queries, relevant = self._tasks[start, without_seen]
        if not relevant:
            return Step(math.nan, 0)
        lists = recommend_up_to(model, queries, _K, exclude_seen=without_seen)
        return Step(float(RANKING_METRICS["ndcg"](relevant, lists, k=_K)), len(relevant))


def _first_times(X: np.ndarray) -> np.ndarray:
    """Whether the user of each row takes the item for the first time, (n,)."""
    users, items = Vocabulary().extend(X[:, 0]), Vocabulary().extend(X[:, 1])
    pairs = users.astype(np.int64) * (int(items.max()) + 1) + items
    first = np.zeros(len(X), bool)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first
