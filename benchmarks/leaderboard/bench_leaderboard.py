"""The leaderboard: all libraries, one protocol, one budget, the same metrics.

    python benchmarks/leaderboard/bench_leaderboard.py --data ml-100k --protocol timeline
    python benchmarks/leaderboard/bench_leaderboard.py --library rectools --python rectools=PATH
    python benchmarks/leaderboard/bench_leaderboard.py --intervals --python implicit=PATH ...
    python benchmarks/leaderboard/bench_leaderboard.py --table > benchmarks/leaderboard/TABLES.md

A cell is a model on a data set under a protocol. At most 8 settings are fitted on the train part.
NDCG@10 on the validation part chooses one of them. It is fitted on both parts and evaluated on the
test part, with three seeds where the model is random. Each cell appends one JSON line to
`<data>_<protocol>.jsonl` beside this file. A cell that has a line is skipped, so a stopped run can
be resumed (`--again` measures once more; the last line counts). A blend has the settings that were
chosen for its members, so their lines must be there. `--windows 3 --output
benchmarks/leaderboard/windows` chooses by the mean NDCG@10 of three parts on the timeline: the last
three tenths of the training events, each after the events before it.

`--intervals` fits our best model of a table and the best peer once more, and writes the difference
of their NDCG@10 with its 95 % interval to `intervals.json`. Users are drawn with replacement; a
user's value is the mean over the seeds. A cell whose leaders have not changed is skipped.

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
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.common.events import DATA, PROTOCOLS, REPEATING, K, Task, load, tasks, windows
from benchmarks.leaderboard import intervals
from benchmarks.leaderboard.grid import MODELS, Model, at_edge, settings, with_members
from benchmarks.leaderboard.jobs import work, work_through
from benchmarks.leaderboard.table import key, latest, page
from sklearn_recft.metrics import ndcg_at_k

HERE = Path(__file__).resolve().parent
SEEDS = (0, 1, 2)


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
    runs = runs_of(model, chosen, options)
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


def runs_of(model: Model, setting: dict[str, Any], options: argparse.Namespace) -> list[dict]:
    """List the runs of a setting on the test part: one, or one for each seed."""
    seeds = options.seeds if model.stochastic else options.seeds[:1]
    return [{"setting": setting, "seed": seed} for seed in seeds]


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
    parser.add_argument(
        "--intervals", action="store_true", help="only compare our best with the best peer"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=SEEDS, help="of the test, for random models"
    )
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
        first = intervals.table(intervals.read(options.output))
        print(page(read(options.output), first), end="")
        return 0
    if options.intervals:
        return compare_leaders(options)
    if options.windows > 1 and options.output == HERE:
        raise SystemExit("--windows changes the rule of the choice: give it its own --output.")
    options.output.mkdir(parents=True, exist_ok=True)
    there = set() if options.again else {key(line) for line in read(options.output)}
    bad = 0
    for data in DATA if options.data == "all" else [options.data]:
        for protocol in PROTOCOLS if options.protocol == "all" else [options.protocol]:
            names = {
                (data, protocol, m.library, m.name): m
                for m in wanted(options)
                if data in REPEATING or not m.habits_only
            }
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


def compare_leaders(options: argparse.Namespace) -> int:
    """Compare our best with the best peer where that is missing; 1 if one could not be fitted."""
    pairs = intervals.leaders(read(options.output))
    there = [] if options.again else intervals.read(options.output)
    bad = 0
    for (data, protocol), pair in pairs.items():
        asked = options.data in (data, "all") and options.protocol in (protocol, "all")
        if not asked or any(intervals.is_of(pair, one) for one in there):
            continue
        found = intervals.compare(
            pair, parts_of(data, protocol, options)[-1], lambda *a: values_of(*a, options)
        )
        if found is None:
            bad += 1
            print(json.dumps({"data": data, "protocol": protocol, "skipped": "no lists"}))
            continue
        intervals.write(options.output, found)
        print(json.dumps(found), flush=True)
    return int(bad > 0)


def values_of(
    model: Model, task: Task, line: dict[str, Any], options: argparse.Namespace
) -> np.ndarray | None:
    """Return the mean NDCG@10 of each user over the seeds; None if a run gave no lists."""
    if "members" in line:
        model = replace(model, given={"members": line["members"]})
    runs = runs_of(model, line["chosen"], options)
    found, _ = work(model, task, runs, options, score=of_users)
    values = [run["of_users"] for run in found if "of_users" in run]
    return np.mean(values, axis=0) if len(values) == len(runs) else None


def of_users(task: Task, lists: list[np.ndarray]) -> dict[str, Any]:
    """Return NDCG@10 of each list, in the order of the queries."""
    return {"of_users": ndcg_at_k(task.relevant, lists, k=K, per_user=True)}


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
