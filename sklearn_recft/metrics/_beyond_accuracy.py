"""What lists are like, whether right or wrong: how much of the catalogue, how fairly, how varied.

Conventions shared by every ``*_at_k`` function here and in `_popularity`:

* only the first ``k`` places of a list count; a shorter list counts as it is, without misses;
* an item that appears twice in a list counts once;
* a user with an empty list has no defined value: NaN in the vector, left out of the mean. The
  mean over no user at all is NaN;
* the reference is the first argument, ``recommended`` the last. Popularity and vectors must come
  from training rows alone. Otherwise the metric uses data that the recommender could not know.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array
from sklearn.utils import check_array
from sklearn.utils.extmath import row_norms

from sklearn_recft.metrics._lists import ItemValues, item_values, mean_of_defined, shown
from sklearn_recft.vocabulary import Vocabulary

# Lists whose summed vectors are held at once: 30 MB at 384 numbers per item.
_LISTS_AT_ONCE = 10_000


def catalogue_coverage_at_k(
    catalogue: Collection[Hashable], recommended: Any, *, k: int = 10
) -> float:
    """Share of the catalogue that is shown to somebody [1]_.

    ``coverage@k = |catalogue items in some list| / |catalogue|``.

    Parameters
    ----------
    catalogue : collection of ids
        Every item that could have been recommended, such as ``recommender.item_ids_``; an
        id that appears twice is one item. With a part of it, say the rarely met items, the
        share of that part: recommended items outside do not count.
    recommended : array of shape (n_queries, n) or sequence of n_queries sequences
        The items recommended to each user, best first.
    k : int, default=10
        How many places of a list count.

    Returns
    -------
    score : float
        Between 0 and 1; 0 where no list holds an item.

    Raises
    ------
    ValueError
        If `k` is less than 1 or the catalogue is empty.

    References
    ----------
    .. [1] M. Ge, C. Delgado-Battenfeld and D. Jannach, "Beyond accuracy: evaluating
       recommender systems by coverage and serendipity", RecSys 2010.

    Examples
    --------
    >>> from sklearn_recft.metrics import catalogue_coverage_at_k
    >>> catalogue_coverage_at_k(["tea", "milk", "rice", "salt"], [["tea", "milk"], ["tea"]])
    0.5
    """
    exposures = _exposures(catalogue, recommended, k)
    return float((exposures > 0).mean())


def gini_index_at_k(catalogue: Collection[Hashable], recommended: Any, *, k: int = 10) -> float:
    """How unequally the catalogue's items are shown: the Gini index of exposure [1]_.

    With ``e_1 <= ... <= e_n`` the numbers of lists that show each of the ``n`` items of the
    catalogue, 0 for an item never shown,
    ``G = sum_i (2 i - n - 1) e_i / (n sum_i e_i)``.

    Parameters
    ----------
    catalogue, recommended, k
        As in :func:`catalogue_coverage_at_k`.

    Returns
    -------
    score : float
        0 where every item is shown equally often, ``1 - 1/n`` where only one is shown; NaN
        where no list holds an item of the catalogue.

    Raises
    ------
    ValueError
        As in :func:`catalogue_coverage_at_k`.

    References
    ----------
    .. [1] D. Fleder and K. Hosanagar, "Blockbuster culture's next rise or fall: the impact
       of recommender systems on sales diversity", Management Science 55(5), 2009.

    Examples
    --------
    >>> from sklearn_recft.metrics import gini_index_at_k
    >>> catalogue = ["tea", "milk", "rice", "salt"]
    >>> gini_index_at_k(catalogue, [["tea", "milk"], ["rice", "salt"]])
    0.0
    >>> gini_index_at_k(catalogue, [["tea"], ["tea"]])
    0.75
    """
    exposures = np.sort(_exposures(catalogue, recommended, k))
    n_items, total = len(exposures), int(exposures.sum())
    if total == 0:
        return float("nan")
    # 2 i - n - 1 for i = 1 .. n; whole numbers up to the division, so ties cost no digit.
    return float(np.arange(1 - n_items, n_items, 2) @ exposures / (n_items * total))


def intra_list_diversity_at_k(
    item_vectors: ItemValues, recommended: Any, *, k: int = 10, per_user: bool = False
) -> Any:
    """Mean distance between the items of a list: one minus the cosine of their vectors [1]_.

    ``ILD@k = mean_{i<j} 1 - cos(v_i, v_j)`` over all pairs of items shown. An item without a
    vector, or with a vector of zeros, has no cosine with anything and is left out: nothing
    known of an item does not make a list diverse.

    Parameters
    ----------
    item_vectors : mapping of item id to vector, or pair (item_ids, vectors)
        ``vectors`` of shape (n_items, n_features), finite; may be sparse.
    recommended, k, per_user
        As in :func:`novelty_at_k`.

    Returns
    -------
    score : float or ndarray of shape (n_queries,)
        Between 0 (all vectors point one way) and 2; higher is more diverse. NaN for lists
        with fewer than two items that have a vector, which the mean leaves out.

    Raises
    ------
    ValueError
        If `k` is less than 1, vectors are not finite or not of one length, or an item has
        two vectors.

    References
    ----------
    .. [1] C.-N. Ziegler, S. M. McNee, J. A. Konstan and G. Lausen, "Improving
       recommendation lists through topic diversification", WWW 2005.

    Examples
    --------
    >>> from sklearn_recft.metrics import intra_list_diversity_at_k
    >>> vectors = {"tea": [1, 0], "milk": [2, 0], "rice": [0, 1]}
    >>> lists = [["tea", "milk"], ["tea", "rice"]]
    >>> intra_list_diversity_at_k(vectors, lists, per_user=True)
    array([0., 1.])
    """
    items, values = item_values(item_vectors, "item_vectors")
    vectors = check_array(values, accept_sparse="csr", dtype=np.float64, input_name="item_vectors")
    norms = row_norms(vectors)
    directions = diags_array(1.0 / np.where(norms > 0, norms, 1.0)) @ vectors  # (n_items, d)
    query, code = shown(items, recommended, "recommended", k)
    usable = np.append(norms > 0, np.zeros(len(items) - len(norms), dtype=bool))[code]
    query, code = query[usable], code[usable]
    sizes = np.bincount(query, minlength=len(recommended))
    lists = csr_array(
        (np.ones(len(code)), code, np.append(0, np.cumsum(sizes))),
        shape=(len(sizes), len(norms)),
    )
    # The sum of all cosines of a list, with itself and twice over, is the squared length of
    # the sum of its directions: no pair is ever written down.
    cosines = np.empty(len(sizes))
    for start in range(0, len(sizes), _LISTS_AT_ONCE):
        rows = slice(start, start + _LISTS_AT_ONCE)
        cosines[rows] = row_norms(lists[rows] @ directions, squared=True)
    cosines -= lists @ row_norms(directions, squared=True)
    pairs = sizes * (sizes - 1)
    diversity = np.clip(1.0 - cosines / np.maximum(pairs, 1), 0.0, 2.0)
    return mean_of_defined(diversity, pairs, per_user)


def _exposures(catalogue: Collection[Hashable], recommended: Any, k: int) -> np.ndarray:
    """Count the lists that show each item of the catalogue, shape (n_items,)."""
    if isinstance(catalogue, np.ndarray) and catalogue.ndim != 1:
        raise ValueError(f"catalogue must be 1-d, one id per item, got shape {catalogue.shape}.")
    items = Vocabulary(catalogue)
    n_items = len(items)
    if n_items == 0:
        raise ValueError("catalogue is empty: give every item that could be recommended.")
    _, code = shown(items, recommended, "recommended", k)
    return np.bincount(code, minlength=n_items)[:n_items]
