"""Seconds of the CPU: `--task cost`. And the error of a random tenth: `--task random90`."""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import sklearn_recft
from benchmarks.common.report import row
from benchmarks.fewshot.contenders import CONTENDERS, Bayes
from benchmarks.fewshot.data import load
from sklearn_recft import IncrementalMFRecommender

N_USERS = 1000  # that adapt at once
ROUNDS = 5
N_ALONE = 50  # users that adapt one by one


VERBS = {"IncrementalMF": "partial_fit", "Bayes": "adapt"}


def cost() -> None:
    """Print seconds of `fit` and microseconds of `adapt`, as ratios to `IncrementalMF`."""
    ratings = load("ml-1m", text=False)
    users = np.random.default_rng(0).permutation(np.unique(ratings.X[:, 0]))[:N_USERS]
    new = np.isin(ratings.X[:, 0], users)
    X, y = ratings.rows(np.flatnonzero(~new))
    models: dict[str, Any] = {
        "IncrementalMF": IncrementalMFRecommender(random_state=0),
        "Bayes": sklearn_recft.BayesianMFRecommender(random_state=0),
    }
    seconds = {}
    for name, model in models.items():
        getattr(model.fit(X[:2000], y[:2000]), VERBS[name])(X[2000:2100], y[2000:2100])
        seconds[name] = _seconds(model.fit, X, y)
    for name, value in seconds.items():
        ratio = value / seconds["IncrementalMF"]
        row("cost, fit", "ml-1m", name, n_rows=len(y), fit_s=value, ratio=ratio)
    for k in (1, 10):
        rows = np.concatenate([np.flatnonzero(ratings.X[:, 0] == user)[:k] for user in users])
        found = {name: _adapting(model, VERBS[name], *ratings.rows(rows), k)
                 for name, model in models.items()}  # fmt: skip
        base = found["IncrementalMF"]
        for name, (batch, alone) in found.items():
            ratios = {"batch_ratio": batch / base[0], "alone_ratio": alone / base[1]}
            row("cost, adapt", "ml-1m", name, k=k, batch_us=batch, alone_us=alone, **ratios)


def _adapting(model: Any, verb: str, X: np.ndarray, y: np.ndarray, k: int) -> tuple[float, float]:
    """Return the median microseconds a user: all at once, and one by one."""
    at_once, alone = [], []
    for _ in range(ROUNDS):
        at_once.append(_seconds(getattr(copy.deepcopy(model), verb), X, y) / N_USERS)
        learn = getattr(copy.deepcopy(model), verb)
        parts = [slice(j * k, j * k + k) for j in range(N_ALONE)]
        alone.append(sum(_seconds(learn, X[part], y[part]) for part in parts) / N_ALONE)
    return float(np.median(at_once)) * 1e6, float(np.median(alone)) * 1e6


def _seconds(call: Callable[..., Any], *given: Any) -> float:
    start = time.process_time()
    call(*given)
    return time.process_time() - start


def random90(seeds: list[int], sizes: tuple[int, ...], models: list[str]) -> None:
    """Print RMSE of a random tenth of ML-1M, the split of the factorization benchmark."""
    ratings = load("ml-1m")
    order = np.random.RandomState(0).permutation(len(ratings.y))
    train, test = np.split(order, [int(0.9 * len(order))])
    query, truth = ratings.rows(test)
    for model in models:
        if model == "ridge":  # the users are known: nothing is folded in
            continue
        for size in sizes if model.startswith("Bayes") else [0]:
            for seed in seeds:
                contender = CONTENDERS[model](ratings, seed)
                if isinstance(contender, Bayes):
                    contender.params = contender.params | {"n_factors": size}
                seconds = _seconds(contender.fit, *ratings.rows(train))
                none = np.empty((0, 2), np.int64)
                predicted, std = contender.answer(none, np.empty(0), query)
                figures = {"rmse": float(np.sqrt(np.mean((predicted - truth) ** 2)))}
                if std is not None:
                    figures["covered"] = float(np.mean(np.abs(predicted - truth) <= 1.6449 * std))
                row("random90", "ml-1m", model, d=size, seed=seed, fit_s=seconds, **figures)
