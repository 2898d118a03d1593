"""Columns of the trees: profile, activity, factorizations, residual means."""

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.preprocessing import OrdinalEncoder

from benchmarks.features.data import SEPARATORS, Log
from sklearn_recft.models import OnlineFeatures
from sklearn_recft.preprocessing import ActivityFeatures, PairMeans

PAIRS = [
    ("user_id", "genres"),
    ("user_id", "decade"),
    ("item_id", "gender"),
    ("item_id", "age"),
    ("item_id", "occupation"),
]
LABEL, RATING = slice(9, 13), slice(13, 17)  # columns of `OnlineFeatures`
IDS = ["user_id", "item_id", "timestamp"]


def profile(log: Log) -> np.ndarray:
    """P: features of the user and of the film, and the hour."""
    X = log.X
    genres = X["genres"].str.get_dummies(SEPARATORS[log.name])
    categories = OrdinalEncoder().fit_transform(X[["gender", "occupation"]].astype(str))
    hour = X["timestamp"] // 3600 % 24
    return np.column_stack([X[["age", "year", "decade"]], hour, categories, genres]).astype(float)


def activity(log: Log, y: np.ndarray) -> np.ndarray:
    """A: what the user and the film did before."""
    return ActivityFeatures(by=["user_id", "item_id"]).fit_transform(log.X[IDS], y)


def factorized(log: Log, seed: int) -> np.ndarray:
    """M: parts and sums of the streamed factorizations of likes and of ratings.

    Rows of one second do not see each other: in MovieLens their order in the file tells of their
    ratings, which `partial_fit_predict_proba` would profit from.
    """
    users, items = (np.unique(log.X[name], return_inverse=True)[1] for name in IDS[:2])
    online = OnlineFeatures(64, outcome=True, rng=np.random.default_rng(seed))
    online.grow(users.max() + 1, items.max() + 1)
    ones = np.ones(len(users))
    times = log.X["timestamp"].to_numpy(float)
    found = online.update(
        users, items, times, label=log.liked, outcome=log.rating, weight=ones, real=ones > 0
    )[:, 9:]
    return np.column_stack([found, found[:, :4].sum(1), found[:, 4:].sum(1)]).astype(float)


def probability(factors: np.ndarray) -> np.ndarray:
    """Return the streamed probability of a like."""
    return expit(factors[:, -2])


def residual_means(log: Log, y: np.ndarray, base: np.ndarray | None, **params) -> np.ndarray:
    """X: means of what is left of ``y`` by pairs of columns, of one base or of both."""
    X: pd.DataFrame = log.X
    bases = ["item_mean"]
    if base is not None:
        X, bases = X.assign(mf=base), ["item_mean", "mf"]
    means = PairMeans(PAIRS, base=bases, separators={"genres": SEPARATORS[log.name]}, **params)
    return means.fit_transform(X, y)
