"""Comparison of recommenders on the same rows: metrics with intervals, seconds and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from time import perf_counter
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import (
    _safe_indexing,
    check_consistent_length,
    check_random_state,
    check_scalar,
    column_or_1d,
)
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from sklearn_recft.interactions import items_of, times_or_none, users_of
from sklearn_recft.metrics import (
    RANKING_METRICS,
    catalogue_coverage_at_k,
    recommend_up_to,
    relevant_rows,
    top_k_task,
)
from sklearn_recft.model_selection._comparison import ENDS, RecommenderComparison, differences
from sklearn_recft.model_selection._memory import peak_mib, pickled_mib
from sklearn_recft.model_selection._split import TemporalSplit
from sklearn_recft.model_selection._time_order import warn_of_late_rows
from sklearn_recft.vocabulary import Vocabulary


def compare_recommenders(
    estimators: Mapping[str, Any],
    X: Any,
    y: Any = None,
    *,
    cv: Any = None,
    scoring: str | Sequence[str] = ("ndcg", "recall", "hit_rate"),
    k: int = 10,
    baseline: str | None = None,
    relevance_threshold: float | None = None,
    exclude_seen: bool = True,
    users: str = "all",
    n_bootstrap: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
    measure_memory: bool = True,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> RecommenderComparison:
    """Fit and evaluate several recommenders on the same splits, users and whole catalogue.

    Every estimator is cloned and fitted on the train rows of each split. It then makes one list for
    every user with relevant test rows. Each is compared with the baseline on the same users, with
    a bootstrap interval of the difference.

    Parameters
    ----------
    estimators : dict of str to recommender
        Anything with ``fit(X, y)`` and
        ``recommend(X, *, n_recommendations, candidates, exclude_seen)``, from any library, or a
        pipeline whose last step has both.
    X : table of n rows
    y : array-like of shape (n,), default=None
        Feedback, passed to ``fit``. None: every row is a positive.
    cv : splitter, int or iterable of (train, test), default=None
        None: ``TemporalSplit(1, test_size=0.1)``, which tests on the latest tenth of the rows. A
        split that trains on rows of a user later than the user's test rows causes a warning.
    scoring : sequence of str, default=("ndcg", "recall", "hit_rate")
        Among ``"ndcg"``, ``"recall"``, ``"precision"``, ``"hit_rate"``, ``"mrr"``, ``"map"``.
    k : int, default=10
        Length of the lists.
    baseline : str, default=None
        Name of the estimator that the others are compared with; None: the first.
    relevance_threshold : float, default=None
        Test rows with ``y >= relevance_threshold`` are relevant. None: those with ``y > 0``, or
        all rows without `y`. Training uses all rows.
    exclude_seen : bool, default=True
        Passed to ``recommend``. Use False for repeat purchases.
    users : {"all", "known"}, default="all"
        Users who get a list: all with relevant test rows, or those of them with train rows. Items
        without train rows stay in the denominators in both cases.
    n_bootstrap : int, default=1000
        Number of bootstrap samples of users.
    confidence_level : float, default=0.95
        Confidence level of the intervals, above 0 and below 1.
    random_state : int, RandomState or None, default=None
        Seed of the bootstrap. The estimators have their own seeds.
    measure_memory : bool, default=True
        Fit each estimator once more, on the last split, to find its peak memory; see Notes.
    n_jobs : int, default=None
        Number of fits at once, by joblib; None means 1, unless a joblib context is set. Metrics do
        not depend on it, but times do: fits share the machine.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    result : :class:`~sklearn.utils.Bunch`
        ``table``: list of dicts, one per estimator, ready for ``pandas.DataFrame``. With
        ``ndcg@10`` standing for each metric:

        * ``estimator``: its name;
        * ``ndcg@10``: mean over all lists of all splits;
        * ``ndcg@10_difference``, ``ndcg@10_difference_low``, ``ndcg@10_difference_high``: this
          mean minus that of the baseline, and the ends of the interval of the difference;
        * ``coverage@10``: share of the items of the train rows that are in any list, mean over
          splits;
        * ``fit_seconds``, ``recommend_seconds``: wall time per split, mean over splits;
        * ``peak_memory_mib``: peak of the memory allocated by ``fit``, in 2**20 bytes; NaN without
          `measure_memory`;
        * ``model_size_mib``: size of the pickled model of the last split; NaN if it cannot be
          pickled.

        ``per_user``: dict of metric to dict of estimator to ndarray of shape (n_queries,).
        ``user_ids``, ``split_index``: user and split of each list, of shape (n_queries,).
        ``n_queries``, ``n_users``, ``n_splits``, ``metrics``, ``baseline``,
        ``confidence_level``. ``print(result)`` shows the table.

    Raises
    ------
    ValueError
        If a parameter is out of range, train and test rows overlap, or a test set has no relevant
        rows.
    TypeError
        If an estimator has no ``fit`` or ``recommend``, or ``n_jobs`` is no integer.
    RuntimeError
        If an estimator fails. The message names the estimator, the method, the split and the error.

    Warns
    -----
    RandomSplitWarning
        If ``X`` has timestamps and a user has train rows later than test rows.

    Notes
    -----
    Intervals are percentiles of the paired bootstrap. Users are drawn with replacement, each with
    the lists of all splits and of both models, so the difficulty of a user cancels. The fitted
    models stay the same, so the intervals do not include the effect of other train rows or seeds.

    Peak memory is measured by :mod:`tracemalloc` in a separate fit, which is not timed. It includes
    what Python and numpy allocate. It does not include ``X``, nor what torch or other compiled
    libraries allocate.

    ``fit_seconds`` include the compilation of code that is used for the first time and not cached
    on disk. ``recommend_seconds`` are for all users of a split together. If users have fewer than
    `k` eligible items, ``recommend`` is called several times.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> from sklearn_recft.model_selection import compare_recommenders
    >>> X, _ = make_interactions(n_interactions=2000, random_state=0, return_X_y=True)
    >>> result = compare_recommenders(
    ...     {"popular": PopularityRecommender(), "recent": PopularityRecommender(window=60)},
    ...     X, scoring="recall", random_state=0,
    ... )
    >>> popular, recent = result.table
    >>> low, high = recent["recall@10_difference_low"], recent["recall@10_difference_high"]
    >>> low < recent["recall@10"] - popular["recall@10"] < high
    True
    >>> result.per_user["recall@10"]["recent"].shape == (result.n_queries,)
    True
    """
    baseline = _checked_baseline(estimators, baseline)
    protocol = _Protocol.of(scoring, k, exclude_seen)
    check_scalar(n_bootstrap, "n_bootstrap", Integral, min_val=1)
    check_scalar(
        confidence_level,
        "confidence_level",
        Real,
        min_val=0,
        max_val=1,
        include_boundaries="neither",
    )
    if n_jobs is not None:
        check_scalar(n_jobs, "n_jobs", Integral)
    tasks = _tasks(X, y, cv, relevance_threshold, users)
    runs = _runs(estimators, X, y, tasks, protocol, n_jobs, verbose)
    if measure_memory:  # here and one by one, since tracemalloc counts what all threads allocate
        for name, estimator in estimators.items():
            runs[name][-1].costs["peak_memory_mib"] = _peak_mib(name, estimator, X, y, tasks[-1])

    user_ids = np.concatenate([task.user_ids for task in tasks])
    codes = Vocabulary().extend(user_ids)
    per_user = {
        metric: {name: np.concatenate([run.values[metric] for run in runs[name]]) for name in runs}
        for metric in protocol.metrics
    }
    given = np.random.RandomState() if random_state is None else random_state
    compared = differences(
        np.stack([np.stack(list(of.values()), axis=-1) for of in per_user.values()], axis=1),
        list(estimators).index(baseline),
        codes,
        n_bootstrap,
        confidence_level,
        np.random.default_rng(check_random_state(given).randint(2**31)),
    )
    table: list[dict[str, Any]] = [{"estimator": name} for name in estimators]
    for metric, of_metric in zip(per_user, compared.tolist(), strict=True):
        columns = [metric + end for end in ENDS]
        for row, numbers in zip(table, of_metric, strict=True):
            row.update(zip(columns, numbers, strict=True))
    for row in table:
        row.update(_costs(runs[row["estimator"]]))
    return RecommenderComparison(
        table=table,
        per_user=per_user,
        user_ids=user_ids,
        split_index=np.repeat(np.arange(len(tasks)), [len(task.user_ids) for task in tasks]),
        n_queries=len(user_ids),
        n_users=int(codes.max()) + 1,
        n_splits=len(tasks),
        metrics=list(per_user),
        baseline=baseline,
        confidence_level=confidence_level,
    )


@dataclass(frozen=True)
class _Protocol:
    """The lists to make, and their metrics: ``metrics`` maps ``"ndcg@10"`` to a function."""

    metrics: dict[str, Callable[..., Any]]
    k: int
    exclude_seen: bool

    @classmethod
    def of(cls, scoring: str | Sequence[str], k: int, exclude_seen: bool) -> _Protocol:
        """Validate ``scoring`` and `k`."""
        names = (scoring,) if isinstance(scoring, str) else tuple(scoring)
        unknown = [name for name in names if name not in RANKING_METRICS]
        if unknown or not names:
            raise ValueError(f"scoring must be among {sorted(RANKING_METRICS)}, got {scoring!r}.")
        check_scalar(k, "k", Integral, min_val=1)
        return cls({f"{name}@{k}": RANKING_METRICS[name] for name in names}, k, exclude_seen)


@dataclass(frozen=True)
class _Task:
    """One split and its relevant rows, the same for every estimator.

    ``train`` and ``test`` are rows of X, ``rows`` the relevant rows among the test rows, ``group``
    the query of each of them, ``user_ids`` the users of the queries, and ``catalogue`` the distinct
    items of the train rows.
    """

    split: int
    train: np.ndarray
    test: np.ndarray
    rows: np.ndarray
    group: np.ndarray
    user_ids: np.ndarray
    catalogue: np.ndarray


@dataclass(frozen=True)
class _Run:
    """Result of one estimator on one split: a value per metric and query, and its costs."""

    values: dict[str, np.ndarray]
    costs: dict[str, float]


def _tasks(X: Any, y: Any, cv: Any, threshold: float | None, users: str) -> list[_Task]:
    """Prepare all splits before the first fit, so that invalid input raises an error at once."""
    if users not in ("all", "known"):
        raise ValueError(f"users must be 'all' or 'known', got {users!r}.")
    check_consistent_length(X, y)
    cv = TemporalSplit(1, test_size=0.1) if cv is None else check_cv(cv)
    splits = [(np.asarray(train), np.asarray(test)) for train, test in cv.split(X, y)]
    user_ids, times = users_of(X), times_or_none(X)
    if times is not None:
        warn_of_late_rows(splits, user_ids, times, stacklevel=4)
    codes, items = Vocabulary().extend(user_ids), Vocabulary()
    item_codes = items.extend(items_of(X))
    relevant = relevant_rows(X, y, threshold)
    tasks = []
    for split, (train, test) in enumerate(splits):
        if len(np.intersect1d(train, test)):
            raise ValueError(f"Split {split} has rows that are both trained on and tested on.")
        rows = relevant[test]
        if users == "known":
            rows = rows & np.isin(codes[test], codes[train])
        rows = np.flatnonzero(rows)
        if not len(rows):
            raise ValueError(
                f"Split {split}: no test row is relevant"
                + (" and of a user with train rows" if users == "known" else "")
                + "; choose another cv or relevance_threshold."
            )
        queried = Vocabulary()
        group = queried.extend(user_ids[test[rows]])
        tasks.append(
            _Task(
                split=split,
                train=train,
                test=test,
                rows=rows,
                group=group,
                user_ids=queried.ids,
                catalogue=items.ids[np.unique(item_codes[train])],
            )
        )
    return tasks


def _runs(
    estimators: Mapping[str, Any],
    X: Any,
    y: Any,
    tasks: list[_Task],
    protocol: _Protocol,
    n_jobs: int | None,
    verbose: int,
) -> dict[str, list[_Run]]:
    """Run every estimator on every split. X and y are arguments of their own, to be sent once."""
    pairs = [(name, task) for task in tasks for name in estimators]
    found = Parallel(n_jobs=n_jobs)(
        delayed(_run)(name, estimators[name], X, y, task, protocol)
        for name, task in tqdm(pairs, unit="fit", disable=not verbose)
    )
    runs: dict[str, list[_Run]] = {name: [] for name in estimators}
    for (name, _), run in zip(pairs, found, strict=True):
        runs[name].append(run)
    return runs


def _train_rows(X: Any, y: Any, task: _Task) -> tuple[Any, Any]:
    """Return the arguments of `fit`."""
    return _safe_indexing(X, task.train), None if y is None else column_or_1d(y)[task.train]


def _run(name: str, estimator: Any, X: Any, y: Any, task: _Task, protocol: _Protocol) -> _Run:
    """Fit a clone, make its lists, and compute their metrics."""
    model, k = clone(estimator, safe=False), protocol.k
    (X_train, y_train), X_test = _train_rows(X, y, task), _safe_indexing(X, task.test)
    with _blamed_on(name, "fit", task):
        clock = perf_counter()
        model.fit(X_train, y_train)
        fit_seconds = perf_counter() - clock
    with _blamed_on(name, "recommend", task):
        recommender, queries, relevant, group = top_k_task(model, X_test, task.rows)
        if not np.array_equal(group, task.group):
            raise ValueError("its transformers merge or divide users, who cannot be compared then.")
        clock = perf_counter()
        lists = recommend_up_to(recommender, queries, k, exclude_seen=protocol.exclude_seen)
        recommend_seconds = perf_counter() - clock
    values = {
        metric: np.asarray(compute(relevant, lists, k=k, per_user=True))
        for metric, compute in protocol.metrics.items()
    }
    costs = {
        f"coverage@{k}": catalogue_coverage_at_k(_catalogue(model, X_train, task), lists, k=k),
        "fit_seconds": fit_seconds,
        "recommend_seconds": recommend_seconds,
        "peak_memory_mib": float("nan"),
        "model_size_mib": pickled_mib(model),
    }
    return _Run(values, costs)


def _catalogue(estimator: Any, X_train: Any, task: _Task) -> np.ndarray:
    """Return the items of the train rows, by their ids in the last step of a pipeline."""
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        return items_of(estimator[:-1].transform(X_train))
    return task.catalogue


def _costs(runs: list[_Run]) -> dict[str, float]:
    """Return means over splits; memory and size are those of the last split."""
    means = {name: float(np.mean([run.costs[name] for run in runs])) for name in runs[0].costs}
    last = runs[-1].costs
    return means | {name: last[name] for name in ("peak_memory_mib", "model_size_mib")}


def _peak_mib(name: str, estimator: Any, X: Any, y: Any, task: _Task) -> float:
    """Measure the peak memory of one more fit."""
    model, (X_train, y_train) = clone(estimator, safe=False), _train_rows(X, y, task)
    with _blamed_on(name, "fit", task):
        return peak_mib(lambda: model.fit(X_train, y_train))


def _checked_baseline(estimators: Mapping[str, Any], baseline: str | None) -> str:
    """Check that every estimator is a recommender; return the name of the baseline."""
    if not isinstance(estimators, Mapping) or not estimators:
        raise ValueError("estimators must be a dict of at least one name to a recommender.")
    for name, estimator in estimators.items():
        last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
        for method in ("fit", "recommend"):
            if not hasattr(last, method):
                raise TypeError(
                    f"{name!r} cannot be compared: {type(last).__name__} has no `{method}`."
                )
    if baseline is not None and baseline not in estimators:
        raise ValueError(f"baseline must be one of {list(estimators)}, got {baseline!r}.")
    return next(iter(estimators)) if baseline is None else baseline


@contextmanager
def _blamed_on(name: str, method: str, task: _Task) -> Iterator[None]:
    """Name the estimator, the method and the split in an error."""
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"{name!r} failed to {method} on split {task.split}: {error}") from error
