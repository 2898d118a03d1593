"""Re-rank lists: trade score for diversity, or cap the items of a category."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_scalar

from sklearn_recft.columns import is_absent
from sklearn_recft.metrics import ItemValues, item_values
from sklearn_recft.vocabulary import Vocabulary

# Numbers of a block of lists that are held at once: 32 MiB of float64.
_AT_ONCE = 2**22
# Value of a padded place: below all others, which are at least -1.
_PADDED = -4.0


def rerank_mmr(
    items: Any,
    scores: Any,
    item_vectors: ItemValues,
    *,
    n_recommendations: int = 10,
    trade_off: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Re-rank lists by maximal marginal relevance: high scores, dissimilar items [1]_.

    Items are chosen one after the other. With the chosen items :math:`S` and
    :math:`\lambda` = ``trade_off``, the next item of a list maximizes

    .. math:: \lambda \, r_i - (1 - \lambda) \max_{j \in S} \cos(v_i, v_j).

    The relevance :math:`r_i` is the score, scaled to 0 to 1 within each list. The maximum over no
    item is 0. Ties go to the item that ranks first in the given list.

    Parameters
    ----------
    items : array of shape (n_queries, n)
        Lists of ``recommend``, best first. Take them longer than ``n_recommendations``, for
        example five times as long.
    scores : array of shape (n_queries, n)
        Their scores. Padded places (None, -inf) stay at the end.
    item_vectors : mapping of item id to vector, or pair (item_ids, vectors)
        ``vectors`` of shape (n_items, n_features), finite; may be sparse. Items without a vector,
        or with a vector of zeros, have similarity 0 with all others.
    n_recommendations : int, default=10
        Length of the new lists, at most ``n``.
    trade_off : float, default=0.5
        1 keeps the order of scores, 0 ignores the scores.

    Returns
    -------
    items : ndarray of shape (n_queries, n_recommendations)
    scores : ndarray of shape (n_queries, n_recommendations)
        The given scores of the items. They need not decrease.

    References
    ----------
    .. [1] J. Carbonell and J. Goldstein, "The use of MMR, diversity-based reranking for reordering
       documents and producing summaries", SIGIR 1998.

    Examples
    --------
    >>> from sklearn_recft.lists import rerank_mmr
    >>> vectors = {"tea": [1, 0], "green tea": [1, 0.1], "rice": [0, 1]}
    >>> items, scores = [["tea", "green tea", "rice"]], [[0.9, 0.8, 0.3]]
    >>> rerank_mmr(items, scores, vectors, n_recommendations=2)[0].tolist()
    [['tea', 'rice']]
    """
    items, scores = _check_lists(items, scores)
    n = _check_length(n_recommendations, items.shape[1])
    check_scalar(trade_off, "trade_off", Real, min_val=0, max_val=1)
    known, values = item_values(item_vectors, "item_vectors")
    vectors = check_array(values, accept_sparse="csr", dtype=np.float64, input_name="item_vectors")
    chosen = np.empty((len(items), n), np.int64)
    for rows in _blocks(len(items), items.shape[1] * vectors.shape[1]):
        codes = _codes(known, items[rows], scores[rows])
        directions = _directions(vectors, codes.ravel()).reshape(*codes.shape, -1)  # (b, n, d)
        chosen[rows] = _mmr(directions, scores[rows], n, float(trade_off))
    return _take(items, chosen), _take(scores, chosen)


def cap_per_category(
    items: Any,
    scores: Any,
    categories: ItemValues,
    *,
    max_per_category: int,
    n_recommendations: int = 10,
) -> tuple[np.ndarray, np.ndarray]:
    """Re-rank lists so that no category has more than ``max_per_category`` items in a list.

    A list is read from its best item on. An item is left out if one of its categories is full.

    Parameters
    ----------
    items : array of shape (n_queries, n)
        Lists of ``recommend``, best first. Take them longer than ``n_recommendations``, for
        example five times as long.
    scores : array of shape (n_queries, n)
        Their scores.
    categories : mapping of item id to category, or pair (item_ids, categories)
        A category is any hashable. A list, a set or an array holds several categories of an item.
        Items without a category (None, NaN, or not in the mapping) are never left out.
    max_per_category : int
        At least 1.
    n_recommendations : int, default=10
        Length of the new lists, at most ``n``.

    Returns
    -------
    items : ndarray of shape (n_queries, n_recommendations), object
        In the order of the given lists. Where too few items are left, a list is padded with None,
        as with ``on_missing="pad"``.
    scores : ndarray of shape (n_queries, n_recommendations)
        Their scores, -inf where padded.

    Examples
    --------
    >>> from sklearn_recft.lists import cap_per_category
    >>> categories = {"tea": "drink", "milk": "drink", "rice": "food"}
    >>> items, scores = [["tea", "milk", "rice"]], [[0.9, 0.8, 0.3]]
    >>> cap_per_category(
    ...     items, scores, categories, max_per_category=1, n_recommendations=2
    ... )[0].tolist()
    [['tea', 'rice']]
    """
    items, scores = _check_lists(items, scores)
    n = _check_length(n_recommendations, items.shape[1])
    check_scalar(max_per_category, "max_per_category", Integral, min_val=1)
    known, values = item_values(categories, "categories")
    of_item, n_categories = _category_codes(values)
    kept = np.empty(items.shape, bool)
    for rows in _blocks(len(items), n_categories + 1):
        codes = _codes(known, items[rows], scores[rows])
        kept[rows] = _under_cap(of_item[codes], n_categories, int(max_per_category))
    kept &= ~np.isneginf(scores)
    order = np.argsort(~kept, axis=1, kind="stable")[:, :n]
    kept = _take(kept, order)
    found = np.full(kept.shape, None, object)
    found[kept] = _take(items, order)[kept]
    return found, np.where(kept, _take(scores, order), -np.inf)


def _check_lists(items: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return lists and their scores as arrays of one shape."""
    if not isinstance(items, np.ndarray):
        rows = [list(row) for row in items]
        items = np.full((len(rows), len(rows[0]) if rows else 0), None, object)
        for place, row in enumerate(rows):
            if len(row) != items.shape[1]:
                raise ValueError(
                    f"items: list {place} has {len(row)} items, the first has {items.shape[1]}; "
                    "pad the lists with None, and their scores with -inf."
                )
            items[place] = np.fromiter(row, object, len(row))
    scores = np.asarray(scores, np.float64)
    if items.ndim != 2 or scores.shape != items.shape:
        raise ValueError(
            "items and scores must be 2-d arrays of one shape, as recommend returns them; got "
            f"shapes {items.shape} and {scores.shape}."
        )
    wrong = int((np.isnan(scores) | np.isposinf(scores)).sum())
    if wrong:
        raise ValueError(f"scores: {wrong} of {scores.size} scores are NaN or inf; drop them.")
    return items, scores


def _check_length(n_recommendations: Any, n: int) -> int:
    check_scalar(n_recommendations, "n_recommendations", Integral, min_val=1)
    if n_recommendations > n:
        raise ValueError(
            f"n_recommendations={n_recommendations}, but the lists have {n} items; pass longer "
            "lists."
        )
    return int(n_recommendations)


def _blocks(n: int, size: int) -> Iterator[slice]:
    """Return slices of ``n`` lists that need ``size`` numbers each."""
    step = max(_AT_ONCE // max(size, 1), 1)
    return (slice(start, start + step) for start in range(0, n, step))


def _take(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, places, axis=1)


def _codes(known: Vocabulary, items: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return codes of the items of lists, -1 for unknown ones and padded places."""
    filled = ~np.isneginf(scores)
    codes = np.full(items.shape, -1, np.int64)
    ids = items[filled]
    codes[filled] = known.encode(ids.tolist() if ids.dtype == object else ids)
    return codes


def _directions(vectors: Any, codes: np.ndarray) -> np.ndarray:
    """Return vectors of length 1 of codes, (n, d); zeros for unknown items (-1)."""
    rows = vectors[np.maximum(codes, 0)]
    dense: np.ndarray = rows if isinstance(rows, np.ndarray) else rows.toarray()
    norms = np.linalg.norm(dense, axis=1)
    norms[codes < 0] = 0
    return dense * np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)[:, None]


def _mmr(directions: np.ndarray, scores: np.ndarray, n: int, trade_off: float) -> np.ndarray:
    """Return the places (b, n) of the chosen items of ``b`` lists."""
    filled = ~np.isneginf(scores)
    low = np.where(filled, scores, np.inf).min(axis=1, keepdims=True)
    span = np.where(filled, scores, -np.inf).max(axis=1, keepdims=True) - low
    with np.errstate(invalid="ignore", divide="ignore"):
        relevance = np.where(filled & (span > 0), (scores - low) / span, 0.0)
    value = np.where(filled, trade_off * relevance, _PADDED)
    nearest = np.full(scores.shape, -np.inf)  # cosine of each item and the nearest chosen one
    chosen, rows = np.empty((len(scores), n), np.int64), np.arange(len(scores))
    for step in range(n):
        marginal = value - (1 - trade_off) * nearest if step else value
        best = chosen[:, step] = marginal.argmax(axis=1)
        value[rows, best] = -np.inf
        cosines = np.einsum("bnd,bd->bn", directions, directions[rows, best])
        np.maximum(nearest, cosines, out=nearest)
    return chosen


def _category_codes(values: Iterable[Any]) -> tuple[np.ndarray, int]:
    """Return the categories (n_items + 1, m) of items by code; ``n_categories`` means none.

    The last row is that of unknown items, whose code is -1.
    """
    if getattr(values, "ndim", 1) != 1:
        raise ValueError(
            "categories: one category or one list of categories per item is needed, got a table."
        )
    several = [list(one) if isinstance(one, (list, set, np.ndarray)) else [one] for one in values]
    several = [[name for name in one if not is_absent(name)] for one in several]
    names, flat = Vocabulary(), [name for one in several for name in one]
    for name in flat:
        if not isinstance(name, Hashable):
            raise TypeError(f"categories: a category must be hashable, got {name!r}.")
    codes = names.extend(np.fromiter(flat, object, len(flat)))
    counts = np.array([len(one) for one in several], np.int64)
    table = np.full((len(several) + 1, max(counts.max(initial=0), 1)), len(names))
    row = np.repeat(np.arange(len(several)), counts)
    table[row, np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts)] = codes
    return table, len(names)


def _under_cap(categories: np.ndarray, n_categories: int, cap: int) -> np.ndarray:
    """Return which items of lists are kept, (b, n_items), by their categories (b, n_items, m)."""
    n_lists, n_items, _ = categories.shape
    counts = np.zeros((n_lists, n_categories + 1), np.int64)
    kept, rows = np.empty((n_lists, n_items), bool), np.arange(n_lists)
    for place in range(n_items):
        its = categories[:, place]  # (b, m)
        full = counts[rows[:, None], its] >= cap
        full &= its < n_categories
        fits = kept[:, place] = ~full.any(axis=1)
        counts[rows[fits][:, None], its[fits]] += 1
    return kept
