"""How popular the items of a list are: novelty, average popularity, and its lift over profiles.

The conventions of `_beyond_accuracy` hold: distinct items of the first ``k`` places, NaN for
users without any, the reference as the first argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import column_or_1d

from sklearn_recft.columns import to_numbers
from sklearn_recft.interactions import items_of, users_of
from sklearn_recft.metrics._lists import (
    ItemValues,
    Lists,
    check_same_queries,
    distinct,
    item_values,
    mean_of_defined,
    shown,
)
from sklearn_recft.vocabulary import Vocabulary


def item_popularity(X: Any) -> tuple[np.ndarray, np.ndarray]:
    """Share of the users of a log who met each item.

    Parameters
    ----------
    X : table of n rows
        Events, as for ``fit``; give the training rows only. A user who met an item twice
        counts once.

    Returns
    -------
    item_ids : ndarray of shape (n_items,)
        In order of first appearance.
    shares : ndarray of shape (n_items,)
        Above 0, at most 1.

    Examples
    --------
    >>> from sklearn_recft.metrics import item_popularity
    >>> item_popularity([["ann", "tea"], ["bob", "tea"], ["bob", "rice"], ["bob", "rice"]])
    (array(['tea', 'rice'], dtype=object), array([1. , 0.5]))
    """
    users, items = Vocabulary(), Vocabulary()
    user, item = users.extend(users_of(X)), items.extend(items_of(X))
    pairs = distinct(user * len(items) + item)
    return items.ids.copy(), np.bincount(pairs % len(items)) / len(users)


def novelty_at_k(
    popularity: ItemValues, recommended: Any, *, k: int = 10, per_user: bool = False
) -> Any:
    """Mean self-information of a list's items: how little known they are, in bits [1]_.

    ``novelty@k = mean_i -log2 p_i`` over the items shown, ``p_i`` the share of users who met
    item ``i``. An item that nobody met (absent from `popularity`, or of share 0) would be of
    infinite novelty; it counts as the rarest item that somebody met. So novelty stays
    between 0 and ``log2(n_users)``, and no item beats those that one user knows.

    Parameters
    ----------
    popularity : mapping of item id to share, or pair (item_ids, shares)
        Share of users who met each item, 0 to 1: what :func:`item_popularity` returns.
    recommended : array of shape (n_queries, n) or sequence of n_queries sequences
        The items recommended to each user, best first.
    k : int, default=10
        How many places of a list count.
    per_user : bool, default=False
        Return the vector instead of its mean.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        At least 0; higher is less known. NaN for empty lists, which the mean leaves out.

    Raises
    ------
    ValueError
        If `k` is less than 1, a share is not between 0 and 1, no share is above 0, or an
        item has two shares.

    References
    ----------
    .. [1] T. Zhou, Z. Kuscsik, J.-G. Liu, M. Medo, J. R. Wakeling and Y.-C. Zhang, "Solving
       the apparent diversity-accuracy dilemma of recommender systems", PNAS 107(10), 2010.

    Examples
    --------
    >>> from sklearn_recft.metrics import novelty_at_k
    >>> novelty_at_k({"tea": 0.5, "rice": 0.125}, [["tea"], ["tea", "rice"]], per_user=True)
    array([1., 2.])
    """
    items, shares = _popularity(popularity)
    if shares.max() > 1:
        raise ValueError(
            f"popularity: {int((shares > 1).sum())} of {len(shares)} values are above 1; novelty "
            "needs shares of users: use item_popularity(X), or divide counts of users by "
            "their number."
        )
    rarest = shares[shares > 0].min()
    bits = np.abs(np.log2(np.where(shares > 0, shares, rarest)))
    means, n_shown = _means(items, bits, bits.max(), recommended, "recommended", k)
    return mean_of_defined(means, n_shown, per_user)


def average_popularity_at_k(
    popularity: ItemValues, recommended: Any, *, k: int = 10, per_user: bool = False
) -> Any:
    """Average recommendation popularity: the mean popularity of a list's items [1]_.

    ``ARP@k = mean_i p_i`` over the items shown; an item without popularity has 0.

    Parameters
    ----------
    popularity : mapping of item id to popularity, or pair (item_ids, popularities)
        Of any unit, at least 0. Shares of users are what :func:`item_popularity` returns.
    recommended, k, per_user
        As in :func:`novelty_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        In the unit of `popularity`; higher is more popular. NaN for empty lists, which the
        mean leaves out.

    Raises
    ------
    ValueError
        If `k` is less than 1, a popularity is negative or not finite, none is above 0, or an
        item has two.

    References
    ----------
    .. [1] H. Yin, B. Cui, J. Li, J. Yao and C. Chen, "Challenging the long tail
       recommendation", PVLDB 5(9), 2012.

    Examples
    --------
    >>> from sklearn_recft.metrics import average_popularity_at_k
    >>> average_popularity_at_k({"tea": 0.5, "rice": 0.25}, [["tea", "rice"], ["salt"]])
    0.1875
    """
    items, values = _popularity(popularity)
    means, n_shown = _means(items, values, 0.0, recommended, "recommended", k)
    return mean_of_defined(means, n_shown, per_user)


def popularity_lift_at_k(
    popularity: ItemValues,
    profiles: Lists,
    recommended: Any,
    *,
    k: int = 10,
    per_user: bool = False,
) -> Any:
    """How much more popular lists are than what the same users took by themselves [1]_.

    With ``r_u`` the mean popularity of user ``u``'s list and ``q_u`` that of their profile,
    the vector holds ``r_u / q_u - 1``. The number is not the mean of the vector, in which
    lovers of the rare would drown all others, but that of the paper, Delta GAP:
    ``mean_u(r_u) / mean_u(q_u) - 1``.

    Parameters
    ----------
    popularity : mapping of item id to popularity, or pair (item_ids, popularities)
        As in :func:`average_popularity_at_k`.
    profiles : sequence of n_queries collections of ids
        The items that each user took in training, in any order, all of them counted.
    recommended : array of shape (n_queries, n) or sequence of n_queries sequences
        The items recommended to each user, best first.
    k : int, default=10
        How many places of a list count.
    per_user : bool, default=False
        Return the vector instead of the number.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        0 where lists are as popular as profiles, 1 where twice as popular, -1 at least. NaN
        for users with an empty list, an empty profile or a profile of popularity 0, whom
        the number leaves out.

    Raises
    ------
    ValueError
        As in :func:`average_popularity_at_k`, and if `profiles` and `recommended` differ in
        length.

    References
    ----------
    .. [1] H. Abdollahpouri, M. Mansoury, R. Burke and B. Mobasher, "The unfairness of
       popularity bias in recommendation", RMSE workshop at RecSys 2019.

    Examples
    --------
    >>> from sklearn_recft.metrics import popularity_lift_at_k
    >>> popularity = {"tea": 0.75, "rice": 0.25}
    >>> popularity_lift_at_k(popularity, [["rice"], ["tea"]], [["tea"], ["tea"]])
    0.5
    """
    check_same_queries(profiles, "profiles", recommended)
    items, values = _popularity(popularity)
    listed, n_listed = _means(items, values, 0.0, recommended, "recommended", k)
    own, _ = _means(items, values, 0.0, profiles, "profiles")
    defined = (n_listed > 0) & (own > 0)
    if per_user:
        return np.where(defined, listed / np.where(defined, own, 1.0) - 1.0, np.nan)
    if not defined.any():
        return float("nan")
    return float(listed[defined].mean() / own[defined].mean() - 1.0)


def _means(
    items: Vocabulary,
    values: np.ndarray,
    unknown: float,
    lists: Any,
    name: str,
    k: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean value of the distinct items of each list, and how many they are."""
    query, code = shown(items, lists, name, k)
    values = np.append(values, np.full(len(items) - len(values), unknown))
    sizes = np.bincount(query, minlength=len(lists))
    sums = np.bincount(query, values[code], minlength=len(lists))
    return sums / np.maximum(sizes, 1), sizes


def _popularity(popularity: ItemValues) -> tuple[Vocabulary, np.ndarray]:
    items, values = item_values(popularity, "popularity")
    shares = to_numbers(column_or_1d(values), "popularity")
    if (shares < 0).any():
        raise ValueError(
            f"popularity: {int((shares < 0).sum())} of {len(shares)} values are negative; use "
            "shares or counts of 0 or more."
        )
    if not shares.any():
        raise ValueError("popularity: no item has a value above 0; use item_popularity(X).")
    return items, shares
