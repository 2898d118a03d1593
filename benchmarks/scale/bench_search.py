"""A search and a comparison by the backends of joblib: the same scores, and what workers cost.

Needs dask, distributed, ray and psutil for the backends of Dask and Ray.

    python benchmarks/scale/bench_search.py --backends serial loky dask ray
"""

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib
import numpy as np
import psutil
from sklearn.model_selection import GridSearchCV

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.scale.table import make_log
from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.model_selection import TemporalSplit, compare_recommenders

BACKENDS = ["serial", "loky", "dask", "ray"]


def search(X, y):
    """Return the scores of four values of ``reg`` on three splits."""
    model = IncrementalMFRecommender(n_factors=16, max_epochs=20, random_state=0)
    grid = {"reg": [0.02, 0.05, 0.1, 0.2]}
    found = GridSearchCV(model, grid, cv=TemporalSplit(3), refit=False, error_score="raise")
    return found.fit(X, y).cv_results_["mean_test_score"]


def compare(X, y):
    """Return the values of every list of three recommenders."""
    models = {
        "popular": PopularityRecommender(),
        "bias": BiasRecommender(),
        "mf": IncrementalMFRecommender(n_factors=16, max_epochs=20, random_state=0),
    }
    options = {"cv": TemporalSplit(2), "n_bootstrap": 10, "random_state": 0}
    found = compare_recommenders(models, X, y, measure_memory=False, **options)
    return np.concatenate([found.per_user["ndcg@10"][name] for name in models])


TASKS = {"search": search, "compare": compare}


@contextmanager
def dask_workers(data):
    """Two processes of Dask, to which the data are sent before."""
    from dask.distributed import Client, LocalCluster

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as client:
        yield {"backend": "dask", "client": client, "scatter": list(data)}


@contextmanager
def ray_workers():
    """Two processes of Ray."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray.util.joblib import register_ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield {"backend": "ray", "n_jobs": 2}
    ray.shutdown()


def workers(name, data):
    """Return a context of the options of `joblib.parallel_config`."""
    if name == "ray":
        return ray_workers()
    if name == "dask":
        return dask_workers(data)
    return contextmanager(lambda: (yield {"backend": "loky", "n_jobs": 2}))()


def seconds_of_processes():
    """Return processor seconds of each process below this one, and those of its first thread."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            total = sum(process.cpu_times()[:2])
            first = [t.user_time + t.system_time for t in process.threads() if t.id == process.pid]
            found[process.pid] = total, sum(first)
        except psutil.NoSuchProcess:
            continue
    return found


def measured(call, data):
    """Return what a call returns, and processor seconds here, of the busiest worker, of all."""
    before, start, wall = seconds_of_processes(), time.process_time(), time.perf_counter()
    result = call(*data)
    here, wall = time.process_time() - start, time.perf_counter() - wall
    after = seconds_of_processes()
    spent = [
        (total - before.get(pid, (0, 0))[0], first - before.get(pid, (0, 0))[1])
        for pid, (total, first) in after.items()
    ]
    busiest, first = max(spent, default=(0.0, 0.0))
    figures = {"here": here, "busiest": busiest, "busiest_first_thread": first, "wall": wall}
    return result, figures | {"workers": sum(total for total, _ in spent)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--n-events", type=int, default=800_000)
    parser.add_argument("--rounds", type=int, default=3, help="after a first one")
    options = parser.parse_args()
    data = make_log(options.n_events)
    small = make_log(3000)
    for task in options.tasks:
        TASKS[task](*small)  # compiles
    with ExitStack() as stack:
        given = {
            name: None if name == "serial" else stack.enter_context(workers(name, data))
            for name in options.backends
        }
        for task in options.tasks:
            run_rounds(task, given, data, options.rounds)


def run_rounds(task, given, data, n_rounds):
    """Run a task by one backend after the other, several times, and print the figures."""
    expected, rows = TASKS[task](*data), {name: [] for name in given}
    for _ in range(n_rounds + 1):
        for name, context in given.items():
            with ExitStack() as inner:
                if context is not None:
                    inner.enter_context(joblib.parallel_config(**context))
                found, figures = measured(TASKS[task], data)
            rows[name].append(figures | {"same": np.array_equal(found, expected)})
    for name, each in rows.items():
        first, *later = each
        medians = {key: statistics.median(row[key] for row in later) for key in first}
        row = {key: round(float(value), 2) for key, value in medians.items()}
        row |= {"same": all(one["same"] for one in each), "first_busiest": first["busiest"]}
        print(json.dumps({"task": task, "backend": name} | row), flush=True)


if __name__ == "__main__":
    main()
