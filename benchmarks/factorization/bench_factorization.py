"""Accuracy, freshness and cost of IncrementalMFRecommender with its defaults, a JSON line a row.

    python benchmarks/factorization/bench_factorization.py
    python benchmarks/factorization/bench_factorization.py --task chunks events --data ml-1m

Tasks. fit: random 90/10 (ML-1M) and 5 folds (ML-100K), RMSE and seconds. chunks: the second half
of the timeline in 30 chunks, each predicted, then learned: never updated, updated, refitted from
nothing. events: one pass over the whole timeline, every row predicted, then learned; then calls
of 100 rows and of one. positives: ratings of 5 only, the first 30 % fitted, then for every event a
top 10 of all items but the user's own, then the event is learned. growth: 10,000 calls of 100 rows
with ever-new users. Compilation is done beforehand, on a small problem, and not timed.
"""

import argparse
import json
import pickle
import time

import numpy as np
from sklearn.model_selection import KFold

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens

SEEDS = (0, 1, 2)
N_CHUNKS = 30


def rmse(y, z):
    return float(np.sqrt(np.mean((y - z) ** 2)))


def log_in_time(name):
    X, y = fetch_movielens(name.removeprefix("ml-"), return_X_y=True)
    X, y = np.asarray(X), np.asarray(y, dtype=float)
    order = np.argsort(X[:, 2], kind="stable")
    return X[order], y[order]


def row(task, data, model, **figures):
    line = {"task": task, "data": data, "model": model}
    rounded = {k: round(v, 5) if isinstance(v, float) else v for k, v in figures.items()}
    print(json.dumps(line | rounded), flush=True)


def spread(values):
    return {"median": float(np.median(values)), "spread": float(np.ptp(values))}


def compile_everything():
    X, y = np.c_[np.arange(60) % 7, np.arange(60) % 11, np.arange(60)], np.arange(60) % 5 + 1.0
    for loss in ("squared_error", "bpr"):
        model = IncrementalMFRecommender(loss=loss, max_epochs=1, n_jobs=2).fit(X, y)
        model.partial_fit(X + 5, y).partial_fit_predict(X, y)
        model.recommend(X[:3, 0], n_recommendations=1, exclude_seen=False)


def fit(name):
    X, y = fetch_movielens(name.removeprefix("ml-"), return_X_y=True)
    X, y = np.asarray(X), np.asarray(y, dtype=float)
    if name == "ml-1m":
        order = np.random.RandomState(0).permutation(len(y))
        splits = [np.split(order, [int(0.9 * len(y))])]
    else:
        splits = list(KFold(5, shuffle=True, random_state=0).split(X))
    for n_jobs in (None, 2):
        scores, seconds = [], []
        for seed in SEEDS:
            folds = []
            for train, test in splits:
                model = IncrementalMFRecommender(n_jobs=n_jobs, random_state=seed)
                start = time.perf_counter()
                model.fit(X[train], y[train])
                seconds.append(time.perf_counter() - start)
                folds.append(rmse(y[test], model.predict(X[test])))
            scores.append(np.mean(folds))
        found = spread(scores)
        row("fit", name, f"IncrementalMFRecommender(n_jobs={n_jobs})", rmse=found["median"],
            rmse_spread=found["spread"], fit_seconds=float(np.median(seconds)))  # fmt: skip


def chunks(name):
    X, y = log_in_time(name)
    half = len(y) // 2
    parts = np.array_split(np.arange(half, len(y)), N_CHUNKS)
    for how in ("never", "partial_fit", "refit"):
        scores, seconds, forgot = [], [], []
        for seed in SEEDS if how != "refit" else SEEDS[:1]:
            keep = np.random.RandomState(seed).rand(half) >= 0.05
            held_X, held_y = X[:half][~keep], y[:half][~keep]
            model = IncrementalMFRecommender(n_jobs=2, random_state=seed)
            model.fit(X[:half][keep], y[:half][keep])
            before = rmse(held_y, model.predict(held_X))
            predicted, learning = [], 0.0
            for part in parts:
                if how == "refit":
                    start = time.perf_counter()
                    known = np.r_[np.flatnonzero(keep), np.arange(half, part[0])]
                    model.fit(X[known], y[known])
                    learning += time.perf_counter() - start
                predicted.append(model.predict(X[part]))
                if how == "partial_fit":
                    start = time.perf_counter()
                    model.partial_fit(X[part], y[part])
                    learning += time.perf_counter() - start
            scores.append(rmse(y[half:], np.concatenate(predicted)))
            seconds.append(learning)
            forgot.append(rmse(held_y, model.predict(held_X)) - before)
        found = spread(scores)
        row("chunks", name, how, rmse=found["median"], rmse_spread=found["spread"],
            learn_seconds=float(np.median(seconds)),
            held_out_old_rmse_change=float(np.median(forgot)))  # fmt: skip


def events(name):
    X, y = log_in_time(name)
    half, runs = len(y) // 2, []
    for seed in SEEDS:
        start = time.perf_counter()
        z = IncrementalMFRecommender(random_state=seed).partial_fit_predict(X, y)
        rate = len(y) / (time.perf_counter() - start)
        runs.append((rmse(y, z), np.abs(y - z).mean(), rmse(y[half:], z[half:]), rate))
    middle, width = np.median(runs, axis=0), np.ptp(runs, axis=0)
    row("events", name, "partial_fit_predict, one call", rmse=middle[0], rmse_spread=width[0],
        mae=middle[1], rmse_second_half=middle[2], events_per_second=int(middle[3]))  # fmt: skip
    model = IncrementalMFRecommender(random_state=0)
    model.partial_fit_predict(X[:half], y[:half])
    for step, n_calls in ((100, 200), (1, 4000)):
        rows = np.arange(half, half + step * n_calls).reshape(n_calls, step)
        seconds = []
        for part in rows:
            start = time.perf_counter()
            model.partial_fit_predict(X[part], y[part])
            seconds.append(time.perf_counter() - start)
        row("events", name, f"partial_fit_predict, {step} a call",
            events_per_second=int(step / np.median(seconds)),
            milliseconds_99=float(np.quantile(seconds, 0.99) * 1e3))  # fmt: skip
        half = rows[-1, -1] + 1


def positives(name):
    X, y = log_in_time(name)
    X = X[y == 5]
    start, n = int(0.3 * len(X)), len(X)
    contenders = {
        "PopularityRecommender()": PopularityRecommender(),
        "PopularityRecommender(half_life=60)": PopularityRecommender(half_life=60),
        "bpr": IncrementalMFRecommender(loss="bpr", random_state=0),
    }
    for label, model in contenders.items():
        model.fit(X[:start])
        learn = getattr(model, "partial_fit_predict", model.partial_fit)
        clock, hits = time.perf_counter(), 0
        for j in range(start, n):
            items, _ = model.recommend(X[j : j + 1, 0])
            hits += int(X[j, 1] in items[0])
            learn(X[j : j + 1])
        seconds = time.perf_counter() - clock
        row("positives", name, label, recall_at_10=hits / (n - start), events=n - start,
            milliseconds_per_event=1e3 * seconds / (n - start))  # fmt: skip


def growth(_):
    rng, model = np.random.default_rng(0), IncrementalMFRecommender(random_state=0)
    calls, per_call, milliseconds = 10_000, 100, []
    X = np.c_[np.arange(per_call), np.arange(per_call) % 97]
    model.fit(X, np.ones(per_call))
    marks = {}
    for call in range(1, calls + 1):
        X = np.c_[call * per_call + np.arange(per_call), rng.integers(0, 1000, per_call)]
        y = rng.integers(1, 6, per_call).astype(float)
        start = time.perf_counter()
        model.partial_fit(X, y)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        if call in (calls // 10, calls):
            tables = sum(a.nbytes for a in model.module_.arrays().values())
            marks[call] = (len(pickle.dumps(model)) - tables, model.n_users_)
    tenth = calls // 10
    row("growth", "synthetic", "partial_fit, 100 new users a call", n_users=model.n_users_,
        first_tenth_ms=float(np.median(milliseconds[:tenth])),
        last_tenth_ms=float(np.median(milliseconds[-tenth:])),
        first_tenth_bytes_per_user=marks[tenth][0] / marks[tenth][1],
        last_tenth_bytes_per_user=marks[calls][0] / marks[calls][1])  # fmt: skip


TASKS = {f.__name__: f for f in (fit, chunks, events, positives, growth)}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--data", nargs="+", choices=("ml-100k", "ml-1m"), default=None)
    options = parser.parse_args(argv)
    compile_everything()
    for task in options.task:
        names = ["ml-1m"] if task in ("chunks", "positives", "growth") else ["ml-100k", "ml-1m"]
        for name in options.data or names:
            TASKS[task](name)


if __name__ == "__main__":
    main()
