"""Round tables that `compress` refuses: weights of pairs of items, means of Gaussians; JSON lines.

    python benchmarks/compression/bench_pairs.py

ML-100K, timeline. Fitted to the first 90 % of the events as positives (BayesianMF: to ratings),
with the settings of the leaderboard. Lists of ten of the users that are in the last 10 % too. The
table is replaced by what int8 (one scale per row) or float16 would return. Overlap: share of the
ten items that stay. Bytes: of the table with its indices, and of all arrays of the state, the table
rounded. Share: these, divided by those of the model in full. "full" is float32, and float64 of
BayesianMF.
"""

import copy

import numpy as np
from scipy.sparse import csr_array

from benchmarks.common.report import row
from sklearn_recft import (
    BayesianMFRecommender,
    EASERecommender,
    ItemKNNRecommender,
    RP3BetaRecommender,
)
from sklearn_recft.compression import model_bytes
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit

PRECISIONS, LARGEST = ("full", "float16", "int8"), 127
# The settings that the leaderboard chose on validation rows.
MODELS = {
    "EASE": (EASERecommender(reg=3000, half_life=30), "item_weights"),
    "ItemKNN, cosine": (
        ItemKNNRecommender(similarity="cosine", n_neighbors=1000, shrinkage=1000, half_life=7),
        "similarity",
    ),
    "ItemKNN, 100 neighbors": (
        ItemKNNRecommender(similarity="cosine", n_neighbors=100, shrinkage=1000, half_life=7),
        "similarity",
    ),
    "RP3beta": (
        RP3BetaRecommender(alpha=1.4, beta=0.3, n_neighbors=1000, half_life=15),
        "similarity",
    ),
    "BayesianMF": (BayesianMFRecommender(random_state=0), "means"),
}


def rounded(table, precision):
    """Return the table after rounding, and its bytes."""
    if isinstance(table, csr_array):
        counts = np.diff(table.indptr)
        largest = np.zeros(len(counts))
        filled = counts > 0
        largest[filled] = np.maximum.reduceat(np.abs(table.data), table.indptr[:-1][filled])
        data, n_bytes = codes_of(table.data, np.repeat(largest, counts), precision)
        other = table.indices.nbytes + table.indptr.nbytes
        scales = 4 * len(counts) if precision == "int8" else 0
        return csr_array((data, table.indices, table.indptr), table.shape), n_bytes + other + scales
    found, n_bytes = codes_of(table, np.abs(table).max(axis=1, keepdims=True), precision)
    return found, n_bytes + (4 * len(table) if precision == "int8" else 0)


def codes_of(values, largest, precision):
    """Round values of rows whose largest magnitudes are given; return them and the bytes."""
    if precision == "full":
        return values.copy(), values.nbytes
    if precision == "float16":
        return values.astype(np.float16).astype(values.dtype), 2 * values.size
    scale = np.where(largest > 0, largest, 1) / LARGEST
    return (np.rint(values / scale) * scale).astype(values.dtype), values.size


def with_rounded(model, name, precision):
    """Return a copy of an estimator with its table rounded, and the bytes of the table."""
    model = copy.deepcopy(model)
    fitted = model.__recommender_model__()
    if name != "means":
        table, n_bytes = rounded(getattr(fitted, name), precision)
        setattr(fitted, name, table)
        return model, n_bytes
    total = 0
    for table in (fitted.user_table, fitted.item_table):
        table.means[:], n_bytes = rounded(table.means, precision)  # a view
        total += n_bytes
    return model, total


def main():
    """Fit and round each model."""
    X, y = fetch_movielens("100k", return_X_y=True)
    train, test = next(TemporalSplit(n_splits=1, test_size=0.1).split(X))
    users = np.intersect1d(X[test, 0], X[train, 0])
    own = test[np.isin(X[test, 0], users)]
    scorer = make_ranking_scorer("ndcg", k=10)
    for name, (model, table) in MODELS.items():
        rated = name == "BayesianMF"
        model.fit(*((X[train], y[train]) if rated else (X[train],)))
        lists, true = model.recommend(users)[0], model.predict(X[own]) if rated else None
        bytes_full, bytes_state = with_rounded(model, table, "full")[1], model_bytes(model)
        for precision in PRECISIONS:
            small, n_bytes = with_rounded(model, table, precision)
            found = small.recommend(users)[0]
            figures = {
                "bytes_table": n_bytes,
                "share_table": n_bytes / bytes_full,
                "bytes_state": bytes_state - bytes_full + n_bytes,
                "share_state": 1 - (bytes_full - n_bytes) / bytes_state,
                "overlap": np.mean(
                    [len(set(a) & set(b)) / 10 for a, b in zip(lists, found, strict=True)]
                ),
                "ndcg": scorer(small, X[own]),
            }
            if rated:
                predictions = small.predict(X[own])
                figures["rmse"] = float(np.sqrt(np.mean((y[own] - predictions) ** 2)))
                figures["largest_change"] = float(np.abs(predictions - true).max())
            row("pairs", "ml-100k", name, tables=precision, n_users=len(users), **figures)


if __name__ == "__main__":
    main()
