"""Ratings of the last fifth of the timeline: who profits from activity, and who does not."""

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from benchmarks.common.report import row
from benchmarks.features.columns import IDS
from benchmarks.features.data import TRAIN, Log
from benchmarks.features.trees import BURNED_IN, score_ratings
from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.preprocessing import ActivityFeatures

BY = ["user_id", "item_id"]


def report(log: Log, seeds: tuple[int, ...]) -> None:
    """Report the RMSE of trees and factorizations."""
    learned, tested = log.part(BURNED_IN, TRAIN), log.part(TRAIN, 1.0)
    y = log.rating
    model = ActivityFeatures(by=BY)
    A = model.set_output(transform="pandas").fit_transform(log.X[IDS], y)
    drifting = [name for name in A if "mean" not in name]
    for label, features in (
        ("means frozen at the split", frozen_means(log, tested.start)),
        ("activity", A.to_numpy()),
        ("counts and recency alone", A[drifting].to_numpy()),
        ("a groupby of the whole log, which leaks", frozen_means(log, len(y))),
    ):
        rmse = score_ratings(features, y, learned, tested, seed=0)
        row("ratings", log.name, f"trees, {label}", rmse=rmse)
    factorize(log, A, seeds)


def frozen_means(log: Log, stop: int) -> np.ndarray:
    """Mean rating and number of ratings of user and item in the rows before ``stop``."""
    past = log.X[:stop].assign(rating=log.rating[:stop])
    columns = []
    for name in BY:
        of_ids = past.groupby(name)["rating"].agg(["mean", "size"])
        columns.append(of_ids.reindex(log.X[name]).to_numpy())
    return np.column_stack(columns)


def as_context(A: pd.DataFrame, n_learned: int) -> pd.DataFrame:
    """Activity as context of a linear term: logarithms of counts and days, scaled."""
    made = A.copy()
    for name in A:
        if "mean" in name:
            made[name] = A[name].fillna(A[name].mean())
        else:
            made[name] = np.log1p(A[name].fillna(365.0))
    scaler = StandardScaler().fit(made[:n_learned])
    return pd.DataFrame(scaler.transform(made).clip(-5, 5), columns=A.columns)


def factorize(log: Log, A: pd.DataFrame, seeds: tuple[int, ...]) -> None:
    """Report factorizations that are fitted once, and that go on event by event."""
    start = log.part(TRAIN, 1.0).start
    tables = {
        "": log.X[IDS],
        ", with activity": pd.concat([log.X[IDS], as_context(A, start)], axis=1),
    }
    for seed in seeds:
        for label, X in tables.items():
            model = IncrementalMFRecommender(random_state=seed).fit(X[:start], log.rating[:start])
            for verb, predicted in (
                ("fitted once", model.predict(X[start:])),
                ("event by event", model.partial_fit_predict(X[start:], log.rating[start:])),
            ):
                rmse = float(np.sqrt(np.mean((predicted - log.rating[start:]) ** 2)))
                row("ratings", log.name, f"MF, {verb}{label}", seed=seed, rmse=rmse)
