"""Lists asked once by a sum of scores: the transformer and a factorization with a softmax.

The scores of both are logits of a softmax over the catalogue. So a weighted mean of the scores
orders items as the same mean of the log-probabilities does.
"""

import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import K
from benchmarks.realtime.log import Log, make_model
from benchmarks.realtime.stream import Runs, evaluate_once, known_later
from sklearn_recft import IncrementalMFRecommender

# Chosen in the part "validation": the weight of the transformer, and the half-life of the
# popularity in the factorization, in days.
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SHARE, HALF_LIFE = 0.4, 3


def blend(
    log: Log, seed: int, params: dict[str, Any], part: str, backbone: str | None = None
) -> Runs:
    """Yield both models and their sum; in the part "validation" the sums of all weights.

    With a ``backbone``, the transformer reads the titles of the items that have training events.
    """
    learned, later = log.split_in_time(part)
    later = known_later(log, learned, later)
    first = later.drop_duplicates("user_id")
    seen = seen_of(learned, first["user_id"]) if log.exclude_seen else None
    items, logits = np.unique(learned["item_id"]), {}

    def found(scores: np.ndarray) -> dict[str, Any]:
        return evaluate_once(later, first, items[best(scores, seen)])

    texts: dict[str, Any] = {"transformer": {}, "softmax": {}}
    if backbone is not None:
        params = params | {"backbone": backbone}
        texts["transformer"] = {"items": log.titles[log.titles["item_id"].isin(items)]}
    for name, model in {
        "transformer": make_model(seed, params),
        "softmax": IncrementalMFRecommender(loss="softmax", half_life=HALF_LIFE, random_state=seed),
    }.items():
        start = time.process_time()
        model.fit(learned, **texts[name])
        cost = {"fit_cpu_seconds": time.process_time() - start}
        logits[name] = scores_by_item(model, first)
        yield name, found(logits[name]) | cost
    for share in SHARES if part == "validation" else (SHARE,):
        mean = share * logits["transformer"] + (1 - share) * logits["softmax"]
        yield f"sum, {share} of the transformer", found(mean)


def scores_by_item(model: Any, queried: pd.DataFrame) -> np.ndarray:
    """Score the whole catalogue for each query, in the order of the ids; shape (n, n_items)."""
    items, scores = model.recommend(
        queried[["user_id", "timestamp"]], n_recommendations=model.n_items_, exclude_seen=False
    )
    return np.take_along_axis(scores, items.argsort(axis=1), axis=1)


def seen_of(learned: pd.DataFrame, users: pd.Series) -> np.ndarray:
    """Return whether each of the users has taken each item, (n_users, n_items)."""
    own = learned[learned["user_id"].isin(users)]
    seen = np.zeros((len(users), learned["item_id"].nunique()), bool)
    rows = pd.Index(users).get_indexer(own["user_id"])
    seen[rows, np.unique(learned["item_id"]).searchsorted(own["item_id"])] = True
    return seen


def best(scores: np.ndarray, seen: np.ndarray | None) -> np.ndarray:
    """Return the columns (n, K) of the highest scores, without the seen ones; ties in order."""
    if seen is not None:
        scores = np.where(seen, -np.inf, scores)
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]
