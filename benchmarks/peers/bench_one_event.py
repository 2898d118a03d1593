"""One event a call: `stream()` of IncrementalMFRecommender against river, in alternating rounds.

    python benchmarks/peers/bench_one_event.py --data ml-100k

Each rating of the time line is predicted and then learned, from an empty model, with 64 factors.
"steady" goes over the first 20,000 events again, when all ids are known. Times are those of the
processor. One JSON line a round and library, then one with medians and ratios to river.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np

from benchmarks.peers.bench_peers import errors, in_time_order
from sklearn_recft import IncrementalMFRecommender

N_FACTORS, N_STEADY = 64, 20_000
Event = tuple[int, int, float]
Step = Callable[[int, int, float], float]


def river() -> Step:
    """Return the two calls of river's BiasedMF."""
    from river import reco

    model = reco.BiasedMF(n_factors=N_FACTORS, seed=0)

    def step(user: int, item: int, stars: float) -> float:
        predicted: float = model.predict_one(user, item)
        model.learn_one(user, item, stars)
        return predicted

    return step


def one_call() -> Step:
    """Return ``predict_learn_one``."""
    return IncrementalMFRecommender(N_FACTORS, random_state=0).stream().predict_learn_one


def two_calls() -> Step:
    """Return ``predict_one`` and ``learn_one``; the first event is learned by `one_call`."""
    model = IncrementalMFRecommender(N_FACTORS, random_state=0)
    events = model.stream()

    def step(user: int, item: int, stars: float) -> float:
        if not hasattr(model, "n_users_"):
            return events.predict_learn_one(user, item, stars)
        predicted = events.predict_one(user, item)
        events.learn_one(user, item, stars)
        return predicted

    return step


LIBRARIES: dict[str, Callable[[], Step]] = {
    "river": river,
    "predict_learn_one": one_call,
    "predict_one, learn_one": two_calls,
}


def follow(step: Step, events: list[Event]) -> tuple[list[float], float]:
    """Return the predictions, and microseconds an event."""
    begin = time.process_time()
    predicted = [step(*event) for event in events]
    return predicted, (time.process_time() - begin) / len(events) * 1e6


def rounds(data: str, n_rounds: int, n_rows: int | None) -> Iterator[dict[str, object]]:
    """Yield one record for each round and library."""
    X, y = in_time_order(data, n_rows)
    events = list(zip(X[:, 0].tolist(), X[:, 1].tolist(), y.tolist(), strict=True))
    for make in LIBRARIES.values():
        follow(make(), events[:2000])  # imports and compilation
    for number in range(n_rounds):
        for name, make in LIBRARIES.items():
            step = make()
            predicted, whole = follow(step, events)
            _, steady = follow(step, events[:N_STEADY])
            rmse = errors(y, np.array(predicted))["rmse"]
            yield {
                "data": data, "round": number, "library": name, "us": whole, "steady_us": steady,
                "rmse": rmse,
            }  # fmt: skip


def main() -> None:
    """Print all rounds, and the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", choices=["ml-100k", "ml-1m"], default="ml-100k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-rows", type=int)
    options = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {name: [] for name in LIBRARIES}
    for record in rounds(options.data, options.rounds, options.max_rows):
        found[str(record["library"])].append(record)
        print(json.dumps(record), flush=True)
    for name, records in found.items():
        medians = {key: median(float(str(r[key])) for r in records) for key in ("us", "steady_us")}
        ratios = {
            f"{key} ratio": median(
                float(str(a[key])) / float(str(b[key]))
                for a, b in zip(found["river"], records, strict=True)
            )
            for key in ("us", "steady_us")
        }
        print(json.dumps({"library": name, **medians, **ratios}), flush=True)


if __name__ == "__main__":
    main()
