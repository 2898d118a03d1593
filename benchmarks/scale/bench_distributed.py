"""One fit by one process and by several: time, time of the processors, and quality.

torchrun --nproc-per-node=2 benchmarks/scale/bench_distributed.py --models mf transformer
"""

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2]))

from sklearn.metrics import roc_auc_score

from sklearn_recft import (
    DecayBertRecommender,
    IncrementalDCNRecommender,
    IncrementalMFRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.scale import fit_distributed


def rmse(model, X, y):
    return float(np.sqrt(np.mean((model.predict(X) - y) ** 2)))


def auc(model, X, y):
    return float(roc_auc_score(y, model.predict_proba(X)[:, 1]))


def at_random(X, y):
    """Hold out a tenth of the rows, chosen by a seed."""
    order = np.random.default_rng(0).permutation(len(X))
    cut = int(0.9 * len(X))
    train, test = np.sort(order[:cut]), order[cut:]
    return (X[train], y[train]), (X[test], y[test])


def last_of_users(X, y):
    """Hold out the last event of each user; all events are positives."""
    order = np.argsort(X[:, 2], kind="stable")
    X = X[order]
    _, last = np.unique(X[::-1, 0], return_index=True)
    test = np.zeros(len(X), bool)
    test[len(X) - 1 - last] = True
    return (X[~test],), (X[test], None)


def newest_likes(X, y):
    """Hold out the newest tenth; a rating of 4 or 5 is a like."""
    order = np.argsort(X[:, 2], kind="stable")
    cut = int(0.9 * len(X))
    likes = (y >= 4).astype(int)
    return (X[order[:cut]], likes[order[:cut]]), (X[order[cut:]], likes[order[cut:]])


# Name: estimator, log, split, metric.
TASKS = {
    "mf": (IncrementalMFRecommender, "1m", at_random, rmse),
    "dcn": (IncrementalDCNRecommender, "1m", at_random, rmse),
    "transformer": (RealtimeTransformerRecommender, "100k", last_of_users, None),
    "decay": (DecayBertRecommender, "100k", newest_likes, auc),
}


def measured(fit):
    """Return what a fit returns, and its wall and processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    model = fit()
    return model, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def run(name, seed, rank, size, **params):
    make, log, split, metric = TASKS[name]
    X, y = (np.asarray(part) for part in fetch_movielens(log, return_X_y=True))
    train, (X_test, y_test) = split(X, y)
    score = metric or (lambda model, X, y: float(model.score(X)))
    model, one = make(random_state=seed, **params), None
    if rank == 0:  # the other process waits in the next fit, without work
        alone, one = measured(lambda: make(random_state=seed, **params).fit(*train))
        one["score"] = score(alone, X_test, y_test)
    together, cost = measured(lambda: fit_distributed(model, *train))
    mine = {"cpu": cost["cpu"], "wall": cost["wall"], "score": score(together, X_test, y_test)}
    return one, mine


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-epochs", type=int, help="for all models; default: their own")
    args = parser.parse_args()
    params = {} if args.max_epochs is None else {"max_epochs": args.max_epochs}
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo")
    for name in args.models:
        run(name, 0, rank, size, max_epochs=1)  # compiles, and reads files
        ratios = []
        for seed in range(args.seeds):
            one, mine = run(name, seed, rank, size, **params)
            every = [None] * size
            dist.all_gather_object(every, mine)
            if rank:
                continue
            cpu = max(each["cpu"] for each in every)
            ratios.append(one["cpu"] / cpu)
            row = {
                "model": name,
                "seed": seed,
                "processes": size,
                "one_cpu_s": round(one["cpu"], 3),
                "cpu_s_of_slowest": round(cpu, 3),
                "cpu_ratio": round(ratios[-1], 3),
                "one_wall_s": round(one["wall"], 3),
                # The wall time of the first process: the others have waited for its fit alone.
                "wall_s": round(every[0]["wall"], 3),
                "one_score": round(one["score"], 5),
                "scores": [round(each["score"], 5) for each in every],
            }
            print(json.dumps(row), flush=True)
        if not rank:
            print(json.dumps({"model": name, "median_cpu_ratio": statistics.median(ratios)}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
