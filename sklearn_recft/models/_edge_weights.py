"""Weights of relations: how well walks over a knowledge graph predict walks over users."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from scipy.optimize import nnls
from scipy.sparse import csr_array

# Weight of each relation before any event, and the number of user-item pairs that it counts as.
_PRIOR, _PRIOR_PAIRS = 0.1, 1000


def is_first_half(ids: np.ndarray) -> np.ndarray:
    """Return whether each user is in the first half, (n,): by the id alone."""
    return np.array([crc32(repr(name).encode()) % 2 == 0 for name in ids.tolist()], bool)


def learned_weights(
    halves: list[csr_array], walks: list[csr_array], matrix: csr_array
) -> np.ndarray:
    """Return the weights of walks over each relation, beside walks over users of weight 1.

    Least squares without negative weights predict the walks over the second half of the users
    from those over the first half, the walks over the relations, and popularity. The weights are
    divided by that of the first half, or by the largest one if that is larger.

    Parameters
    ----------
    halves : list of two csr_arrays of shape (n_items, n_items)
        Walks over the users of each half.
    walks : list of csr_array of shape (n_items, n_items)
        Walks over the entities of each relation.
    matrix : csr_array of shape (n_users, n_items)
        Sums of feedback. Rows of popular items count more.

    Returns
    -------
    weights : ndarray of shape (n_relations,)
        From 0 to 1.
    """
    known, target = halves
    popular = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
    popular /= max(popular.sum(), 1e-300)
    parts = [known, *walks]
    n = len(parts)
    gram, slope = np.zeros((n + 1, n + 1)), np.zeros(n + 1)
    # Popularity: the same row for all items, whose weights sum to 1.
    gram[n, n], slope[n] = popular @ popular, popular @ (target @ popular)
    for a, part in enumerate(parts):
        scaled = csr_array(part)
        scaled.data = scaled.data * np.repeat(popular, np.diff(part.indptr))
        slope[a] = scaled.multiply(target).sum()
        gram[a, n] = gram[n, a] = (scaled @ popular).sum()
        for b in range(a, n):
            gram[a, b] = gram[b, a] = scaled.multiply(parts[b]).sum()
    scale = np.sqrt(np.maximum(gram.diagonal(), 1e-300))
    found = nnls(gram / np.outer(scale, scale), slope / scale)[0] / scale
    ratio: np.ndarray = found[1:n] / max(found[:n].max(), 1e-300)
    share = matrix.nnz / (matrix.nnz + _PRIOR_PAIRS)
    weights: np.ndarray = share * ratio + (1 - share) * _PRIOR
    return weights
