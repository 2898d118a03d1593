"""nDCG of rated rows, without a catalogue; all ties count by their expectation."""

from __future__ import annotations

import numpy as np

# Elements of a comparison of all pairs of rows at once; bounds memory to tens of MiB.
_PAIRS = 2**24


def ndcg_of_rows(y: np.ndarray, scores: np.ndarray, k: int, relevance: str) -> np.ndarray:
    """Compute nDCG@k of each user's rated rows, ordered by their scores.

    Parameters
    ----------
    y : ndarray of shape (n_users, n_rows)
        Feedback.
    scores : ndarray of shape (n_users, n_rows)
        Finite scores; rows of equal scores are in random order.
    k : int
        From 1 to n_rows.
    relevance : {"best", "graded"}
        "best": the k rows of the highest feedback are relevant (gain 1), ties at random. A perfect
        order of the feedback is then below 1 on average, if there are ties. "graded": the gain of
        a row is ``2^y - 1``.

    Returns
    -------
    values : ndarray of shape (n_users,)
        Expectation over random orders of tied rows. NaN for users whose gains are all 0.
    """
    discounts = np.zeros(y.shape[1])
    discounts[:k] = 1 / np.log2(np.arange(2, k + 2))
    values = np.empty(len(y))
    size = max(1, _PAIRS // y.shape[1] ** 2)
    for start in range(0, len(y), size):
        users = slice(start, start + size)
        if relevance == "best":
            gains = _expected(y[users], np.arange(y.shape[1]) < k)
            ideal = np.full(len(gains), discounts.sum())
        else:
            gains = np.exp2(y[users]) - 1
            ideal = -np.sort(-gains, axis=1) @ discounts
        found = (gains * _expected(scores[users], discounts)).sum(axis=1)
        values[users] = np.divide(found, ideal, out=np.full(len(gains), np.nan), where=ideal > 0)
    return values


def _expected(scores: np.ndarray, of_place: np.ndarray) -> np.ndarray:
    """Return the expected value of the place of each row (n, q), the highest score first."""
    above = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    tied = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
    total = np.append(0.0, np.cumsum(of_place))
    return (total[above + tied] - total[above]) / tied
