"""Measure size, speed and quality of compressed models, one JSON line per row.

    python benchmarks/compression/bench_compression.py --task quality
    python benchmarks/compression/bench_compression.py --task speed

quality, MovieLens 1M. Models are fitted to the first 90 % of the timeline, the transformer to the
newest 120,000 of these events. Each fitted model is compressed. Overlap: how many of the ten items
of a list of the model in full are in the list of the compressed one, mean over all users of the
test rows. NDCG@10 over the whole catalogue without seen items, and RMSE of ratings, on the last
10 %. Bytes of the factor tables (of the catalogue of the transformer), of all arrays of the state,
and of the saved folder. CPU time of `recommend` in turns with the model in full: medians of the
ratios of 256 users at once, and of one user.

speed, synthetic. The same times for a factorization of 1 million items with 64 factors.
"""

import argparse
import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np

from benchmarks.common.report import row
from sklearn_recft import (
    ALSRecommender,
    IncrementalMFRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.compression import compress, model_bytes
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit
from sklearn_recft.persistence import inspect, save

N_NEWEST = 120_000  # events of the transformer's fit
TABLES = ("float32", "float16", "bfloat16", "int8")
FACTORS = ("user_factors", "item_factors", "input_factors", "catalogue", "embedding")


def models(seed):
    """Return the models, with whether they read ratings and the number of events they fit."""
    return {
        "MF": (IncrementalMFRecommender(random_state=seed), True, None),
        "MF bpr": (IncrementalMFRecommender(loss="bpr", random_state=seed), False, None),
        "MF softmax": (
            IncrementalMFRecommender(loss="softmax", half_life=30, random_state=seed),
            False,
            None,
        ),
        "ALS": (ALSRecommender(random_state=seed), False, None),
        "Transformer": (
            RealtimeTransformerRecommender(backbone=None, max_epochs=2, random_state=seed),
            False,
            N_NEWEST,
        ),
    }


def bench_quality(args):
    """Compress models of MovieLens 1M."""
    X, y = fetch_movielens("1m", return_X_y=True)
    train, test = next(TemporalSplit(n_splits=1, test_size=0.1).split(X))
    scorer = make_ranking_scorer("ndcg", k=10)
    for name, (model, rated, newest) in models(args.seed).items():
        if args.models and name not in args.models:
            continue
        rows = train if newest is None else train[-newest:]
        model.fit(*((X[rows], y[rows]) if rated else (X[rows],)))
        users = np.unique(X[test, 0])[: args.n_users]
        own = test[np.isin(X[test, 0], users)]
        full = model.recommend(users)[0]
        for tables in args.tables:
            small = model if tables == "float32" else compress(model, tables=tables)
            found = small.recommend(users)[0]
            figures = {
                "overlap": overlap_of(full, found),
                "ndcg": scorer(small, X[own]),
                "bytes_state": model_bytes(small),
                **saved_bytes(small),
                **speeds(model, small, users, args.n_pairs),
            }
            if rated:
                figures["rmse"] = float(np.sqrt(np.mean((y[own] - small.predict(X[own])) ** 2)))
            row(
                "quality", "ml-1m", name, tables=tables, n_users=len(users), seed=args.seed,
                **figures,
            )  # fmt: skip


def overlap_of(lists, others):
    """Share of the ten items of a list that are in the other list, mean over users."""
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(lists, others, strict=True)])


def saved_bytes(model):
    """Bytes of a saved folder, and of the factors in it."""
    with TemporaryDirectory() as folder:
        save(model, Path(folder, "model"))
        found = inspect(Path(folder, "model"))
    tables = sum(
        np.dtype(kind).itemsize * int(np.prod(shape))
        for name, (kind, shape) in found.arrays.items()
        if any(part in name for part in FACTORS) and "optimizer" not in name
    )
    return {"bytes_tables": tables, "bytes_saved": sum(found.sizes.values())}


def speeds(full, small, users, n_pairs):
    """Speed of `recommend` as a multiple of that of the model in full, medians of pairs."""
    rng, ratios = np.random.default_rng(0), {}
    for size, n_calls in ((256, 1), (1, 8)):
        pairs = []
        for _ in range(n_pairs):
            asked = [rng.choice(users, size) for _ in range(n_calls)]
            pairs.append([cpu_of(model, asked) for model in (full, small)])
        pairs = np.array(pairs)
        ratios[f"speed_{size}"] = float(np.median(pairs[:, 0] / pairs[:, 1]))
        ratios[f"ms_{size}"] = float(np.median(pairs[:, 1]) / n_calls * 1000)
    return ratios


def cpu_of(model, asked):
    """CPU seconds of lists of users."""
    start = process_time()
    for users in asked:
        model.recommend(users)
    return process_time() - start


def bench_speed(args):
    """Time lists of a catalogue of 1 million items."""
    n_items, n_users, rng = 1_000_000, 2_000, np.random.default_rng(args.seed)
    X = np.column_stack([np.arange(n_items) % n_users, np.arange(n_items)])
    model = IncrementalMFRecommender(max_epochs=1, random_state=0).fit(X)
    arrays = model.module_.arrays()
    for name in ("user_factors", "item_factors", "item_bias"):
        arrays[name][:] = rng.standard_normal(arrays[name].shape, np.float32)
    users = np.arange(n_users)
    asked = rng.choice(users, 256, replace=False)
    full = model.recommend(asked)[0]
    for tables in args.tables:
        small = copy.deepcopy(model) if tables == "float32" else compress(model, tables=tables)
        found = small.recommend(asked)[0]
        row(
            "speed", "synthetic", "MF", tables=tables, n_items=n_items,
            overlap=overlap_of(full, found), bytes_state=model_bytes(small), **saved_bytes(small),
            **speeds(model, small, users, args.n_pairs),
        )  # fmt: skip


def main():
    """Run a task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=["quality", "speed"], required=True)
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--tables", nargs="*", default=TABLES, choices=TABLES)
    parser.add_argument("--n-users", type=int, default=None)
    parser.add_argument("--n-pairs", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    (bench_quality if args.task == "quality" else bench_speed)(args)


if __name__ == "__main__":
    main()
