"""The steps shared by the models of a user-item matrix: add events, look up, score by items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft import kernels
from sklearn_recft.columns import fade
from sklearn_recft.history import FeedbackMatrix, fade_by_order
from sklearn_recft.ranking import TileScorer

# So much popularity an event adds to a user's scores: it tells apart what nothing else does.
_BACKOFF = 1e-9
# Rows of `pair_scores` at a time; bounds what their users' rows take.
_BLOCK = 8192


def learn(model: Any, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Any:
    """Add events to the sums of ``model`` and have ``model._refresh(users, items)`` follow.

    ``_feedback`` sums all users' events, faded by their age; ``_profiles``, what a user's list
    is made from, is the same matrix or, given ``history_half_life``, one faded by order too.
    """
    events = model._check_events(X, y, sample_weight, reset=reset)
    ones = np.ones(len(events))
    weight = ones if events.sample_weight is None else events.sample_weight
    feedback = ones if events.feedback is None else events.feedback
    by_order = getattr(model, "history_half_life", None)
    with model._undo(events) as undo:
        if reset:
            model._begin(events)
            model._feedback = model._profiles = FeedbackMatrix()
            model._latest = -np.inf
        users, items = model._remember(events)
        weight, left = _faded(model, weight, events.timestamps)
        matrix = model._feedback.added(users, items, weight=weight, feedback=feedback, left=left)
        if by_order is None:
            model._profiles = matrix
        else:
            share, rest = fade_by_order(users, events.timestamps, by_order, model.n_users_)
            model._profiles = model._profiles.added(
                users, items, weight=weight * share, feedback=feedback, left=left * rest
            )
        model._feedback = matrix
        model._refresh(users, items)
        undo.pop_all()
    return model


def _faded(model: Any, weight: np.ndarray, times: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Weights of new events, and what is left of old ones, as the newest event sees them."""
    if model.half_life is None or times is None:
        return weight, 1.0
    before, model._latest = model._latest, max(model._latest, float(times.max()))
    left = fade(model._latest - before, model.half_life) if np.isfinite(before) else 1.0
    return weight * fade(model._latest - times, model.half_life), left


def by_item(matrix: csr_array) -> csr_array:
    """Return the matrix of items by users, users ascending."""
    turned = csr_array(matrix.T)
    turned.sort_indices()
    return turned


def popularity(feedback: FeedbackMatrix) -> np.ndarray:
    """Mean feedback per user of each item, no event counting as 0; (n_items,) float64."""
    total = feedback.sums.imag
    return np.asarray(total.sum(axis=0)).ravel() / max(total.shape[0], 1)


def _share_of_popularity(model: Any, users: np.ndarray) -> np.ndarray:
    """How much of the popularity of items is in the scores of users, (n,); all of a stranger's."""
    n_events = model._profiles.weight(users).sum(axis=1, dtype=np.float64)
    return np.where(n_events > 0, _BACKOFF * n_events, 1.0)


def tile_scorer(model: Any, similarity: Any, users: np.ndarray, columns: np.ndarray) -> TileScorer:
    """Scores ``sum_j x_uj similarity_ji``; of strangers, popularity (see `top_k`).

    ``similarity`` (n_items, n_items) is a dense array or CSR with ascending columns; the model
    keeps its ``_popularity`` beside it.
    """
    profiles = model._profiles.total(users)
    popular = model._popularity[columns]
    share = _share_of_popularity(model, users)
    whole = len(columns) == similarity.shape[1]
    near = similarity if whole else similarity[:, columns]

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        np.multiply.outer(share[r0:r1], popular[c0:c1], out=out, casting="same_kind")
        rows = profiles[r0:r1]
        if isinstance(near, np.ndarray):
            out += rows @ near[:, c0:c1]
        else:
            arrays = rows.indptr, rows.indices, rows.data
            kernels.spread(*arrays, near.indptr, near.indices, near.data, c0, out)

    return score


def pair_scores(model: Any, similarity: Any, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the scores of `tile_scorer` for pairs of codes, -1 for unknown; (n,) float64.

    An item nobody has met is as popular as the mean of the others.
    """
    popular = model._popularity
    base = np.where(items >= 0, popular[items], popular.mean())
    scores = _share_of_popularity(model, users) * base
    scores[(items < 0) & (users >= 0)] = popular.mean()
    scores += pair_sums(model._profiles.total, similarity, users, items)
    return scores


def pair_sums(
    rows_of: Callable[[np.ndarray], csr_array],
    similarity: Any,
    users: np.ndarray,
    items: np.ndarray,
) -> np.ndarray:
    """``sum_j x_uj similarity_ji`` with ``x_u = rows_of([u])``, (n,); 0 where unknown."""
    sums = np.empty(len(users))
    for start in range(0, len(users), _BLOCK):
        asked = slice(start, start + _BLOCK)
        rows = rows_of(np.where(items[asked] >= 0, users[asked], -1))
        n_own = np.diff(rows.indptr)
        row = np.repeat(np.arange(len(n_own)), n_own)
        shared = similarity[rows.indices, items[asked][row]]
        sums[asked] = np.bincount(row, rows.data * np.asarray(shared).ravel(), len(n_own))
    return sums
