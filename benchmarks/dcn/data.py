"""Likes of MovieLens with profiles and features of items; counts whose meaning turns."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd


def load(data: str) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Read MovieLens 100K or 1M in the order of time.

    Returns
    -------
    X : data frame
        Ids, time, profile of the user, genres and decade of the item, hour.
    like : ndarray of shape (n,)
        1 for a rating of 4 or more.
    rating : ndarray of shape (n,)
    """
    home = os.environ.get("SKLEARN_RECFT_DATA") or Path(tempfile.gettempdir()) / "data"
    folder = Path(home) / data
    log = pd.read_parquet(folder / "interactions.parquet")
    users = pd.read_parquet(folder / "users.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    year = items["release_year" if data == "ml-100k" else "year"]
    year = pd.to_numeric(year, errors="coerce").fillna(1990).astype(int)
    genres = (
        items["genres"].astype(str).str.replace(" ", "|") if data == "ml-100k" else items["genres"]
    )
    items = pd.DataFrame(
        {
            "item_id": items["item_id"].astype(np.int64),
            "genres": genres,
            "decade": (year // 10 * 10).astype(str),
        }
    )
    users = users[["user_id", "gender", "age", "occupation"]]
    users = users.assign(
        age=(users["age"] // 10 * 10).astype(str), occupation=users["occupation"].astype(str)
    )
    log = log.sort_values("timestamp", kind="stable")
    X = log[["user_id", "item_id", "timestamp"]].merge(users, on="user_id", how="left")
    X = X.merge(items, on="item_id", how="left")
    X["hour"] = (X["timestamp"] // 3600 % 24).astype(str)
    rating = log["rating"].to_numpy(float)
    return X, (rating >= 4).astype(float), rating


class Counts:
    """Clicks, views and purchases of a user on an item, and a rating that they explain.

    The rating follows the logarithms of the counts, one product of two of them and the user's
    segment, with noise. In the second world the weights of the counts are others, so the same row
    has another rating.

    Examples
    --------
    >>> from benchmarks.dcn.data import Counts
    >>> X, y, truth = Counts(seed=0).rows(100)
    >>> list(X.columns)
    ['user_id', 'item_id', 'clicks', 'views', 'purchases', 'segment']
    """

    WEIGHTS = np.array([[0.5, -0.3, 0.8], [-0.2, 0.5, 0.0]])
    NOISE = 0.4

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def rows(self, n: int, world: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
        """Return n rows, their ratings, and these without noise."""
        rng = self.rng
        views = rng.poisson(8, n)
        clicks = rng.binomial(views, 0.4) + rng.poisson(1, n)
        purchases = rng.binomial(clicks, 0.2)
        segment = rng.integers(0, 4, n)
        logs = np.log1p(np.column_stack([clicks, views, purchases]))
        centred = (logs - [1.4, 2.1, 0.5]) / [0.5, 0.35, 0.5]
        truth = 3 + centred @ self.WEIGHTS[world] + 0.3 * centred[:, 0] * centred[:, 2]
        truth = truth + np.array([-0.4, 0.0, 0.2, 0.5])[segment]
        X = pd.DataFrame(
            {
                "user_id": rng.integers(0, 500, n),
                "item_id": rng.integers(0, 200, n),
                "clicks": clicks,
                "views": views,
                "purchases": purchases,
                "segment": [f"segment {s}" for s in segment],
            }
        )
        return X, truth + self.NOISE * rng.normal(size=n), truth
