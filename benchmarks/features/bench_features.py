"""Features of a stream: what they are worth to models that are fitted once, and what they cost.

    python benchmarks/features/bench_features.py likes ml-100k
    python benchmarks/features/bench_features.py likes ml-1m --seeds 0
    python benchmarks/features/bench_features.py ratings
    python benchmarks/features/bench_features.py ratings ml-1m --seeds 0
    python benchmarks/features/bench_features.py retail --seeds 0 --drawn past
    python benchmarks/features/bench_features.py speed ml-1m

A JSON line a result. Rows are in the order of time; features go on streaming in the test part, and
weights are frozen before it. Seconds are of the CPU, on one thread, without compilation.
"""

import argparse
import os
import sys
import time
from pathlib import Path

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.common.report import row
from benchmarks.features import columns, ratings, retail
from benchmarks.features.data import TEST, Log, movielens
from benchmarks.features.trees import score_likes
from sklearn_recft.preprocessing import ActivityFeatures

SEEDS = (0, 1, 2)


def likes(name: str, seeds: tuple[int, ...], limit: int | None = None) -> None:
    """Report boosted trees on likes, with and without residual means of pairs."""
    log = movielens(name, limit)
    P, A = columns.profile(log), columns.activity(log, log.liked)
    for seed in seeds:
        M = columns.factorized(log, seed)
        base, test = columns.probability(M), log.part(TEST, 1.0)
        figures = {
            "auc": roc_auc_score(log.liked[test], base[test]),
            "log_loss": log_loss(log.liked[test], base[test]),
        }
        row("likes", name, "MF, online", seed=seed, **figures)
        X = columns.residual_means(log, log.liked, base)
        for label, parts in (
            ("trees A+P", [A, P]),
            ("trees A+X+P", [A, X, P]),
            ("trees A+M+P", [A, M, P]),
            ("trees A+M+X+P", [A, M, X, P]),
        ):
            row("likes", name, label, seed=seed, **score_likes(log, parts, seed))


def speed(name: str, limit: int | None = None) -> None:
    """Report microseconds of a row."""
    log = movielens(name, limit)
    X, y = log.X, log.liked
    short = log.X[:1000], log.liked[:1000]
    tasks = {
        "activity of user and item": lambda X, y: _activity(["user_id", "item_id"], X, y),
        "activity of user, item and pair": lambda X, y: _activity(
            ["user_id", "item_id", ("user_id", "item_id")], X, y
        ),
        "activity of user, item and pair, with repeats": lambda X, y: _activity(
            ["user_id", "item_id", ("user_id", "item_id")], X, y, repeats=True
        ),
        "means of 5 pairs": lambda X, y: columns.residual_means(Log(name, X, y * 5), y, None),
    }
    for label, task in tasks.items():
        task(*short)  # compiles
        start = time.process_time()
        n_columns = task(X, y).shape[1]
        microseconds = (time.process_time() - start) / len(y) * 1e6
        row("speed", name, label, microseconds_a_row=microseconds, n_columns=n_columns)


def _activity(by, X, y, **params):
    model = ActivityFeatures(by=by, statistics=False, **params)
    return model.fit_transform(X[columns.IDS], y)


def main(arguments: list[str] | None = None) -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=["likes", "ratings", "retail", "speed"])
    parser.add_argument("data", nargs="?", default="ml-100k", choices=["ml-100k", "ml-1m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--limit", type=int, help="only the first rows of the timeline")
    parser.add_argument(
        "--drawn", default="all", choices=retail.DRAWN, help="purchases that retail draws from"
    )
    options = parser.parse_args(arguments)
    if options.task == "likes":
        likes(options.data, tuple(options.seeds), options.limit)
    elif options.task == "ratings":
        ratings.report(movielens(options.data, options.limit), tuple(options.seeds))
    elif options.task == "retail":
        for seed in options.seeds:
            retail.report(seed, options.limit, options.drawn)
    else:
        speed(options.data, options.limit)


if __name__ == "__main__":
    main()
