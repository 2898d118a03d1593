"""What the sampled softmax is compared with: our other models, and ALS plus popularity."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import COLUMNS, K, Task, evaluate
from benchmarks.leaderboard.grid import MODELS, OURS, settings
from benchmarks.softmax.logs import REPEATS
from sklearn_recft import (
    ALSRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)

RIVALS: dict[str, Any] = {
    "Popularity, recent": PopularityRecommender(),
    "IncrementalMF, bpr": IncrementalMFRecommender(loss="bpr"),
    "ItemKNN, BM25": ItemKNNRecommender(),
    "ItemKNN, cosine": ItemKNNRecommender(similarity="cosine"),
    "EASE": EASERecommender(),
}
BETAS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
HALF_LIVES = (7.0, 30.0, None)
_SECONDS_PER_DAY = 86_400


def chosen_settings(data: str, protocol: str) -> dict[str, dict[str, Any]]:
    """Return the setting that the leaderboard chose for each of our models; none for other logs."""
    path = Path(__file__).resolve().parents[1] / "leaderboard" / f"{data}_{protocol}.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = map(json.loads, text.splitlines())
    return {line["model"]: line["chosen"] for line in lines if line["library"] == OURS}


def tried_settings(data: str, name: str) -> list[dict[str, Any]]:
    """Return the eight settings of one of our models on the leaderboard."""
    [model] = (m for m in MODELS if (m.library, m.name) == (OURS, name))
    return settings(model, data in REPEATS)


def als_settings(data: str) -> list[dict[str, Any]]:
    """Return our defaults and the eight settings of ALS on the leaderboard."""
    return [{}, *tried_settings(data, "ALS")]


def training(task: Task, setting: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the events to learn, and the parameters of the model; ``once`` drops repeats."""
    setting, train = dict(setting), task.train[COLUMNS]
    if setting.pop("once", False):
        train = train.sort_values("timestamp", kind="stable")
        train = train.drop_duplicates(COLUMNS[:2], keep="last")
    return train, setting


class PopularALS:
    """ALS whose scores get ``beta log(1/2 + n)``, with n the decayed count of the item."""

    def __init__(self, task: Task, setting: dict[str, Any], seed: int) -> None:
        train, params = training(task, setting)
        self.task = task
        self.model = ALSRecommender(**params, random_state=seed).fit(train)
        fitted = self.model._model
        self.factors = fitted.user_factors, fitted.item_factors

    def ndcg(self, beta: float, half_life: float | None) -> float:
        """Return NDCG@10 of the lists with a weight and a half-life in days."""
        bias = beta * np.log(0.5 + self._counts(half_life))
        fitted, (p, q) = self.model._model, self.factors
        fitted.user_factors = np.column_stack([p, np.ones(len(p), np.float32)])
        fitted.item_factors = np.column_stack([q, bias.astype(np.float32)])
        lists, _ = self.model.recommend(
            self.task.queries, n_recommendations=K, exclude_seen=self.task.exclude_seen
        )
        return evaluate(self.task, list(lists))["ndcg"]

    def _counts(self, half_life: float | None) -> np.ndarray:
        codes = pd.Index(self.model.item_ids_).get_indexer(self.task.train["item_id"])
        times = self.task.train["timestamp"].to_numpy(np.float64)
        age = (times.max() - times) / _SECONDS_PER_DAY
        weight = 0.5 ** (age / (half_life or np.inf))
        return np.bincount(codes, weight, len(self.model.item_ids_))
