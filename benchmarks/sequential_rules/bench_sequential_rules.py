"""Compare settings of `SequentialRulesRecommender`, and measure what an update costs.

    python benchmarks/sequential_rules/bench_sequential_rules.py --task settings --data ml-100k
    python benchmarks/sequential_rules/bench_sequential_rules.py --task cost --data ml-100k

settings. NDCG@10 of a list before each event of one chunk, with the user's events so far, after a
fit on all events before the chunk. Logs, chunks and users are those of the adaptive benchmark
(`benchmarks/adaptive`). The chunk begins at 80 % of the warm-up, before all figures of any table:
the settings in use and the defaults were chosen here.

cost. Seconds of the CPU of `fit` on the warm-up, of `partial_fit` and `observe` of 1,000 further
events, and of lists for 1,000 users, beside BM25 neighbours; medians of five.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.adaptive.replay import MEMBERS_SHARE, PLANS, Stream, validated
from benchmarks.common.events import DATA
from benchmarks.common.report import row
from sklearn_recft import ItemKNNRecommender, SequentialRulesRecommender

BASE = {"alpha": 0.5, "beta": 0.1, "history_half_life": 2, "max_distance": 10}
CHANGES: tuple[dict[str, Any], ...] = (
    {},
    {"alpha": 1, "beta": 0, "max_distance": 1, "history_half_life": 0.01},  # a Markov chain
    {"history_half_life": 1},
    {"history_half_life": 3},
    {"history_half_life": 3, "beta": 0},
    {"history_half_life": 3, "beta": 0.2},
    {"history_half_life": 3, "max_distance": 20},
    {"history_half_life": 3, "max_distance": 5},
    {"history_half_life": 0.5, "beta": 0.3},
    {"history_half_life": 3, "alpha": 0.7, "beta": 0},
    {"alpha": 0.7},
    {"beta": 0.3},
)
ROUNDS, N_ROWS = 5, 1000


def compare(data: str) -> None:
    """Print NDCG@10 of each setting."""
    log = Stream.of(data)
    share, chunk, every = PLANS[data]
    cut = int(MEMBERS_SHARE * share * len(log.user))
    for change in CHANGES:
        setting = BASE | change
        model = SequentialRulesRecommender(**setting)
        ndcg = validated(log, "next", model, cut, chunk, every)
        row("settings", data, "SequentialRulesRecommender", setting=setting, ndcg=ndcg)


def measure(data: str) -> None:
    """Print seconds of the CPU."""
    log = Stream.of(data)
    first = int(PLANS[data][0] * len(log.user))
    old, new = log.rows(0, first), log.rows(first, first + N_ROWS)
    users = np.unique(log.user[:first])[:N_ROWS]
    for model in (SequentialRulesRecommender(), ItemKNNRecommender()):
        model.fit(old)  # compiles

        def fit(model: Any = model) -> None:
            model.fit(old)

        def update(model: Any = model) -> None:
            model.partial_fit(new)

        def observe(model: Any = model) -> None:
            model.observe(new)

        def recommend(model: Any = model) -> None:
            model.recommend(users, n_recommendations=10, exclude_seen=not log.repeats)

        calls = {"fit_s": fit, "partial_fit_s": update, "observe_s": observe, "lists_s": recommend}
        figures = {name: _seconds(call) for name, call in calls.items()}
        row("cost", data, type(model).__name__, n_events=first, **figures)


def _seconds(call: Callable[[], None]) -> float:
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        call()
        spent.append(time.process_time() - start)
    return float(np.median(spent))


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=("settings", "cost"), default="settings")
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated")
    options = parser.parse_args()
    for data in options.data or DATA:
        {"settings": compare, "cost": measure}[options.task](data)


if __name__ == "__main__":
    main()
