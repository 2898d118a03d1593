"""The defaults of the classical estimators: which setting is best over several data sets.

    script=benchmarks/defaults/bench_defaults.py
    python $script > grid.jsonl
    python $script --estimator ease --data ml-1m --part test >> grid.jsonl
    python $script --estimator als --setting '{"reg": 30, "alpha": 10}'
    python $script --table grid.jsonl

Splits are those of the leaderboard's timeline (`benchmarks.common.events`): events are sorted by
time (stable), the last tenth is the test part, and of what is left the last tenth is the
validation part. Settings are compared on the validation part alone. With ``--part test``, only
the old and the new default are fitted, on all events before the test part.

Ranking: every event is a positive, whatever its rating; NDCG@10 over the whole catalogue for the
users of the part who have events before it. Items seen before are left out, except on Online
Retail. Ratings: RMSE, on the MovieLens data sets only. "once" predicts all rows of users seen
before from the fitted model; "stream" predicts every row of the part, unknown users included, and
learns each row right after its prediction (`partial_fit_predict`).

The default is the setting with the best mean rank over the columns of its table; settings with
equal figures share a rank. "Least share" is the smallest ratio of a figure to the best one of its
column (for errors, of the best one to the figure). Estimators that draw random numbers are
fitted with three seeds: figures are means, and the largest spread (max - min) stands beside them.

``relative_reg`` of "ease" is not a parameter: it sets ``reg`` to so many times the mean diagonal of
the Gram matrix X^T X.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import (
    COLUMNS,
    DATA,
    REPEATING,
    TEST_SHARE,
    K,
    evaluate,
    load,
    tasks,
)
from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RP3BetaRecommender,
)
from sklearn_recft.model_selection import TemporalSplit

RATINGS = ("ml-latest-small", "ml-100k", "ml-1m")
SEEDS = (0, 1, 2)
Setting = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """An estimator, the settings to compare, and its default before and after."""

    make: Callable[..., Any]
    settings: tuple[Setting, ...]
    old: Setting
    new: Setting
    ratings: bool = False
    random: bool = False


def _listed(names: str, *values: tuple[Any, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(names.split(), each, strict=True)) for each in values)


def _grid(**values: tuple[Any, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(values, each, strict=True)) for each in product(*values.values()))


TRIALS = {
    "ease": Trial(
        EASERecommender,
        _grid(reg=(50, 100, 200, 500, 1000, 2000, 5000, 10000))
        + _grid(relative_reg=(1, 3, 5, 10, 30)),
        old={"reg": 500}, new={"relative_reg": 5},
    ),
    "item-knn": Trial(
        ItemKNNRecommender,
        _listed(
            "similarity n_neighbors shrinkage",
            ("cosine", 20, 0), ("cosine", 20, 20), ("cosine", 20, 100), ("cosine", 50, 20),
            ("cosine", 100, 10), ("cosine", 100, 100), ("cosine", 300, 10), ("cosine", 300, 100),
            ("cosine", 300, 1000), ("cosine", 1000, 100),
        )
        + _listed(
            "similarity n_neighbors bm25_k1 bm25_b",
            ("bm25", 100, 1.2, 0.25), ("bm25", 300, 1.2, 0.75), ("bm25", 300, 1.2, 0.5),
            ("bm25", 300, 1.2, 0.25),
            ("bm25", 300, 1.2, 0), ("bm25", 300, 0.3, 0.25), ("bm25", 300, 5, 0.25),
            ("bm25", 1000, 1.2, 0.25), ("bm25", 1000, 0.3, 0.25), ("bm25", 1000, 0.3, 0.5),
            ("bm25", 1000, 1.2, 0.5), ("bm25", 1000, 5, 0.25),
        ),
        old={"similarity": "cosine", "n_neighbors": 300, "shrinkage": 100},
        new={"similarity": "bm25", "n_neighbors": 1000, "bm25_k1": 5, "bm25_b": 0.25},
    ),
    "rp3beta": Trial(
        RP3BetaRecommender,
        _grid(alpha=(0.6, 1, 1.4), beta=(0.1, 0.3), n_neighbors=(1000,))
        + _grid(alpha=(1,), beta=(0.1, 0.3), n_neighbors=(200,)),
        old={"alpha": 1, "beta": 0.1, "n_neighbors": 1000},
        new={"alpha": 1, "beta": 0.1, "n_neighbors": 1000},
    ),
    "als": Trial(
        ALSRecommender,
        _grid(n_factors=(64,), reg=(10, 30, 100), alpha=(1, 3, 10))
        + _grid(n_factors=(32, 128), reg=(30,), alpha=(3,))
        + _listed(
            "n_factors reg alpha",
            (64, 50, 3), (64, 60, 5), (32, 60, 5), (128, 50, 3), (128, 100, 10),
        ),
        old={"n_factors": 64, "reg": 30, "alpha": 3}, new={"n_factors": 32, "reg": 30, "alpha": 3},
        random=True,
    ),
    "mf-bpr": Trial(
        lambda **setting: IncrementalMFRecommender(loss="bpr", **setting),
        _grid(n_factors=(64,), learning_rate=(0.05, 0.1, 0.2), reg=(0.05, 0.1, 0.2))
        + _grid(n_factors=(32, 128), learning_rate=(0.1,), reg=(0.1,))
        + _listed(
            "n_factors learning_rate reg",
            (64, 0.3, 0.1), (64, 0.2, 0.14), (128, 0.2, 0.1), (128, 0.3, 0.1),
        ),
        old={"n_factors": 64, "learning_rate": 0.1, "reg": 0.1},
        new={"n_factors": 64, "learning_rate": 0.2, "reg": 0.1}, random=True,
    ),
    "mf-ratings": Trial(
        IncrementalMFRecommender,
        _grid(n_factors=(64,), learning_rate=(0.03, 0.045, 0.07), reg=(0.03, 0.045, 0.07))
        + _grid(n_factors=(32, 128), learning_rate=(0.045,), reg=(0.045,)),
        old={"n_factors": 64, "learning_rate": 0.045, "reg": 0.045},
        new={"n_factors": 64, "learning_rate": 0.045, "reg": 0.045}, ratings=True, random=True,
    ),
    "bias": Trial(
        BiasRecommender, _grid(damping=(0, 1, 2, 5, 10, 20, 50)),
        old={"damping": 5}, new={"damping": 5}, ratings=True,
    ),
    "popularity": Trial(
        PopularityRecommender, _grid(half_life=(None, 1, 3, 7, 30, 90)),
        old={"half_life": None}, new={"half_life": None},
    ),
}  # fmt: skip


def rank(trial: Trial, data: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield NDCG@10 of each setting and seed."""
    exclude_seen = data not in REPEATING
    task = tasks(load(data), "timeline", exclude_seen)[options.part == "test"]
    counts = task.train.groupby(["user_id", "item_id"]).size()
    diagonal = float((counts**2).sum() / task.train["item_id"].nunique())
    for setting, seed in runs(trial, options):
        given = dict(setting)
        if "relative_reg" in given:
            given = {"reg": given["relative_reg"] * diagonal}
        model = make(trial, given, seed)
        start = time.perf_counter()
        model.fit(task.train)
        seconds = time.perf_counter() - start
        lists = model.recommend(task.queries, n_recommendations=K, exclude_seen=exclude_seen)[0]
        figures = {"ndcg": evaluate(task, list(lists))["ndcg"]}
        yield {"setting": setting, "seed": seed, "fit_s": round(seconds, 2), "figures": figures}


def rate(trial: Trial, data: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the RMSE of each setting and seed, predicted once and row by row."""
    path = Path(os.environ["SKLEARN_RECFT_DATA"], data, "interactions.parquet")
    events = pd.read_parquet(path)[[*COLUMNS, "rating"]]
    [(past, part)] = TemporalSplit(n_splits=1, test_size=TEST_SHARE).split(events)
    if options.part == "validation":
        events = events.iloc[past]
        [(past, part)] = TemporalSplit(n_splits=1, test_size=TEST_SHARE).split(events)
    past, part = events.iloc[past], events.iloc[part]
    seen = part[part["user_id"].isin(past["user_id"])]
    for setting, seed in runs(trial, options):
        model = make(trial, setting, seed)
        start = time.perf_counter()
        model.fit(past[COLUMNS], past["rating"])
        seconds = time.perf_counter() - start
        figures = {"once": rmse(seen["rating"], model.predict(seen[COLUMNS]))}
        if hasattr(model, "partial_fit_predict"):
            predicted = model.partial_fit_predict(part[COLUMNS], part["rating"])
            figures["stream"] = rmse(part["rating"], predicted)
        yield {"setting": setting, "seed": seed, "fit_s": round(seconds, 2), "figures": figures}


def rmse(y: Any, predicted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.asarray(y, dtype=float) - predicted) ** 2)))


def runs(trial: Trial, options: argparse.Namespace) -> Iterator[tuple[Setting, int]]:
    settings = list(trial.settings)
    if options.part == "test":
        settings = [trial.old] if trial.old == trial.new else [trial.old, trial.new]
    settings = [json.loads(text) for text in options.setting or []] or settings
    yield from product(settings, SEEDS if trial.random else SEEDS[:1])


def make(trial: Trial, setting: Setting, seed: int) -> Any:
    return trial.make(**setting, **({"random_state": seed} if trial.random else {}))


def table(path: str) -> None:
    """Print a table an estimator and part, best mean rank first."""
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    rows = [
        {**{key: line[key] for key in ("estimator", "part", "seed")},
         "column": f"{line['data']} {name}", "value": value,
         "setting": ", ".join(f"{k}={v}" for k, v in line["setting"].items())}
        for line in lines for name, value in line["figures"].items()
    ]  # fmt: skip
    keys = ["estimator", "part", "setting", "column", "seed"]
    frame = pd.DataFrame(rows).drop_duplicates(keys, keep="last")
    for (estimator, part), group in frame.groupby(["estimator", "part"], sort=False):
        cells = group.groupby(["setting", "column"], sort=False)["value"]
        figures = cells.mean().round(4).unstack().sort_index(axis=1)
        error = not figures.columns.str.endswith("ndcg").any()
        whole = figures.dropna()
        least = (whole.min() / whole if error else whole / whole.max()).min(axis=1)
        figures["mean rank"] = whole.rank(ascending=error).mean(axis=1).round(2)
        figures["least share"] = least.round(3)
        figures["spread"] = cells.agg(np.ptp).unstack().max(axis=1).round(4)
        print(f"\n{estimator}, {part}\n\n| setting |", " | ".join(figures.columns), "|")
        print("|---" * (len(figures.columns) + 1) + "|")
        for setting, values in figures.sort_values("mean rank").iterrows():
            print("|", setting, "|", " | ".join(f"{value:g}" for value in values), "|")


def main() -> None:
    """Measure and print, one JSON line a fit, or print the tables of such lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--estimator", action="append", choices=TRIALS, help="may be repeated")
    parser.add_argument("--data", action="append", choices=sorted({*DATA, *RATINGS}))
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--setting", action="append", help="JSON, in place of the listed ones")
    parser.add_argument("--table", metavar="FILE", help="print the tables of these lines")
    options = parser.parse_args()
    if options.table:
        table(options.table)
        return
    for estimator in options.estimator or TRIALS:
        trial = TRIALS[estimator]
        for data in RATINGS if trial.ratings else DATA:
            if data in (options.data or (*DATA, *RATINGS)):
                for line in (rate if trial.ratings else rank)(trial, data, options):
                    head = {"estimator": estimator, "part": options.part, "data": data}
                    print(json.dumps(head | line), flush=True)


if __name__ == "__main__":
    main()
