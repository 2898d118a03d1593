"""A log with context that transformers must prepare, and pipelines for it."""

import numpy as np
import pandas as pd
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.pipeline import make_recommender_pipeline

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}


def mf():
    """Return an unfitted factorization."""
    return IncrementalMFRecommender(n_factors=3, max_epochs=3, random_state=0)


def make_log(n=400):
    """Return a pandas frame with an hour, a price and a device, and feedback that depends on it."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({
        "user_id": rng.integers(0, 20, n), "item_id": rng.integers(0, 40, n),
        "timestamp": np.sort(rng.integers(0, 50 * 86_400, n)),
        "price": rng.gamma(2, 5, n).round(2), "device": rng.choice(["phone", "laptop"], n),
    })  # fmt: skip
    y = X["price"] / 10 + (X["device"] == "phone") + X["user_id"] % 3 + rng.normal(0, 0.1, n)
    return X, y.to_numpy()


def columns(library="pandas"):
    """Return the usual ColumnTransformer: scaled price, encoded device, the rest passed on."""
    return make_column_transformer(
        (StandardScaler(), ["price"]),
        (OneHotEncoder(sparse_output=False), ["device"]),
        remainder="passthrough", verbose_feature_names_out=False,
    ).set_output(transform=library)  # fmt: skip


def make_pipe(library="pandas", model=None):
    """Return an unfitted pipeline, of a factorization if no other model is given."""
    return make_recommender_pipeline(columns(library), mf() if model is None else model)


def in_library(X, library):
    """Return a pandas frame as a frame of a library."""
    return LIBRARIES[library](X.to_dict("list"))
