"""eALS (He et al., SIGIR 2016) of the package eals, on the lists of `bench_softmax`.

    python benchmarks/softmax/bench_eals.py --data ml-1m --protocol timeline

Eight settings are tried on the validation part by the first seed; the best is evaluated on the test
part. `w0` is the weight of all unobserved items of a user together. A pair of a user and an item
counts once. Needs `pip install eals` or, for Python 3.11 and later, `eals-py312`.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")  # before numpy is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

import numpy as np

from benchmarks.common.events import DATA, PROTOCOLS, K, Task, evaluate, tasks
from benchmarks.common.report import row
from benchmarks.leaderboard.log import Log
from benchmarks.softmax.logs import ALL, REPEATS, events_of, protocols_of

SETTINGS: tuple[dict[str, Any], ...] = tuple(
    {"w0": w0, "regularization": reg, "alpha": 0.5}
    for w0 in (100, 1000, 5000, 20_000)
    for reg in (0.1, 1.0)
)
FIXED = {"factors": 64, "num_iter": 15}


def run(task: Task, setting: dict[str, Any], seed: int) -> tuple[float, float]:
    """Return NDCG@10 and seconds of the fit."""
    from eals import ElementwiseAlternatingLeastSquares

    columns = (task.train[name].to_numpy() for name in ("user_id", "item_id", "timestamp"))
    log = Log.of(*columns, task.exclude_seen, 1)
    model = ElementwiseAlternatingLeastSquares(**FIXED, **setting, random_state=seed)
    pairs = log.counts.minimum(log.counts.sign()).tocsr()
    start = time.process_time()
    model.fit(pairs, postprocess=False)
    seconds = time.process_time() - start
    users = np.searchsorted(log.user_ids, task.queries)
    found = log.best(lambda some: model.user_factors[some] @ model.item_factors.T, users, K)
    lists = [log.item_ids[codes[codes >= 0]] for codes in found]
    return evaluate(task, lists)["ndcg"], seconds


def choose(data: str, protocol: str, seeds: list[int]) -> None:
    """Print the validation figures, and the test figures of the best setting."""
    validation, test = tasks(events_of(data), protocol, data not in REPEATS)
    found = []
    for setting in SETTINGS:
        ndcg, seconds = run(validation, setting, seeds[0])
        found.append(ndcg)
        row(f"{protocol} validation", data, "eALS", ndcg=ndcg, fit_s=seconds, params=setting)
    setting = SETTINGS[int(np.argmax(found))]
    for seed in seeds:
        ndcg, seconds = run(test, setting, seed)
        figures = {"ndcg": ndcg, "fit_s": seconds, "params": setting}
        row(f"{protocol} test", data, "eALS", seed=seed, **figures)


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", choices=ALL, help="may be repeated")
    parser.add_argument("--protocol", action="append", choices=PROTOCOLS, help="may be repeated")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    for data in options.data or DATA:
        for protocol in options.protocol or protocols_of(data):
            choose(data, protocol, options.seed)


if __name__ == "__main__":
    main()
