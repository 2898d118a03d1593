"""The best of a row of scores, less what was seen."""

import numpy as np

from sklearn_recft.kernels._compile import jit

_BLOCK = 64


@jit
def update_topk(tile, first_item, seen_indptr, seen_items, pointer, top_scores, top_items):
    """Merge a tile of scores into each row's running list of its best items.

    Parameters
    ----------
    tile : (rows, width) scores of items ``first_item .. first_item + width - 1``;
        overwritten with -inf at seen items.
    seen_indptr, seen_items : each row's seen items, ascending, as in a CSR matrix.
    pointer : (rows,) how far each row has read its seen items; starts at its first.
    top_scores, top_items : (rows, k), best first; start as -inf and -1.

    Tiles must come in ascending order of items: the strict comparison then leaves the
    lowest code first among equal scores.
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
                # A fixed trip count and an or: compiled to vector code, and most blocks
                # hold nothing that enters the list.
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
def gather_seen(users, last, previous, item, lookup):
    """Seen items of each user in CSR form, ascending and distinct, in columns of ``lookup``.

    ``lookup[item]`` is the column an item is scored in, or -1 where it is no candidate;
    it must ascend with the item code. Returns ``indptr`` (n + 1,) and ``columns``.
    """
    indptr = np.zeros(users.shape[0] + 1, np.int64)
    total = 0
    for r in range(users.shape[0]):
        place = last[users[r]] if 0 <= users[r] < last.shape[0] else -1
        while place >= 0:
            total += 1
            place = previous[place]
    columns = np.empty(total, np.int32)
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
        mine = columns[start:size]
        mine.sort()
        kept = start
        for j in range(start, size):
            if kept == start or columns[j] != columns[kept - 1]:
                columns[kept] = columns[j]
                kept += 1
        size = kept
        indptr[r + 1] = size
    return indptr, columns[:size].copy()
