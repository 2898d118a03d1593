"""Tables of rating tasks: every contender at every number of examples, by several seeds."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.report import row
from benchmarks.fewshot import protocols, score
from benchmarks.fewshot.contenders import CONTENDERS, LAMBDAS, Bayes, Ridge
from benchmarks.fewshot.data import Ratings, load

REFERENCES = ("bias", "ridge", "IncrementalMF")


@dataclass(frozen=True)
class Setup:
    """A protocol, the numbers of examples, the metrics, and parameters of the Bayesian rows."""

    split: Callable[[Ratings, int], protocols.Task]
    shots: tuple[int | None, ...]
    names: tuple[str, ...]
    params: dict[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ("ml-1m",)


CURVE = (0, 1, 3, 5, 10)
SETUPS: dict[str, Setup] = {
    "metarec": Setup(protocols.metarec, (*CURVE, None), ("best",), data=("ml-1m", "ml-100k")),
    "heavy": Setup(
        partial(protocols.metarec, heavy=True), (1, 3, 10, None), ("best",), {"n_factors": 16}
    ),
    "tanp": Setup(protocols.tanp, (None,), ("ndcg@3", "ndcg@5"), {"n_factors": 16}),
    "time": Setup(protocols.first_events, CURVE, ("ndcg@10",)),
    "new_item": Setup(protocols.new_items, (*CURVE, 30), ("ndcg@10/20",)),
    **{
        f"cold_{kind}": Setup(partial(protocols.cold, kind=kind), (0, None), ("ndcg@3",))
        for kind in ("user", "item", "both")
    },
}


def run(name: str, data: str, seeds: list[int], models: list[str], keep: Path | None) -> None:
    """Measure the contenders, print a JSON line for each number of examples, then a table.

    What `keep` holds is read in place of measuring it anew.
    """
    setup, ratings = SETUPS[name], load(data)
    found: dict[str, pd.DataFrame] = {}
    for model in models:
        parts = []
        for seed in seeds:
            path = None if keep is None else keep / f"{name}_{data}_{model}_{seed}.parquet"
            if path is not None and path.exists():
                parts.append(pd.read_parquet(path))
                continue
            part = measure(setup, ratings, model, seed)
            if path is not None:
                part.to_parquet(path)
            parts.append(part)
        found[model] = pd.concat(parts, ignore_index=True)
    report(name, data, setup, found)


def measure(setup: Setup, ratings: Ratings, model: str, seed: int) -> pd.DataFrame:
    """Fit a contender, and return the metrics of each owner at each number of examples."""
    task = setup.split(ratings, seed)
    contender = CONTENDERS[model](ratings, seed)
    if isinstance(contender, Bayes):
        contender.params = setup.params | contender.params
    start = time.process_time()
    contender.fit(*ratings.rows(task.train))
    seconds = time.process_time() - start
    query, truth = ratings.rows(task.query)
    parts = []
    for k in setup.shots:
        answer = contender.answer(*ratings.rows(task.first(k)), query)
        part = score.metrics(truth, answer, task.owner, setup.names)
        parts.append(part.assign(k=str(k if k is not None else "all"), seed=seed))
    return pd.concat(parts, ignore_index=True).assign(fit_s=seconds)


def report(name: str, data: str, setup: Setup, found: dict[str, pd.DataFrame]) -> None:
    """Print means over the seeds, their spread, and paired differences to the references."""
    lines: dict[str, list[str]] = {}
    for model, frame in found.items():
        for k in frame["k"].unique().tolist():
            mine = frame[frame["k"] == k].drop(columns=["k", "fit_s"]).reset_index(drop=True)
            figures: dict[str, Any] = score.summary(mine)
            by_seed = [score.summary(part) for _, part in mine.groupby("seed")]
            for metric in ("rmse", *setup.names):
                figures[f"{metric}_by_seed"] = [one[metric] for one in by_seed]
            for other in REFERENCES if model.startswith("Bayes") else ():
                if other in found:
                    theirs = found[other][found[other]["k"] == k].reset_index(drop=True)
                    for metric in ("mse", *setup.names):
                        figures[f"{metric} less {other}"] = score.paired(mine, theirs, metric)
            seconds = float(frame["fit_s"].median())
            row(name, data, model, k=k, n=len(mine), fit_s=seconds, **figures)
            cells = [f"{figures[metric]:.4f}" for metric in setup.names]
            lines.setdefault(model, []).append(" / ".join([*cells, f"{figures['rmse']:.4f}"]))
    shots = [str(k if k is not None else "all") for k in setup.shots]
    print(f"| {name}, {data}: {', '.join(setup.names)} / RMSE, k = | {' | '.join(shots)} |")
    print("|---" * (len(shots) + 1) + "|")
    for model, cells in lines.items():
        print(f"| {model} | {' | '.join(cells)} |", flush=True)


def choose_penalty(data: str, seed: int = 0) -> None:
    """Print the error of the ridge regression on validation users for each penalty."""
    ratings = load(data, text=False)
    task = protocols.metarec(ratings, seed, part="validation")
    contender = Ridge(ratings, seed)
    contender.fit(*ratings.rows(task.train))
    query, truth = ratings.rows(task.query)
    for penalty in LAMBDAS:
        contender.penalty = penalty
        for k in (3, None):
            predicted, _ = contender.answer(*ratings.rows(task.first(k)), query)
            rmse = float(np.sqrt(np.mean((predicted - truth) ** 2)))
            row("penalty", data, "ridge", k=str(k or "all"), penalty=penalty, rmse=rmse)
