"""Load logs, make models, and report figures of the benchmarks of the real-time transformer."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import REPEATING, K, load
from benchmarks.common.params import constructor_params, merged
from benchmarks.common.report import row
from sklearn_recft import RealtimeTransformerRecommender
from sklearn_recft.metrics import hit_rate_at_k, ndcg_at_k
from sklearn_recft.model_selection import LeaveLastOut, TemporalSplit

TEST_SHARE = 0.1  # of the timeline
LEVELS = {"0": 0, "1-4": 1, "5-19": 5, "20+": 20}  # training events of an item, and the fewest
WITH_SPREAD = ("ndcg", "hit_rate", "recall")  # figures that are printed with their spread


@dataclass(frozen=True)
class Log:
    """Events in the order of time, every one a positive.

    Parameters
    ----------
    name : str
    events : DataFrame
        Columns user_id, item_id and timestamp; events of one time keep the order of the file.
    titles : DataFrame
        Columns item_id and text, of all items that the data set describes.
    exclude_seen : bool
        False where people buy the same again.
    """

    name: str
    events: pd.DataFrame
    titles: pd.DataFrame
    exclude_seen: bool

    def split_in_time(self, part: str = "test") -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the training events, and the last tenth of the timeline.

        In part "validation" it is the tenth before, and what comes later is in neither.
        """
        learned, later = _split(self.events, TemporalSplit(n_splits=1, test_size=TEST_SHARE))
        if part == "test":
            return learned, later
        share = TEST_SHARE / (1 - TEST_SHARE)
        return _split(learned, TemporalSplit(n_splits=1, test_size=share))

    def leave_last_out(self, part: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the training events, and the test event of every user.

        In part "test" that is the user's last event, in "validation" the one before; what comes
        after the test event is in neither.
        """
        learned, queried = _split(self.events, LeaveLastOut())
        return (learned, queried) if part == "test" else _split(learned, LeaveLastOut())

    def asked(self, part: str) -> tuple[pd.DataFrame, ...]:
        """Return the training events and the test events, of "both" parts those of each."""
        if part != "both":
            return self.leave_last_out(part)
        return (*self.leave_last_out("validation"), self.leave_last_out("test")[1])


def read(name: str, *, n_users: int | None = None, n_events: int | None = None) -> Log:
    """Read a data set, or the first of its users, or the first events of its timeline."""
    events = load(name)
    events = events.sort_values("timestamp", kind="stable", ignore_index=True)[:n_events]
    kept = events["user_id"].isin(np.unique(events["user_id"])[:n_users])
    titles = pd.read_parquet(Path(os.environ["SKLEARN_RECFT_DATA"], name, "items.parquet"))
    titles = titles[["item_id", "title"]].rename(columns={"title": "text"})
    titles = titles.fillna({"text": ""})
    titles["item_id"] = titles["item_id"].astype(events["item_id"].dtype)
    return Log(name, events[kept].reset_index(drop=True), titles, name not in REPEATING)


def make_model(seed: int, *settings: dict[str, Any]) -> RealtimeTransformerRecommender:
    """Return the estimator with the settings, the later over the earlier."""
    setting = merged({"random_state": seed}, *settings)
    return RealtimeTransformerRecommender(**constructor_params(setting))


def lists_of(model: Any, queried: pd.DataFrame, exclude_seen: bool) -> np.ndarray:
    """Recommend to each event's user at the event's time; shape (n, K), best first."""
    queries = queried[["user_id", "timestamp"]]
    return model.recommend(queries, n_recommendations=K, exclude_seen=exclude_seen)[0]


def evaluate_next(queried: pd.DataFrame, lists: np.ndarray) -> dict[str, np.ndarray]:
    """Score the list before each event by the one item that was then taken."""
    taken = queried["item_id"].to_numpy()[:, None]
    return {
        "ndcg": ndcg_at_k(taken, lists, k=K, per_user=True),
        "hit_rate": hit_rate_at_k(taken, lists, k=K, per_user=True),
    }


def by_level(values: np.ndarray, items: pd.Series, learned: pd.Series) -> dict[str, float]:
    """Mean of the values by how many training events the item has; NaN where there is none."""
    n_events = items.map(learned.value_counts()).fillna(0).to_numpy()
    level = np.searchsorted(list(LEVELS.values()), n_events, side="right") - 1
    found: dict[str, float] = {}
    for code, name in enumerate(LEVELS):
        found[f"ndcg of {name}"] = mean(values[level == code])
        found[f"n of {name}"] = int((level == code).sum())
    return found


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def report(
    task: str, log: Log, seeds: list[int], runs_of: Callable[[int], Iterator[tuple[str, dict]]]
) -> None:
    """Print what ``runs_of(seed)`` yields of each model as it comes, and the means of several."""
    found: dict[str, list[dict]] = {}
    for seed in seeds:
        for model, figures in runs_of(seed):
            found.setdefault(model, []).append(figures)
            row(task, log.name, model, seed=seed, **figures)
    for model, runs in found.items():
        if len(runs) > 1:
            row(task, log.name, model, **summary(runs))


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    """Mean of each figure over the runs, and the spread of the metrics."""
    found: dict[str, Any] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        same = isinstance(values[0], int) and len(set(values)) == 1
        found[name] = values[0] if same else float(np.mean(values))
        if name in WITH_SPREAD and len(runs) > 1:
            found[f"{name}_spread"] = float(np.ptp(values))
    return {**found, "n_seeds": len(runs)}


def _split(events: pd.DataFrame, splitter: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    [(learned, queried)] = splitter.split(events)
    return events.iloc[learned], events.iloc[queried]
