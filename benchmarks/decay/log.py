"""Load the log of ratings, make the model, and compute the figures of the decay benchmarks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.common.params import constructor_params, merged
from sklearn_recft import DecayBertRecommender
from sklearn_recft.datasets import fetch_movielens

TRAIN, TEST = 0.8, 0.9  # the timeline is cut here: train, validation, test
LIKED_FROM = 4


@dataclass(frozen=True)
class Log:
    """Ratings in the order of time, and whether each is a like.

    Parameters
    ----------
    name : str
    X : DataFrame
        Columns user_id, item_id, timestamp, text and rating.
    y : ndarray of shape (n,), int64
    catalogue : DataFrame
        Columns item_id and text.
    """

    name: str
    X: pd.DataFrame
    y: np.ndarray
    catalogue: pd.DataFrame

    @property
    def start(self) -> int:
        """First row after those that are learned by `fit`."""
        return int(TRAIN * len(self.y))

    @property
    def middle(self) -> int:
        """First row of the test part."""
        return int(TEST * len(self.y))

    @property
    def ids(self) -> pd.DataFrame:
        """The columns without context for a factorization."""
        return self.X[["user_id", "item_id", "timestamp"]]

    def columns(self, outcome: str | None) -> pd.DataFrame:
        """X, without the rating unless it is the outcome: as context it would leak the label."""
        return self.X if outcome == "rating" else self.X.drop(columns="rating")


def load(name: str, limit: int | None = None) -> Log:
    """Read MovieLens ("ml-100k", "ml-1m"), or the first ``limit`` rows of its timeline."""
    ratings = fetch_movielens(name.removeprefix("ml-"), as_frame=True)
    order = np.argsort(ratings.data["timestamp"].to_numpy(), kind="stable")[:limit]
    X = ratings.data.iloc[order].reset_index(drop=True)
    texts = ratings.catalogue.set_index("item_id")["text"]
    rating = ratings.target.to_numpy()[order].astype(float)
    X = X.assign(text=texts.loc[X["item_id"]].to_numpy(), rating=rating)
    y = (rating >= LIKED_FROM).astype(np.int64)
    return Log(name, X, y, ratings.catalogue[["item_id", "text"]])


def make_model(backbone: str | None, seed: int, *settings: dict[str, Any]) -> DecayBertRecommender:
    """Return the estimator with the settings, the later over the earlier; it reads past ratings."""
    ours = {"backbone": backbone, "random_state": seed, "outcome": "rating"}
    return DecayBertRecommender(**constructor_params(merged(ours, *settings)))


def evaluate(log: Log, probability: np.ndarray) -> dict[str, float]:
    """Figures of the probabilities of the rows after training, of each part by itself."""
    n = log.middle - log.start
    y = log.y[log.start :]
    users = log.X["user_id"].to_numpy()[log.middle :]
    return {
        "auc": float(roc_auc_score(y[n:], probability[n:])),
        "log_loss": float(log_loss(y[n:], probability[n:])),
        "user_auc": float(np.mean(user_aucs(users, y[n:], probability[n:]))),
        "validation_auc": float(roc_auc_score(y[:n], probability[:n])),
        "validation_log_loss": float(log_loss(y[:n], probability[:n])),
    }


def user_aucs(users: np.ndarray, y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUC of each user with both labels, in the order of their ids."""
    order = np.argsort(users, kind="stable")
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    aucs = []
    for rows in np.split(order, cuts):
        liked = y[rows] == 1
        n, m = liked.sum(), (~liked).sum()
        if n and m:
            ranks = rankdata(scores[rows])[liked]
            aucs.append((ranks.sum() - n * (n + 1) / 2) / (n * m))
    return np.array(aucs)


def spread(runs: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over the seeds, and the spread of AUC and log-loss."""
    figures = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        whole = isinstance(values[0], int) and len(set(values)) == 1
        figures[name] = values[0] if whole else np.mean(values, 0)
        if name in ("auc", "log_loss") and len(runs) > 1:
            figures[f"{name}_spread"] = float(np.ptp(values))
    return {**figures, "n_seeds": len(runs)}
