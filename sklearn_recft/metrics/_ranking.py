"""Top-k metrics for lists with binary relevance: the vector per user first, its mean second.

Conventions shared by every ``*_at_k`` function:

* only the first ``k`` places of a list count; a list shorter than ``k`` ends in misses;
* an item that appears twice in a list counts at its first place and is a miss at the second;
* an item that appears twice among the relevant ones is one relevant item;
* a user without any relevant item has no defined value: NaN in the vector, left out of the
  mean. The mean over no user at all is NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d

from sklearn_recft.metrics._lists import (
    Lists,
    check_k,
    check_same_queries,
    distinct,
    flatten,
    mean_of_defined,
)
from sklearn_recft.vocabulary import Vocabulary


def precision_at_k(
    relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False
) -> Any:
    """Share of the ``k`` recommended places that hold a relevant item.

    ``precision@k = hits / k``. The denominator is ``k``, also where the list is shorter or
    the user has fewer than ``k`` relevant items.

    Parameters
    ----------
    relevant : sequence of n_queries collections of ids
        The items that each user really took, in any order.
    recommended : array of shape (n_queries, n) or sequence of n_queries sequences
        The items recommended to each user, best first.
    k : int, default=10
        How many places of a list count.
    per_user : bool, default=False
        Return the vector instead of its mean.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        Between 0 and 1, higher is better. NaN for users with nothing relevant, whom the
        mean leaves out.

    Raises
    ------
    ValueError
        If `k` is less than 1 or the two arguments differ in length.

    Examples
    --------
    >>> from sklearn_recft.metrics import precision_at_k
    >>> precision_at_k([{"tea", "milk"}, {"rice"}], [["tea", "rice"], ["tea", "milk"]], k=2)
    0.25
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    return mean_of_defined(hits.sum(axis=1) / k, n_relevant, per_user)


def recall_at_k(relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False) -> Any:
    """Share of a user's relevant items that are found among the first ``k``.

    ``recall@k = hits / n_relevant``. The denominator is the number of distinct relevant
    items, so a user with more than ``k`` of them cannot reach 1.

    Parameters
    ----------
    relevant, recommended, k, per_user
        As in :func:`precision_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        As in :func:`precision_at_k`.

    Examples
    --------
    >>> from sklearn_recft.metrics import recall_at_k
    >>> recall_at_k([{"tea", "milk"}, set()], [["tea", "rice"], ["tea", "milk"]], per_user=True)
    array([0.5, nan])
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    return mean_of_defined(hits.sum(axis=1) / np.maximum(n_relevant, 1), n_relevant, per_user)


def hit_rate_at_k(relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False) -> Any:
    """Whether at least one relevant item is found among the first ``k``: 1 or 0.

    Parameters
    ----------
    relevant, recommended, k, per_user
        As in :func:`precision_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        As in :func:`precision_at_k`.

    Examples
    --------
    >>> from sklearn_recft.metrics import hit_rate_at_k
    >>> hit_rate_at_k([{"tea", "milk"}, {"rice"}], [["tea", "rice"], ["tea", "milk"]], k=2)
    0.5
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    return mean_of_defined(hits.any(axis=1).astype(float), n_relevant, per_user)


def ndcg_at_k(relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False) -> Any:
    """Normalised discounted cumulative gain with gains of 0 and 1 [1]_.

    ``NDCG@k = sum_r hit_r / log2(r + 1)`` over places ``r = 1 .. k``, divided by the same
    sum for a perfect list, which has hits on its first ``min(k, n_relevant)`` places.

    Parameters
    ----------
    relevant, recommended, k, per_user
        As in :func:`precision_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        As in :func:`precision_at_k`.

    References
    ----------
    .. [1] K. Järvelin and J. Kekäläinen, "Cumulated gain-based evaluation of IR
       techniques", ACM TOIS 20(4), 2002.

    Examples
    --------
    >>> from sklearn_recft.metrics import ndcg_at_k
    >>> round(ndcg_at_k([{"tea"}, {"tea"}], [["tea", "rice"], ["rice", "tea"]], k=2), 3)
    0.815
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.clip(n_relevant, 1, k) - 1]
    return mean_of_defined(hits @ discounts / ideal, n_relevant, per_user)


def mrr_at_k(relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False) -> Any:
    """Reciprocal of the place of the first relevant item; 0 if the first ``k`` hold none.

    Parameters
    ----------
    relevant, recommended, k, per_user
        As in :func:`precision_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        As in :func:`precision_at_k`.

    Examples
    --------
    >>> from sklearn_recft.metrics import mrr_at_k
    >>> mrr_at_k([{"tea"}, {"tea"}], [["tea", "rice"], ["rice", "tea"]])
    0.75
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    reciprocal = np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)
    return mean_of_defined(reciprocal, n_relevant, per_user)


def map_at_k(relevant: Lists, recommended: Any, *, k: int = 10, per_user: bool = False) -> Any:
    """Average precision: the mean of precision@r over the places ``r`` that are hits.

    ``AP@k = sum_r hit_r precision@r / min(k, n_relevant)``, so that a perfect list gets 1.

    Parameters
    ----------
    relevant, recommended, k, per_user
        As in :func:`precision_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        As in :func:`precision_at_k`.

    Examples
    --------
    >>> from sklearn_recft.metrics import map_at_k
    >>> map_at_k([{"tea", "milk"}], [["tea", "rice", "milk", "salt"]], k=4)
    0.8333333333333333
    """
    hits, n_relevant = _hits(relevant, recommended, k)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    average = (hits * precisions).sum(axis=1) / np.clip(n_relevant, 1, k)
    return mean_of_defined(average, n_relevant, per_user)


def grouped_roc_auc_score(
    y_true: ArrayLike, y_score: ArrayLike, groups: ArrayLike, *, per_group: bool = False
) -> Any:
    """Area under the ROC curve inside each group (user), averaged over groups.

    The share of (positive, negative) pairs of the same group in which the positive has the
    higher score, a tie counting one half. Every group weighs the same in the mean,
    whatever its number of rows.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Feedback, 0 or 1 (or bool).
    y_score : array-like of shape (n_samples,)
        Predicted scores, finite; only their order inside a group matters.
    groups : array-like of shape (n_samples,)
        The user of each row; any hashable.
    per_group : bool, default=False
        Return the vector instead of its mean.

    Returns
    -------
    score : float or ndarray of shape (n_groups,)
        Between 0 and 1, groups in order of first appearance. A group whose rows are all of
        one class is NaN in the vector and left out of the mean.

    Raises
    ------
    ValueError
        If lengths differ, `y_true` has other values than 0 and 1, or `y_score` is not finite.

    Examples
    --------
    >>> from sklearn_recft.metrics import grouped_roc_auc_score
    >>> y, score = [1, 0, 0, 1, 1], [0.9, 0.2, 0.9, 0.4, 0.3]
    >>> grouped_roc_auc_score(y, score, ["ann", "ann", "ann", "bob", "bob"], per_group=True)
    array([0.75,  nan])
    """
    truth = column_or_1d(y_true).astype(float)
    scores = column_or_1d(y_score).astype(float)
    check_consistent_length(truth, scores, groups)
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("y_true must hold 0 and 1 only; compare it with a threshold first.")
    if not np.isfinite(scores).all():
        raise ValueError("y_score has NaN or infinite values.")
    codes = Vocabulary().extend(groups)
    n_groups = int(codes.max()) + 1 if len(codes) else 0

    # Mann-Whitney: AUC = (sum of the positives' ranks - P (P + 1) / 2) / (P N), where tied
    # rows of a group share the mean of their ranks.
    order = np.lexsort((scores, codes))
    codes, scores, truth = codes[order], scores[order], truth[order]
    changes = (np.diff(codes) != 0) | (np.diff(scores) != 0)
    tie = np.concatenate(([0], np.cumsum(changes)))[: len(codes)]
    places = np.arange(1, len(codes) + 1, dtype=float)
    mean_place = np.bincount(tie, places) / np.maximum(np.bincount(tie), 1)
    sizes = np.bincount(codes, minlength=n_groups)
    ranks = mean_place[tie] - (np.cumsum(sizes) - sizes)[codes]
    positives = np.bincount(codes, truth, minlength=n_groups)
    pairs = positives * (sizes - positives)
    above = np.bincount(codes, ranks * truth, minlength=n_groups) - positives * (positives + 1) / 2
    return mean_of_defined(above / np.maximum(pairs, 1), pairs, per_group)


def _hits(relevant: Lists, recommended: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Hit matrix (n_queries, k), bool, and the number of distinct relevant items (n_queries,)."""
    check_k(k)
    check_same_queries(relevant, "relevant", recommended)
    n_queries = len(relevant)
    rel_query, _, rel_ids = flatten(relevant, "relevant")
    query, place, ids = flatten(recommended, "recommended", k)
    items = Vocabulary()
    rel_codes = items.extend(rel_ids)
    n_items = max(len(items), 1)
    rel_keys = distinct(rel_query * n_items + rel_codes)
    codes = items.encode(ids)  # an item that is relevant to nobody is -1 and hits nothing

    known = np.flatnonzero(codes >= 0)
    keys = query[known] * n_items + codes[known]
    found = np.searchsorted(rel_keys, keys)
    found[found == len(rel_keys)] = 0  # larger than all: equal to none, whichever it is held to
    hit = rel_keys[found] == keys
    _, first = np.unique(keys[hit], return_index=True)
    hit = known[hit][first]
    hits = np.zeros((n_queries, k), dtype=bool)
    hits[query[hit], place[hit]] = True
    return hits, np.bincount(rel_keys // n_items, minlength=n_queries)
