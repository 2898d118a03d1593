"""`recft warm-up`: compile the loops of all estimators before the first request needs them."""

from __future__ import annotations

import argparse
import warnings
from time import perf_counter
from typing import Any

import sklearn_recft
from sklearn_recft.datasets import make_interactions
from sklearn_recft.kernels import update_topk

# Constructor arguments and the kind of feedback: the loops differ by loss.
_RUNS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("PopularityRecommender", {}, "none"),
    ("BiasRecommender", {}, "rating"),
    ("ItemKNNRecommender", {}, "none"),
    ("RP3BetaRecommender", {}, "none"),
    ("SequentialRulesRecommender", {}, "none"),
    ("EASERecommender", {}, "none"),
    ("ALSRecommender", {}, "none"),
    ("HabitRecommender", {}, "none"),
    ("BayesianMFRecommender", {}, "rating"),
    ("BayesianMFClassifier", {}, "click"),
    ("IncrementalMFRecommender", {}, "rating"),
    ("IncrementalMFRecommender", {"loss": "bpr"}, "none"),
    ("IncrementalMFRecommender", {"loss": "softmax"}, "none"),
    ("IncrementalMFClassifier", {}, "click"),
    ("IncrementalDCNRecommender", {}, "rating"),
    ("IncrementalDCNClassifier", {}, "click"),
    ("RealtimeTransformerRecommender", {"max_epochs": 1}, "none"),
    ("DecayBertRecommender", {"backbone": None}, "click"),
    ("AdaptiveRecommender", {}, "none"),
)
NAMES = tuple(dict.fromkeys(name for name, *_ in _RUNS))


def add_warm_up(add: Any, output: argparse.ArgumentParser) -> None:
    """Add the command; ``add(name, run, about, *parents)`` makes one."""
    command = add("warm-up", warm_up, "compile loops now, not at the first call", output)
    command.add_argument(
        "--only",
        nargs="+",
        choices=NAMES,
        metavar="ESTIMATOR",
        default=NAMES,
        help="estimators to compile for; default: all",
    )


def warm_up(args: argparse.Namespace) -> dict[str, Any]:
    """Call the methods of each estimator on a small log; numba stores what it compiles."""
    clock, folder = perf_counter(), update_topk.stats.cache_path
    if folder is None:
        raise OSError("No directory for compiled loops can be written; set NUMBA_CACHE_DIR to one.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, options, kind in _RUNS:
            if name in args.only:
                _call(name, options, kind)
    n = len(set(args.only))
    text = f"Compiled loops of {n} estimator{'s' * (n > 1)} are in {folder}."
    return {"text": text, "folder": folder, "seconds": perf_counter() - clock}


def _make(name: str, options: dict[str, Any]) -> Any:
    if name == "AdaptiveRecommender":
        members = ("PopularityRecommender", "HabitRecommender")
        options = {"estimators": [(m, getattr(sklearn_recft, m)()) for m in members]}
    return getattr(sklearn_recft, name)(**options)


def _call(name: str, options: dict[str, Any], kind: str) -> None:
    """Fit, update and query one model."""
    model = _make(name, options)
    X, ratings = make_interactions(100, 50, 1000, random_state=0, return_X_y=True)
    y = {"none": None, "rating": ratings, "click": (ratings > 3).astype(int)}[kind]
    past, new = slice(0, 900), slice(900, 1000)
    model.fit(X[past], None if y is None else y[past])
    model.predict(X[new])
    model.recommend(X[:5, 0], n_recommendations=5)
    for verb in ("partial_fit", "observe"):
        if hasattr(model, verb):
            getattr(model, verb)(X[new], None if y is None else y[new])
    user, item, seconds = X[-1].tolist()
    events, target = model.stream(), None if y is None else y[-1].item()
    events.predict_one(user, item, timestamp=seconds)
    events.predict_learn_one(user, item, target, timestamp=seconds)
    model.recommend(X[:5, 0], n_recommendations=5)
