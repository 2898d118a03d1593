"""What people buy in a coming week, ranked by habits and by other models.

    python benchmarks/groceries/bench_groceries.py
    python benchmarks/groceries/bench_groceries.py --warm-up 0.5 --only "MF with habits"
    python benchmarks/groceries/bench_groceries.py --data online-retail
    python benchmarks/groceries/bench_groceries.py --part validation --households 50 --seeds 0

The first three quarters of the purchases are fitted, then week after week is predicted and learned:
a top 10 of the whole catalogue for everyone who buys in the week. NDCG@10 of lists that may hold
what was bought before ("all"), of the same lists where only what was bought before counts
("repeats"), and of lists without it, where only what is new to the household counts ("new").
`--part validation` does so in the five weeks before, with nothing of the later ones.

A JSON line a model, then one for each pair of models that are compared: the mean difference of
their lists, with the 95 % interval of a bootstrap over households. Values are means over the seeds;
models that draw nothing run once. Seconds are of the CPU, on one thread, without compilation.
`--keep` names a folder in which the values of all lists are kept, and found again.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np
from sklearn.base import clone

from benchmarks.common.events import load
from benchmarks.common.params import add_params_option
from benchmarks.groceries import next_basket
from benchmarks.groceries.walk import KINDS, WEEK, Followed, Walk, interval
from sklearn_recft import (
    EASERecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import load_complete_journey

SEEDS = (0, 1, 2)
GROCERIES, RETAIL = "complete-journey", "online-retail"
VALIDATION_WEEKS = 5
LEARNING = {"partial_fit": "learning", "never": "static", "refit": "refitted"}


def factors(**params):
    """Return the factorization of `recft demo`."""
    return IncrementalMFRecommender(loss="bpr", max_epochs=20, half_life=28, **params)


def softmax(**params):
    return IncrementalMFRecommender(loss="softmax", reg=0.05, **params)


MODELS = {
    "popularity": PopularityRecommender(),
    "popularity, half_life=28": PopularityRecommender(half_life=28),
    "own favourites": HabitRecommender(habit_half_life=None, item_weights=False),
    "fading favourites": HabitRecommender(item_weights=False),
    "HabitRecommender": HabitRecommender(),
    "MF": factors(),
    "MF with habits": factors(habit_half_life=90),
    "softmax": softmax(half_life=28),
    "softmax with habits": softmax(half_life=28, habit_half_life=90),
    "ItemKNN": ItemKNNRecommender(),
}
PEERS = {  # models of Cornac, which are fitted anew
    "TIFU-KNN": next_basket.TIFUKNN(),
    "UP-CF": next_basket.UPCF(),
}
OF_RETAIL = {  # the settings of the softmax are those chosen in `benchmarks/softmax`
    "softmax": softmax(half_life=7),
    "softmax with habits": softmax(half_life=7, habit_half_life=90, popularity_weight=4),
    "EASE": EASERecommender(),
}
PAIRS = (
    (("MF with habits", "partial_fit"), ("MF with habits", "never")),
    (("MF with habits", "partial_fit"), ("MF with habits", "refit")),
    (("HabitRecommender", "partial_fit"), ("HabitRecommender", "never")),
    (("HabitRecommender", "partial_fit"), ("own favourites", "partial_fit")),
    *(
        ((name, "partial_fit"), (other, "partial_fit"))
        for name in ("MF with habits", "softmax with habits")
        for other in ("HabitRecommender", "own favourites")
    ),
    *(
        ((name, "partial_fit"), ("popularity, half_life=28", "partial_fit"))
        for name in ("MF", "MF with habits", "softmax", "ItemKNN", "EASE")
    ),
    (("EASE", "partial_fit"), ("HabitRecommender", "partial_fit")),
    *(
        ((name, "partial_fit"), (peer, "refit"))
        for name in ("HabitRecommender", "MF with habits")
        for peer in PEERS
    ),
)


def purchases(data: str) -> np.ndarray:
    """Return the purchases of a data set in the order of time."""
    if data == GROCERIES:
        X = load_complete_journey().data
    else:
        frame = load(data)
        item = np.unique(frame["item_id"], return_inverse=True)[1]
        X = np.column_stack([frame["user_id"], item, frame["timestamp"]]).astype(np.int64)
    return X[np.argsort(X[:, 2], kind="stable")]


def walk_of(X: np.ndarray, options) -> Walk:
    """Return the walk of the chosen part of the log."""
    begin = int(options.warm_up * len(X))
    if options.part == "test":
        return Walk(X, begin)
    first = np.searchsorted(X[:, 2], X[begin, 2] - VALIDATION_WEEKS * WEEK)
    return Walk(X, int(first), begin)


def run(walk: Walk, name: str, model, learn: str, options) -> list[Followed]:
    """Follow the walk with each seed, or find what was kept of it."""
    seeds = options.seeds if "random_state" in model.get_params() else options.seeds[:1]
    runs = []
    for seed in seeds:
        kept = (
            options.keep
            and not options.params
            and Path(
                options.keep,
                f"{options.data}_{options.part}_{options.warm_up}_{name}_{learn}_{seed}.npz",
            )
        )
        if kept and kept.exists():
            with np.load(kept) as arrays:
                values = {kind: arrays[kind] for kind in (*KINDS, "recall")}
                runs.append(Followed(values, *arrays["seconds"].tolist()))
            continue
        mine = clone(model).set_params(**options.params)
        if "random_state" in model.get_params():
            mine.set_params(random_state=seed)
        if learn == "partial_fit":
            few = walk.X[: min(1000, walk.bounds[0])]
            clone(mine).fit(few[:-10]).partial_fit(few[-10:])  # compiles
        followed = walk.follow(mine, learn)
        runs.append(followed)
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            seconds = [followed.fit_seconds, followed.learn_seconds]
            np.savez_compressed(kept, seconds=seconds, **followed.values)
    return runs


def line_of(name: str, learn: str, runs: list[Followed]) -> dict:
    """Return the figures of a model."""
    found = {f"ndcg@10 {kind}": [run.values[kind].mean() for run in runs] for kind in KINDS} | {
        "recall@10": [run.values["recall"].mean() for run in runs]
    }
    line = {"model": name, "learning": LEARNING[learn], "seeds": len(runs)}
    line |= {metric: round(float(np.mean(values)), 4) for metric, values in found.items()}
    line["spread"] = round(float(np.ptp(found["ndcg@10 all"])), 4)
    for what in ("fit_seconds", "learn_seconds"):
        line[what] = round(float(np.mean([getattr(run, what) for run in runs])), 2)
    return line


def difference(walk: Walk, kind: str, mine: list[Followed], other: list[Followed]) -> dict:
    """Return the mean difference of lists, and its interval."""
    values = (
        np.mean([run.values[kind] for run in mine], axis=0)
        - np.mean([run.values[kind] for run in other], axis=0)
    )  # fmt: skip
    ends = interval(values, walk.users[kind])
    return {kind: [round(float(value), 4) for value in (values.mean(), *ends)]}


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=(GROCERIES, RETAIL), default=GROCERIES)
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", help="names of models")
    parser.add_argument("--learn", nargs="+", choices=list(LEARNING), default=["partial_fit"])
    parser.add_argument("--warm-up", type=float, default=0.75, help="share of rows that is fitted")
    parser.add_argument("--households", type=int, help="the first so many alone")
    add_params_option(parser)
    parser.add_argument("--keep", help="folder of what was found before")
    return parser


def main(argv=None):
    options = parser().parse_args(argv)
    X = purchases(options.data)
    X = X[np.isin(X[:, 0], np.unique(X[:, 0])[: options.households])]
    walk = walk_of(X, options)
    models = MODELS | (OF_RETAIL if options.data == RETAIL else {}) | PEERS
    print(json.dumps({"lists": {kind: len(users) for kind, users in walk.users.items()}}))
    found = {}
    has_peers = importlib.util.find_spec("cornac") is not None
    for name in options.only or [name for name in models if has_peers or name not in PEERS]:
        for learn in options.learn if hasattr(models[name], "partial_fit") else ["refit"]:
            found[name, learn] = run(walk, name, models[name], learn, options)
            print(json.dumps(line_of(name, learn, found[name, learn])), flush=True)
    for mine, other in PAIRS:
        if mine in found and other in found:
            names = [f"{name}, {LEARNING[learn]}" for name, learn in (mine, other)]
            line = {"model": names[0], "minus": names[1]}
            for kind in KINDS:
                line |= difference(walk, kind, found[mine], found[other])
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
