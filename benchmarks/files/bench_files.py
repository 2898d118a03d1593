"""Time and size of saved models, and damaged files; prints JSON lines.

"sizes" saves and loads models of MovieLens by `save`, by `save` with a key, and by pickle, in
turns; its floor reads and hashes the same files, and does nothing else. "mapped" loads a
factorization of 1 million items with 64 factors. "damage" loads files that are damaged in 19 ways,
and uses those that load. "sealed" loads encrypted files that are damaged in 13 ways.

    python benchmarks/files/bench_files.py --task sizes --dataset movielens-1m
    python benchmarks/files/bench_files.py --task mapped
    python benchmarks/files/bench_files.py --task damage --n 10000
    python benchmarks/files/bench_files.py --task sealed --n 10000
"""

import argparse
import collections
import hashlib
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.files.mutations import damage, outcome_of
from benchmarks.files.sealed_mutations import damage_sealed, outcome_of_sealed
from sklearn_recft import (
    ALSRecommender,
    BayesianMFRecommender,
    DecayBertRecommender,
    EASERecommender,
    HabitRecommender,
    IncrementalDCNRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    RP3BetaRecommender,
)
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.persistence import _sealed, load, save
from sklearn_recft.preprocessing import ActivityFeatures, PairMeans, SecretKey

N_ITEMS, N_FACTORS = 1_000_000, 64
KEY = SecretKey(b"a key of the benchmarks, 32 bytes")
SMALL = {"random_state": 0}
MODELS = {
    "MF": IncrementalMFRecommender(random_state=0),
    "MF softmax": IncrementalMFRecommender(loss="softmax", max_epochs=2, random_state=0),
    "EASE": EASERecommender(),
    "ItemKNN": ItemKNNRecommender(),
    "ALS": ALSRecommender(random_state=0),
    "Popularity": PopularityRecommender(),
}
NETS = {"max_epochs": 1, "net_params": {"batch_size": 128}, **SMALL}
DAMAGED = {
    "MF": IncrementalMFRecommender(n_factors=4, max_epochs=2, replay_size=50, **SMALL),
    "MF follow": IncrementalMFRecommender(n_factors=4, max_epochs=2, drift="follow", **SMALL),
    "MF softmax": IncrementalMFRecommender(
        n_factors=4, max_epochs=2, loss="softmax", history_half_life=2, habit_half_life=9, **SMALL
    ),
    "MF adam": IncrementalMFRecommender(n_factors=4, solver="adam", **NETS),
    "EASE": EASERecommender(reg=5.0),
    "ItemKNN": ItemKNNRecommender(),
    "RP3Beta": RP3BetaRecommender(n_neighbors=10),
    "ALS": ALSRecommender(n_factors=4, **SMALL),
    "Habit": HabitRecommender(),
    "BayesianMF": BayesianMFRecommender(n_factors=4, **SMALL),
    "DCN": IncrementalDCNRecommender(n_factors=4, **NETS),
    "DecayBert": DecayBertRecommender(None, width=8, n_factors=4, max_history=10, **NETS),
    "Transformer": RealtimeTransformerRecommender(width=8, max_history=10, **NETS),
    "ActivityFeatures": ActivityFeatures(),
    "PairMeans": PairMeans(),
}


def timed(call):
    """Return the result of a call, its CPU seconds and its wall seconds."""
    cpu, wall = process_time(), perf_counter()
    found = call()
    return found, process_time() - cpu, perf_counter() - wall


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).iterdir())


def bench_sizes(args):
    """Save and load each model by both formats, in turns; ratios are medians of pairs."""
    X, y = fetch_movielens(args.dataset.removeprefix("movielens-"), return_X_y=True)
    for name, model in MODELS.items():
        model.fit(X, None if "softmax" in name else y)
        with TemporaryDirectory() as folder:
            pairs, found = _measured(model, X, Path(folder), args.n_pairs)
        found = {"model": name, **found}
        for verb, times in pairs.items():
            cpu, _, pickle_cpu, _ = np.median(times, axis=0)
            ratios = np.array([[row[0] / row[2]] for row in times])
            found |= {
                f"{verb}_cpu_s": round(float(cpu), 4),
                f"pickle_{verb}_cpu_s": round(float(pickle_cpu), 4),
                f"{verb}_ratio": round(float(np.median(ratios)), 3),
            }
        found["size_ratio"] = round(found["bytes"] / found["pickle_bytes"], 3)
        report({"task": "sizes", "dataset": args.dataset, **found})


def _measured(model, X, folder, n_pairs):
    """Return CPU and wall seconds by verb, ours and those of pickle, and the bytes of both."""
    ours, sealed, theirs = folder / "model", folder / "sealed", folder / "pickle"

    def dump():
        theirs.write_bytes(pickle.dumps(model))

    pairs = collections.defaultdict(list)
    for _ in range(n_pairs):
        shutil.rmtree(ours, ignore_errors=True)
        shutil.rmtree(sealed, ignore_errors=True)
        times, dumped = timed(lambda: save(model, ours))[1:], timed(dump)[1:]
        pairs["save"].append([*times, *dumped])
        pairs["sealed_save"].append([*timed(lambda: save(model, sealed, key=KEY))[1:], *dumped])
        twin, *times = timed(lambda: load(ours))
        other, *loaded = timed(lambda: pickle.loads(theirs.read_bytes()))
        pairs["load"].append([*times, *loaded])
        assert (twin.predict(X[:99]) == other.predict(X[:99])).all()
        pairs["sealed_load"].append([*timed(lambda: load(sealed, key=KEY))[1:], *loaded])
        pairs["floor"].append([*timed(lambda: hashed(ours))[1:], *loaded])
    return pairs, {"bytes": size_of(ours), "pickle_bytes": theirs.stat().st_size}


def hashed(folder):
    """Read and hash the files of a folder."""
    return [hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()]


def bench_mapped(args):
    """Load a large factorization, mapped and by pickle."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 1000, N_ITEMS)
    X = np.column_stack([users, np.arange(N_ITEMS)])
    model = IncrementalMFRecommender(n_factors=N_FACTORS, max_epochs=1, random_state=0).fit(X)
    with TemporaryDirectory() as folder:
        save(model, Path(folder, "model"))
        Path(folder, "pickle").write_bytes(pickle.dumps(model))
        rows = []
        for _ in range(args.n_pairs):
            mapped, *ours = timed(lambda: load(Path(folder, "model"), mmap=True))
            _, *read = timed(lambda: load(Path(folder, "model")))
            other, *theirs = timed(lambda: pickle.loads(Path(folder, "pickle").read_bytes()))
            assert (mapped.predict(X[:99]) == other.predict(X[:99])).all()
            rows.append([*ours, *read, *theirs])
        names = ("mapped", "read", "pickle")
        middle = np.median(rows, axis=0)
        found = {f"{n}_cpu_s": round(float(middle[2 * i]), 4) for i, n in enumerate(names)}
        found |= {f"{n}_wall_s": round(float(middle[2 * i + 1]), 4) for i, n in enumerate(names)}
        ratio = np.median([row[0] / row[4] for row in rows])
        report({"task": "mapped", "ratio": round(float(ratio), 4), **found})


def bench_damage(args):
    """Damage files of each model in turn; count what happens."""
    X, y = make_interactions(20, 25, 120, random_state=0, return_X_y=True)
    y = np.clip(np.round(y), 0, 5) / 5
    counts = {name: collections.Counter() for name in DAMAGED}
    wrong = []
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model in DAMAGED.items():
            save(model.fit(X, y > 0.5 if name == "DecayBert" else y), Path(folder, name))
        for seed in range(args.seed, args.seed + args.n):
            name = list(DAMAGED)[seed % len(DAMAGED)]
            done, refused = damage(Path(folder, name), Path(folder, "damaged"), seed)
            if done is None:
                counts[name]["same"] += 1
                continue
            found = outcome_of(Path(folder, "damaged"), lambda model: use(model, X, y))
            if found not in ("refused", "loaded") or (refused and found == "loaded"):
                wrong.append([name, seed, done, found])
                report({"task": "damage", "wrong": wrong[-1]})
            counts[name][found] += 1
            counts[name][f"{found}: {done.partition(',')[0]}"] += found == "loaded"
    for name, found in counts.items():
        report({"task": "damage", "model": name, **{k: n for k, n in found.items() if n}})
    total = sum(counts.values(), collections.Counter())
    report(
        {
            "task": "damage", "n": args.n, "refused": total["refused"], "loaded": total["loaded"],
            "same": total["same"], "wrong": len(wrong),
        }
    )  # fmt: skip


def bench_sealed(args):
    """Damage encrypted files; count what happens."""
    X, y = make_interactions(20, 25, 120, random_state=0, return_X_y=True)
    counts = collections.Counter()
    _sealed.SEGMENT = 200  # so that small files have many segments
    with TemporaryDirectory() as folder:
        sources = [Path(folder, name) for name in ("one", "other", "plain")]
        model = DAMAGED["MF"].fit(X, y)
        for source, key in zip(sources, (KEY, KEY, None), strict=True):
            save(model, source, key=key)
        for seed in range(args.seed, args.seed + args.n):
            done = damage_sealed(sources, Path(folder, "damaged"), seed, _sealed.SEGMENT)
            found = outcome_of_sealed(Path(folder, "damaged"), KEY) if done else "same"
            counts[found] += 1
            if found not in ("refused", "same"):
                report({"task": "sealed", "wrong": [seed, done, found]})
    report({"task": "sealed", "n": args.n, **counts})


def use(model, X, y):
    """Use a model that was loaded from a damaged file: any error will do, but no crash."""
    with np.errstate(all="ignore"):
        for call in _uses(model, X, y):
            try:
                call()
            except Exception as error:
                del error


def _uses(model, X, y):
    if hasattr(model, "transform"):
        return [lambda: model.transform(X), lambda: model.partial_fit(X, y)]
    return [
        lambda: model.predict(X),
        lambda: model.recommend([0, 1, 99], n_recommendations=3, on_missing="pad"),
        lambda: model.observe(X[:5], y[:5]),
        lambda: model.partial_fit(X[:20], y[:20]),
        lambda: model.recommend([0, 1, 99], n_recommendations=3, on_missing="pad"),
        lambda: model.forget([0]),
    ]


def report(found):
    print(json.dumps(found), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = {
        "sizes": bench_sizes, "mapped": bench_mapped, "damage": bench_damage,
        "sealed": bench_sealed,
    }  # fmt: skip
    parser.add_argument("--task", choices=list(tasks), default="sizes")
    parser.add_argument("--dataset", default="movielens-100k")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-pairs", type=int, default=5)
    args = parser.parse_args()
    tasks[args.task](args)


if __name__ == "__main__":
    main()
