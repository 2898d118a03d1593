"""Compare the classical estimators with their peers, and measure what a half-life is worth.

    python benchmarks/baselines/bench_baselines.py --task peers
    python benchmarks/baselines/bench_baselines.py --task half-life

peers: the same algorithm with the same constants on the same events (the first nine tenths of a
timeline, by default MovieLens 1M), evaluated on the last tenth by the same metrics. Ours and
skrecsys are fitted from raw ids. implicit is fitted from a sparse matrix, which is built before the
clock starts. Lists of 10 for all users of the train part, seen items excluded. Medians over
`--repeats` rounds; each round runs every model. It needs the environment of
`benchmarks/peers/requirements.txt`; libraries that are not installed are left out.

half-life: `GridSearchCV` on the train part of each data set's timeline (three temporal folds),
over the strength of shrinkage alone, and over shrinkage and `half_life`. Each chosen setting is
evaluated on the test part. Nothing is random.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.model_selection import GridSearchCV

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import COLUMNS, DATA, REPEATING, Task, evaluate, load, tasks
from sklearn_recft import (
    ALSRecommender,
    EASERecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit

THREADS = 2
K = 10
HALF_LIVES = [None, 7.0, 30.0, 90.0, 365.0]  # as on the leaderboard
FORGETTERS = {
    "PopularityRecommender": (PopularityRecommender(), {}),
    "ItemKNNRecommender": (
        ItemKNNRecommender(n_neighbors=300, n_jobs=THREADS), {"shrinkage": [10.0, 100.0, 1000.0]}
    ),
    "EASERecommender": (EASERecommender(n_jobs=THREADS), {"reg": [100.0, 1000.0, 5000.0]}),
}  # fmt: skip

# A model's turn: fit, then a function from places of users to lists of items, both on the clock.
Fit = Callable[[], Callable[[np.ndarray], np.ndarray]]


class Events:
    """The train part of a task: raw ids, and codes for libraries that need a matrix."""

    def __init__(self, task: Task) -> None:
        self.ids = task.train[["user_id", "item_id"]].to_numpy()
        self.users, user = np.unique(self.ids[:, 0], return_inverse=True)
        self.items, item = np.unique(self.ids[:, 1], return_inverse=True)
        shape = len(self.users), len(self.items)
        self.matrix = csr_matrix((np.ones(len(user), np.float32), (user, item)), shape)

    def by_ids(self, model: Any) -> Fit:
        """Ours and skrecsys: raw ids in, raw ids out."""

        def fit() -> Callable[[np.ndarray], np.ndarray]:
            model.fit(self.ids)
            return lambda places: model.recommend(self.users[places], n_recommendations=K)[0]

        return fit

    def by_matrix(self, make: Callable[[], Any]) -> Fit:
        """Implicit: a matrix in, codes out."""

        def fit() -> Callable[[np.ndarray], np.ndarray]:
            model = make()
            model.fit(self.matrix, show_progress=False)
            return lambda places: self.items[
                model.recommend(places, self.matrix[places], N=K)[0].clip(min=0)
            ]

        return fit


def contenders(events: Events) -> Iterator[tuple[str, str, Fit]]:
    """Yield algorithm, library and how to fit it."""
    ours = "sklearn-recft"
    yield (
        "cosine, K=100",
        ours,
        events.by_ids(ItemKNNRecommender(n_neighbors=100, shrinkage=0.0, n_jobs=THREADS)),
    )
    bm25 = ItemKNNRecommender(n_neighbors=100, similarity="bm25", n_jobs=THREADS)
    yield "BM25, K=100", ours, events.by_ids(bm25)
    yield "EASE, reg=500", ours, events.by_ids(EASERecommender(reg=500.0, n_jobs=THREADS))
    als = ALSRecommender(n_factors=64, reg=10.0, alpha=1.0, random_state=0, n_jobs=THREADS)
    yield "ALS, 64 factors, 15 sweeps", ours, events.by_ids(als)
    if find_spec("implicit"):
        near = import_module("implicit.nearest_neighbours")
        alike = {"K": 100, "num_threads": THREADS}
        yield (
            "cosine, K=100", "implicit", events.by_matrix(lambda: near.CosineRecommender(**alike))
        )  # fmt: skip
        yield "BM25, K=100", "implicit", events.by_matrix(lambda: near.BM25Recommender(**alike))
        factors = import_module("implicit.cpu.als").AlternatingLeastSquares
        # Its confidence in an event is alpha, ours 1 + alpha.
        yield (
            "ALS, 64 factors, 15 sweeps", "implicit",
            events.by_matrix(
                lambda: factors(
                    factors=64, regularization=10.0, alpha=2.0, iterations=15,
                    num_threads=THREADS, random_state=0,
                )
            ),
        )  # fmt: skip
    if find_spec("skrecsys"):
        theirs = import_module("skrecsys.recommendation")
        each = {"n_jobs": THREADS}
        knn = theirs.ItemKNNRecommender(n_neighbors=100, **each)
        yield "cosine, K=100", "skrecsys", events.by_ids(knn)
        yield "BM25, K=100", "skrecsys", events.by_ids(theirs.BM25Recommender(100, **each))
        yield "EASE, reg=500", "skrecsys", events.by_ids(theirs.EASE(l2_reg=500.0, **each))


def peers(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line a model: quality, and medians of seconds."""
    from threadpoolctl import threadpool_limits

    for data in options.data or ["ml-1m"]:
        _, task = tasks(load(data), "timeline", data not in REPEATING)
        events, all_of = Events(task), list(contenders(Events(task)))
        queried = np.searchsorted(events.users, task.queries)
        seconds: dict[tuple[str, str], list[tuple[float, float]]] = {}
        scores = {}
        for turn in range(options.repeats + 1):
            for algorithm, library, fit in all_of:
                # implicit warns otherwise: its own threads and those of BLAS would compete.
                with threadpool_limits(1 if library == "implicit" else THREADS, "blas"):
                    start = time.perf_counter()
                    lists = fit()
                    fitted = time.perf_counter()
                    lists(np.arange(len(events.users)))
                    done = time.perf_counter()
                if turn:  # the first compiles and warms up
                    times = seconds.setdefault((algorithm, library), [])
                    times.append((fitted - start, done - fitted))
                else:
                    scores[algorithm, library] = evaluate(task, list(lists(queried)))
        for (algorithm, library), times in sorted(seconds.items()):
            fit_s, recommend_s = np.median(times, axis=0)
            yield {
                "task": "peers", "data": data, "algorithm": algorithm, "library": library,
                "ndcg": round(scores[algorithm, library]["ndcg"], 4),
                "recall": round(scores[algorithm, library]["recall"], 4),
                "fit_s": round(fit_s, 3), "recommend_s": round(recommend_s, 3),
                "n_users": len(events.users), "repeats": options.repeats,
            }  # fmt: skip


def half_life(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One line a data set and model: the half-life chosen, and what it is worth."""
    for data in options.data or DATA:
        keeps = data in REPEATING
        _, task = tasks(load(data), "timeline", not keeps)
        train = task.train[COLUMNS]
        scorer = make_ranking_scorer("ndcg", k=K, exclude_seen=not keeps)
        for name, (model, strength) in FORGETTERS.items():
            if name == "EASERecommender" and task.train["item_id"].nunique() > 5000:
                continue  # hours
            line = {"task": "half-life", "data": data, "model": name}
            for words, days in (("never forgets", [None]), ("may forget", HALF_LIVES)):
                search = GridSearchCV(
                    model, strength | {"half_life": days}, scoring=scorer,
                    cv=TemporalSplit(n_splits=3, test_size=0.1),
                ).fit(train)  # fmt: skip
                lists = search.best_estimator_.recommend(
                    task.queries, n_recommendations=K, exclude_seen=not keeps
                )[0]
                ndcg = round(evaluate(task, list(lists))["ndcg"], 4)
                line[words] = {"ndcg": ndcg, "chosen": search.best_params_}
            yield line


def main() -> None:
    """Measure and print, one JSON line a row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=["peers", "half-life"], required=True)
    parser.add_argument("--data", action="append", choices=DATA, help="may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    for line in {"peers": peers, "half-life": half_life}[options.task](options):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    for prefix in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON"):
        os.environ.setdefault(f"{prefix}_NUM_THREADS", str(THREADS))
    main()
