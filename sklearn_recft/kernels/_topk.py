"""Top-k of rows of scores, without hidden items or among listed ones."""

import numpy as np

from sklearn_recft.kernels._compile import jit
from sklearn_recft.kernels._sort import sort_part

_BLOCK = 64


@jit
def update_topk(tile, first_item, seen_indptr, seen_items, pointer, top_scores, top_items):
    """Merge a tile of scores into each row's current top-k list.

    Parameters
    ----------
    tile : (rows, width) scores of items ``first_item .. first_item + width - 1``;
        overwritten with -inf at seen items.
    seen_indptr, seen_items : seen items of each row, ascending, as in a CSR matrix.
    pointer : (rows,) position of each row in its seen items; initially its first.
    top_scores, top_items : (rows, k), best first; initially -inf and -1.

    Tiles must come in ascending order of items. The strict comparison then ranks the lowest code
    first among equal scores.
    """
    n_rows, width = tile.shape
    k = top_scores.shape[1]
    for r in range(n_rows):
        row, best, codes = tile[r], top_scores[r], top_items[r]
        p, end = pointer[r], seen_indptr[r + 1]
        while p < end and seen_items[p] < first_item + width:
            row[seen_items[p] - first_item] = -np.inf
            p += 1
        pointer[r] = p
        worst = best[k - 1]
        for left in range(0, width, _BLOCK):
            right = min(left + _BLOCK, width)
            hits = np.int32(right - left < _BLOCK)
            if right - left == _BLOCK:
                # A fixed trip count and bitwise or compile to vector code. Most blocks hold no
                # score that enters the list.
                for j in range(_BLOCK):
                    hits |= np.int32(row[left + j] > worst)
            if hits == 0:
                continue
            for j in range(left, right):
                score = row[j]
                if score > worst:
                    place = k - 1
                    while place > 0 and best[place - 1] < score:
                        best[place] = best[place - 1]
                        codes[place] = codes[place - 1]
                        place -= 1
                    best[place] = score
                    codes[place] = first_item + j
                    worst = best[k - 1]


@jit
def update_topk_among(tile, first_item, indptr, items, pointer, top_scores, top_items):
    """Merge the scores of each row's listed items in a tile into its current top-k list.

    Parameters are those of `update_topk`, but ``indptr`` and ``items`` list the items of each row
    that may be ranked. The tile is only read.
    """
    n_rows, width = tile.shape
    k = top_scores.shape[1]
    for r in range(n_rows):
        row, best, codes = tile[r], top_scores[r], top_items[r]
        p, end = pointer[r], indptr[r + 1]
        while p < end and items[p] < first_item + width:
            score = row[items[p] - first_item]
            if score > best[k - 1]:
                place = k - 1
                while place > 0 and best[place - 1] < score:
                    best[place] = best[place - 1]
                    codes[place] = codes[place - 1]
                    place -= 1
                best[place] = score
                codes[place] = items[p]
            p += 1
        pointer[r] = p


def gather_seen(users, last, previous, item, lookup):
    """Return the distinct seen items of each user in CSR form, as ascending score columns.

    ``lookup[item]`` is the score column of an item, or -1 if it is no candidate; it must ascend
    with the item code. Returns ``indptr`` (n + 1,) and ``columns``.
    """
    indptr, columns = np.zeros(len(users) + 1, np.int64), np.empty(64 * len(users), np.int32)
    n_seen = _gather_seen(users, last, previous, item, lookup, indptr, columns)
    if n_seen > len(columns):
        columns = np.empty(n_seen, np.int32)
        _gather_seen(users, last, previous, item, lookup, indptr, columns)
    return indptr, columns[: indptr[-1]].copy()


@jit
def _gather_seen(users, last, previous, item, lookup, indptr, columns):
    """Count the entries of users in the log of seen items; write them if there is room for all.

    It allocates nothing: that takes as long to compile as all else.
    """
    total = 0
    for r in range(users.shape[0]):
        place = last[users[r]] if 0 <= users[r] < last.shape[0] else -1
        while place >= 0:
            total += 1
            place = previous[place]
    if total > columns.shape[0]:
        return total
    size = 0
    for r in range(users.shape[0]):
        start = size
        place = last[users[r]] if 0 <= users[r] < last.shape[0] else -1
        while place >= 0:
            column = lookup[item[place]]
            if column >= 0:
                columns[size] = column
                size += 1
            place = previous[place]
        sort_part(columns, start, size)
        kept = start
        for j in range(start, size):
            if kept == start or columns[j] != columns[kept - 1]:
                columns[kept] = columns[j]
                kept += 1
        size = kept
        indptr[r + 1] = size
    return total
