"""Ratings with profiles of users and features of items, as plain arrays and frames."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.common.backbone import minilm_folder

N_WORDS = 45  # of an item's text; MiniLM reads about 64 tokens of it
COMPONENTS = 32


@dataclass(frozen=True)
class Ratings:
    """A log of ratings and its side tables.

    Attributes
    ----------
    X : ndarray of shape (n, 3)
        User, item, seconds.
    y : ndarray of shape (n,)
    users, items : DataFrame
        The id first, then features: strings are categories, numbers are numbers.
    year : dict
        Release year of each item.
    """

    X: np.ndarray
    y: np.ndarray
    users: pd.DataFrame
    items: pd.DataFrame
    year: dict[int, int]

    def rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return users and items of rows, and their ratings."""
        return self.X[index, :2], self.y[index]


def load(data: str, *, text: bool = True) -> Ratings:
    """Read MovieLens 100K or 1M; `text` adds components of the vectors of the items' texts."""
    folder = _root() / data
    log = pd.read_parquet(folder / "interactions.parquet")
    users = pd.read_parquet(folder / "users.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    year = items["release_year" if data == "ml-100k" else "year"]
    year = pd.to_numeric(year, errors="coerce").fillna(1990).astype(int)
    features = _genres(items["genres"], " " if data == "ml-100k" else "|")
    features.insert(0, "item_id", items["item_id"].astype(np.int64))
    features["decade"] = (year // 10 * 10).astype(str)
    if text:
        components = _components(data, _texts(items))
        names = [f"text{j}" for j in range(components.shape[1])]
        features = features.join(pd.DataFrame(components, columns=names))
    return Ratings(
        log[["user_id", "item_id", "timestamp"]].to_numpy(np.int64),
        log["rating"].to_numpy(float),
        _profiles(users),
        features,
        dict(zip(items["item_id"].tolist(), year.tolist(), strict=True)),
    )


def _root() -> Path:
    root = os.environ.get("SKLEARN_RECFT_DATA")
    if not root:
        raise SystemExit("Set SKLEARN_RECFT_DATA to the folder that holds the data sets.")
    return Path(root)


def _profiles(users: pd.DataFrame) -> pd.DataFrame:
    """Return gender, age in steps as ML-1M has them, and occupation, all as categories."""
    age = np.searchsorted([18, 25, 35, 45, 50, 56], users["age"].to_numpy(), side="right")
    return pd.DataFrame(
        {
            "user_id": users["user_id"].astype(np.int64),
            "gender": users["gender"].astype(str),
            "age": age.astype(str),
            "occupation": users["occupation"].astype(str),
        }
    )


def _genres(genres: pd.Series, separator: str) -> pd.DataFrame:
    """Return a column of 0 and 1 for each genre."""
    return genres.fillna("").str.get_dummies(sep=separator).astype(float)


def _texts(items: pd.DataFrame) -> list[str]:
    """Return title, genres and the beginning of the plot of each item."""
    parts = [items["title"].fillna(""), items["genres"].fillna("")]
    if "plot" in items:
        parts.append(items["plot"].fillna(""))
    return [" ".join(" ".join(row).split()[:N_WORDS]) for row in zip(*parts, strict=True)]


def _components(data: str, texts: list[str]) -> np.ndarray:
    """Return principal components of the texts' vectors, computed once and kept in a file."""
    path = Path(tempfile.gettempdir(), f"recft_fewshot_{data}_{N_WORDS}.npy")
    if path.exists():
        vectors = np.load(path)
    else:
        from sklearn_recft.text import load_encoder

        vectors = load_encoder(minilm_folder()).encode(texts)
        np.save(path, vectors)
    centred = vectors - vectors.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    return (centred @ directions[:COMPONENTS].T).astype(float)
