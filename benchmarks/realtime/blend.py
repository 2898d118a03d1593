"""Lists by a sum of scores: of the transformer, and of a factorization with a softmax or of EASE.

The scores of the first two are logits of a softmax over the catalogue. So a weighted mean of the
scores orders items as the same mean of the log-probabilities does. Scores of EASE are standardized.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import K
from benchmarks.realtime.log import Log, make_model
from benchmarks.realtime.stream import (
    Runs,
    evaluate_each,
    evaluate_once,
    known_later,
    query_and_observe,
)
from sklearn_recft import IncrementalMFRecommender

# Chosen in the part "validation": the weight of the transformer in lists asked once and before each
# event, and the half-life of the popularity in the factorization, in days.
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SHARE, SHARE_OF_EACH, HALF_LIFE = 0.4, 0.5, 3
_CHUNK = 500  # queries whose catalogue is scored at once
_POOL = 200  # items of the transformer that are ranked again before each event


def blend(
    log: Log, seed: int, params: dict[str, Any], part: str, backbone: str | None = None
) -> Runs:
    """Yield both models and their sum; in the part "validation" the sums of all weights.

    With a ``backbone``, the transformer reads the titles of the items that have training events.
    """
    learned, later = log.split_in_time(part)
    later = known_later(log, learned, later)
    first = later.drop_duplicates("user_id")
    items, logits = np.unique(learned["item_id"]), {}
    seen = seen_of(learned, first["user_id"], items) if log.exclude_seen else None

    def found(scores: np.ndarray) -> dict[str, Any]:
        return evaluate_once(later, first, items[best(scores, seen)])

    texts: dict[str, Any] = {"transformer": {}, "softmax": {}}
    if backbone is not None:
        params = params | {"backbone": backbone}
        texts["transformer"] = {"items": log.titles[log.titles["item_id"].isin(items)]}
    order = make_model(seed, params)
    for name, model in {
        "transformer": order,
        "softmax": IncrementalMFRecommender(loss="softmax", half_life=HALF_LIFE, random_state=seed),
    }.items():
        start = time.process_time()
        model.fit(learned, **texts[name])
        cost = {"fit_cpu_seconds": time.process_time() - start}
        logits[name] = scores_by_item(model, first)
        yield name, found(logits[name]) | cost
    chooses = part == "validation"
    for share in SHARES if chooses else (SHARE,):
        mean = share * logits["transformer"] + (1 - share) * logits["softmax"]
        yield f"sum, {share} of the transformer", found(mean)
    tastes = pd.DataFrame(logits["softmax"], first["user_id"], items)
    for share in SHARES if chooses else (SHARE_OF_EACH,):
        lists = query_and_observe(
            copy.deepcopy(order), later, log.exclude_seen, reranked(tastes, share)
        )
        yield f"sum before each event, {share} of the transformer", evaluate_each(later, lists)


def blended_lists(
    net: Any, ease: Any, weight: float, queried: pd.DataFrame, seen: pd.DataFrame | None
) -> np.ndarray:
    """Rank the catalogue for each event's user at the event's time; shape (n, K), best first.

    Each user has one event, and both models know the same events. ``seen`` are events whose items
    are left out for their user.
    """
    items, lists = np.sort(net.item_ids_), []
    for first in range(0, len(queried), _CHUNK):
        rows = queried[first : first + _CHUNK]
        total = scores_by_item(net, rows) + weight * standardized(scores_by_item(ease, rows))
        hidden = None if seen is None else seen_of(seen, rows["user_id"], items)
        lists.append(items[best(total, hidden)])
    return np.concatenate(lists)


def standardized(scores: np.ndarray) -> np.ndarray:
    """Give each row (m,) a mean of 0 and a standard deviation of 1; a constant row is 0."""
    deviation = scores.std(1, keepdims=True)
    return (scores - scores.mean(1, keepdims=True)) / np.where(deviation > 0, deviation, 1.0)


def scores_by_item(model: Any, queried: pd.DataFrame) -> np.ndarray:
    """Score the whole catalogue for each query, in the order of the ids; shape (n, n_items)."""
    listed, scores = model.recommend(
        queried[["user_id", "timestamp"]],
        n_recommendations=len(model.item_ids_),
        exclude_seen=False,
    )
    return np.take_along_axis(scores, listed.argsort(axis=1), axis=1)


def reranked(tastes: pd.DataFrame, share: float) -> Callable[..., np.ndarray]:
    """Return a function that makes lists of a model, ranked by a mean with ``tastes``.

    ``tastes`` are scores (n_users, n_items) that stay as they are. Of an item that they do not
    have, it is the user's lowest score.
    """
    scores = tastes.to_numpy()

    def lists_of(model: Any, queried: pd.DataFrame, exclude_seen: bool) -> np.ndarray:
        listed, ours = model.recommend(
            queried[["user_id", "timestamp"]],
            n_recommendations=_POOL,
            exclude_seen=exclude_seen,
            on_missing="pad",
        )
        theirs = scores[tastes.index.get_indexer(queried["user_id"])]
        codes = tastes.columns.get_indexer(listed.ravel()).reshape(listed.shape)
        added = np.take_along_axis(theirs, codes, axis=1)
        added = np.where(codes >= 0, added, theirs.min(axis=1, keepdims=True))
        best = np.argsort(-share * ours - (1 - share) * added, axis=1, kind="stable")
        return np.take_along_axis(listed, best[:, :K], axis=1)

    return lists_of


def seen_of(learned: pd.DataFrame, users: pd.Series, items: np.ndarray) -> np.ndarray:
    """Return whether each of the users has taken each item of ``items``, which ascend, (n, m)."""
    own = learned[learned["user_id"].isin(users)]
    seen = np.zeros((len(users), len(items)), bool)
    rows = pd.Index(users).get_indexer(own["user_id"])
    seen[rows, items.searchsorted(own["item_id"])] = True
    return seen


def best(scores: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """Return the columns (n, K) of the highest scores, without the seen ones; ties in order."""
    if seen is not None:
        scores = np.where(seen, -np.inf, scores)
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]
