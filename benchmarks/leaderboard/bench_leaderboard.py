"""The leaderboard: all libraries, one protocol, one budget, the same metrics.

    python benchmarks/leaderboard/bench_leaderboard.py --data ml-100k --protocol timeline
    python benchmarks/leaderboard/bench_leaderboard.py --library rectools --python rectools=PATH
    python benchmarks/leaderboard/bench_leaderboard.py --table > benchmarks/leaderboard/TABLES.md

A cell is a model on a data set under a protocol. At most 8 settings are fitted on the train part.
NDCG@10 on the validation part chooses one of them. It is fitted on both parts and evaluated on the
test part, with three seeds where the model is random. Each cell appends one JSON line to
`<data>_<protocol>.jsonl` beside this file. A cell that has a line is skipped, so a stopped run can
be resumed (`--again` measures once more; the last line counts). A blend has the settings that were
chosen for its members, so their lines must be there. `--windows 3 --output
benchmarks/leaderboard/windows` chooses by the mean NDCG@10 of three parts on the timeline: the last
three tenths of the training events, each after the events before it.

A process of its own fits each library. It gets the training events and the users to query, and
nothing of the test part. Its lists come back as raw ids and are evaluated here by
`sklearn_recft.metrics`. The process may use another environment (`--python library=interpreter`;
see `requirements.txt`). It is stopped after `--limit` seconds, once for all settings and once for
the test. The line names the settings that were not reached; a cell without any is a timeout.
`--jobs` measures several cells at once, and `--scheduler` those of a Dask cluster whose workers can
import this repository: metrics stay the same, times do not.

Data. Every event is a positive, ratings are ignored. MovieLens and Amazon Beauty (users and items
of five events or more) hold every pair of user and item once. Online Retail: see `purchases` in
`benchmarks/common/events.py`; purchases repeat, so seen items stay eligible and counts reach every
model that reads them. Whether to train on each pair once is part of the search. Elsewhere seen
items are excluded. Lists hold 10 of all training items, ties as each library breaks them. A
relevant item without training events counts as a miss. Users unknown to the train part are left
out.

Time. On the timeline, decay counts from the newest training event, the split point.
leave-last-out trains on other users' events from after a test event, as published figures do.

In the tables: * an edge of the range was chosen, † not every setting ended in time. The spread is
the largest value less the smallest over the seeds; seconds are medians over them. Fits are timed
from codes of users and items, after a small fit that takes imports and compilation off the clock.
The peak is the memory that a fit and its lists take beyond what the events held before.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.common.events import (
    DATA,
    PROTOCOLS,
    REPEATING,
    K,
    Task,
    evaluate,
    load,
    tasks,
    windows,
)
from benchmarks.leaderboard.grid import MODELS, Model, at_edge, settings, with_members
from benchmarks.leaderboard.table import key, latest, page

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)


def work(
    model: Model,
    task: Task,
    runs: list[dict[str, Any]],
    options: argparse.Namespace,
    warm_up: bool = False,
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
                    scores = evaluate(task, [items[valid] for items, valid in rows])
                found[-1] |= {metric: round(value, 5) for metric, value in scores.items()}
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


def measure(model: Model, parts: list[Task], options: argparse.Namespace) -> dict[str, Any] | None:
    """Choose on all parts but the last, report on it; None if the library is not installed."""
    *validation, test = parts
    tried_settings = settings(model, not test.exclude_seen)
    head = {
        "n_train": len(test.train), "n_items": int(test.train["item_id"].nunique()),
        "n_queries": len(test.queries), "threads": options.threads, "limit_s": options.limit,
        **model.given,
    }  # fmt: skip
    tried: list[dict[str, Any]] = []
    timed_out = False
    if len(tried_settings) > 1:
        runs = [{"setting": setting, "seed": 0} for setting in tried_settings]
        tried, timed_out = work_through(model, validation, runs, options)
        if any("absent" in run for run in tried):
            return None
        scored = [run for run in tried if "ndcg" in run]
        if not scored:
            return head | {"tried": tried} | lost(tried, timed_out)
        chosen = max(scored, key=lambda run: run["ndcg"])["setting"]
    else:
        scored, chosen = tried, tried_settings[0]
    seeds = SEEDS if model.stochastic else SEEDS[:1]
    runs = [{"setting": chosen, "seed": seed} for seed in seeds]
    found, timed_out = work(model, test, runs, options, warm_up=True)
    if any("absent" in run for run in found):
        return None
    done = [run for run in found if "ndcg" in run]
    if not done:
        return head | {"tried": tried, "chosen": chosen} | lost(found, timed_out)
    return head | {
        "status": "done",
        "version": done[0]["version"],
        "python": done[0]["python"],
        "tried": [without(run, "seed", "version", "python") for run in tried],
        "n_untried": len(tried_settings) - len(scored) if len(tried_settings) > 1 else 0,
        "chosen": chosen,
        "at_edge": at_edge(chosen, [run["setting"] for run in scored]),
        "test": [without(run, "setting", "version", "python") for run in done],
    }


def without(run: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in names}


def lost(found: list[dict[str, Any]], timed_out: bool) -> dict[str, Any]:
    """Report why a cell has no result."""
    failures = [run["failed"] for run in found if "failed" in run]
    version = next((run["version"] for run in found), "")
    if timed_out:
        return {"status": "timeout", "version": version, "error": "no run ended in time"}
    error = failures[0] if failures else "the process died"
    return {"status": "failed", "version": version, "error": error}


def measured(
    models: list[Model], parts: list[Task], options: argparse.Namespace
) -> Iterator[dict[str, Any] | None]:
    """Yield what `measure` returns for each model, by several processes or a cluster of Dask."""
    calls = (delayed(measure)(model, parts, options) for model in models)
    if options.scheduler is None:
        yield from Parallel(n_jobs=options.jobs, return_as="generator")(calls)
        return
    from dask.distributed import Client

    with Client(options.scheduler), parallel_config(backend="dask"):
        yield from Parallel(return_as="generator")(calls)


def read(folder: Path) -> list[dict[str, Any]]:
    """Read every line there is."""
    files = sorted(folder.glob("*.jsonl"))
    texts = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(text) for text in texts]


def parts_of(data: str, protocol: str, options: argparse.Namespace) -> list[Task]:
    """Return the parts to choose on, and the part to report on."""
    events, exclude_seen = load(data), data not in REPEATING
    *validation, test = tasks(events, protocol, exclude_seen)
    if options.windows > 1 and protocol == "timeline":
        validation = windows(events, options.windows, exclude_seen)
    return [*validation, test]


def done_before(folder: Path, data: str, protocol: str) -> list[dict[str, Any]]:
    """Read the last lines of the cells of one table."""
    return [line for line in latest(read(folder)) if key(line)[:2] == (data, protocol)]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=[*DATA, "all"], default="all")
    parser.add_argument("--protocol", choices=[*PROTOCOLS, "all"], default="all")
    parser.add_argument("--library", action="append", help="only this one; may be repeated")
    parser.add_argument("--model", action="append", help="only this one; may be repeated")
    parser.add_argument(
        "--python", action="append", default=[], metavar="LIBRARY=INTERPRETER",
        help="fit a library in another environment; may be repeated",
    )  # fmt: skip
    parser.add_argument("--limit", type=float, default=600.0, help="seconds of a worker")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--jobs", type=int, help="cells at once; times then depend on each other")
    parser.add_argument("--scheduler", help="address of a Dask scheduler for the cells")
    parser.add_argument(
        "--windows", type=int, default=1,
        help="timeline: choose by the mean of so many tenths; needs an --output of its own",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="measure cells that have a line too")
    parser.add_argument("--table", action="store_true", help="only print the page of tables")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries print")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of lines")
    options = parser.parse_args(arguments)
    options.python = dict(entry.split("=", 1) for entry in options.python)
    return options


def wanted(options: argparse.Namespace) -> list[Model]:
    """Select models by library and name."""
    return [
        model for model in MODELS
        if (not options.library or model.library in options.library)
        and (not options.model or model.name in options.model)
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing and append it; 1 if a cell gave no result."""
    options = parse(arguments)
    if options.table:
        print(page(read(options.output)), end="")
        return 0
    if options.windows > 1 and options.output == HERE:
        raise SystemExit("--windows changes the rule of the choice: give it its own --output.")
    options.output.mkdir(parents=True, exist_ok=True)
    there = set() if options.again else {key(line) for line in read(options.output)}
    bad = 0
    for data in DATA if options.data == "all" else [options.data]:
        for protocol in PROTOCOLS if options.protocol == "all" else [options.protocol]:
            names = {(data, protocol, m.library, m.name): m for m in wanted(options)}
            missing = {name: model for name, model in names.items() if name not in there}
            parts = parts_of(data, protocol, options) if missing else []
            lines = measured([m for m in missing.values() if not m.members], parts, options)
            for name, model in missing.items():
                head = dict(zip(("data", "protocol", "library", "model"), name, strict=True))
                if model.members:
                    model = with_members(model, done_before(options.output, data, protocol))
                if model is None:
                    print(json.dumps(head | {"skipped": "members without a line"}), flush=True)
                    continue
                line = measure(model, parts, options) if model.members else next(lines)
                if line is None:
                    print(json.dumps(head | {"skipped": "not installed"}), flush=True)
                    continue
                text = json.dumps(head | line)
                with (options.output / f"{data}_{protocol}.jsonl").open("a") as file:
                    file.write(text + "\n")
                print(text if options.verbose else summary(head | line), flush=True)
                bad += line["status"] != "done"
    return int(bad > 0)


def summary(line: dict[str, Any]) -> str:
    """Describe a cell in one short line."""
    words = " ".join(key(line))
    if line["status"] != "done":
        return f"{words}: {line['status']}, {line['error']}"
    scores = ", ".join(f"{run['ndcg']:.4f}" for run in line["test"])
    edge = f", at the edge of {', '.join(line['at_edge'])}" if line["at_edge"] else ""
    return f"{words}: NDCG@10 {scores} with {line['chosen']}{edge}, {line['n_untried']} untried"


if __name__ == "__main__":
    sys.exit(main())
