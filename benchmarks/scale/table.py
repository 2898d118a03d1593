"""Events a second and memory of every recommender, at three sizes of a log."""

import math
import os
import pickle
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))

from _api import recommenders

MIB = 2**20
EVENTS_OF_A_USER, N_ITEMS = 50, 2000
# Events of the smallest log; the others have two and four times as many.
SMALLEST = {
    "DecayBertRecommender": 5_000,
    "RealtimeTransformerRecommender": 5_000,
    "AdaptiveRecommender": 20_000,
    "BayesianMFClassifier": 50_000,
    "BayesianMFRecommender": 50_000,
    "IncrementalDCNClassifier": 50_000,
    "IncrementalDCNRecommender": 50_000,
}
USUAL = 200_000


def make_log(n_events, seed=0):
    """Return a log in order of time: 50 events a user, items with Zipf popularity, ratings."""
    rng = np.random.default_rng(seed)
    n_users = n_events // EVENTS_OF_A_USER
    p, q = rng.normal(size=(n_users, 4)), rng.normal(size=(N_ITEMS, 4))
    law = np.cumsum(1 / np.arange(1.0, N_ITEMS + 1))
    user = rng.integers(n_users, size=n_events)
    item = np.searchsorted(law, rng.uniform(0, law[-1], n_events))
    likes = np.einsum("nk,nk->n", p[user], q[item]) / 2
    rating = np.clip(np.round(3 + likes + rng.normal(0, 0.7, n_events)), 1, 5)
    times = 1_600_000_000 + 60 * np.arange(n_events)
    return np.column_stack([user, item, times]), rating


def measure(model, X, y):
    """Fit in a fork of this process, and return processor time, memory and the model's size."""
    read, write = os.pipe()
    child = os.fork()
    if not child:  # the peak of a fork starts at what this process holds
        before, start = _resident(), time.process_time()
        model.fit(X, y)
        cpu, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        size = len(pickle.dumps(model, protocol=5)) / MIB
        os.write(write, pickle.dumps((cpu, max(0.0, peak / 1024 - before), size)))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    if os.waitpid(child, 0)[1] or not found:
        raise RuntimeError(f"the fit of {model!r} on {len(X)} rows has failed")
    return pickle.loads(found)


def _resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / MIB


def rows_of_table(names=None):
    """Yield a dict for each recommender."""
    for model in recommenders():
        name = type(model).__name__
        if names and name not in names:
            continue
        binary = hasattr(model, "predict_proba")
        if hasattr(model, "random_state"):
            model.set_params(random_state=0)
        smallest = SMALLEST.get(name, USUAL)
        X, y = make_log(3000)
        model.fit(X, (y > 3).astype(int) if binary else y)  # loads libraries, and compiles
        sizes = [smallest * k for k in (1, 2, 4)]
        found = []
        for size in sizes:
            X, y = make_log(size)
            found.append(measure(model, X, (y > 3).astype(int) if binary else y))
        cpu, memory, saved = zip(*found, strict=True)
        yield {
            "estimator": name,
            "events": sizes,
            "users": [size // EVENTS_OF_A_USER for size in sizes],
            "items": N_ITEMS,
            "cpu_s": [round(c, 2) for c in cpu],
            "exponent": round(math.log(cpu[2] / cpu[0]) / math.log(4), 2),
            # Of the events between the smallest and the largest log.
            "events_per_s": round((sizes[2] - sizes[0]) / (cpu[2] - cpu[0])),
            "more_mib": [round(m) for m in memory],
            "saved_mib": [round(s, 1) for s in saved],
        }
