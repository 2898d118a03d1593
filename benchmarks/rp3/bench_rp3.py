"""Random walks: what a knowledge graph is worth, and the same model in another library.

    script=benchmarks/rp3/bench_rp3.py
    python $script --task edges --data ml-1m --part validation >> benchmarks/rp3/results.jsonl
    python $script --task peer    # environment: benchmarks/peers/requirements.txt

edges
    Timelines as on the leaderboard. `benchmarks.rp3.graphs` makes the edges. "ndcg" is NDCG@10 over
    the whole catalogue. "new" counts only relevant items with fewer than 5 training events, in
    lists of the whole catalogue; "new alone" ranks these items alone. Both are means over the users
    with such a relevant item. A relevant item that is not in the catalogue counts as a miss, as on
    the leaderboard. Items of edges are in the catalogue, but without edges they have no walks.
peer
    ML-1M, the first nine tenths of the timeline: NDCG@10, and CPU seconds of a fit on one thread.
    They are medians of rounds that take turns.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import DATA, REPEATING, K, Task, evaluate, load, tasks
from benchmarks.rp3.graphs import edges
from sklearn_recft import ItemKNNRecommender, RP3BetaRecommender
from sklearn_recft.metrics import ndcg_at_k

FEW = 5  # items with fewer events are new
EDGE_WEIGHTS = (0.3, 1.0, 3.0)


def with_edges(data: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the figures without edges, and with each weight of them."""
    task = tasks(load(data), "timeline", data not in REPEATING)[options.part == "test"]
    table, given = edges(data), json.loads(options.setting)
    weights = [0.0, *(options.edge_weight or EDGE_WEIGHTS)]
    for weight in weights:
        model = RP3BetaRecommender(**given, edges=table if weight else None, edge_weight=weight)
        start = time.process_time()
        model.fit(task.train)
        seconds = time.process_time() - start
        found = {"edge_weight": weight, "setting": given, "fit_cpu_s": round(seconds, 2)}
        learned = {name: round(value, 4) for name, value in model.relation_weights_.items()}
        yield {**found, "relations": learned, "figures": figures(model, task)}


def figures(model: Any, task: Task) -> dict[str, float]:
    """Return NDCG@10 of all items, of new items, and among new items alone."""
    options = {"n_recommendations": K, "exclude_seen": task.exclude_seen, "on_missing": "pad"}
    counts = task.train["item_id"].value_counts()
    lists = model.recommend(task.queries, **options)[0]
    relevant = [[i for i in items if counts.get(i, 0) < FEW] for items in task.relevant]
    some = np.flatnonzero([len(items) > 0 for items in relevant])
    relevant = [np.array(relevant[n]) for n in some]
    catalogue = model.item_ids_
    new = catalogue[counts.reindex(catalogue).fillna(0).to_numpy() < FEW]
    among = model.recommend(task.queries[some], candidates=new, **options)[0]
    return {
        "ndcg": evaluate(task, list(lists))["ndcg"],
        "new": ndcg_at_k(relevant, list(lists[some]), k=K),
        "new alone": ndcg_at_k(relevant, list(among), k=K),
        "n_users": len(some),
    }


def peer(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield NDCG@10 and CPU seconds of skrecsys' RP3beta, ours, and our item neighbours."""
    from skrecsys.recommendation import RP3Beta

    _, task = tasks(load("ml-1m"), "timeline", True)
    rows = task.train[["user_id", "item_id"]].to_numpy()
    models = {
        "skrecsys": RP3Beta(1000, 1.0, 0.1, n_jobs=1),
        "ours": RP3BetaRecommender(1.0, 0.1, 1000),
        "item neighbours": ItemKNNRecommender(n_neighbors=1000),
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(options.rounds):
        for name, model in models.items():
            start = time.process_time()
            model.fit(rows)
            seconds[name].append(time.process_time() - start)
    for name, model in models.items():
        lists = model.recommend(task.queries, n_recommendations=K)[0]
        median = round(float(np.median(seconds[name])), 2)
        yield {"model": name, "fit_cpu_s": median, "ndcg": evaluate(task, list(lists))["ndcg"]}


def main() -> None:
    """Measure and print, one JSON line a fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["edges", "peer"], required=True)
    parser.add_argument("--data", choices=DATA, action="append", help="may be repeated")
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--setting", default="{}", help="JSON, in place of the defaults")
    parser.add_argument("--edge-weight", type=float, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.task == "peer":
        for line in peer(options):
            print(json.dumps({"task": "peer", **line}), flush=True)
        return
    for data in options.data or DATA:
        for line in with_edges(data, options):
            print(
                json.dumps({"task": "edges", "data": data, "part": options.part, **line}),
                flush=True,
            )


if __name__ == "__main__":
    main()
