"""Logs of the feature benchmarks: MovieLens with features of users and films, Online Retail."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

TRAIN, TEST = 0.8, 0.9  # the timeline is cut here: train, validation, test
LIKED_FROM = 4
SEPARATORS = {"ml-100k": " ", "ml-1m": "|"}


@dataclass(frozen=True)
class Log:
    """Events in the order of time.

    Attributes
    ----------
    name : str
    X : DataFrame
        Ids, timestamps, and features of users and films.
    rating : ndarray of shape (n,)
    """

    name: str
    X: pd.DataFrame
    rating: np.ndarray

    @property
    def liked(self) -> np.ndarray:
        """1 for a rating of at least four stars."""
        return (self.rating >= LIKED_FROM).astype(float)

    def part(self, start: float, stop: float) -> slice:
        """Return the rows between two shares of the timeline."""
        return slice(int(start * len(self.X)), int(stop * len(self.X)))


def folder(name: str) -> Path:
    """Return the folder of a data set."""
    root = os.environ.get("SKLEARN_RECFT_DATA")
    if not root:
        raise SystemExit("Set SKLEARN_RECFT_DATA to the folder that holds the data sets.")
    return Path(root, name)


def movielens(name: str, limit: int | None = None) -> Log:
    """Read ratings with the genres and the decade of the film, and the profile of the user."""
    root = folder(name)
    events = pd.read_parquet(root / "interactions.parquet")
    items = pd.read_parquet(root / "items.parquet")
    users = pd.read_parquet(root / "users.parquet")
    if "release_year" not in items:
        items["release_year"] = items["title"].str.extract(r"\((\d{4})\)")[0]
    year = pd.to_numeric(items["release_year"], errors="coerce")
    items = items.assign(year=year, decade=year // 10)
    users["age"] = users["age"] // 10
    X = events.merge(items[["item_id", "genres", "year", "decade"]], on="item_id", how="left")
    X = X.merge(users[["user_id", "gender", "age", "occupation"]], on="user_id", how="left")
    X = X.sort_values("timestamp", kind="stable").reset_index(drop=True)[:limit]
    rating = X.pop("rating").to_numpy(float)
    columns = ["user_id", "item_id", "timestamp", "genres", "year", "decade", "gender", "age"]
    return Log(name, X[[*columns, "occupation"]], rating)


def retail() -> pd.DataFrame:
    """Read all rows of Online Retail, as they are."""
    return pd.read_parquet(folder("online-retail") / "interactions.parquet")
