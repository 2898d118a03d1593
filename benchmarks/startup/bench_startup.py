"""Seconds from a new Python process to the first fitted model, with and without compiled kernels.

    python benchmarks/startup/bench_startup.py --output startup.jsonl

For each estimator, new processes import the package, make a log of 1,000 events and fit. "cold" has
an empty directory for compiled kernels (``NUMBA_CACHE_DIR``), so numba compiles them. "warm" reads
what the cold process compiled. The clock starts when the process is started, so Python itself is
included. Each is the median of ``--repeats`` processes; "cold" has a new directory for each.

The first two rows have no estimator: ``python`` starts and ends, and ``torch + scikit-learn``
imports what every neural estimator needs. They show the machine's speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
FIT = """
from sklearn_recft import {estimator}
from sklearn_recft.datasets import make_interactions
X, y = make_interactions(100, 50, 1000, random_state=0, return_X_y=True)
{estimator}({given}).fit(X, {y})
"""
REFERENCES = {
    "python": "",
    "torch + scikit-learn": "import torch, skorch, sklearn.linear_model",
}
# Estimator, constructor arguments, feedback.
ESTIMATORS = {
    "PopularityRecommender": ("", "None"),
    "BiasRecommender": ("", "y"),
    "ItemKNNRecommender": ("", "None"),
    "EASERecommender": ("", "None"),
    "ALSRecommender": ("", "None"),
    "BayesianMFRecommender": ("", "y"),
    "IncrementalMFRecommender": ("", "y"),
    "DecayBertRecommender": ("backbone=None", "y > 3"),
    "RealtimeTransformerRecommender": ("max_epochs=1", "None"),
}


def seconds_of(code: str, cache: str) -> float:
    """Run code in a new process; return its seconds from start to end."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
    )
    return time.perf_counter() - begun


def measure(code: str, n_repeats: int) -> dict[str, float]:
    """Return median seconds of processes without and with compiled kernels."""
    cold, warm = [], []
    for _ in range(n_repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds_of(code, cache))
            warm.append(seconds_of(code, cache))
    return {"cold": round(median(cold), 2), "warm": round(median(warm), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="names of estimators")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="append JSON lines to this file")
    given = parser.parse_args()
    codes = REFERENCES | {
        name: FIT.format(estimator=name, given=arguments, y=y)
        for name, (arguments, y) in ESTIMATORS.items()
    }
    for name, code in codes.items():
        if given.only and name not in given.only:
            continue
        line = json.dumps({"row": name, **measure(code, given.repeats), "repeats": given.repeats})
        print(line, flush=True)
        if given.output:
            with given.output.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
