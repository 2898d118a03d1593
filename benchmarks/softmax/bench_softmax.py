"""Compare the sampled softmax of `IncrementalMFRecommender` with the models of positives.

    python benchmarks/softmax/bench_softmax.py --choose --data ml-1m --protocol timeline
    python benchmarks/softmax/bench_softmax.py --part validation --params '{"half_life": 7}'
    python benchmarks/softmax/bench_softmax.py --task stream
    python benchmarks/softmax/bench_softmax.py --task cost

lists. Data, protocols and metric are those of the leaderboard: lists of 10 from the whole
catalogue, NDCG@10. `--choose` takes the best of eight settings of the softmax on the validation
part, by one seed, and evaluates it on the test part; the leaderboard allows as many. Where users
take items again, habits are chosen in a second such search, and in leave-last-out a larger model of
two settings. Our other models have the settings that the leaderboard chose, or on further logs the
best of its eight on the validation part. "ALS + popularity" is ALS whose scores get
beta log(1/2 + n), n being the decayed count of the item: nine settings of ALS, six betas besides 0,
and three half-lives are tried. Without `--choose` every model has its defaults; `--params` are
those of models that draw. Models that draw nothing are fitted once, with the first seed.

stream. The ratings of 5 in ML-1M by time; the first 30 % are fitted. For every later event a top
10 of all items but the user's own, then the event is learned; `iter_prequential` does so in one
pass. Settings are chosen on the last third of these 30 %. The chosen one has all seeds, the others
the first. Events per second are also measured without lists, of the last 20,000 events in one call,
and of the first 2,000 of these in calls of one (medians of three rounds).

cost. Seconds of `fit` with defaults, three rounds, the models in turn.

One thread. Seconds are of the CPU, without compilation.
"""

import argparse
import copy
import os
import sys
import time
from pathlib import Path
from typing import Any

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
from sklearn.base import clone

from benchmarks.common.events import DATA, PROTOCOLS, K, Task, evaluate, tasks
from benchmarks.common.params import add_params_option
from benchmarks.common.report import row
from benchmarks.softmax.logs import ALL, REPEATS, events_of, protocols_of
from benchmarks.softmax.rivals import (
    BETAS,
    HALF_LIVES,
    RIVALS,
    PopularALS,
    als_settings,
    chosen_settings,
    training,
    tried_settings,
)
from sklearn_recft import (
    ALSRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.model_selection import iter_prequential

HISTORY = 3.0  # half-life of "next" in events
ROUNDS = 3  # of cost, and of events without lists
N_TIMED, N_SINGLE = 20_000, 2_000  # events that are timed in one call, and in calls of one
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
# Of the next event; found on validation rows of Amazon Beauty after `GRID` had been tried.
LARGE: tuple[dict[str, Any], ...] = tuple(
    {**GRID[place], "n_factors": 128, "max_epochs": 16} for place in (-2, -1)
)
HABITS: tuple[dict[str, Any], ...] = tuple(
    {"habit_half_life": days, "half_life": 7, "reg": reg, "popularity_weight": weight}
    for days in (90, 365)
    for reg in (0.05, 0.1)
    for weight in (2.0, 4.0)
)
STREAM: tuple[dict[str, Any], ...] = tuple(
    {"history_half_life": events, "reg": reg, "popularity_weight": weight}
    for events in (2, 3)
    for reg in (0.03, 0.1)
    for weight in (0.5, 1.0)
)


def run(model: Any, task: Task, once: bool = False) -> tuple[float, float]:
    """Return NDCG@10 and seconds of `fit`."""
    train, _ = training(task, {"once": once})
    model.fit(train[:1000])
    start = time.process_time()
    model.fit(train)
    seconds = time.process_time() - start
    lists, _ = model.recommend(task.queries, n_recommendations=K, exclude_seen=task.exclude_seen)
    return evaluate(task, list(lists))["ndcg"], seconds


def seeded(model: Any, seed: int, first: int) -> Any:
    """Return the model with a seed; None where it draws nothing and the seed is not the first."""
    if "random_state" in model.get_params():
        return clone(model).set_params(random_state=seed)
    return clone(model) if seed == first else None


def measure(options: argparse.Namespace, data: str, protocol: str) -> None:
    """Print one line a model and seed."""
    pair = tasks(events_of(data), protocol, data not in REPEATS)
    if options.choose:
        return choose_all(options, data, protocol, pair)
    task = pair[options.part == "test"]
    for name in options.model or MODELS:
        for seed in options.seed:
            model = seeded(MODELS[name], seed, options.seed[0])
            if model is None:
                continue
            if hasattr(model, "random_state"):
                model.set_params(**options.params)
            ndcg, seconds = run(model, task)
            figures = {"ndcg": ndcg, "fit_s": seconds, "params": options.params}
            row(f"{protocol} {options.part}", data, name, seed=seed, **figures)
    return None


def choose_all(
    options: argparse.Namespace, data: str, protocol: str, pair: tuple[Task, Task]
) -> None:
    """Print validation and test figures of the softmax and its rivals, each with its settings."""
    choose(options, (protocol, data, "softmax"), pair, GRID)
    if protocol == "leave-last-out":
        choose(options, (protocol, data, "softmax, large"), pair, LARGE)
    if data in REPEATS:
        choose(options, (protocol, data, "softmax, habits"), pair, HABITS)
    choose_als(options, (protocol, data, "ALS + popularity"), pair)
    known = chosen_settings(data, protocol)
    for name in RIVALS:
        setting = known.get(name)
        if setting is None:
            setting = best_setting(name, data, pair[0], options.seed[0])
        for seed in options.seed:
            found = rival(name, pair[1], setting, seed, options.seed[0])
            if found is not None:
                figures = {"ndcg": found[0], "fit_s": found[1], "params": setting}
                row(f"{protocol} test", data, name, seed=seed, **figures)


def rival(
    name: str, task: Task, setting: dict[str, Any], seed: int, first: int
) -> tuple[float, float] | None:
    """Return NDCG@10 and seconds of `fit`; None where the model has been run already."""
    _, params = training(task, setting)
    model = seeded(clone(RIVALS[name]).set_params(**params), seed, first)
    return None if model is None else run(model, task, setting.get("once", False))


def best_setting(name: str, data: str, task: Task, seed: int) -> dict[str, Any]:
    """Choose among the eight settings that the leaderboard has for the model."""
    tried = tried_settings(data, name)
    found = [rival(name, task, setting, seed, seed) for setting in tried]
    return tried[int(np.argmax([figures[0] for figures in found if figures is not None]))]


def choose(
    options: argparse.Namespace,
    names: tuple[str, str, str],
    pair: tuple[Task, Task],
    grid: tuple[dict[str, Any], ...],
) -> None:
    """Print the validation figure of each setting, and the test figures of the best."""
    (protocol, data, name), (validation, test) = names, pair
    found = []
    for params in grid:
        model = IncrementalMFRecommender(loss="softmax", **params, random_state=options.seed[0])
        ndcg, seconds = run(model, validation)
        found.append(ndcg)
        figures = {"ndcg": ndcg, "fit_s": seconds, "params": params}
        row(f"{protocol} validation", data, name, seed=options.seed[0], **figures)
    params = grid[int(np.argmax(found))]
    for seed in options.seed:
        model = IncrementalMFRecommender(loss="softmax", **params, random_state=seed)
        ndcg, seconds = run(model, test)
        figures = {"ndcg": ndcg, "fit_s": seconds, "params": params}
        row(f"{protocol} test", data, f"{name}, chosen", seed=seed, **figures)


def choose_als(
    options: argparse.Namespace, names: tuple[str, str, str], pair: tuple[Task, Task]
) -> None:
    """Do what `choose` does for ALS plus popularity; also print the best without popularity."""
    protocol, data, name = names
    found = {}
    for place, setting in enumerate(als_settings(data)):
        model = PopularALS(pair[0], setting, options.seed[0])
        found[place, 0.0, None] = model.ndcg(0.0, None)
        for beta in BETAS:
            for half_life in HALF_LIVES:
                found[place, beta, half_life] = model.ndcg(beta, half_life)
    for what, mine in (
        (name, found),
        ("ALS, chosen", {k: v for k, v in found.items() if not k[1]}),
    ):
        place, beta, half_life = max(mine, key=mine.__getitem__)
        setting = als_settings(data)[place]
        figures = {"params": setting, "beta": beta, "popularity_half_life": half_life}
        best = mine[place, beta, half_life]
        row(f"{protocol} validation", data, what, seed=options.seed[0], ndcg=best, **figures)
        for seed in options.seed:
            ndcg = PopularALS(pair[1], setting, seed).ndcg(beta, half_life)
            row(f"{protocol} test", data, what, seed=seed, ndcg=ndcg, **figures)


# ---------------------------------------------------------------------------- stream


def stream(options: argparse.Namespace) -> None:
    """Print Recall@10 of the stream, and events per second."""
    X, y = fetch_movielens("1m", return_X_y=True)
    X = np.asarray(X)[np.asarray(y) == 5]
    X = X[np.argsort(X[:, 2], kind="stable")]
    first = int(0.3 * len(X))
    found = []
    for params in STREAM:
        model = IncrementalMFRecommender(loss="softmax", **params, random_state=options.seed[0])
        recall, _ = walk(model, X[:first], first * 2 // 3)
        found.append(recall)
        row("stream validation", "ml-1m", "softmax", recall=recall, params=params)
    contenders: dict[str, tuple[str, dict[str, Any]]] = {
        "softmax, chosen": ("softmax", STREAM[int(np.argmax(found))]),
        "softmax next": ("softmax", {"history_half_life": HISTORY}),
        "softmax bag": ("softmax", {}),
        "bpr": ("bpr", {}),
    }
    for name, (loss, params) in contenders.items():
        some = options.seed if name == "softmax, chosen" else options.seed[:1]
        for seed in some if loss == "softmax" else ():
            model = IncrementalMFRecommender(loss=loss, **params, random_state=seed)
            recall, rate = walk(model, X, first)
            figures = {"recall": recall, "events_per_second": rate}
            row("stream", "ml-1m", name, seed=seed, params=params, **figures)
        rates(name, IncrementalMFRecommender(loss=loss, **params, random_state=0), X)


def rates(name: str, model: Any, X: np.ndarray) -> None:
    """Print events per second of the last events, without and with lists."""
    learned = len(X) - N_TIMED
    model.fit(X[:learned]).partial_fit_predict(X[:10])
    for size, n in ((1, N_SINGLE), (N_TIMED, N_TIMED)):
        found = []
        for _ in range(ROUNDS):
            fitted, start = copy.deepcopy(model), time.process_time()
            for begin in range(learned, learned + n, size):
                fitted.partial_fit_predict(X[begin : begin + size])
            found.append(n / (time.process_time() - start))
        figures = {"events_per_second": np.median(found), "fastest": max(found)}
        row("stream, no lists", "ml-1m", name, rows_a_call=size, **figures)
    fitted, start = copy.deepcopy(model), time.process_time()
    for begin in range(learned, learned + N_SINGLE):
        fitted.recommend(X[begin : begin + 1, 0], n_recommendations=K)
        fitted.partial_fit_predict(X[begin : begin + 1])
    rate = N_SINGLE / (time.process_time() - start)
    row("stream, lists", "ml-1m", name, rows_a_call=1, events_per_second=rate)


def walk(model: Any, X: np.ndarray, first: int) -> tuple[float, float]:
    """Fit the first events, then list and learn each; return Recall@10 and events per second."""
    for rows, begin in ((X[:1010], 1000), (X, first)):  # compiled by the first walk
        model.fit(rows[:begin])
        start = time.process_time()
        steps = list(iter_prequential(model, rows[begin:], chunk_size=1, scoring=["recall"], k=K))
        seconds = time.process_time() - start
    hits = sum(step.metrics[f"recall@{K}"] * step.n_queries for step in steps)
    return hits / (len(X) - first), (len(X) - first) / seconds


# ------------------------------------------------------------------------------ cost


def cost(options: argparse.Namespace) -> None:
    """Print the median seconds of `fit`, and its ratio to ALS."""
    names = ("ALS", "bpr", "softmax next", "softmax bag")
    for data in options.data or DATA[1:]:
        task = tasks(events_of(data), "timeline", data not in REPEATS)[1]
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in names:
                seconds[name].append(run(clone(MODELS[name]), task)[1])
        base = np.median(seconds["ALS"])
        for name in names:
            middle = np.median(seconds[name])
            figures = {"fit_s": middle, "ratio": middle / base, "spread_s": np.ptp(seconds[name])}
            row("cost", data, name, n_events=len(task.train), **figures)


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["lists", "stream", "cost"], default="lists")
    parser.add_argument("--data", action="append", choices=ALL, help="may be repeated")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="may be repeated")
    parser.add_argument("--model", action="append", choices=list(MODELS), help="may be repeated")
    parser.add_argument("--part", choices=["validation", "test"], default="test")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--choose", action="store_true", help="choose settings on validation")
    add_params_option(parser)
    options = parser.parse_args()
    if options.task != "lists":
        {"stream": stream, "cost": cost}[options.task](options)
        return
    for data in options.data or DATA[1:]:
        for protocol in options.protocol or protocols_of(data):
            measure(options, data, protocol)


if __name__ == "__main__":
    main()
