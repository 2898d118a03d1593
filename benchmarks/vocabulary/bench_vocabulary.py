"""A million ids to codes: one JSON line for each kind of id, the median of several runs.

"learn" meets every id for the first time (`extend` of an empty vocabulary), "encode" looks all of
them up again, "stream" adds them in chunks of a thousand rows. Rows follow a popularity law, as
logs do. One thread; no compilation and no file is involved, so nothing is warmed up.

    python benchmarks/vocabulary/bench_vocabulary.py
    python benchmarks/vocabulary/bench_vocabulary.py --rows 10_000_000 --ids 1_000_000 --repeats 3
"""

import argparse
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from sklearn_recft.vocabulary import Vocabulary

CHUNK = 1000
# Seconds a million rows may take to encode.
TARGET = {"dense": 0.1, "sparse": 0.1, "strings": 0.6}


def make_rows(n_rows: int, n_ids: int) -> dict[str, np.ndarray]:
    """Rows of ids of each kind, (n_rows,); dense are 0 to n_ids - 1, sparse are 62-bit."""
    rng = np.random.default_rng(0)
    codes = (n_ids * rng.random(n_rows) ** 2).astype(np.int64)
    sparse = rng.integers(0, 2**62, n_ids)
    strings = np.array([f"user-{value:x}" for value in sparse[:n_ids].tolist()], dtype=object)
    return {"dense": codes, "sparse": sparse[codes], "strings": strings[codes]}


def stream(rows: np.ndarray) -> Vocabulary:
    vocabulary = Vocabulary()
    for start in range(0, len(rows), CHUNK):
        vocabulary.extend(rows[start : start + CHUNK])
    return vocabulary


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median wall time of ``repeats`` runs."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return median(taken)


def measure(kind: str, rows: np.ndarray, repeats: int) -> dict[str, Any]:
    vocabulary = Vocabulary(rows)
    encode = seconds(lambda: vocabulary.encode(rows), repeats)
    target = TARGET[kind] * len(rows) / 1e6
    return {
        "benchmark": "vocabulary",
        "kind": kind,
        "rows": len(rows),
        "ids": len(vocabulary),
        "encode_seconds": round(encode, 4),
        "target_seconds": target,
        "within_target": encode < target,
        "learn_seconds": round(seconds(lambda: Vocabulary(rows), repeats), 4),
        "stream_seconds": round(seconds(lambda: stream(rows), repeats), 4),
        "repeats": repeats,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--ids", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for kind, rows in make_rows(options.rows, options.ids).items():
        print(json.dumps(measure(kind, rows, options.repeats)), flush=True)


if __name__ == "__main__":
    main()
