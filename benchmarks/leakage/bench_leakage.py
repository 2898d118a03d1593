"""Measure how much better a recommender looks with data from the future, one JSON line per row.

    python benchmarks/leakage/bench_leakage.py

MovieLens 1M. Tasks. split: the same models under a random 90/10 split, with the last event of
every user left out, and on the last 10 % of the timeline. same_rows: a random half of the last
10 %, predicted by models that know the past only, or the other half of the last 10 % too in place
of as many rows of the past. counts: popularity counted before the split, or over the whole log.
ties: the last event of every user left out, rows of the same second in the order of the log or in
reverse. RMSE for stars; for top 10 lists NDCG@10 where every rating is a positive, of the whole
catalogue except items seen in training, over all users with test rows.
"""

import argparse
import json

import numpy as np
from sklearn.metrics import root_mean_squared_error

from sklearn_recft import (
    BiasRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import LeaveLastOut, TemporalSplit

SEEDS = (0, 1, 2)
NDCG = make_ranking_scorer("ndcg", k=10)


def raters(seed):
    """Models of stars."""
    return {
        "BiasRecommender": BiasRecommender(),
        "IncrementalMFRecommender": IncrementalMFRecommender(random_state=seed),
    }


def rankers(seed):
    """Models of top 10 lists."""
    return {
        "PopularityRecommender": PopularityRecommender(),
        "PopularityRecommender(window=7)": PopularityRecommender(window=7),
        "ItemKNNRecommender": ItemKNNRecommender(n_neighbors=300, similarity="cosine", n_jobs=-1),
        "EASERecommender": EASERecommender(reg=500, n_jobs=-1),
        "IncrementalMFRecommender(loss='bpr')": IncrementalMFRecommender(
            loss="bpr", random_state=seed
        ),
    }


def evaluate(X, y, train, test, seed, drawn_only=False):
    """RMSE and NDCG@10 of every model that was fitted on `train`, or of those that draw."""

    def drawn(models):
        return [m for m in models.items() if not drawn_only or hasattr(m[1], "random_state")]

    found = {}
    for name, model in drawn(raters(seed)):
        predicted = model.fit(X[train], y[train]).predict(X[test])
        found[name, "rmse"] = root_mean_squared_error(y[test], predicted)
    for name, model in drawn(rankers(seed)):
        found[name, "ndcg@10"] = NDCG(model.fit(X[train]), X[test])
    return found


def evaluate_seeds(X, y, train, test):
    """Evaluate on rows that do not depend on the seed."""
    return [evaluate(X, y, train, test, seed, drawn_only=seed != SEEDS[0]) for seed in SEEDS]


def report(task, how, runs):
    """Print the median over the seeds of every figure, and how far the seeds lie apart."""
    for model, metric in runs[0]:
        values = [run[model, metric] for run in runs if (model, metric) in run]
        line = {"task": task, "how": how, "model": model, "metric": metric}
        figures = {"median": float(np.median(values)), "spread": float(np.ptp(values))}
        print(json.dumps(line | {k: round(v, 4) for k, v in figures.items()}), flush=True)


def split(X, y):
    n = len(y)
    random = (np.split(np.random.RandomState(seed).permutation(n), [9 * n // 10]) for seed in SEEDS)
    report("split", "random 90/10", [evaluate(X, y, *s, i) for i, s in enumerate(random)])
    for how, splitter in {
        "last event of every user": LeaveLastOut(),
        "last 10 % of the timeline": TemporalSplit(1, test_size=0.1),
    }.items():
        [(train, test)] = splitter.split(X)
        report("split", how, evaluate_seeds(X, y, train, test))


def same_rows(X, y):
    [(past, last)] = TemporalSplit(1, test_size=0.1).split(X)
    runs = {"the past only": [], "as many rows, some later": []}
    for seed in SEEDS:
        rng = np.random.RandomState(seed)
        test, others = np.array_split(rng.permutation(last), 2)
        kept = rng.permutation(past)[len(others) :]
        runs["the past only"].append(evaluate(X, y, past, test, seed))
        runs["as many rows, some later"].append(evaluate(X, y, np.r_[kept, others], test, seed))
    for how, found in runs.items():
        report("same_rows", how, found)


def counts(X, y):
    [(past, last)] = TemporalSplit(1, test_size=0.1).split(X)
    of_nobody = X[last].copy()
    of_nobody[:, 0] = -1  # counted, but seen by none of the users
    for how, rows in {
        "before the split": X[past],
        "over the whole log": np.r_[X[past], of_nobody],
    }.items():
        ndcg = NDCG(PopularityRecommender().fit(rows), X[last])
        report("counts", how, [{("PopularityRecommender", "ndcg@10"): ndcg}])


def ties(X, y):
    backwards = np.lexsort((-np.arange(len(y)), X[:, 2]))
    last = {}
    for how, order in {"of the log": np.arange(len(y)), "reversed": backwards}.items():
        [(train, test)] = LeaveLastOut().split(X[order])
        last[how] = dict(X[order[test]][:, :2].tolist())
        report("ties", f"order {how}", evaluate_seeds(X[order], y[order], train, test))
    changed = np.mean([last["of the log"][user] != item for user, item in last["reversed"].items()])
    line = {"task": "ties", "how": "users whose last event is another one"}
    print(json.dumps(line | {"share": round(float(changed), 4)}), flush=True)


TASKS = {f.__name__: f for f in (split, same_rows, counts, ties)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    options = parser.parse_args(argv)
    X, y = fetch_movielens("1m", return_X_y=True)
    order = np.argsort(X[:, 2], kind="stable")
    for task in options.task:
        TASKS[task](X[order], y[order])


if __name__ == "__main__":
    main()
