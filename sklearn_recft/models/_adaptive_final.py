"""A classifier that scores the pools of a blend in place of its weights."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from sklearn_recft.models._adaptive_parts import Pools

# Queries that the classifier is fitted on, the last ones, and items of each beside the target.
_QUERIES, _OTHERS = 5000, 40
# Distance of a probability from 0 and 1 at least.
_SURE = 1e-9

Examples = tuple[np.ndarray, np.ndarray]


def examples(pools: Pools, scores: np.ndarray) -> Examples:
    """Return features of the target and of other items of each query, and which is the target.

    The others are spread over the whole pool, from the best to the worst: each k-th item by the
    scores. Of the best items alone, the classifier would learn that an item behind them, which is
    here only if it is the target, is a good one.
    """
    hit = np.flatnonzero(pools.targets >= 0)[-_QUERIES:]
    rows, targets = np.arange(len(hit)), pools.targets[hit]
    order = np.argsort(-scores[hit], axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(scores.shape[1])[None], axis=1)
    distance = -(-pools.sizes[hit, None] // _OTHERS)
    chosen = (place + rows[:, None]) % distance == 0
    chosen &= np.arange(scores.shape[1]) < pools.sizes[hit, None]
    chosen[rows, targets] = True
    query, column = np.nonzero(chosen)
    return _columns(pools, hit[query], column), column == targets[query]


def fitted_final(final: Any, found: list[Examples]) -> Any:
    """Return a copy of the classifier, fitted on the last examples; None without two classes."""
    if not found:
        return None
    X, y = (np.concatenate([pair[k] for pair in found]) for k in (0, 1))
    if not y.any() or y.all():
        return None
    first = np.flatnonzero(y)[-_QUERIES:][0] if y.sum() > _QUERIES else 0
    return copy.deepcopy(final).fit(X[first:], y[first:].astype(int))


def log_odds(final: Any, pools: Pools) -> np.ndarray:
    """Return the log-odds (n, width) of the classifier, -inf behind the end of a pool."""
    there = np.arange(pools.items.shape[1]) < pools.sizes[:, None]
    probability = final.predict_proba(_columns(pools, *np.nonzero(there)))[:, 1]
    clipped = np.clip(probability, _SURE, 1.0 - _SURE)
    out = np.full(pools.items.shape, -np.inf)
    out[there] = np.log(clipped / (1.0 - clipped))
    return out


def _columns(pools: Pools, query: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the features of items of pools, and the buckets of their queries."""
    return np.hstack([pools.features[query, place], pools.contexts[query, 1:]])
