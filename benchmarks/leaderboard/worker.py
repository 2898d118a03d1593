"""Fit and list in a process of its own, in whatever environment the library lives in.

    python -m benchmarks.leaderboard.worker FOLDER

The folder holds `job.json` and `log.npz`: training events and users to query, never anything of
the test part. Every run writes its lists (`0.npz`) and then its cost (`0.json`) when it is done, so
a process that is stopped loses one run only.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.leaderboard import libraries
from benchmarks.leaderboard.log import Log

WARM_UP = 5000  # events


def run(job: dict[str, Any], log: Log, users: np.ndarray, setting: dict, seed: int):
    """Fit a setting, list for ``users``; return raw ids, which of them count, and the cost."""
    setting = dict(setting) | job["given"]
    before = memory("VmRSS", forget=True)
    start = time.perf_counter()
    if setting.pop("once", False):
        log = log.once()
    lists = getattr(libraries, job["fit"])(log, seed, **setting)
    fitted = time.perf_counter()
    codes = np.full((len(users), job["k"]), -1, np.int64)
    found = np.asarray(lists(users, job["k"]), dtype=np.int64)
    codes[:, : found.shape[1]] = found
    cost = {"fit_s": fitted - start, "recommend_s": time.perf_counter() - fitted}
    cost["peak_mib"] = memory("VmHWM") - before
    return log.item_ids[codes.clip(min=0)], codes >= 0, cost


def memory(field: str, forget: bool = False) -> float:
    """MiB resident now (VmRSS) or at most (VmHWM) since the last reset; NaN off Linux."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return float("nan")
    if forget:
        clear.write_text("5")
    line = next(x for x in status.read_text().splitlines() if x.startswith(field + ":"))
    return int(line.split()[1]) / 1024


def attempt(job: dict[str, Any], log: Log, users: np.ndarray, one: dict, folder: Path, n: int):
    """Run once; report an error of a library instead of raising it."""
    try:
        items, valid, cost = run(job, log, users, one["setting"], one["seed"])
    except ImportError as error:
        return {"absent": str(error)}
    except Exception as error:  # a library's failure is a line of the table
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    np.savez(folder / f"{n}.npz", items=items, valid=valid)
    return {key: round(value, 4) for key, value in cost.items()}


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "source tree"


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with np.load(folder / "log.npz") as saved:
        events = (saved["user"], saved["item"], saved["time"])
        log = Log.of(*events, job["exclude_seen"], job["threads"])
        users = np.searchsorted(log.user_ids, saved["queries"])
    if job["warm_up"]:  # imports, compilation and thread pools are off the clock
        small = log.take(slice(0, WARM_UP))
        someone = np.arange(min(100, len(small.user_ids)))
        attempt(job | {"k": 1}, small, someone, job["runs"][0], folder, -1)
    head = {"version": version(job["library"]), "python": sys.version.split()[0]}
    for n, one in enumerate(job["runs"]):
        answer = attempt(job, log, users, one, folder, n)
        done = folder / f"{n}.part"
        done.write_text(json.dumps(head | answer), encoding="utf-8")
        done.rename(folder / f"{n}.json")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
