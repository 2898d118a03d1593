"""Let a process of its own fit and list, and score the lists that come back."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.events import K, Task, evaluate
from benchmarks.leaderboard.grid import Model

ROOT = Path(__file__).resolve().parents[2]
Score = Callable[[Task, list[np.ndarray]], dict[str, Any]]


def means(task: Task, lists: list[np.ndarray]) -> dict[str, Any]:
    """Return the figures of a line."""
    return {metric: round(value, 5) for metric, value in evaluate(task, lists).items()}


def work(
    model: Model,
    task: Task,
    runs: list[dict[str, Any]],
    options: argparse.Namespace,
    warm_up: bool = False,
    score: Score = means,
) -> tuple[list[dict[str, Any]], bool]:
    """Let a worker do ``runs``; return the result of each and whether time ran out.

    The returned list is shorter than ``runs`` where the worker was stopped or died.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {"user": "user_id", "item": "item_id", "time": "timestamp"}
        events = {short: as_ids(task.train[column]) for short, column in columns.items()}
        np.savez(folder / "log.npz", queries=as_ids(task.queries), **events)
        job = {
            "fit": model.fit, "library": model.library, "runs": runs, "k": K,
            "exclude_seen": task.exclude_seen, "threads": options.threads, "warm_up": warm_up,
            "given": model.given,
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        python = options.python.get(model.library, sys.executable)
        in_time = finishes([python, "-m", "benchmarks.leaderboard.worker", name], options)
        found = []
        for n, one in enumerate(runs):
            answer = folder / f"{n}.json"
            if not answer.exists():
                break
            found.append(one | json.loads(answer.read_text(encoding="utf-8")))
            if "fit_s" in found[-1]:
                with np.load(folder / f"{n}.npz") as saved:
                    rows = zip(saved["items"], saved["valid"], strict=True)
                    found[-1] |= score(task, [items[valid] for items, valid in rows])
        return found, not in_time


def work_through(
    model: Model, parts: list[Task], runs: list[dict[str, Any]], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], bool]:
    """Do ``runs`` on each part; figures are of the last one, but NDCG@10 is the mean of all."""
    found = [work(model, part, runs, options) for part in parts]
    timed_out = any(out for _, out in found)
    *others, last = (tried for tried, _ in found)
    if not others:
        return last, timed_out
    tried = []
    for same in zip(*others, last, strict=False):  # what all parts have reached
        run = dict(same[-1])
        scores = [each.get("ndcg") for each in same]
        if "ndcg" in run and None not in scores:
            run |= {"ndcg": round(float(np.mean(scores)), 5), "ndcg_by_window": scores}
        else:
            run.pop("ndcg", None)
        tried.append(run)
    return tried, timed_out


def as_ids(column: Any) -> np.ndarray:
    """Give a column as numbers or strings that can be saved without pickling."""
    values = np.asarray(column)
    return values.astype(str) if values.dtype == object else values


def finishes(command: list[str], options: argparse.Namespace) -> bool:
    """Run a command with its threads bounded; False if it had to be stopped."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "LK")
    threads = {f"{name}_NUM_THREADS": str(options.threads) for name in names}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | threads | {"PYTHONPATH": path}
    quiet = None if options.verbose else subprocess.DEVNULL
    # A session of its own, so that what a library has started is stopped with it.
    process = subprocess.Popen(
        command, env=environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    try:
        process.wait(options.limit)
    except BaseException as stop:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(stop, subprocess.TimeoutExpired):
            return False
        raise
    return True
