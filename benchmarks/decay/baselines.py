"""Baselines of the decay model: rates, trees, factorizations and bags of words.

Each baseline takes a log and a seed. It yields a name and the probability of a like for every row
after the training part. "Streaming" means that each row is predicted first and then learned.
"Frozen" means that nothing is learned after the training part.
"""

import copy
from collections.abc import Iterator

import numpy as np
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.decay.log import LIKED_FROM, Log
from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.models import OnlineFeatures
from sklearn_recft.preprocessing import BehaviorText

Predictions = Iterator[tuple[str, np.ndarray]]

CHUNK = 100
# Columns of `OnlineFeatures`, see `kernels.update_statistics`.
USER_RATE, ITEM_RATE = 0, 6
STATISTICS, LABEL, RATING = slice(0, 9), slice(9, 13), slice(13, 17)
ABOUT_USER = slice(0, 6)
BURNED_IN = 0.1  # of the training part: trees do not learn from what was known that early
# One setting for both; not searched for.
TREES = {"max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 15, "min_samples_leaf": 200}


def stream_features(
    log: Log, seed: int, *, frozen: bool = False, weight: np.ndarray | None = None
) -> np.ndarray:
    """Features (n, 17) of every row from what came strictly before it.

    Parameters
    ----------
    log : Log
    seed : int
    frozen : bool
        Whether rows after the training part are described by that part alone.
    weight : ndarray of shape (n,), default=None
        Rows of weight 0 are described, and neither counted nor learned.
    """
    users, items = (
        np.unique(log.X[name].to_numpy(), return_inverse=True)[1] for name in ("user_id", "item_id")
    )
    times = log.X["timestamp"].to_numpy().astype(float)
    weight = np.ones(len(log.y)) if weight is None else weight
    online = OnlineFeatures(64, outcome=True, rng=np.random.default_rng(seed))
    online.grow(users.max() + 1, items.max() + 1)
    rating, parts = log.X["rating"].to_numpy(), []
    for part in (slice(0, log.start), slice(log.start, None)):
        if frozen and part.start:
            parts.append(online.transform(users[part], items[part], times[part]))
            continue
        parts.append(
            online.update(
                users[part], items[part], times[part], label=log.y[part], outcome=rating[part],
                weight=weight[part], real=weight[part] > 0,
            )
        )  # fmt: skip
    return np.concatenate(parts)


def regression(log: Log, learned: np.ndarray, queried: np.ndarray) -> np.ndarray:
    """Probabilities of a logistic regression on columns of the training part."""
    model = LogisticRegression().fit(learned[: log.start], log.y[: log.start])
    return model.predict_proba(queried[log.start :])[:, 1]


def rates(log: Log, seed: int) -> Predictions:
    """How often the item, and the user, was liked before."""
    streaming, frozen = stream_features(log, seed), stream_features(log, seed, frozen=True)
    for label, columns in (("item", [ITEM_RATE]), ("user and item", [USER_RATE, ITEM_RATE])):
        learned = streaming[:, columns]
        yield f"{label} like-rate, frozen", regression(log, learned, frozen[:, columns])
        yield f"{label} like-rate, streaming", regression(log, learned, learned)


def trees(log: Log, seed: int) -> Predictions:
    """Gradient boosting on online features, with and without their factorizations."""
    features = stream_features(log, seed)
    both = np.column_stack([features, features[:, LABEL].sum(1), features[:, RATING].sum(1)])
    for label, columns in (("statistics", features[:, STATISTICS]), ("statistics and MF", both)):
        model = HistGradientBoostingClassifier(**TREES, early_stopping=False, random_state=seed)
        rows = slice(int(BURNED_IN * log.start), log.start)
        model.fit(columns[rows], log.y[rows])
        yield (
            f"gradient boosting, streaming {label}",
            model.predict_proba(columns[log.start :])[:, 1],
        )


def online_factorization(log: Log, seed: int) -> np.ndarray:
    """Probability of the online factorization; rows of one second do not see each other."""
    return expit(stream_features(log, seed)[log.start :, LABEL].sum(1).astype(float))


def factorizations(log: Log, seed: int) -> Predictions:
    """IncrementalMFRecommender, fitted and online.

    `partial_fit_predict` learns row after row. In MovieLens many rows of a user share a second,
    and their order in the file carries information about their ratings. Rows named "ties
    excluded" do not use this advantage, and neither does ours.
    """
    model = IncrementalMFRecommender(loss="log_loss", random_state=seed)
    model.fit(log.ids[: log.start], log.y[: log.start])
    yield "MF, static", model.predict(log.ids[log.start :])
    predicted = moment_by_moment(log, log.y, copy.deepcopy(model))
    yield "MF, fitted, then online, ties excluded", predicted
    rest = log.ids[log.start :], log.y[log.start :]
    yield "MF, fitted, then online, ties in file order", model.partial_fit_predict(*rest)
    model = IncrementalMFRecommender(loss="log_loss", random_state=seed)
    predicted = model.partial_fit_predict(log.ids, log.y)
    yield "MF, online, ties in file order", predicted[log.start :]
    yield "MF, online, ties excluded", online_factorization(log, seed)


def factorizations_of_ratings(log: Log, seed: int) -> Predictions:
    """Yield the same for ratings; the first pass calibrates how ratings predict likes."""
    rating = log.X["rating"].to_numpy()
    first = IncrementalMFRecommender(random_state=seed)
    stars = first.partial_fit_predict(log.ids, rating)[:, None]
    yield "MF of ratings, online, ties in file order", regression(log, stars, stars)
    scores = stream_features(log, seed)[:, RATING].sum(1, keepdims=True)
    yield "MF of ratings, online, ties excluded", regression(log, scores, scores)
    model = IncrementalMFRecommender(random_state=seed)
    model.fit(log.ids[: log.start], rating[: log.start])
    predicted = moment_by_moment(log, rating, model)
    queried = np.concatenate([np.zeros(log.start), predicted])[:, None]
    yield "MF of ratings, fitted, then online, ties excluded", regression(log, stars, queried)


def moment_by_moment(log: Log, target: np.ndarray, model: IncrementalMFRecommender) -> np.ndarray:
    """Predict all rows of a time after training, then learn them one after the other."""
    X, times = log.ids, log.X["timestamp"].to_numpy()
    predicted = []
    rest = np.arange(log.start, len(target))
    for rows in np.split(rest, np.flatnonzero(np.diff(times[rest])) + 1):
        predicted.append(model.predict(X[rows[0] : rows[-1] + 1]))
        model.partial_fit_predict(X[rows[0] : rows[-1] + 1], target[rows])
    return np.concatenate(predicted)


def factorization_in_chunks(log: Log, seed: int) -> Predictions:
    """Let the same model predict 100 rows before any of them is learned."""
    for label, first, later in (
        ("fitted, then partial_fit", "fit", "partial_fit"),
        ("fitted, then online", "fit", "partial_fit_predict"),
        ("online", "partial_fit_predict", "partial_fit_predict"),
    ):
        model = IncrementalMFRecommender(loss="log_loss", random_state=seed)
        getattr(model, first)(log.ids[: log.start], log.y[: log.start])
        yield (
            f"MF, {label}, chunks of {CHUNK}",
            in_chunks(log, log.ids, model.predict, getattr(model, later)),
        )


def in_chunks(log: Log, X, predict, learn) -> np.ndarray:
    """Predict each chunk of the rows after training as a whole, then learn it."""
    predicted = []
    for start in range(log.start, len(log.y), CHUNK):
        part = slice(start, start + CHUNK)
        predicted.append(predict(X[part]))
        learn(X[part], log.y[part])
    return np.concatenate(predicted)


def words(log: Log, _) -> Predictions:
    """Read the user's recent history as a bag of words; each text is as of its row's time."""
    texts = BehaviorText(liked_from=LIKED_FROM).fit_transform(
        log.X.drop(columns="rating"), log.X["rating"]
    )
    bag = TfidfVectorizer(min_df=5, sublinear_tf=True)
    model = make_pipeline(bag, LogisticRegression(max_iter=500))
    model.fit(texts[: log.start], log.y[: log.start])
    yield (
        "BehaviorText, TF-IDF, logistic regression",
        model.predict_proba(texts[log.start :])[:, 1],
    )


def cold_baselines(log: Log, hidden: np.ndarray) -> Predictions:
    """Predict rows of hidden items (never learned) from user statistics, or from texts only."""
    features = stream_features(log, 0, weight=np.where(hidden, 0.0, 1.0))
    learn = np.flatnonzero(~hidden[: log.start])
    queried, y = slice(log.start, None), log.y[learn]
    rate = features[:, [USER_RATE]]
    model = LogisticRegression().fit(rate[learn], y)
    yield "user like-rate, streaming", model.predict_proba(rate[queried])[:, 1]
    about_user = features[:, ABOUT_USER]
    model = HistGradientBoostingClassifier(**TREES, early_stopping=False).fit(about_user[learn], y)
    yield "gradient boosting, user's statistics", model.predict_proba(about_user[queried])[:, 1]
    bag = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=500))
    texts = log.X["text"].to_numpy()
    bag.fit(texts[learn], y)
    liked = np.column_stack([rate[:, 0], logit(bag.predict_proba(texts)[:, 1])])
    model = LogisticRegression().fit(liked[learn], y)
    yield "user like-rate and TF-IDF of the text", model.predict_proba(liked[queried])[:, 1]
