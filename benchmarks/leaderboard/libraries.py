"""Fit any library to a log and list its best items: one function each, the same two verbs.

``fit(log, seed, **setting)`` gives ``lists(users, k)``: codes of users in, codes of items out, best
first, -1 where a library has nothing more to offer. Imports stand in the functions, so that
each environment needs its own library only.
"""

from collections.abc import Callable

import numpy as np

from benchmarks.leaderboard.log import Log

Lists = Callable[[np.ndarray, int], np.ndarray]

# ------------------------------------------------------------------------------ this package


# Class, parameters that are the same in all settings, and what else it is given. Losses of the
# factorization run in one thread: reproducible to the bit.
ESTIMATORS = {
    "Popularity, recent": ("PopularityRecommender", {}, ()),
    "IncrementalMF, bpr": ("IncrementalMFRecommender", {"loss": "bpr"}, ("random_state",)),
    "IncrementalMF, softmax": ("IncrementalMFRecommender", {"loss": "softmax"}, ("random_state",)),
    "ItemKNN, cosine": ("ItemKNNRecommender", {"similarity": "cosine"}, ("n_jobs",)),
    "ItemKNN, BM25": ("ItemKNNRecommender", {"similarity": "bm25"}, ("n_jobs",)),
    "EASE": ("EASERecommender", {}, ("n_jobs",)),
    "RP3beta": ("RP3BetaRecommender", {}, ("n_jobs",)),
    "Sequential rules": ("SequentialRulesRecommender", {}, ("n_jobs",)),
    "Habits": ("HabitRecommender", {}, ()),
    "ALS": ("ALSRecommender", {}, ("n_jobs", "random_state")),
    "BayesianMF, implicit": (
        "BayesianMFRecommender",
        {"loss": "implicit"},
        ("n_jobs", "random_state"),
    ),
}


def estimator(name: str, log: Log, seed: int, setting: dict):
    """Make one of our estimators, unfitted."""
    import sklearn_recft

    kind, fixed, given = ESTIMATORS[name]
    options = {"random_state": seed, "n_jobs": log.threads}
    return getattr(sklearn_recft, kind)(**fixed, **{key: options[key] for key in given}, **setting)


def _ours(model, log: Log) -> Lists:
    model.fit(log.events)
    # No timestamp in the query: decay counts from the newest training event.
    return lambda users, k: model.recommend(
        users, n_recommendations=k, exclude_seen=log.exclude_seen
    )[0]


def ours_popularity(log, seed, **setting):
    return _ours(estimator("Popularity, recent", log, seed, setting), log)


def ours_mf(log, seed, **setting):
    return _ours(estimator("IncrementalMF, bpr", log, seed, setting), log)


def ours_softmax(log, seed, **setting):
    return _ours(estimator("IncrementalMF, softmax", log, seed, setting), log)


def ours_cosine(log, seed, **setting):
    return _ours(estimator("ItemKNN, cosine", log, seed, setting), log)


def ours_bm25(log, seed, **setting):
    return _ours(estimator("ItemKNN, BM25", log, seed, setting), log)


def ours_ease(log, seed, **setting):
    return _ours(estimator("EASE", log, seed, setting), log)


def ours_rp3beta(log, seed, **setting):
    return _ours(estimator("RP3beta", log, seed, setting), log)


def ours_rules(log, seed, **setting):
    return _ours(estimator("Sequential rules", log, seed, setting), log)


def ours_habits(log, seed, **setting):
    return _ours(estimator("Habits", log, seed, setting), log)


def ours_als(log, seed, **setting):
    return _ours(estimator("ALS", log, seed, setting), log)


def ours_bayesian(log, seed, **setting):
    return _ours(estimator("BayesianMF, implicit", log, seed, setting), log)


def ours_adaptive(log, seed, members, **setting):
    """Blend members, a dict of settings by the name in `ESTIMATORS`."""
    from sklearn_recft import AdaptiveRecommender

    made = [(name, estimator(name, log, seed, given)) for name, given in members.items()]
    return _ours(AdaptiveRecommender(made, random_state=seed, n_jobs=log.threads, **setting), log)


# ------------------------------------------------------------------------------ implicit


def _implicit(model, log: Log) -> Lists:
    model.fit(log.counts, show_progress=False)

    def lists(users, k):
        found, scores = model.recommend(
            users, log.counts[users], N=k, filter_already_liked_items=log.exclude_seen
        )
        # What it filters keeps the lowest score there is.
        return np.where(scores > np.finfo(np.float32).min, found, -1)

    return lists


def implicit_als(log, seed, **setting):
    from implicit.cpu.als import AlternatingLeastSquares as ALS

    return _implicit(ALS(num_threads=log.threads, random_state=seed, **setting), log)


def implicit_bpr(log, seed, **setting):
    from implicit.cpu.bpr import BayesianPersonalizedRanking as BPR

    # One thread: with more its seed decides nothing.
    return _implicit(BPR(num_threads=1, random_state=seed, **setting), log)


def implicit_cosine(log, seed, **setting):
    from implicit.nearest_neighbours import CosineRecommender

    return _implicit(CosineRecommender(num_threads=log.threads, **setting), log)


def implicit_bm25(log, seed, **setting):
    from implicit.nearest_neighbours import BM25Recommender

    return _implicit(BM25Recommender(num_threads=log.threads, **setting), log)


# ------------------------------------------------------------------------------ LensKit


def _lenskit(model, log: Log, seed: int) -> Lists:
    import pandas as pd
    from lenskit.data import ItemList, RecQuery, from_interactions_df
    from lenskit.training import TrainingOptions

    pairs = log.counts.tocoo()
    frame = pd.DataFrame({"user_id": pairs.row, "item_id": pairs.col, "rating": pairs.data})
    data = from_interactions_df(frame)
    model.train(data, TrainingOptions(rng=seed))
    every = ItemList(item_ids=np.arange(len(log.item_ids)))

    def score(user):
        query = RecQuery(user_id=int(user), history_items=data.user_row(int(user)))
        return model(query, every).scores()

    return lambda users, k: log.best(lambda block: [score(user) for user in block], users, k)


def lenskit_knn(log, seed, **setting):
    from lenskit.knn import ItemKNNScorer

    return _lenskit(ItemKNNScorer(feedback="implicit", **setting), log, seed)


def lenskit_als(log, seed, **setting):
    from lenskit.als import ImplicitMFScorer

    return _lenskit(ImplicitMFScorer(use_ratings=True, **setting), log, seed)


# ------------------------------------------------------------------------------ Cornac


def _cornac(model, log: Log) -> Lists:
    from cornac.data import Dataset

    pairs = log.counts.tocoo()
    maps = ({k: k for k in range(size)} for size in log.counts.shape)
    model.fit(Dataset(*log.counts.shape, *maps, (pairs.row, pairs.col, pairs.data)))
    return lambda users, k: log.best(
        lambda block: [np.ravel(model.score(user)) for user in block], users, k
    )


def cornac_bpr(log, seed, **setting):
    from cornac.models import BPR

    # Given a seed, it uses one thread.
    return _cornac(BPR(seed=seed, verbose=False, **setting), log)


# ------------------------------------------------------------------------------ RecTools


def _rectools(model, log: Log) -> Lists:
    import pandas as pd
    from rectools.dataset import Dataset

    columns = {"user_id": log.user, "item_id": log.item, "weight": 1.0}
    frame = pd.DataFrame(columns | {"datetime": pd.to_datetime(log.time, unit="s")})
    data = Dataset.construct(frame)
    model.fit(data)

    def lists(users, k):
        table = model.recommend(users, data, k, filter_viewed=log.exclude_seen)
        found = np.full((len(users), k), -1)
        row = pd.Series(np.arange(len(users)), users)[table["user_id"]].to_numpy()
        found[row, table["rank"].to_numpy() - 1] = table["item_id"]
        return found

    return lists


def rectools_popular(log, seed, days):
    from datetime import timedelta

    from rectools.models import PopularModel

    return _rectools(PopularModel(period=timedelta(days=days)), log)


def rectools_ease(log, seed, **setting):
    from rectools.models import EASEModel

    return _rectools(EASEModel(recommend_n_threads=log.threads, **setting), log)


def rectools_knn(log, seed, **setting):
    from implicit.nearest_neighbours import TFIDFRecommender
    from rectools.models import ImplicitItemKNNWrapperModel

    base = TFIDFRecommender(num_threads=log.threads, **setting)
    return _rectools(ImplicitItemKNNWrapperModel(base), log)


def rectools_svd(log, seed, **setting):
    from rectools.models import PureSVDModel

    # Given a seed, version 0.19.0 fails on scipy 1.17; the search for the vectors converges anyway.
    return _rectools(PureSVDModel(**setting), log)


# ------------------------------------------------------------------------------ skrecsys


def _skrecsys(name: str, log: Log, **setting) -> Lists:
    import skrecsys.recommendation as models

    model = getattr(models, name)(n_jobs=log.threads, **setting).fit(log.events[:, :2])
    return lambda users, k: model.recommend(
        users, n_recommendations=k, exclude_seen=log.exclude_seen
    )[0]


def skrecsys_ease(log, seed, **setting):
    return _skrecsys("EASE", log, **setting)


def skrecsys_slim(log, seed, **setting):
    return _skrecsys("SLIMElasticNet", log, **setting)


def skrecsys_rp3beta(log, seed, **setting):
    return _skrecsys("RP3Beta", log, **setting)


def skrecsys_knn(log, seed, **setting):
    return _skrecsys("ItemKNNRecommender", log, **setting)


# ------------------------------------------------------------------------------ irspack


def irspack_ials(log, seed, **setting):
    from irspack import IALSRecommender

    model = IALSRecommender(log.counts, n_threads=log.threads, random_seed=seed, **setting).learn()
    return lambda users, k: log.best(model.get_score, users, k)
