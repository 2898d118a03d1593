"""Compare with other libraries in one run: same splits, same metrics, same two threads.

Every row is measured in a process of its own and printed as one JSON line; the ratios to ours come
last. A peer that is not installed prints a line. See `requirements.txt`.

    python benchmarks/peers/bench_peers.py --task rating --data ml-1m
    python benchmarks/peers/bench_peers.py --output peers.jsonl

What is timed. rating: the fit, from arrays (ours: raw ids, encoding included) or from the peer's
own data set (building it is not timed). stream: predict, then learn, every event. topk: lists for a
batch of users, model in memory. Before the clock starts, a small problem of the same kind is run
once, so that imports, just-in-time compilation (ours) and thread pools are excluded. The median of
`--repeats` runs is reported; short runs are repeated for 2 seconds, and a row that has taken 40
seconds is not repeated.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.peers.libraries import LISTS, N_FACTORS, OURS, RATERS, STREAMS, THREADS, K

ENOUGH, PATIENCE = 2.0, 40.0  # seconds
MANY = 50


# ------------------------------------------------------------------------------ measuring


def go_on(seconds: list[float], repeats: int) -> bool:
    """Decide whether a row is run once more."""
    too_few = len(seconds) < repeats or sum(seconds) < ENOUGH
    return too_few and sum(seconds) < PATIENCE and len(seconds) < max(repeats, MANY)


def timed(run: Callable[[], Any], repeats: int) -> tuple[list[float], Any]:
    """Seconds of each run, and what the last one returned."""
    seconds: list[float] = []
    while go_on(seconds, repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return seconds, result


def peak_memory(run: Callable[[], Any]) -> float | None:
    """GiB of resident memory that a run takes at its peak beyond what was there; Linux only."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return None

    def read(field: str) -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith(field + ":"))
        return int(line.split()[1])

    clear.write_text("5")  # sets the high-water mark back to what is resident now
    before = read("VmRSS")
    run()
    return round((read("VmHWM") - before) / 2**20, 3)


def errors(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """RMSE and MAE of predictions as they come, and RMSE once they are clipped to 1..5 stars."""
    error = truth - predicted
    clipped = truth - np.clip(predicted, 1, 5)
    return {
        "rmse": round(float(np.sqrt(np.mean(error**2))), 4),
        "mae": round(float(np.mean(np.abs(error))), 4),
        "rmse_clipped": round(float(np.sqrt(np.mean(clipped**2))), 4),
    }


def movielens(data: str) -> tuple[np.ndarray, np.ndarray]:
    """(user, item, seconds) as int64 and stars as float64, in the order of the file."""
    from sklearn_recft.datasets import fetch_movielens

    return fetch_movielens(data.removeprefix("ml-"), return_X_y=True)


# ------------------------------------------------------------------------------ rating


def rating_splits(data: str) -> tuple[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Name the protocol and give its (train, test) rows."""
    from sklearn.model_selection import KFold

    n_rows = len(movielens(data)[1])
    if data == "ml-100k":
        return "5-fold, KFold(shuffle=True, random_state=0)", list(
            KFold(5, shuffle=True, random_state=0).split(np.empty(n_rows))
        )
    order = np.random.RandomState(0).permutation(n_rows)
    cut = int(0.9 * n_rows)
    return "random 90/10, RandomState(0).permutation", [(order[:cut], order[cut:])]


def rate(peer: type, data: str, repeats: int) -> dict[str, Any]:
    """Fit and predict every fold; errors and seconds are means over the folds."""
    X, y = movielens(data)
    protocol, splits = rating_splits(data)
    warm = peer()
    warm.predict(warm.fit(warm.prepare(X[:5000], y[:5000])), X[:100])
    quality, seconds = [], []
    for train, test in splits:
        model = peer()
        prepared = model.prepare(X[train], y[train])
        times, fitted = timed(lambda m=model, p=prepared: m.fit(p), repeats)
        quality.append(errors(y[test], model.predict(fitted, X[test])))
        seconds.append(median(times))
    means = {key: round(float(np.mean([q[key] for q in quality])), 4) for key in quality[0]}
    return {
        "protocol": protocol,
        **means,
        "seconds": float(np.mean(seconds)),
        "n": len(splits[0][0]),
        "runs": len(times),
    }


# ------------------------------------------------------------------------------ stream


def in_time_order(data: str, n_rows: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Sort by time, ties in the order of the file."""
    X, y = movielens(data)
    order = np.argsort(X[:, 2], kind="stable")[:n_rows]
    return X[order], y[order]


def stream(variant: str, data: str, repeats: int, n_rows: int | None) -> dict[str, Any]:
    """Walk the timeline once, event by event."""
    X, y = in_time_order(data, n_rows)
    run = STREAMS[variant]
    run(X[:3000], y[:3000])
    seconds: list[float] = []
    while go_on(seconds, repeats):
        predicted, taken = run(X, y)
        seconds.append(taken)
    half = len(y) // 2
    second_half = (
        errors(y[half:], predicted[-(len(y) - half) :])["rmse"]
        if len(predicted) == len(y)
        else None
    )
    return {
        "protocol": "one pass in time order (stable sort), predict then learn",
        **errors(y[-len(predicted) :], predicted),
        "rmse_second_half": second_half,
        "seconds": median(seconds),
        "n": len(predicted),
        "runs": len(seconds),
    }


# ------------------------------------------------------------------------------ topk


def random_factors(n_rows: int, seed: int) -> np.ndarray:
    """Draw the factors of the synthetic catalogue, the same for everybody."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n_rows, N_FACTORS), dtype=np.float32)


def diagonal(n_ids: int) -> np.ndarray:
    """One event for each of as many users and items: the smallest log that names them all."""
    ids = np.arange(n_ids)
    return np.column_stack([ids, ids, ids])


def topk(library: str, data: str, repeats: int, n_ids: int) -> dict[str, Any]:
    """Time the lists of a batch of users, with one or more BLAS threads, whichever is faster."""
    from threadpoolctl import threadpool_limits

    if data == "ml-1m":
        X, y = movielens(data)
        users, factors, exclude = np.unique(X[:, 0]), None, True
        protocol = f"top {K} of the catalogue for all {len(users)} users, seen items excluded"
    else:
        X, y = diagonal(n_ids), np.resize([-100.0, 100.0], n_ids)  # wide: no score is clipped
        factors = (random_factors(n_ids, 1), random_factors(n_ids, 2))
        users, exclude = np.arange(0, n_ids, 10), False
        protocol = f"top {K} of {n_ids} items for {len(users)} of {n_ids} users, random factors"
    recommend = LISTS[library](X, y, factors)
    recommend(users[:20], exclude)  # so few that the peak is still to come
    memory = peak_memory(lambda: recommend(users, exclude))
    best: list[float] = []
    blas = 0
    for threads in (1, THREADS):
        with threadpool_limits(threads, "blas") if threads == 1 else nullcontext():
            seconds, (_, scores) = timed(lambda: recommend(users, exclude), repeats)
        if not best or median(seconds) < median(best):
            best, blas = seconds, threads
    return {
        "protocol": protocol,
        "mean_score": round(float(np.mean(scores)), 4),
        "seconds": median(best),
        "n": len(users),
        "runs": len(best),
        "blas_threads": blas,
        "peak_gib": memory,
    }


# ------------------------------------------------------------------------------ rows


@dataclass(frozen=True)
class Row:
    """One line of the benchmark: who, on what, and the function that measures it."""

    task: str
    data: str
    library: str
    model: str
    run: Callable[..., dict[str, Any]]
    arguments: tuple[Any, ...]


MODULES = {OURS: "sklearn_recft", "scikit-surprise": "surprise"}


def rows(tasks: list[str], data: list[str], options: argparse.Namespace) -> Iterator[Row]:
    """List what is to be measured, ours first."""
    for name in data if "rating" in tasks else ():
        for library, (model, peer) in RATERS.items():
            yield Row("rating", name, library, model, rate, (peer, name, options.repeats))
    for name in data if "stream" in tasks else ():
        for variant in STREAMS:
            library = OURS if "call" in variant else "river"
            arguments = (variant, name, options.repeats, options.max_rows)
            yield Row("stream", name, library, variant, stream, arguments)
    if "topk" in tasks:
        sizes = [name for name in data if name == "ml-1m"] + ["synthetic"]
        for name in sizes:
            for library in LISTS:
                arguments = (library, name, options.repeats, options.catalogue)
                yield Row("topk", name, library, f"{N_FACTORS} factors", topk, arguments)


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def measure(row: Row) -> dict[str, Any]:
    """Measure a row in a fresh process; report an error instead of raising it."""
    head = {"task": row.task, "data": row.data, "library": row.library, "model": row.model}
    if not is_installed(MODULES.get(row.library, row.library)):
        return {**head, "skipped": "not installed"}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            result = pool.submit(row.run, *row.arguments).result()
        except Exception as error:  # a peer's failure is a line of the table
            return {**head, "failed": f"{type(error).__name__}: {error}"}
    seconds = result.pop("seconds")
    return {
        **head,
        "version": version(row.library),
        **result,
        "threads": THREADS,
        "seconds": round(seconds, 4),
        "per_second": round(result["n"] / seconds, 1),
    }


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def ratios(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Compute how many times as fast ours is, and how its error differs (negative: lower)."""
    done = [r for r in records if "seconds" in r]
    for ours in (r for r in done if r["library"] == OURS):
        for peer in (r for r in done if r["library"] != OURS):
            if (ours["task"], ours["data"]) == (peer["task"], peer["data"]):
                yield {
                    "ratio": f"{ours['task']} {ours['data']}",
                    "ours": ours["model"],
                    "peer": f"{peer['library']} {peer['model']}",
                    "times_as_fast": round(ours["per_second"] / peer["per_second"], 2),
                    "rmse_difference": round(ours["rmse"] - peer["rmse"], 4)
                    if "rmse" in ours
                    else None,
                }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["rating", "stream", "topk", "all"], default="all")
    parser.add_argument("--data", choices=["ml-100k", "ml-1m", "all"], default="all")
    parser.add_argument("--library", action="append", help="only this one; may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--max-rows", type=int, help="stream: only the first so many events")
    parser.add_argument("--catalogue", type=int, default=100_000, help="topk: synthetic items")
    parser.add_argument("--output", type=Path, help="also append the lines to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print; 1 if a row failed."""
    options = parse(arguments)
    for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "POLARS_MAX", "LK"):
        os.environ[f"{prefix}_{'' if prefix == 'POLARS_MAX' else 'NUM_'}THREADS"] = str(THREADS)
    tasks = ["rating", "stream", "topk"] if options.task == "all" else [options.task]
    data = ["ml-100k", "ml-1m"] if options.data == "all" else [options.data]

    def emit(record: dict[str, Any]) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        if options.output:
            with options.output.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    emit({"machine": platform.platform(), "cpus": os.cpu_count(), "python": sys.version.split()[0]})
    records = []
    for row in rows(tasks, data, options):
        if options.library is None or row.library in options.library:
            records.append(measure(row))
            emit(records[-1])
    for ratio in ratios(records):
        emit(ratio)
    return int(any("failed" in record for record in records))


if __name__ == "__main__":
    sys.exit(main())
