"""Time and memory of streams of files, and of lists of many users to files, at several sizes."""

import argparse
import json
import pickle
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.common.process import MIB, in_fresh_process, peak_memory
from benchmarks.scale.table import rows_of_table
from sklearn_recft import (
    BiasRecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
)
from sklearn_recft.lists import recommend_to_parquet
from sklearn_recft.preprocessing import ActivityFeatures
from sklearn_recft.scale import fit_stream

ROWS_OF_A_FILE = 1_000_000
MODELS = {
    "mf": lambda: IncrementalMFRecommender(random_state=0),
    "popularity": PopularityRecommender,
    "bias": BiasRecommender,
    "habits": HabitRecommender,
    "activity": ActivityFeatures,
}
COLUMNS = {"user_id": "user_id", "item_id": "item_id", "timestamp": "timestamp"}


def make_files(folder, n_events, n_users, n_items, seed=0):
    """Write a log in order of time: integer ids, seconds and ratings, a file per million rows."""
    rng = np.random.default_rng(seed)
    p, q = rng.normal(size=(n_users, 4)), rng.normal(size=(n_items, 4))
    law = np.cumsum(1 / np.arange(1.0, n_items + 1))
    start = 1_600_000_000
    for k, first in enumerate(range(0, n_events, ROWS_OF_A_FILE)):
        n = min(ROWS_OF_A_FILE, n_events - first)
        user = rng.integers(n_users, size=n)
        item = np.searchsorted(law, rng.uniform(0, law[-1], n))
        likes = np.einsum("nk,nk->n", p[user], q[item]) / 2
        rating = np.clip(np.round(3 + likes + rng.normal(0, 0.7, n)), 1, 5)
        seconds = start + first + np.arange(n)
        table = {"user_id": user, "item_id": item, "timestamp": seconds, "rating": rating}
        pq.write_table(pa.table(table), folder / f"{k:05}.parquet")


def stream(name, folder, batch_rows):
    """Learn the files of a folder, and return what it cost."""
    with tempfile.TemporaryDirectory() as small:
        make_files(Path(small), 2000, 100, 50)
        fit_stream(MODELS[name](), small, target="rating", columns=COLUMNS, batch_rows=500)
    model, before, marks = MODELS[name](), peak_memory(), []
    start = time.process_time()

    def mark(position):
        marks.append((position.n_rows, time.process_time() - start, peak_memory()))

    end = fit_stream(
        model, folder, target="rating", columns=COLUMNS, batch_rows=batch_rows, on_batch=mark
    )
    seconds, most = time.process_time() - start, peak_memory()
    return {
        "n_events": end.n_rows,
        "cpu_s": round(seconds, 2),
        "events_per_s": round(end.n_rows / seconds),
        "before_mib": round(before),
        "peak_mib": round(most),
        "saved_mib": round(len(pickle.dumps(model, protocol=5)) / MIB),
        "marks": [marks[int(k)] for k in np.linspace(0, len(marks) - 1, 9)],
    }


def lists(n_users, n_items, folder):
    """Write the lists of users to a file, and return what it cost."""
    rng = np.random.default_rng(0)
    n = 5 * n_items
    X = np.column_stack([rng.integers(2000, size=n), rng.permutation(np.arange(n) % n_items)])
    model = IncrementalMFRecommender(n_factors=64, max_epochs=1, random_state=0)
    model.fit(X, rng.integers(1, 6, n))
    model.partial_fit(np.column_stack([np.arange(n_users), rng.integers(n_items, size=n_users)]),
                      rng.integers(1, 6, n_users))  # fmt: skip
    recommend_to_parquet(folder / "warm.parquet", model, np.arange(64))
    before, start = peak_memory(), time.process_time()
    rows = recommend_to_parquet(folder / "lists.parquet", model, np.arange(n_users))
    seconds = time.process_time() - start
    result = {"n_users": n_users, "n_items": n_items, "rows": rows, "cpu_s": round(seconds, 2)}
    size = (folder / "lists.parquet").stat().st_size / MIB
    return result | {"more_mib": round(peak_memory() - before), "file_mib": round(size, 1)}


def main():
    """Parse the command line, and print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["stream", "lists", "table"], default="stream")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["mf"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2_000_000, 6_000_000, 20_000_000])
    parser.add_argument("--n-users", type=int, default=200_000)
    parser.add_argument("--n-items", type=int, default=20_000)
    parser.add_argument("--batch-rows", type=int, default=200_000)
    parser.add_argument("--estimators", nargs="+", help="of the table; all by default")
    given = parser.parse_args()
    if given.task == "table":
        for row in rows_of_table(given.estimators):
            print(json.dumps(row), flush=True)
        return
    for size in given.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if given.task == "lists":
                found = in_fresh_process(lists, size, given.n_items, folder)
                print(json.dumps(found), flush=True)
                continue
            make_files(folder, size, given.n_users, given.n_items)
            for model in given.models:
                found = in_fresh_process(stream, model, folder, given.batch_rows)
                print(json.dumps({"model": model} | found), flush=True)


if __name__ == "__main__":
    main()
