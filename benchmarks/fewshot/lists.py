"""Lists for new users after a few positives: `--task positives`.

New are the users whose first event is among the newest fifth of first events. Models are fitted on
everything before. A new user's first k events are given as history; what follows the tenth is
relevant. Where seen items are left out, the first ten are left out at every k, so that the relevant
items are the same for all k.
"""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from benchmarks.common.events import COLUMNS, REPEATING, K
from benchmarks.common.events import load as load_events
from benchmarks.common.report import row
from benchmarks.fewshot import score
from benchmarks.fewshot.data import load
from sklearn_recft import (
    ALSRecommender,
    BayesianMFRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.metrics import ndcg_at_k

SHOTS = (1, 3, 5, 10)
NEW_SHARE = 0.2
LIKE = 4  # stars
BASELINE = "EASE"
MODELS: dict[str, Any] = {
    "popularity": PopularityRecommender(),
    "popularity, 30 days": PopularityRecommender(half_life=30),
    "ItemKNN, BM25": ItemKNNRecommender(),
    "ItemKNN, cosine": ItemKNNRecommender(similarity="cosine"),
    "EASE": EASERecommender(),
    "ALS": ALSRecommender(),
    "softmax": IncrementalMFRecommender(loss="softmax"),
    "softmax, 30 days": IncrementalMFRecommender(loss="softmax", half_life=30),
    "softmax, next": IncrementalMFRecommender(loss="softmax", history_half_life=3.0),
    "Bayes": BayesianMFRecommender(loss="implicit"),
    "Bayes, 3 negatives": BayesianMFRecommender(loss="implicit", negatives=3.0),
    "transformer": RealtimeTransformerRecommender(),
}
SLOW = ("transformer",)  # one seed


@dataclass(frozen=True)
class ListTask:
    """Events to learn, and those of new users in the order of time.

    Attributes
    ----------
    train, given : DataFrame
        ``given`` has the first ten events of each new user, and their ``place``.
    users : ndarray
    relevant : list of ndarray
        Items of the events after the tenth, by user.
    exclude_seen : bool
    """

    train: pd.DataFrame
    given: pd.DataFrame
    users: np.ndarray
    relevant: list[np.ndarray]
    exclude_seen: bool


def positives(data: str) -> pd.DataFrame:
    """Return likes (ML-1M: four or five stars) or purchases."""
    if data in REPEATING:
        return load_events(data)
    ratings = load(data, text=False)
    return pd.DataFrame(ratings.X[ratings.y >= LIKE], columns=COLUMNS)


def list_task(events: pd.DataFrame, exclude_seen: bool) -> ListTask:
    """Split by the time of first events; users with nothing after their tenth are not asked."""
    events = events.sort_values("timestamp", kind="stable")
    first = events.groupby("user_id")["timestamp"].min().sort_values(kind="stable")
    begin = first.iloc[int((1 - NEW_SHARE) * len(first))]
    new = events[events["user_id"].map(first) >= begin]
    place = new.groupby("user_id").cumcount()
    given, later = new[place < SHOTS[-1]].assign(place=place), new[place >= SHOTS[-1]]
    if exclude_seen:
        pairs = pd.MultiIndex.from_frame(given[COLUMNS[:2]])
        later = later[~pd.MultiIndex.from_frame(later[COLUMNS[:2]]).isin(pairs)]
    taken = later.groupby("user_id")["item_id"].unique()
    return ListTask(
        events[events["timestamp"] < begin],
        given[given["user_id"].isin(taken.index)].reset_index(drop=True),
        taken.index.to_numpy(),
        taken.tolist(),
        exclude_seen,
    )


def run(data: str, seeds: list[int], names: list[str]) -> None:
    """Print NDCG@10 of each model after each number of events, and a table."""
    task = list_task(positives(data), data not in REPEATING)
    found: dict[str, pd.DataFrame] = {}
    for name in names:
        parts = []
        for seed in _seeds(MODELS[name], seeds, name):
            model = clone(MODELS[name])
            if "random_state" in model.get_params():
                model.set_params(random_state=seed)
            start = time.process_time()
            model.fit(task.train[COLUMNS])
            seconds = time.process_time() - start
            for k, values in curve(model, task):
                part = {"owner": task.users, "ndcg": values, "k": k, "seed": seed}
                parts.append(pd.DataFrame(part).assign(fit_s=seconds))
        found[name] = pd.concat(parts, ignore_index=True)
        _print(data, name, found)
    print(f"| {data}: NDCG@10 after | {' | '.join(map(str, SHOTS))} |")
    print("|---" * (len(SHOTS) + 1) + "|")
    for name, frame in found.items():
        means = frame.groupby("k")["ndcg"].mean()
        print(f"| {name} | {' | '.join(f'{means[k]:.4f}' for k in SHOTS)} |", flush=True)


def curve(model: Any, task: ListTask) -> Iterator[tuple[int, np.ndarray]]:
    """Yield NDCG@10 of each user after the first k events."""
    for k in SHOTS:
        history = task.given[task.given["place"] < k]
        now = history.groupby("user_id")["timestamp"].max().loc[task.users]
        queries = now.rename("timestamp").reset_index()
        options: dict[str, Any] = {"exclude_seen": task.exclude_seen}
        if task.exclude_seen:
            known = task.given["item_id"].isin(task.train["item_id"])
            options["exclude"] = task.given.loc[known, ["user_id", "item_id"]]
        now_known = model
        if isinstance(model, BayesianMFRecommender):
            now_known = copy.deepcopy(model).adapt(history[COLUMNS])
        elif not isinstance(model, PopularityRecommender):
            options["history"] = history[COLUMNS]
        lists, _ = now_known.recommend(queries, n_recommendations=K, **options)
        yield k, np.asarray(ndcg_at_k(task.relevant, list(lists), k=K, per_user=True))


def _seeds(model: Any, seeds: list[int], name: str) -> list[int]:
    """Return the seeds of a model: the first where it draws nothing or is slow."""
    return seeds[:1] if "random_state" not in model.get_params() or name in SLOW else seeds


def _print(data: str, name: str, found: dict[str, pd.DataFrame]) -> None:
    frame = found[name]
    seconds = float(frame["fit_s"].median())
    for k in SHOTS:
        mine = _by_user(frame, k)
        figures: dict[str, Any] = {"ndcg": float(mine["ndcg"].mean()), "fit_s": seconds}
        figures["by_seed"] = frame[frame["k"] == k].groupby("seed")["ndcg"].mean().tolist()
        if BASELINE in found and name != BASELINE:
            theirs = _by_user(found[BASELINE], k)
            figures[f"less {BASELINE}"] = score.paired(mine, theirs, "ndcg")
        row("positives", data, name, k=k, n=len(mine), **figures)


def _by_user(frame: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the mean of each user over the seeds."""
    mean = frame[frame["k"] == k].groupby("owner", as_index=False)["ndcg"].mean()
    return mean.assign(seed=0)
