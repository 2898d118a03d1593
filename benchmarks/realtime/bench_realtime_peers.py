"""NDCG@10 against seconds of training: the real-time transformer and RecTools' SASRec, in one run.

    python benchmarks/realtime/bench_realtime_peers.py --python rectools=PATH > curves.jsonl
    python benchmarks/realtime/bench_realtime_peers.py --only matched --limit-users 300 --epochs 2

PATH is the interpreter of an environment with `pip install "rectools[torch]==0.19.0" torch==2.13.0`
(it needs numpy below 2, so the environment is separate; this package need not be in it).

MovieLens 1M, every rating a positive, in time order (stable sort). The last event of each user is
the test event, the one before it the validation event, all others are for training. A query for the
test event knows the validation event too. Lists rank what each library has learned, seen items
excluded, ties as each library breaks them; an unknown item counts as a miss. As in published
figures, other users' events from after a test event are in the training part. Nothing is chosen
here: the whole curve is printed.

rectools    SASRecModel, width 64, 2 blocks, 2 heads, softmax over all items, 128 users a batch,
            its other defaults (dropout .2, Adam at .001). It trains on the newest `--length` events
            of a user, and knows only their items.
matched     ours, the same sizes, dropout and loss; batches of as many events as 128 users have. It
            uses the order of events and no times, and trains as plainly: one rate, .001, no
            warm-up, weight decay or clipping. It trains on every event, so its epochs are longer.
defaults    ours with its defaults: all times, smaller batches, and a higher rate that falls to 0
            with the last epoch, so each number of epochs has a curve of its own. `--epochs`
            applies, `--length` does not.

The models run one after the other, each in a process of its own with `--threads` threads. Seconds
are wall time from the first batch on, without the copying of weights at the end of an epoch;
`prepare_s` has the time to prepare the data. Every copy is evaluated after training. The script
prints a line for each model (cost and setting) and epoch; then one for each level of NDCG@10:
seconds to the end of the first epoch that has it, and how many times as fast as RecTools ours was.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.common.events import K, load
from benchmarks.realtime.curve_worker import COLUMNS, PARTS, Log
from sklearn_recft.metrics import ndcg_at_k
from sklearn_recft.model_selection import LeaveLastOut

DATA = "ml-1m"
LEVELS = (0.05, 0.10, 0.12, 0.14, 0.16, 0.18, 0.20, 0.21, 0.22, 0.23)
WIDTH, LAYERS, HEADS, DROPOUT, RATE, USERS = 64, 2, 2, 0.2, 1e-3, 128
EPOCHS = 20
MODELS = ("matched", "defaults", "rectools")
PEER = "rectools"


# ------------------------------------------------------------------------------ protocol


def encode(events: pd.DataFrame, limit_users: int | None) -> pd.DataFrame:
    """Encode ids, of the first ``limit_users`` users only if given; items in the order of ids."""
    codes = events[COLUMNS].copy()
    codes["user_id"] = np.unique(codes["user_id"], return_inverse=True)[1]
    codes = codes[codes["user_id"] < (limit_users or np.inf)].reset_index(drop=True)
    codes["item_id"] = np.unique(codes["item_id"], return_inverse=True)[1]
    return codes


def leave_two_out(events: pd.DataFrame) -> tuple[Log, dict[str, np.ndarray]]:
    """Return the log, and the validation and test item of each user with 3 events or more."""
    [(learned, last)] = LeaveLastOut(2).split(events)
    both = events.iloc[last]  # in time order
    validation = both.drop_duplicates("user_id", keep="first").sort_values("user_id")
    test = both.drop_duplicates("user_id", keep="last").sort_values("user_id")
    log = Log(events.iloc[learned], validation, test["timestamp"].to_numpy())
    truth = {"validation": validation["item_id"], "test": test["item_id"]}
    return log, {part: items.to_numpy() for part, items in truth.items()}


def evaluate(truth: np.ndarray, lists: np.ndarray) -> float:
    """Mean NDCG@10 of lists of codes, where -1 is no item."""
    return ndcg_at_k(truth[:, None], [items[items >= 0] for items in lists], k=K)


# ------------------------------------------------------------------------------ models


def job_of(model: str, log: Log, options: argparse.Namespace) -> dict[str, Any]:
    """Return the library, its setting, and the change that makes a short warm-up of it."""
    if model == PEER:
        setting: dict[str, Any] = {
            "n_factors": WIDTH, "n_blocks": LAYERS, "n_heads": HEADS, "dropout_rate": DROPOUT,
            "session_max_len": options.length, "batch_size": USERS, "loss": "softmax", "lr": RATE,
            "epochs": options.epochs or EPOCHS,
        }  # fmt: skip
        brief = {"epochs": 1}
    elif model == "matched":
        setting = {
            "n_layers": LAYERS, "n_heads": HEADS, "max_history": options.length,
            "max_epochs": options.epochs or EPOCHS, "query_time": False, "decay": "none",
            "width": WIDTH, "dropout": DROPOUT, "n_negatives": 0,
            "training": {
                "learning_rate": RATE, "schedule": "constant", "warmup": 0.0, "weight_decay": 0.0,
                "clip": math.inf,
            },
            "net_params": {"batch_size": batch_of_events(log, options.length)},
        }  # fmt: skip
        brief = {"max_epochs": 1}
    else:
        setting = {} if options.epochs is None else {"max_epochs": options.epochs}
        brief = {"max_epochs": 1}
    library = PEER if model == PEER else "sklearn-recft"
    return {
        "library": library, "setting": setting, "brief": brief, "k": K, "seed": options.seed,
        "threads": options.threads, "timed": model != "matched",
    }  # fmt: skip


def batch_of_events(log: Log, length: int) -> int:
    """Count the events that `USERS` users have on average, each with so many at most."""
    sizes = log.learned["user_id"].value_counts()
    return round(USERS * float(sizes.clip(upper=length).mean()))


def curve(
    job: dict[str, Any], log: Log, truth: dict[str, np.ndarray], python: str
) -> Iterator[dict[str, Any]]:
    """Train in a process, and evaluate its lists as they arrive."""
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON")
    threads = {f"{name}_NUM_THREADS": str(job["threads"]) for name in names}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        log.write(folder)
        command = [python, "-W", "ignore", "-m", "benchmarks.realtime.curve_worker", name]
        environment = os.environ | threads | {"PYTHONPATH": path}
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                for text in process.stdout or ():
                    yield evaluated(json.loads(text), truth, folder)
            finally:
                process.kill()  # where nobody reads on; one that has ended does not mind
    if process.returncode not in (0, 1):
        yield {"failed": f"the process died with {process.returncode}"}


def evaluated(line: dict[str, Any], truth: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    """Add to the line of an epoch how good its lists are."""
    if "epoch" not in line:
        return line
    with np.load(folder / f"{line['epoch']}.npz") as lists:
        scores = {part: evaluate(truth[part], lists[part]) for part in PARTS}
    return line | {f"ndcg_{part}": round(score, 5) for part, score in scores.items()}


# ------------------------------------------------------------------------------ summary


def seconds_to(lines: list[dict[str, Any]], part: str, level: float) -> float | None:
    """Seconds of training until the end of the first epoch that has the level."""
    there = (line["train_seconds"] for line in lines if line[f"ndcg_{part}"] >= level)
    return next(there, None)


def summary(curves: dict[str, list[dict[str, Any]]], level: float, part: str) -> dict[str, Any]:
    """Set the seconds of all models to a level side by side."""
    seconds = {model: seconds_to(lines, part, level) for model, lines in curves.items()}
    slow = seconds.get(PEER)
    return {
        "level": level, "part": part, "seconds": seconds,
        "times_as_fast": {
            model: round(slow / quick, 2) if slow and quick else None
            for model, quick in seconds.items() if model != PEER
        },
    }  # fmt: skip


def printable(setting: dict[str, Any]) -> dict[str, Any]:
    """Write infinity as text, which JSON can hold."""
    return json.loads(json.dumps(setting), parse_constant=str)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=MODELS, help="may be repeated")
    parser.add_argument("--epochs", type=int, help=f"else {EPOCHS}, and our default for ours")
    parser.add_argument("--length", type=int, default=200, help="events a query looks back on")
    parser.add_argument("--limit-users", type=int, help="only the first so many users")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--python", action="append", default=[], metavar="LIBRARY=INTERPRETER",
        help="train a library in another environment",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.python = dict(entry.split("=", 1) for entry in options.python)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Print the curves and their summary; 1 if a model failed."""
    options = parse(arguments)
    log, truth = leave_two_out(encode(load(DATA), options.limit_users))

    def emit(record: dict[str, Any]) -> None:
        print(json.dumps(record), flush=True)

    head = {
        "machine": platform.platform(), "cpus": os.cpu_count(), "threads": options.threads,
        "data": DATA, "n_train": len(log.learned), "n_users": len(log.test_time),
        "n_items": log.learned["item_id"].nunique(), "seed": options.seed,
    }  # fmt: skip
    emit(head)
    curves: dict[str, list[dict[str, Any]]] = {}
    failed = False
    for model in options.only or MODELS:
        job = job_of(model, log, options)
        curves[model] = []
        for line in curve(job, log, truth, options.python.get(job["library"], sys.executable)):
            known = {} if "epoch" in line else {"library": job["library"]}
            setting = {"setting": printable(job["setting"])} if "version" in line else {}
            emit({"model": model, **known, **line, **setting})
            curves[model] += [line] if "epoch" in line else []
            failed |= "failed" in line
    for part in PARTS:
        for level in LEVELS:
            emit(summary(curves, level, part))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
