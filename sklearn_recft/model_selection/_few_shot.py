"""Accuracy for new users after a few events, beside simple baselines on the same rows."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    Bunch,
    _safe_indexing,
    check_consistent_length,
    check_random_state,
    check_scalar,
    column_or_1d,
)
from tqdm import tqdm

from sklearn_recft.columns import to_numbers
from sklearn_recft.interactions import users_of
from sklearn_recft.metrics import ndcg_of_rows
from sklearn_recft.model_selection._comparison import aligned, resampled_means
from sklearn_recft.model_selection._few_shot_baselines import Bias, ItemMean, Ridge
from sklearn_recft.model_selection._few_shot_rows import FewShotSplit, FewShotTask
from sklearn_recft.model_selection._replay import predict_feedback

# Names of the baselines of every result.
BASELINES = ("item mean", "bias", "ridge")
# Half the width of an interval of 90 % of a normal distribution, in standard deviations.
_HALF_WIDTH = 1.6448536269514722
# Largest feedback whose gain `2^y - 1` is taken to be meant.
_LARGEST_GRADE = 30
_ENDS = ("", "_low", "_high")


def few_shot_curve(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    shots: Sequence[int] = (0, 1, 3, 5, 10),
    n_query: int = 10,
    order: str = "random",
    new_users: Any = 0.1,
    k: int = 5,
    relevance: str = "best",
    n_bootstrap: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
    verbose: int = 0,
) -> FewShotResult:
    """Evaluate how well recommenders predict for new users after a few events of each.

    Users are divided into old and new ones. A clone is fitted to all rows of the old users. For
    each number of shots, a copy of it adapts to that many rows of every new user. It then predicts
    the query rows of these users, which are the same for all numbers of shots.

    Parameters
    ----------
    estimator : recommender, or dict of str to recommender
        Several are compared on the same rows. A copy adapts by `adapt` if the estimator has it, and
        by `partial_fit` otherwise.
    X : table of n rows
    y : array-like of shape (n,)
        Numeric feedback.
    shots : sequence of int, default=(0, 1, 3, 5, 10)
        Numbers of support rows per new user. They are nested: the rows of a smaller number are
        among those of a larger one.
    n_query : int, default=10
        Query rows per new user.
    order : {"random", "time"}, default="random"
        Which rows of a new user are for support: random ones, or the first in time. With "time",
        the query rows are the next ones after the largest support.
    new_users : float, splitter, int or iterable of (train, test), default=0.1
        Which users are new. A float is the share of the users who have enough rows; they are drawn
        at random. A splitter that divides users, such as
        :class:`ColdUserSplit`, evaluates several groups of new users, one after the other.
    k : int, default=5
        Number of places that count in nDCG.
    relevance : {"best", "graded"}, default="best"
        What nDCG@k counts. "best": the k query rows of the highest feedback are relevant, ties at
        random. "graded": the gain of a row is ``2^y - 1``.
    n_bootstrap : int, default=1000
        Number of bootstrap samples of users.
    confidence_level : float, default=0.95
        Confidence level of the intervals, above 0 and below 1.
    random_state : int, RandomState or None, default=None
        Seed of the draws of users and rows, of the ridge baseline and of the bootstrap. The
        estimators have their own seeds.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        ``table``: list of dicts, one per estimator and number of shots, ready for
        ``pandas.DataFrame``. With ``ndcg@5`` standing for each of ``metrics``:

        * ``estimator``, ``shots``;
        * ``rmse``, ``ndcg@5``: of all query rows, and mean over users;
        * ``coverage``: share of query rows inside of the interval of 90 %, NaN unless `predict` has
          ``return_std``;
        * ``adapt_seconds``: wall time of adapting all new users in one call;
        * ``ndcg@5 - bias``, ``ndcg@5 - bias_low``, ``ndcg@5 - bias_high``: difference to each of
          the baselines at the same number of shots, and the ends of its interval.

        ``per_user``: dict of ``"mse"`` and ``"ndcg@5"`` to dict of estimator to ndarray of shape
        (n_shots, n_users). ``means``: dict of metric to dict of estimator to ndarray of shape
        (n_shots,). ``differences``: dict of metric to dict of estimator to dict of baseline to
        ndarray of shape (n_shots, 3): difference, low, high. ``shots``: ndarray of shape
        (n_shots,). ``user_ids``: ndarray of shape (n_users,). ``estimators``, ``baselines``,
        ``metrics``: lists of names. ``order``, ``n_query``, ``relevance``, ``confidence_level``,
        ``n_splits``. ``print(result)`` shows the table.

    Raises
    ------
    ValueError
        If a parameter is out of range, no user has enough rows, or a new user has train rows.
    TypeError
        If an estimator lacks `fit`, `predict`, or a way to adapt.
    RuntimeError
        If an estimator fails. The message names the estimator, the method and the error.

    Notes
    -----
    Three baselines are in every table. They are fitted to the same rows. "item mean" is the damped
    mean of the item. "bias" adds the damped mean of what the support rows of the user differ from
    it (`BiasRecommender`). "ridge" solves for the user's factors, given the item factors of
    `IncrementalMFRecommender` with default parameters (its `adapt`).

    With `partial_fit`, all new users are learned in one call. So what they share, such as item
    factors, learns from the support rows of all new users.

    New users with fewer rows than the largest number of shots and ``n_query`` are left out. Items
    that only new users have stay: a model knows nothing of them but what support rows tell.

    With ``order="time"``, no support row of a user is later than a query row; ties keep row order.
    Rows of old users may be later. Pass (train, test) as ``new_users`` to divide by time as well.
    With ``order="random"``, query rows may be earlier than support rows. A model that reads times
    uses earlier events only: leave out ``timestamp``, or use ``order="time"``.

    Rows with equal predictions are in random order. Ties of predictions and of feedback count by
    their expectation, so nothing is drawn. With "best", a perfect order of the feedback is below 1
    if feedback is tied. The RMSE of an estimator whose predictions only order items is NaN.

    Intervals are percentiles of the paired bootstrap over users. The fitted models stay the same,
    so the intervals do not include the effect of other old users or seeds.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> from sklearn_recft.model_selection import few_shot_curve
    >>> X, y = make_interactions(200, 50, 6000, random_state=0, return_X_y=True)
    >>> result = few_shot_curve(
    ...     IncrementalMFRecommender(n_factors=8, random_state=0), X, y, shots=(0, 5, 15),
    ...     random_state=0,
    ... )
    >>> result.estimators
    ['item mean', 'bias', 'ridge', 'IncrementalMFRecommender']
    >>> before, _, after = result.means["rmse"]["IncrementalMFRecommender"]
    >>> bool(after < before)
    True
    """
    split = FewShotSplit.of(shots, n_query, order, new_users)
    named = _named(estimator)
    y = _checked_feedback(X, y, relevance, k, split.n_query)
    for name, value in (("n_bootstrap", n_bootstrap), ("k", k)):
        check_scalar(value, name, Integral, min_val=1)
    check_scalar(
        confidence_level,
        "confidence_level",
        Real,
        min_val=0,
        max_val=1,
        include_boundaries="neither",
    )
    given = np.random.RandomState() if random_state is None else random_state
    rng = np.random.default_rng(check_random_state(given).randint(2**31))
    tasks = list(split.tasks(X, y, rng))
    seed = int(rng.integers(2**31))
    models = {"item mean": ItemMean(), "bias": Bias(), "ridge": Ridge(seed), **named}
    runs: dict[str, list[_Run]] = {name: [] for name in models}
    with tqdm(total=len(tasks) * len(models), unit="fit", disable=not verbose) as bar:
        for task in tasks:
            for name, model in models.items():
                bar.set_description(name)
                fresh = clone(model, safe=False) if name in named else copy.copy(model)
                runs[name].append(_run(name, fresh, X, y, task, split.shots))
                bar.update()
    truth = np.concatenate([y[task.query] for task in tasks])
    metric = f"ndcg@{k}"
    per_user = {
        "mse": {name: _errors(its, truth) for name, its in runs.items()},
        metric: {name: _ndcg(its, truth, k, relevance) for name, its in runs.items()},
    }
    means, differences = _compared(per_user, metric, n_bootstrap, confidence_level, rng)
    users = users_of(X)
    result = FewShotResult(
        per_user=per_user,
        means=means,
        differences=differences,
        shots=split.shots,
        user_ids=np.concatenate([users[task.query[:, 0]] for task in tasks]),
        estimators=list(models),
        baselines=list(BASELINES),
        metrics=["rmse", metric],
        coverage={name: _coverage(its, truth) for name, its in runs.items()},
        adapt_seconds={name: sum(run.seconds for run in its) for name, its in runs.items()},
        order=order,
        n_query=split.n_query,
        relevance=relevance,
        confidence_level=confidence_level,
        n_splits=len(tasks),
    )
    result.table = _table(result)
    return result


class FewShotResult(Bunch):
    """Result of :func:`few_shot_curve`; ``print`` shows it as a table.

    See :func:`few_shot_curve` for its attributes.
    """

    def __str__(self) -> str:
        heads = [f"{n} shots" if n != 1 else "1 shot" for n in self.shots.tolist()]
        lines = []
        for metric in self.metrics:
            rows = [[metric, *heads]]
            for name in self.estimators:
                values = self.means[metric][name]
                rows.append([name, *("-" if np.isnan(v) else f"{v:.4f}" for v in values)])
            lines += [*aligned(rows), ""]
        users = f"{len(self.user_ids)} new users in {self.n_splits} split(s)"
        return "\n".join([*lines, f"{users}, {self.n_query} query rows each, order: {self.order}"])


@dataclass(frozen=True)
class _Run:
    """Predictions of one estimator on one split.

    ``predictions`` and ``deviations`` (their standard deviations, or None) have the shape (n_shots,
    n_users, n_query); ``seconds`` (n_shots,) are those of adapting.
    """

    predictions: np.ndarray
    deviations: np.ndarray | None
    seconds: np.ndarray
    is_feedback: bool


def _run(
    name: str, estimator: Any, X: Any, y: np.ndarray, task: FewShotTask, shots: np.ndarray
) -> _Run:
    """Fit an estimator, adapt one copy at a time, and predict the query rows."""

    def part(rows: np.ndarray) -> tuple[Any, np.ndarray]:
        return _safe_indexing(X, rows), y[rows]

    with _blamed_on(name, "fit"):
        estimator.fit(*part(task.train))
    verb = "adapt" if hasattr(estimator, "adapt") else "partial_fit"
    queries, shape = _safe_indexing(X, task.query.ravel()), task.query.shape
    found, deviations, seconds = [], [], []
    for n_shots in shots.tolist():
        adapted, clock = estimator, perf_counter()
        if n_shots:
            adapted = copy.deepcopy(estimator)
            support, clock = part(task.first(n_shots)), perf_counter()
            with _blamed_on(name, verb):
                getattr(adapted, verb)(*support)
        seconds.append(perf_counter() - clock if n_shots else 0.0)
        with _blamed_on(name, "predict"):
            predicted, deviation = _predict(adapted, queries)
            if not np.isfinite(predicted).all():
                raise ValueError("its predictions have NaN or infinite values.")
        found.append(predicted.reshape(shape))
        if deviation is not None:
            deviations.append(deviation.reshape(shape))
    stacked = np.stack(deviations) if deviations else None
    return _Run(np.stack(found), stacked, np.array(seconds), _predicts_feedback(estimator))


def _predict(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return predictions and, if `predict` has them, standard deviations."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if "return_std" in inspect.signature(last.predict).parameters:
        predicted, deviation = estimator.predict(X, return_std=True)
        return np.asarray(predicted, float), np.asarray(deviation, float)
    return np.asarray(predict_feedback(estimator, X), float), None


def _predicts_feedback(estimator: Any) -> bool:
    """Whether predictions are on the scale of the feedback, by the tags of a recommender."""
    tags = getattr(estimator, "__recommender_tags__", None)
    return tags is None or tags().predicts != "order"


def _joined(runs: list[_Run]) -> np.ndarray:
    """Return the predictions of all splits, (n_shots, n_users, n_query)."""
    return np.concatenate([run.predictions for run in runs], axis=1)


def _errors(runs: list[_Run], truth: np.ndarray) -> np.ndarray:
    """Return mean squared errors (n_shots, n_users); NaN if predictions only order items."""
    errors: np.ndarray = ((_joined(runs) - truth) ** 2).mean(axis=2)
    return errors if runs[0].is_feedback else np.full_like(errors, np.nan)


def _ndcg(runs: list[_Run], truth: np.ndarray, k: int, relevance: str) -> np.ndarray:
    """Return nDCG@k, (n_shots, n_users)."""
    return np.stack([ndcg_of_rows(truth, scores, k, relevance) for scores in _joined(runs)])


def _coverage(runs: list[_Run], truth: np.ndarray) -> np.ndarray:
    """Return the share of query rows inside of intervals of 90 %, (n_shots,); NaN without any."""
    if runs[0].deviations is None:
        return np.full(len(runs[0].predictions), np.nan)
    width = _HALF_WIDTH * np.concatenate([run.deviations for run in runs], axis=1)
    inside: np.ndarray = (np.abs(_joined(runs) - truth) <= width).mean(axis=(1, 2))
    return inside


def _compared(
    per_user: dict[str, dict[str, np.ndarray]],
    metric: str,
    n_bootstrap: int,
    confidence_level: float,
    rng: np.random.Generator,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return means, and differences to the baselines with intervals, by metric and estimator."""
    tail = (1 - confidence_level) / 2
    means: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for name, values, link in (
        ("rmse", per_user["mse"], np.sqrt),
        (metric, per_user[metric], np.asarray),
    ):
        names = list(values)
        columns = np.stack([values[n] for n in names])  # (n_estimators, n_shots, n_users)
        defined = ~np.isnan(columns[0]).any(axis=0)  # as of the item mean
        columns = columns[:, :, defined]
        n_users = columns.shape[2]
        if not n_users:
            raise ValueError(f"{name} is not defined: no new user has feedback above 0.")
        flat = columns.reshape(-1, n_users).T
        drawn = link(resampled_means(flat, np.arange(n_users), n_bootstrap, rng))
        drawn = drawn.reshape(n_bootstrap, *columns.shape[:2])
        found = link(columns.mean(axis=2))
        means[name] = dict(zip(names, found, strict=True))
        differences[name] = {n: {} for n in names}
        for place, baseline in enumerate(BASELINES):
            difference = found - found[place]
            low, high = np.quantile(drawn - drawn[:, [place]], [tail, 1 - tail], axis=0)
            for n, part in zip(names, np.stack([difference, low, high], axis=-1), strict=True):
                differences[name][n][baseline] = part
    return means, differences


def _table(result: FewShotResult) -> list[dict[str, Any]]:
    """Return the rows of the table."""
    rows = []
    for name in result.estimators:
        for place, n_shots in enumerate(result.shots.tolist()):
            row: dict[str, Any] = {"estimator": name, "shots": n_shots}
            row |= {metric: float(result.means[metric][name][place]) for metric in result.metrics}
            row["coverage"] = float(result.coverage[name][place])
            row["adapt_seconds"] = float(result.adapt_seconds[name][place])
            for metric in result.metrics:
                for baseline, values in result.differences[metric][name].items():
                    ends = [f"{metric} - {baseline}{end}" for end in _ENDS]
                    row |= dict(zip(ends, values[place].tolist(), strict=True))
            rows.append(row)
    return rows


def _named(estimator: Any) -> dict[str, Any]:
    """Return estimators by name; check that each can adapt."""
    named = estimator
    if not isinstance(estimator, Mapping):
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        named = {type(last).__name__: estimator}
    if not named or set(named) & set(BASELINES) or not all(isinstance(n, str) for n in named):
        raise ValueError(
            "estimator: a recommender or a dict of str, with other names than those of the "
            f"baselines, {list(BASELINES)}, is needed; got {list(named)}."
        )
    for name, model in named.items():
        if isinstance(model, type):
            raise TypeError(f"{name!r}: {model.__name__} is a class; pass {model.__name__}().")
        missing = [verb for verb in ("fit", "predict") if not hasattr(model, verb)]
        if not hasattr(model, "adapt") and not hasattr(model, "partial_fit"):
            missing.append("adapt` or `partial_fit")
        if missing:
            raise TypeError(f"{name!r}: {type(model).__name__} has no `{missing[0]}`.")
    return dict(named)


def _checked_feedback(X: Any, y: Any, relevance: str, k: int, n_query: int) -> np.ndarray:
    """Check the feedback, and what nDCG needs."""
    if y is None:
        raise ValueError("y: feedback is needed, such as ratings.")
    check_consistent_length(X, y)
    values = to_numbers(column_or_1d(y), "y")
    if relevance not in ("best", "graded"):
        raise ValueError(f"relevance must be 'best' or 'graded', got {relevance!r}.")
    if k > n_query or (relevance == "best" and k == n_query):
        raise ValueError(
            f"k={k} of n_query={n_query} rows are relevant or counted: use more query rows."
        )
    if relevance == "graded" and (values.min() < 0 or values.max() > _LARGEST_GRADE):
        raise ValueError(
            f"relevance='graded' has gains 2^y - 1, and y is from {values.min():g} to "
            f"{values.max():g}; rescale y to grades from 0, or use relevance='best'."
        )
    return values


@contextmanager
def _blamed_on(name: str, method: str) -> Iterator[None]:
    """Name the estimator and the method in an error."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{name!r} failed to {method}: {error}") from error
