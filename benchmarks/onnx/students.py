"""Factorizations that learned a larger model, beside those that learned the ratings alone."""

import copy

import numpy as np

from benchmarks.common.report import row
from benchmarks.decay.log import Log
from sklearn_recft import BayesianMFRecommender, IncrementalMFRecommender
from sklearn_recft.compression import distill

FACTORS = (8, 64)
COLUMNS = ["user_id", "item_id", "timestamp"]


def cut_by_user(log: Log) -> list[np.ndarray]:
    """Return the rows of training, validation and test: the last tenths of each user."""
    users = log.X.groupby("user_id")["item_id"]
    place = users.cumcount().to_numpy() / users.transform("size").to_numpy()
    return [
        np.flatnonzero(part) for part in (place < 0.8, (place >= 0.8) & (place < 0.9), place >= 0.9)
    ]


def cut_by_time(log: Log) -> list[np.ndarray]:
    """Return the rows of training, validation and test on the timeline."""
    return np.split(np.arange(len(log.y)), [log.start, log.middle])


def rmse(predictions: np.ndarray, ratings: np.ndarray) -> float:
    return float(np.sqrt(np.mean((predictions - ratings) ** 2)))


def figures(model, X, y, parts, streams: bool) -> dict[str, float]:
    """Return the RMSE of rows of known users and, on the timeline, of the stream."""
    found = {}
    known = X["user_id"].isin(X["user_id"].to_numpy()[parts[0]]).to_numpy()
    for name, rows in zip(("validation", "test"), parts[1:], strict=True):
        some = rows[known[rows]]
        found[name] = rmse(model.predict(X.iloc[some]), y[some])
    if streams:
        rest = np.concatenate(parts[1:])
        predictions = copy.deepcopy(model).partial_fit_predict(X.iloc[rest], y[rest])
        n = len(parts[1])
        found["stream_validation"] = rmse(predictions[:n], y[parts[1]])
        found["stream_test"] = rmse(predictions[n:], y[parts[2]])
    return found


def distill_task(log: Log, seeds: list[int]) -> None:
    """Print the RMSE of the teacher and of students with few and many factors."""
    X, y = log.X[COLUMNS], log.X["rating"].to_numpy()
    for seed in seeds:
        for name, cut in (("by user", cut_by_user), ("timeline", cut_by_time)):
            parts, streams = cut(log), name == "timeline"
            fitted, ratings = X.iloc[parts[0]], y[parts[0]]
            teacher = BayesianMFRecommender(random_state=seed).fit(fitted, ratings)
            row("distill", name, "teacher", seed=seed, **figures(teacher, X, y, parts, False))
            for n_factors in FACTORS:
                student = IncrementalMFRecommender(n_factors=n_factors, random_state=seed)
                for what, model in _students(student, teacher, fitted, ratings, seed):
                    found = figures(model, X, y, parts, streams)
                    row("distill", name, what, seed=seed, n_factors=n_factors, **found)


def _students(student, teacher, X, y, seed):
    """Yield the student fitted to ratings alone, to predictions, and to both."""
    yield "ratings", copy.deepcopy(student).fit(X, y)
    yield "predictions", distill(teacher, student, X, random_state=seed)
    yield "ratings and predictions", distill(teacher, student, X, y, random_state=seed)
