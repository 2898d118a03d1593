"""The share of the first weights of a blend that lists ahead of time keep, by their quality."""

from __future__ import annotations

import numpy as np

# Shares of the first weights that may be added to those learned. With the last one, the list is
# nearly that of equal weights.
SHARES = np.array([0.0, 0.1, 0.3, 1.0, 10.0])
# What the sum of a share has to be ahead of that of none: one perfect list.
_AHEAD_BY = 1.0
# Lists after which the quality of a list counts half.
_HALF_LIFE = 3000.0
# Length of the lists that are scored.
_LIST = 10


def best_share(quality: np.ndarray) -> float:
    """Return the share of the best quality (k,), or none if it is ahead by too little."""
    best = int(quality.argmax())
    return float(SHARES[best]) if quality[best] > quality[0] + _AHEAD_BY else 0.0


def list_quality(ranks: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Return NDCG@10 of each list, from the ranks (n,) of its targets, lists one after another."""
    _, number, size = np.unique(lists, return_inverse=True, return_counts=True)
    gains = np.where(ranks < _LIST, 1.0 / np.log2(ranks + 2.0), 0.0)
    ideal = np.cumsum(1.0 / np.log2(np.arange(_LIST) + 2.0))
    return np.bincount(number, gains) / ideal[np.minimum(size, _LIST) - 1]


def decayed_sum(total: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return sums (k,) to which values (k, n) have been added one by one, while the sums decay."""
    decay = 0.5 ** (np.arange(values.shape[1])[::-1] / _HALF_LIFE)
    return total * 0.5 ** (values.shape[1] / _HALF_LIFE) + values @ decay
