"""The same three verbs for every library: fit ratings, walk a stream, list the best items."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

THREADS = 2
N_FACTORS = 64
K = 10
OURS = "sklearn-recft"


def codes(ids: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Place of each id among the known, -1 where unknown."""
    place = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[place] == ids, place, -1)


# Each peer gives prepare(X, y) -> data, fit(data) -> model, predict(model, X) -> stars.


class OursRating:
    """IncrementalMFRecommender as it comes, on two threads."""

    def prepare(self, X, y):
        return X, y

    def fit(self, data):
        from sklearn_recft import IncrementalMFRecommender

        return IncrementalMFRecommender(n_jobs=THREADS, random_state=0).fit(*data)

    def predict(self, model, X):
        return model.predict(X)


class CornacRating:
    """Lock-free SGD in C++; a seed would cut it to one thread, so it has none."""

    def prepare(self, X, y):
        from cornac.data import Dataset

        self.users, user = np.unique(X[:, 0], return_inverse=True)
        self.items, item = np.unique(X[:, 1], return_inverse=True)
        maps = ({u: k for k, u in enumerate(ids)} for ids in (self.users, self.items))
        uir = (user.astype(np.int64), item.astype(np.int64), y.astype(np.float32))
        return Dataset(len(self.users), len(self.items), *maps, uir)

    def fit(self, data):
        from cornac.models import MF

        return MF(
            k=N_FACTORS, max_iter=50, learning_rate=0.01, lambda_reg=0.05, use_bias=True,
            early_stop=False, num_threads=THREADS, verbose=False,
        ).fit(data)  # fmt: skip

    def predict(self, model, X):
        user, item = codes(X[:, 0], self.users), codes(X[:, 1], self.items)
        bias_u, bias_i = model.u_biases * 1.0, model.i_biases * 1.0
        stars = model.global_mean + np.where(user < 0, 0, bias_u[user])
        stars = stars + np.where(item < 0, 0, bias_i[item])
        dot = np.einsum("ij,ij->i", model.u_factors[user], model.i_factors[item])
        return stars + np.where((user < 0) | (item < 0), 0, dot)


class SurpriseRating:
    """SGD in Cython, one thread."""

    def prepare(self, X, y):
        import pandas as pd
        from surprise import Dataset, Reader

        frame = pd.DataFrame({"user": X[:, 0], "item": X[:, 1], "stars": y})
        return Dataset.load_from_df(frame, Reader(rating_scale=(1, 5))).build_full_trainset()

    def fit(self, data):
        from surprise import SVD

        return SVD(n_factors=N_FACTORS, n_epochs=50, reg_all=0.05, random_state=0).fit(data)

    def predict(self, model, X):
        pairs = zip(X[:, 0].tolist(), X[:, 1].tolist(), strict=True)
        return np.array([model.predict(u, i, clip=False).est for u, i in pairs])


class LensKitRating:
    """Alternating least squares in Rust, its own defaults but for the number of factors."""

    def prepare(self, X, y):
        import pandas as pd
        from lenskit.data import from_interactions_df

        self.mean = float(y.mean())
        frame = pd.DataFrame({"user_id": X[:, 0], "item_id": X[:, 1], "rating": y})
        return from_interactions_df(frame)

    def fit(self, data):
        from lenskit.als import BiasedMFScorer
        from lenskit.training import TrainingOptions

        model = BiasedMFScorer(embedding_size=N_FACTORS)
        model.train(data, TrainingOptions(rng=0))
        return model

    def predict(self, model, X):
        from lenskit.data import ItemList

        stars = np.empty(len(X))
        order = np.argsort(X[:, 0], kind="stable")
        users, starts = np.unique(X[order, 0], return_index=True)
        for user, rows in zip(users, np.split(order, starts[1:]), strict=True):
            stars[rows] = model(int(user), ItemList(X[rows, 1])).scores()
        return np.where(np.isnan(stars), self.mean, stars)


RATERS = {
    OURS: ("IncrementalMFRecommender()", OursRating),
    "cornac": ("MF(64, 50 epochs, lr 0.01, reg 0.05)", CornacRating),
    "lenskit": ("BiasedMFScorer(64)", LensKitRating),
    "scikit-surprise": ("SVD(64, 50 epochs, reg 0.05)", SurpriseRating),
}


def stream_ours(X, y, chunk: int, start: int = 0) -> tuple[np.ndarray, float]:
    """Predict, then learn, `chunk` rows a call; rows before `start` are learned off the clock."""
    from sklearn_recft import IncrementalMFRecommender

    model = IncrementalMFRecommender(random_state=0)
    if start:
        model.partial_fit_predict(X[:start], y[:start])
    rows = [slice(r, min(r + chunk, len(y))) for r in range(start, len(y), chunk)]
    begin = time.perf_counter()
    predicted = [model.partial_fit_predict(X[r], y[r]) for r in rows]
    return np.concatenate(predicted), time.perf_counter() - begin


def stream_river(X, y, **constants: float) -> tuple[np.ndarray, float]:
    """Do the same with river's BiasedMF; constants empty are its defaults."""
    from river import optim, reco

    options: dict[str, Any] = {"seed": 0}
    if constants:
        options |= {
            "n_factors": constants["n_factors"],
            "bias_optimizer": optim.SGD(constants["bias_rate"]),
            "latent_optimizer": optim.SGD(constants["factor_rate"]),
            "l2_bias": constants["reg"],
            "l2_latent": constants["reg"],
            "latent_initializer": optim.initializers.Normal(sigma=0.1, seed=0),
        }
    model = reco.BiasedMF(**options)
    events = list(zip(X[:, 0].tolist(), X[:, 1].tolist(), y.tolist(), strict=True))
    predicted = np.empty(len(y))
    begin = time.perf_counter()
    for row, (user, item, stars) in enumerate(events):
        predicted[row] = model.predict_one(user, item)
        model.learn_one(user, item, stars)
    return predicted, time.perf_counter() - begin


# Of 96 settings on ML-100K, within .001 of the best there and better than the best on ML-1M.
RIVER_TUNED = {"n_factors": 32, "bias_rate": 0.03, "factor_rate": 0.05, "reg": 0.05}
STREAMS: dict[str, Callable[..., tuple[np.ndarray, float]]] = {
    "one call": lambda X, y: stream_ours(X, y, len(y)),
    "100 rows a call": lambda X, y: stream_ours(X, y, 100),
    "1 row a call, the last 5,000 rows": lambda X, y: stream_ours(X, y, 1, max(0, len(y) - 5000)),
    "defaults": lambda X, y: stream_river(X, y),
    "tuned " + json.dumps(RIVER_TUNED): lambda X, y: stream_river(X, y, **RIVER_TUNED),
}


def lists_ours(X, y, factors) -> Callable[[np.ndarray, bool], Any]:
    """Top-k through the public method; given factors are written over the learned ones."""
    from sklearn_recft import IncrementalMFRecommender

    model = IncrementalMFRecommender(
        n_factors=N_FACTORS, max_epochs=1 if factors else 50, n_jobs=THREADS, random_state=0
    ).fit(X, y)
    if factors:
        tables = model.module_.arrays()
        tables["user_factors"][:], tables["item_factors"][:] = factors
        for bias in ("mean", "user_bias", "item_bias"):
            tables[bias][:] = 0
    return lambda users, exclude: model.recommend(users, n_recommendations=K, exclude_seen=exclude)


def lists_skrecsys(X, y, factors) -> Callable[[np.ndarray, bool], Any]:
    """Exact search of its alternating least squares."""
    from skrecsys.recommendation import AlternatingLeastSquares

    model = AlternatingLeastSquares(
        n_factors=N_FACTORS, n_iter=0 if factors else 5, random_state=0
    ).fit(X[:, :2], y)
    if factors:
        model.user_factors_, model.item_factors_ = (f.astype(np.float64) for f in factors)
        model.user_bias_[:], model.item_bias_[:], model.global_bias_ = 0, 0, 0.0
    return lambda users, exclude: model.recommend(users, n_recommendations=K, exclude_seen=exclude)


def lists_implicit(X, y, factors) -> Callable[[np.ndarray, bool], Any]:
    """Do the same with its matrix factorization; users are codes there."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    known, user = np.unique(X[:, 0], return_inverse=True)
    item = np.unique(X[:, 1], return_inverse=True)[1]
    log = csr_matrix((y.astype(np.float32), (user, item)))
    model = AlternatingLeastSquares(
        factors=N_FACTORS, iterations=3, num_threads=THREADS, random_state=0
    )
    if factors:
        model.user_factors, model.item_factors = factors
    else:
        model.fit(log, show_progress=False)

    def recommend(users, exclude):
        rows = codes(users, known)
        return model.recommend(rows, log[rows], N=K, filter_already_liked_items=exclude)

    return recommend


LISTS = {OURS: lists_ours, "skrecsys": lists_skrecsys, "implicit": lists_implicit}
