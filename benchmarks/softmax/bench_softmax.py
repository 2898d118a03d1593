"""Compare the sampled softmax of `IncrementalMFRecommender` with the models of positives.

    python benchmarks/softmax/bench_softmax.py --data amazon-beauty-2014 --protocol timeline
    python benchmarks/softmax/bench_softmax.py --part validation --params '{"half_life": 7}'
    python benchmarks/softmax/bench_softmax.py --choose

Data, protocols and metric are those of the leaderboard: lists of 10 from the whole catalogue,
NDCG@10. `--choose` takes the best of eight settings of the softmax on the validation part, by one
seed, and evaluates it on the test part; the leaderboard allows as many. Models that draw nothing
are fitted once, with the first seed. `--params` are those of models that draw. One thread. Seconds
include no compilation.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
from sklearn.base import clone

from benchmarks.common.events import (
    COLUMNS,
    DATA,
    PROTOCOLS,
    REPEATING,
    K,
    Task,
    evaluate,
    load,
    tasks,
)
from benchmarks.common.params import add_params_option
from benchmarks.common.report import row
from sklearn_recft import (
    ALSRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)

HISTORY = 3.0  # half-life of "next" in events
MODELS: dict[str, Any] = {
    "softmax bag": IncrementalMFRecommender(loss="softmax"),
    "softmax next": IncrementalMFRecommender(loss="softmax", history_half_life=HISTORY),
    "bpr": IncrementalMFRecommender(loss="bpr"),
    "ALS": ALSRecommender(),
    "EASE": EASERecommender(),
    "ItemKNN BM25": ItemKNNRecommender(),
    "popularity, 7 days": PopularityRecommender(half_life=7),
}
# What `--choose` chooses from.
GRID: tuple[dict[str, Any], ...] = (
    {},
    {"half_life": 7},
    {"half_life": 30, "popularity_weight": 0.5},
    {"half_life": 7, "popularity_weight": 0.5},
    {"half_life": 7, "reg": 0.05},
    {"half_life": 30, "reg": 0.05},
    {"history_half_life": HISTORY},
    {"history_half_life": HISTORY, "half_life": 30, "popularity_weight": 1.0},
)


def run(model: Any, task: Task) -> tuple[float, float]:
    """Return NDCG@10 and seconds of `fit`."""
    train = task.train[COLUMNS]
    model.fit(train[:1000])
    start = time.perf_counter()
    model.fit(train)
    seconds = time.perf_counter() - start
    lists, _ = model.recommend(task.queries, n_recommendations=K, exclude_seen=task.exclude_seen)
    return evaluate(task, list(lists))["ndcg"], seconds


def measure(options: argparse.Namespace, data: str, protocol: str) -> None:
    """Print one line a model and seed."""
    pair = tasks(load(data), protocol, data not in REPEATING)
    if options.choose:
        return choose(options, data, protocol, *pair)
    task = pair[options.part == "test"]
    for name in options.model or MODELS:
        for seed in options.seed:
            model = MODELS[name]
            if "random_state" in model.get_params():
                model = clone(model).set_params(**options.params, random_state=seed)
            elif seed != options.seed[0]:
                continue
            ndcg, seconds = run(model, task)
            figures = {"ndcg": ndcg, "fit_s": seconds, "params": options.params}
            row(f"{protocol} {options.part}", data, name, seed=seed, **figures)
    return None


def choose(
    options: argparse.Namespace, data: str, protocol: str, validation: Task, test: Task
) -> None:
    """Print the validation figure of each setting, and the test figures of the best."""
    found = []
    for params in GRID:
        model = IncrementalMFRecommender(loss="softmax", **params, random_state=options.seed[0])
        ndcg, seconds = run(model, validation)
        found.append(ndcg)
        figures = {"ndcg": ndcg, "fit_s": seconds, "params": params}
        row(f"{protocol} validation", data, "softmax", seed=options.seed[0], **figures)
    params = GRID[int(np.argmax(found))]
    for seed in options.seed:
        model = IncrementalMFRecommender(loss="softmax", **params, random_state=seed)
        ndcg, seconds = run(model, test)
        figures = {"ndcg": ndcg, "fit_s": seconds, "params": params}
        row(f"{protocol} test", data, "softmax, chosen", seed=seed, **figures)


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="may be repeated")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="may be repeated")
    parser.add_argument("--part", choices=["validation", "test"], default="test")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--choose", action="store_true", help="choose settings on validation")
    add_params_option(parser)
    options = parser.parse_args()
    for data in options.data or DATA[1:]:
        for protocol in options.protocol or PROTOCOLS:
            measure(options, data, protocol)


if __name__ == "__main__":
    for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")
    main()
