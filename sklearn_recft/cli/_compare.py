"""What the commands do with a log: replay it with several models, or ask one for a list."""

import math
import sys

import numpy as np
from sklearn.base import clone

from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.model_selection import prequential_score
from sklearn_recft.vocabulary import Vocabulary

_MIN_EVENTS = 20
_N_CHUNKS = 20
_WEEK = 7.0  # days
_RECENT = 28.0  # days


def make_model(log):
    """Make the recommender that suits the feedback of a log."""
    if log.y is None:
        # 20 epochs in place of the default keep the weekly refits to a time one likes to wait.
        return IncrementalMFRecommender(loss="bpr", max_epochs=20, n_jobs=-1, random_state=0)
    loss = "log_loss" if log.has_clicks else "squared_error"
    return IncrementalMFRecommender(loss=loss, random_state=0)


def contenders(log):
    """Name what is compared: an estimator, and how it learns where not by `partial_fit`."""
    model = make_model(log)
    named = {
        "static": (model, {"learn": "never"}),
        "incremental": (model, {}),
        "full refit": (model, {"learn": "refit"}),
    }
    if log.y is not None:
        named["event by event"] = (model, {"chunk_size": 1})
        named["damped means"] = (BiasRecommender(), {})
        return named
    if log.has_times:
        fading = clone(model).set_params(half_life=_RECENT)
        named["incremental, fading"] = (fading, {})
    named["popularity"] = (PopularityRecommender(), {})
    if log.has_times:
        named["recent popularity"] = (PopularityRecommender(window=_RECENT), {})
    return named


def protocol(log):
    """Say what is learned first, in what steps the rest is met, and what is measured."""
    n = len(log.X)
    warm_up = n // 2 if log.y is not None else 3 * n // 4
    chosen = {"warm_up": warm_up, "chunk_size": math.ceil((n - warm_up) / _N_CHUNKS)}
    if log.y is not None:
        scoring = ("auc", "log_loss") if log.has_clicks else ("rmse", "mae")
        return chosen | {"scoring": scoring, "report_every": chosen["chunk_size"]}
    days = (log.X[-1, 2] - log.X[warm_up, 2]) / 86400 if log.has_times else 0
    if days > 0:
        in_weeks = 4 * _WEEK <= days <= _N_CHUNKS * _WEEK
        chosen |= {"chunk_size": None, "period": _WEEK if in_weeks else days / _N_CHUNKS}
    return chosen | {"scoring": ("ndcg", "recall"), "exclude_seen": not log.repeat}


def compare(log, *, quiet):
    """Let every contender learn the start of a log, then predict, score and learn the rest.

    Returns
    -------
    report : dict
        What to tell, made of plain Python values.
    results : dict of str to Bunch
        What `prequential_score` returned for each contender.
    """
    n = len(log.X)
    if n < _MIN_EVENTS:
        raise ValueError(f"{log.name} has {n} events; comparing models needs {_MIN_EVENTS}.")
    chosen, results = protocol(log), {}
    for name, (estimator, options) in contenders(log).items():
        if not quiet:
            sys.stderr.write(f"{name}: fit, then predict, score, learn\n")
        results[name] = prequential_score(
            estimator, log.X, log.y, verbose=int(not quiet), **(chosen | options)
        )
    first = chosen["warm_up"]
    report = {
        "log": log.name,
        "n_events": n,
        "n_users": len(Vocabulary(log.X[:, 0])),
        "n_items": len(Vocabulary(log.X[:, 1])),
        "n_learned_first": first,
        "n_steps": results["incremental"].n_steps,
        "dates": [log.date(row) for row in (0, first, n - 1)],
        "models": [_summary(name, result) for name, result in results.items()],
    }
    return report, results


def recommendations(model, log, user, n):
    """Ask a fitted model for up to `n` items for one user; plain Python values."""
    rows = Vocabulary([user]).encode(log.X[:, 0]) == 0
    own = Vocabulary(log.X[rows, 1])
    n = min(n, model.n_items_ - (0 if log.repeat else len(own)))
    listed = []
    if n:
        one = np.empty(1, object)
        one[0] = user  # which may be a tuple
        items, scores = model.recommend(one, n_recommendations=n, exclude_seen=not log.repeat)
        listed = [
            {"item_id": _plain(item), "title": log.titles.get(item), "score": _finite(score)}
            for item, score in zip(items[0], scores[0], strict=True)
        ]
    return {"user": _plain(user), "known": bool(len(own)), "items": listed}


def busiest_user(log):
    """Return the user with the most events."""
    users = Vocabulary()
    counts = np.bincount(users.extend(log.X[:, 0]))
    most = users.ids[counts == counts.max()].tolist()
    try:
        return min(most)
    except TypeError:
        return most[0]  # of several types, which have no order


def _summary(name, result):
    metrics = {m: _finite(v) for m, v in result.metrics.items()}
    return {
        "model": name,
        **metrics,
        "fit_seconds": result.warm_up_seconds,
        "predict_seconds": result.predict_seconds,
        "learn_seconds": result.learn_seconds,
    }


def _plain(value):
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float)) else str(value)


def _finite(value):
    return float(value) if math.isfinite(value) else None
