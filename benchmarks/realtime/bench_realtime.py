"""Measure what RealtimeTransformerRecommender is worth and costs, one JSON line per row.

    python benchmarks/realtime/bench_realtime.py --task next --params '{"max_epochs": 10}'
    python benchmarks/realtime/bench_realtime.py --task next --backbone auto
    python benchmarks/realtime/bench_realtime.py --task timeline stream latency scale --threads 2

Events are in the order of time; events of one time keep the order of the file. Every event is a
positive. Lists rank the whole catalogue, ties in catalogue order, K = 10. Seen items are excluded,
except in Online Retail, where people buy the same again. A query is a user and the time of the test
event. An item without training events counts as a miss. Each seed has a line; then follow the means
over the seeds, with the spread of the metrics (the largest value less the smallest).

next
    Leave-last-out: the last event of every user is predicted after a fit on all events before it
    (``--part test``), or the one before it after a fit without both (``--part validation``, by
    which settings are chosen). ``--part both`` has a row of each from one fit without both: the
    events of validation are asked, then observed, and the last ones asked. ``--ease`` adds a row
    for the scores plus this weight times the standardized scores of EASE. As in the literature,
    others' events may be later than the test event. One thing is changed at a time. NDCG@10 is
    also given by the number of training events of the test item. With ``--backbone`` the titles
    of ``items.parquet`` are read, and items without events are in the catalogue too. Amazon
    Beauty is used as filed: 22,332 users and 12,086 items with 5 events or more (22,363 and
    12,101 in the literature), time in days. Its file has the events of a user's day in the order
    of item ids, so the last of them is the one with the highest id.
timeline
    The first 90 % of the events are fitted. Users in both parts have one query, at the time of
    their first later event, evaluated on all their later items (as on the leaderboard); or one
    query before each of their later events, evaluated on the items still to come, averaged by user
    first. "observe": the later events before the query are observed. The others are not updated.
blend
    The one query per user of the timeline, answered by a weighted mean of the scores of the
    transformer and of `IncrementalMFRecommender` with "softmax". The weight is chosen on the tenth
    before the last (``--part validation``). With ``--backbone`` the transformer reads titles.
stream
    The same split; next-item scores over all later events, including new users and new items.
    Variants: weights and histories frozen; every event observed; a day's events also learned at
    midnight (UTC); everything refitted at midnight. Only ``--refits`` refits are made, evenly
    spaced behind the first day, and evaluated on the following day. All variants are evaluated on
    these days too.
latency
    Milliseconds to observe one event and recommend one list, and seconds to observe 100,000.
parts
    Seconds of one epoch's training by part.
scale
    One epoch on the users of a log of 1 M users, 200,000 items (Zipf) and 20 M events: one in 64,
    32 and 16 of them, each in a fresh process. A line through the costs extrapolates to all.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import DATA as KNOWN
from benchmarks.common.params import add_params_option, merged
from benchmarks.realtime.blend import blend, blended_lists
from benchmarks.realtime.cost import latency, parts, scale
from benchmarks.realtime.log import (
    Log,
    by_level,
    evaluate_next,
    lists_of,
    make_model,
    mean,
    read,
    report,
)
from benchmarks.realtime.stream import Runs, stream, timeline
from sklearn_recft import EASERecommender

SEEDS = (0, 1, 2)
PARTS = ("validation", "test")
EASE = {"history_half_life": 3}
DATA = {
    "next": ("ml-1m", "amazon-beauty-2014"), "timeline": ("ml-1m",), "blend": ("ml-1m",),
    "stream": ("ml-1m", "online-retail"), "latency": ("ml-1m",), "parts": ("ml-1m",),
    "scale": (),
}  # fmt: skip
TIMELESS, EVEN = {"query_time": False}, {"decay": "none"}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "query_time=False": TIMELESS,
    "decay=none": EVEN,
    "decay=exponential": {"decay": "exponential"},
    "query_time=False, decay=none": TIMELESS | EVEN,
    "texts": {},
}


def next_item(
    log: Log, seed: int, params: dict, part: str, backbone: str | None, variants: list[str],
    ease: float | None = None,
) -> Runs:  # fmt: skip
    """Yield every variant's figures for the test event of each user."""
    learned, *asked = log.asked(part)
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
        for label, queried, lists in lists_of_parts(log, model, learned, asked, ease):
            found = evaluate_next(queried, lists)
            yield name + label, {
                **{figure: mean(values) for figure, values in found.items()},
                **by_level(found["ndcg"], queried["item_id"], learned["item_id"]),
                "n_users": len(queried), "n_items": model.n_items_, "fit_seconds": seconds,
            }  # fmt: skip


def lists_of_parts(
    log: Log, model: Any, learned: pd.DataFrame, asked: list[pd.DataFrame], ease: float | None
) -> Iterator[tuple[str, pd.DataFrame, np.ndarray]]:
    """Yield label, test events and lists of each part, which is observed before the next."""
    other = None if ease is None else EASERecommender(**EASE).fit(learned)
    for place, queried in enumerate(asked):
        if place:
            model.observe(asked[place - 1])
            learned = pd.concat([learned, asked[place - 1]])
        label = f", {PARTS[place]}" if len(asked) > 1 else ""
        yield label, queried, lists_of(model, queried, log.exclude_seen)
        if other is not None:
            if place:
                other.partial_fit(asked[place - 1])
            seen = learned if log.exclude_seen else None
            yield f"{label} + EASE", queried, blended_lists(model, other, ease, queried, seen)


def measure(task: str, name: str, options: argparse.Namespace, params: dict) -> None:
    n = {"n_users" if task == "next" else "n_events": options.limit}
    log = read(name, **n)
    runs = {
        "next": lambda seed: next_item(
            log, seed, params, options.part, options.backbone, options.variants, options.ease
        ),
        "timeline": lambda seed: timeline(log, seed, params, seed == options.seeds[0]),
        "blend": lambda seed: blend(log, seed, params, options.part, options.backbone),
        "stream": lambda seed: stream(log, seed, params, options.refits, options.later),
        "latency": lambda seed: iter([("ours", latency(log, seed, params))]),
        "parts": lambda seed: iter([("ours", parts(log, seed, params))]),
    }
    seeds = options.seeds[:1] if task in ("latency", "parts") else options.seeds
    label = f"{task}, {options.part}" if task in ("next", "blend") else task
    report(label, log, seeds, runs[task])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--data", nargs="+", choices=KNOWN, help="default: those of the task")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--limit", type=int, help="first users (next) or first events alone")
    add_params_option(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=(*PARTS, "both"), default="test")
    parser.add_argument("--backbone", help="a folder or a name: titles are read, in a row more")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--ease", type=float, help="next: weight of EASE's scores, in a row more")
    parser.add_argument("--refits", type=int, default=5, help="how often in a stream")
    parser.add_argument("--later", type=int, help="first events of a stream alone")
    parser.add_argument("--slices", nargs="+", type=int, default=[64, 32, 16], help="of scale")
    options = parser.parse_args(argv)
    if options.ease is not None and options.backbone:
        parser.error("--ease: EASE does not know the items that have a title alone")
    params = merged({"n_jobs": options.threads}, options.params)
    for task in options.task:
        if task == "scale":
            scale(options.seeds[0], params, options.slices)
        for name in options.data or DATA[task] if task != "scale" else ():
            measure(task, name, options, params)


if __name__ == "__main__":
    main()
