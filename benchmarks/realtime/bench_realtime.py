"""What RealtimeTransformerRecommender is worth and costs, a JSON line a row.

    python benchmarks/realtime/bench_realtime.py --task next --params '{"max_epochs": 10}'
    python benchmarks/realtime/bench_realtime.py --task next --backbone FOLDER
    python benchmarks/realtime/bench_realtime.py --task timeline stream latency scale --threads 2

Events are in the order of time, those of one time in that of the file; every event is a positive.
Lists rank the whole catalogue, ties in catalogue order, K = 10, and leave out what the user has
taken, but in Online Retail, where people buy the same again. A query is a user and the time of the
event that it is judged by. What was never learned is a miss. Means over the seeds, and of what is
judged by the largest less the smallest, after a line for each seed.

next
    Leave-last-out: the last event of every user is asked for after a fit on all events before it
    (``--part test``), or the one before after a fit without both (``--part validation``, by which
    settings are chosen). As in the literature, others' events may be later than the asked one.
    One thing is changed at a time; NDCG@10 also by how many training events the asked item has.
    With ``--backbone`` the titles of ``items.parquet`` are read, and items without events are in
    the catalogue too. Amazon Beauty is as it is filed: 22,332 users and 12,086 items with 5 events
    or more (22,363 and 12,101 in the literature), time in days. Its file has the events of a
    user's day in the order of item ids, so the last of them is the one with the highest id.
timeline
    The first 90 % of the events are fitted. Users in both parts are asked once, at the time of
    their first later event, and judged by all their later items (as on the leaderboard); or before
    each of their later events, judged by the items still to come, the mean of a user first.
    "observe": the earlier later events are observed. The others stand still.
stream
    The same split; next-item scores over all later events, of new users and new items too: weights
    and histories frozen; every event observed; a day's events learned at midnight (UTC) as well;
    or everything fitted anew each midnight. Of such refits ``--refits`` are made, evenly spaced
    behind the first day, and judged on the day that follows; all are judged on these days too.
latency
    Milliseconds of one event observed and one list asked for, and seconds of 100,000 at once.
parts
    Seconds of one epoch's training by part.
scale
    One epoch on the users of a log of 1 M users, 200,000 items (Zipf) and 20 M events: one in 64,
    32 and 16 of them, each in a fresh process; a line through the costs leads to all.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import DATA as KNOWN
from benchmarks.realtime.cost import latency, parts, scale
from benchmarks.realtime.log import (
    Log,
    by_level,
    judge_next,
    lists_of,
    make_model,
    mean,
    merged,
    read,
    report,
)
from benchmarks.realtime.stream import Runs, stream, timeline

SEEDS = (0, 1, 2)
DATA = {
    "next": ("ml-1m", "amazon-beauty-2014"), "timeline": ("ml-1m",),
    "stream": ("ml-1m", "online-retail"), "latency": ("ml-1m",), "parts": ("ml-1m",),
    "scale": (),
}  # fmt: skip
TIMELESS, EVEN = {"query_time": False}, {"time_decay": "none"}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "query_time=False": TIMELESS,
    "time_decay=none": EVEN,
    "time_decay=exponential": {"time_decay": "exponential"},
    "query_time=False, time_decay=none": TIMELESS | EVEN,
    "texts": {},
}


def next_item(
    log: Log, seed: int, params: dict, part: str, backbone: str | None, variants: list[str]
) -> Runs:
    """Yield every variant's figures for the asked event of each user."""
    learned, asked = log.leave_last_out(part)
    for name in variants:
        changed, texts = VARIANTS[name], {}
        if name == "texts":
            if backbone is None:
                continue
            changed, texts = {"backbone": backbone}, {"items": log.titles}
        model = make_model(seed, params, changed)
        start = time.perf_counter()
        model.fit(learned, **texts)
        seconds = time.perf_counter() - start
        found = judge_next(asked, lists_of(model, asked, log.exclude_seen))
        yield name, {
            **{figure: mean(values) for figure, values in found.items()},
            **by_level(found["ndcg"], asked["item_id"], learned["item_id"]),
            "n_users": len(asked), "n_items": model.n_items_, "fit_seconds": seconds,
        }  # fmt: skip


def measure(task: str, name: str, options: argparse.Namespace, params: dict) -> None:
    n = {"n_users" if task == "next" else "n_events": options.limit}
    log = read(name, **n)
    runs = {
        "next": lambda seed: next_item(
            log, seed, params, options.part, options.backbone, options.variants
        ),
        "timeline": lambda seed: timeline(log, seed, params, seed == options.seeds[0]),
        "stream": lambda seed: stream(log, seed, params, options.refits, options.later),
        "latency": lambda seed: iter([("ours", latency(log, seed, params))]),
        "parts": lambda seed: iter([("ours", parts(log, seed, params))]),
    }
    seeds = options.seeds[:1] if task in ("latency", "parts") else options.seeds
    label = f"next, {options.part}" if task == "next" else task
    report(label, log, seeds, runs[task])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--data", nargs="+", choices=KNOWN, help="default: those of the task")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--limit", type=int, help="first users (next) or first events alone")
    parser.add_argument("--params", type=json.loads, default={}, help="of the model, as JSON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("validation", "test"), default="test")
    parser.add_argument("--backbone", help="a folder or a name: titles are read, in a row more")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--refits", type=int, default=5, help="how often in a stream")
    parser.add_argument("--later", type=int, help="first events of a stream alone")
    parser.add_argument("--slices", nargs="+", type=int, default=[64, 32, 16], help="of scale")
    options = parser.parse_args(argv)
    params = merged({"n_jobs": options.threads}, options.params)
    for task in options.task:
        if task == "scale":
            scale(options.seeds[0], params, options.slices)
        for name in options.data or DATA[task] if task != "scale" else ():
            measure(task, name, options, params)


if __name__ == "__main__":
    main()
