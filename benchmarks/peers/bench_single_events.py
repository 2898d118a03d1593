"""One event a call, of every estimator with ``stream()``: microseconds of learning and answering.

    python benchmarks/peers/bench_single_events.py --data ml-100k

Each estimator is fitted to the first 30,000 ratings of the time line. The ratings that follow go
through ``stream()`` of one copy and, one row a call, through `partial_fit` of another; then the
last fitted ones, whose ids are known, through `predict` and `recommend`. river has the same events
where it has the like. Rounds alternate, and a
round has as many events as take 0.1 seconds, 3 to 500. Times are those of the processor. One JSON
line a configuration: medians over the rounds, and ratios within rounds.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from sklearn.base import is_classifier

import sklearn_recft.estimators
from benchmarks.peers.bench_peers import in_time_order
from sklearn_recft import IncrementalMFRecommender

N_FITTED, N_ROUNDS, SECONDS, LONGEST = 30_000, 5, 0.1, 500
# Options that only make the fit before the clock starts shorter, by the name of a parameter.
SHORT = {"max_epochs": 1, "backbone": None, "random_state": 0}
Step = Callable[[Any, Any, Any, Any], Any]


def configurations() -> dict[str, Any]:
    """Return every estimator that has ``stream`` and `partial_fit`, and the losses of one."""
    found = {}
    for name in sklearn_recft.estimators.__all__:
        cls = getattr(sklearn_recft.estimators, name)
        if not (inspect.isclass(cls) and hasattr(cls, "stream") and hasattr(cls, "partial_fit")):
            continue
        required = {"estimators": parts()} if name == "AdaptiveRecommender" else {}
        model = cls(**required)
        known = model.get_params(deep=False)
        found[name] = model.set_params(**{n: v for n, v in SHORT.items() if n in known})
    for loss in ("log_loss", "bpr", "softmax"):
        found[f"IncrementalMFRecommender, {loss}"] = IncrementalMFRecommender(
            loss=loss, max_epochs=1, random_state=0
        )
    return found


def parts() -> list[tuple[str, Any]]:
    """Return two recommenders to blend."""
    from sklearn_recft import PopularityRecommender

    factors = IncrementalMFRecommender(loss="softmax", max_epochs=1, random_state=0)
    return [("popularity", PopularityRecommender()), ("factors", factors)]


def feedback_of(model: Any, name: str, stars: np.ndarray) -> np.ndarray | None:
    """Return the feedback that the estimator learns from; None: every event is a positive."""
    if is_classifier(model) or name.endswith("log_loss"):
        return (stars > 3).astype(int)
    ranks = ("ALS", "EASE", "ItemKNN", "RP3", "Sequential", "Realtime", "Habit", "Adaptive")
    takes_none = name.startswith(ranks) or name.endswith(("bpr", "softmax"))
    return None if takes_none else stars


def by_stream(model: Any) -> dict[str, Step]:
    """Return the three calls of a stream."""
    events = model.stream()
    return {
        "learn": lambda u, i, y, t: events.learn_one(u, i, y, t),
        "predict": lambda u, i, y, t: events.predict_one(u, i, t),
        "recommend": lambda u, i, y, t: events.recommend_one(u, 10, timestamp=t),
    }


def by_rows(model: Any) -> dict[str, Step]:
    """Return the three calls of a recommender, on a row."""
    predict = model.predict_proba if is_classifier(model) else model.predict

    def learn(u: Any, i: Any, y: Any, t: Any) -> None:
        model.partial_fit([[u, i, t]], None if y is None else [y])

    return {
        "learn": learn,
        "predict": lambda u, i, y, t: predict([[u, i, t]]),
        "recommend": lambda u, i, y, t: model.recommend([[u, t]], n_recommendations=10),
    }


def by_river(name: str, X: np.ndarray, y: np.ndarray | None) -> dict[str, Step]:
    """Return the calls of river's model that does the like, taught what ours were fitted to."""
    from river import reco

    if name == "BiasRecommender":
        model: Any = reco.Baseline()
    elif name in ("IncrementalMFRecommender", "PopularityRecommender"):
        model = reco.BiasedMF(n_factors=64) if name[0] == "I" else reco.Baseline()
    else:
        return {}
    users, items = X[:, 0].tolist(), X[:, 1].tolist()
    for u, i, stars in zip(users, items, np.ones(len(X)) if y is None else y, strict=True):
        model.learn_one(u, i, stars)
    catalogue = sorted(set(items))
    return {
        "learn": lambda u, i, y, t: model.learn_one(u, i, y),
        "predict": lambda u, i, y, t: model.predict_one(u, i),
        "recommend": lambda u, i, y, t: model.rank(u, catalogue)[:10],
    }


def follow(step: Step, events: list[tuple[Any, ...]]) -> float:
    """Return microseconds an event."""
    begin = time.process_time()
    for event in events:
        step(*event)
    return (time.process_time() - begin) / len(events) * 1e6


def measure(name: str, model: Any, X: np.ndarray, stars: np.ndarray) -> dict[str, Any]:
    """Return the medians of a configuration."""
    y = feedback_of(model, name, stars)
    fitted = slice(None, N_FITTED)
    model.fit(X[fitted], None if y is None else y[fitted])
    sides = {"stream": by_stream(model), "rows": by_rows(copy.deepcopy(model))}
    sides["river"] = by_river(name, X[fitted], None if y is None else y[fitted])
    labels = [None] * len(X) if y is None else y.tolist()
    users, items, times = X.T.tolist()
    all_events = list(zip(users, items, labels, times, strict=True))
    record: dict[str, Any] = {"estimator": name}
    for verb in ("learn", "predict", "recommend"):
        events = all_events[N_FITTED - (0 if verb == "learn" else 5 * LONGEST + 3) :]
        taken: dict[str, list[float]] = {side: [] for side in sides if sides[side]}
        for side in taken:
            for event in events[:2]:  # imports and compilation
                sides[side][verb](*event)
        slow = follow(sides["rows"][verb], events[2:3])
        n = int(np.clip(SECONDS / slow * 1e6, 3, LONGEST))
        for nth in range(N_ROUNDS):
            some = events[3 + nth * n : 3 + (nth + 1) * n]
            for side, found in taken.items():
                found.append(follow(sides[side][verb], some))
        record[verb] = {side: round(median(found), 1) for side, found in taken.items()}
        record[verb]["n"] = n
        for side in taken.keys() - {"stream"}:
            ratios = [a / b for a, b in zip(taken[side], taken["stream"], strict=True)]
            record[verb][f"{side} ratio"] = round(median(ratios), 2)
    return record


def main() -> None:
    """Print a record of each configuration."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=["ml-100k", "ml-1m"], default="ml-100k")
    parser.add_argument("--only", nargs="+", default=[], help="names of configurations")
    options = parser.parse_args()
    X, stars = in_time_order(options.data, None)
    for name, model in configurations().items():
        if not options.only or name in options.only:
            print(json.dumps(measure(name, model, X, stars)), flush=True)


if __name__ == "__main__":
    main()
