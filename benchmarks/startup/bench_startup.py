"""CPU seconds of the first calls of a new Python process, with and without compiled kernels.

    python benchmarks/startup/bench_startup.py --output startup.jsonl

For each estimator, new processes import it, make a log of 1,000 events, fit, and list five items
for five users. "cold" has an empty directory for compiled kernels (``NUMBA_CACHE_DIR``), so numba
compiles them. "warm" reads what the cold process compiled. Times are those of the processor, which
other work on the machine changes less than the clock on the wall. Each is the median of
``--repeats`` processes; "cold" has a new directory for each.

The first two rows have no estimator: what scikit-learn's linear models, and all that the neural
estimators need, take to import. They show the machine's speed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
FIRST_CALLS = """
import json
from time import process_time

ends = [process_time()]
{load}
ends.append(process_time())
{calls}
print(json.dumps([b - a for a, b in zip(ends, ends[1:])]))
"""
CALLS = """
from sklearn_recft.datasets import make_interactions
X, y = make_interactions(100, 50, 1000, random_state=0, return_X_y=True)
ends.append(process_time())
model = {estimator}({given}).fit(X, {y})
ends.append(process_time())
model.recommend(X[:5, 0], n_recommendations=5)
ends.append(process_time())
"""
REFERENCES = {
    "scikit-learn": "import sklearn.linear_model",
    "torch + scikit-learn": "import torch, skorch, sklearn.linear_model",
}
NAMES = ("import", "data", "fit", "recommend")
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
    "RP3BetaRecommender": ("", "None"),
    "SequentialRulesRecommender": ("", "None"),
    "HabitRecommender": ("", "None"),
    "IncrementalDCNRecommender": ("", "y"),
}


def seconds_of(code: str, cache: str) -> dict[str, float]:
    """Run code in a new process; return its CPU seconds by call."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=ROOT,
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
    )
    return dict(zip(NAMES, json.loads(done.stdout), strict=False))


def measure(code: str, n_repeats: int) -> dict[str, dict[str, float]]:
    """Return median CPU seconds of calls without and with compiled kernels."""
    runs: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(n_repeats):
        with tempfile.TemporaryDirectory() as cache:
            for found in runs.values():
                found.append(seconds_of(code, cache))
    return {
        state: {name: round(median(run[name] for run in found), 2) for name in found[0]}
        for state, found in runs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="names of estimators")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="append JSON lines to this file")
    given = parser.parse_args()
    codes = {name: FIRST_CALLS.format(load=load, calls="") for name, load in REFERENCES.items()} | {
        name: FIRST_CALLS.format(
            load=f"from sklearn_recft import {name}",
            calls=CALLS.format(estimator=name, given=arguments, y=y),
        )
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
