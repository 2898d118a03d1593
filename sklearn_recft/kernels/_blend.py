"""Blends of several recommenders: ranks and scores of tiles as features, and weights of them."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit

_SECONDS_PER_DAY = 86400.0
_TINY = 1e-12
# Lanes for each place of a list of the best items, and scores that are looked at at once.
_LANES, _BLOCK = 4, 32
# Steps of the search for the end of a list.
_HALVINGS = 12


@inlined
def _insert_best(row, bound, best, codes):
    """Insert the scores of a row that are at least ``bound``, best first, ties by the lower place.

    ``row`` (n_items,); -inf is in no list. ``best`` and ``codes`` (n,) are -inf and -1 at first.
    """
    n_items, n = row.shape[0], best.shape[0]
    worst = best[n - 1]
    for left in range(0, n_items, _BLOCK):
        right = min(left + _BLOCK, n_items)
        if right - left == _BLOCK:
            hits = np.int32(0)
            for j in range(_BLOCK):  # vector code: most blocks have no score for the list
                hits |= np.int32(row[left + j] >= bound)
            if hits == 0:
                continue
        for j in range(left, right):
            score = row[j]
            if score >= bound and score > worst:
                place = n - 1
                while place > 0 and best[place - 1] < score:
                    best[place] = best[place - 1]
                    codes[place] = codes[place - 1]
                    place -= 1
                best[place] = score
                codes[place] = j
                worst = best[n - 1]


@inlined
def _best_of_row(row, lanes, best, codes):
    """Write the best items of a row of scores, as `_insert_best` does.

    The best scores of many lanes of items bound the end of the list from below, so few items are
    inserted that leave it again. ``lanes`` (m,) is memory of more lanes than the list has places.
    """
    n_items, m = row.shape[0], lanes.shape[0]
    bound = row[0]
    if n_items > 2 * m:
        for lane in range(m):
            lanes[lane] = row[lane]
        for first in range(m, n_items, m):
            for lane in range(min(m, n_items - first)):
                score = row[first + lane]
                lanes[lane] = score if score > lanes[lane] else lanes[lane]
        bound, high = lanes.min(), lanes.max()
        for _ in range(_HALVINGS):
            middle = np.float32(0.5) * (bound + high)
            n_above = 0
            for lane in range(m):
                n_above += lanes[lane] >= middle
            if n_above >= best.shape[0]:
                bound = middle
            else:
                high = middle
    else:
        bound = row.min()
    _insert_best(row, bound, best, codes)


@jit
def rank_tile(tile, indptr, places, best_scores, best_items, center, scale):
    """Find the best items of each row of a tile, and the mean and spread of its scores.

    Parameters
    ----------
    tile : (rows, n_items) scores, unchanged in the end.
    indptr, places : hidden items of each row, ascending, as in a CSR matrix.
    best_scores, best_items : (rows, n), best first; initially -inf and -1.
    center, scale : (rows,) mean and inverse standard deviation over items that are not hidden;
        the latter is 0 where all scores are equal.
    """
    n_rows, n_items = tile.shape
    saved = np.empty(places.shape[0], tile.dtype)
    lanes = np.empty(_LANES * best_scores.shape[1], tile.dtype)
    for r in range(n_rows):
        row = tile[r]
        shift = np.float64(row[0])
        total, squares = 0.0, 0.0
        for j in range(n_items):
            x = np.float64(row[j]) - shift
            total += x
            squares += x * x
        n = n_items
        for p in range(indptr[r], indptr[r + 1]):
            saved[p] = row[places[p]]
            row[places[p]] = -np.inf
        for p in range(indptr[r], indptr[r + 1]):
            x = np.float64(saved[p]) - shift
            total -= x
            squares -= x * x
            n -= 1
        n = max(n, 1)
        mean = total / n
        variance = squares / n - mean * mean
        center[r] = shift + mean
        scale[r] = 1.0 / np.sqrt(variance) if variance > _TINY * squares / n else 0.0
        _best_of_row(row, lanes, best_scores[r], best_items[r])
        for p in range(indptr[r], indptr[r + 1]):
            row[places[p]] = saved[p]


@jit
def gather_pool(tiles, best_scores, best_items, indptr, hidden, pool, sizes):
    """Write the distinct items of the best lists of each row: member by member, best first.

    Parameters
    ----------
    tiles : (n_members, rows, n_items)
    best_scores, best_items : (n_members, rows, n), as `rank_tile` writes them.
    indptr, hidden : items of each row that are in no list, as in a CSR matrix. They follow if a
        member scores them above the end of its list.
    pool : (rows, width), -1 behind the end of a row.
    sizes : (rows,) number of items of each row.
    """
    n_members, n_rows, n = best_items.shape
    stamp = np.full(tiles.shape[2], -1, np.int64)
    for r in range(n_rows):
        size = 0
        for e in range(n_members):
            for k in range(n):
                item = best_items[e, r, k]
                if item >= 0 and stamp[item] != r:
                    stamp[item] = r
                    pool[r, size] = item
                    size += 1
        for p in range(indptr[r], indptr[r + 1]):
            item, is_good = hidden[p], False
            for e in range(n_members):
                score, last = tiles[e, r, item], best_scores[e, r, n - 1]
                is_good |= score > last or (score == last and item < best_items[e, r, n - 1])
            if is_good:
                pool[r, size] = item
                size += 1
        sizes[r] = size
        pool[r, size:] = -1


@jit
def blend_features(tiles, best_scores, best_items, center, scale, items, out):
    """Write the rank and the standardized score that each member gives each listed item.

    Parameters
    ----------
    tiles : (n_members, rows, n_items)
    best_scores, best_items, center, scale : of each member, as `rank_tile` writes them.
    items : (rows, width) item codes, -1 for none.
    out : (rows, width, n_features); the first ``2 * n_members`` are written, ``-log2(rank + 2)`` of
        each member and then the standardized scores. A rank counts from 0 the items of the list of
        the best before the item, and is the length of that list for items that are not in it.
    """
    n_members, n_rows, n = best_scores.shape
    width = items.shape[1]
    ranks = np.empty(n + 1, out.dtype)
    for k in range(n + 1):
        ranks[k] = -np.log2(k + 2.0)
    place = np.full(tiles.shape[2], n, np.int64)  # of each item in one list
    for r in range(n_rows):
        for e in range(n_members):
            best, codes, row = best_scores[e, r], best_items[e, r], tiles[e, r]
            middle, factor = center[e, r], scale[e, r]
            for k in range(n):
                if codes[k] >= 0:
                    place[codes[k]] = k
            for j in range(width):
                item = items[r, j]
                if item < 0:
                    out[r, j, e], out[r, j, n_members + e] = ranks[n], 0.0
                    continue
                score, rank = row[item], place[item]
                # Only hidden items can be better than the end of a list and not in it.
                if rank == n and score >= best[n - 1]:
                    low, high = 0, n
                    while low < high:  # entries before `low` come before the item
                        half = (low + high) // 2
                        if best[half] > score or (best[half] == score and codes[half] < item):
                            low = half + 1
                        else:
                            high = half
                    rank = low
                out[r, j, e] = ranks[rank]
                out[r, j, n_members + e] = (score - middle) * factor
            for k in range(n):
                if codes[k] >= 0:
                    place[codes[k]] = n


@jit
def context_features(items, first, time, indptr, seen, seen_time, n_members, out):
    """Write the age of items, whether the user saw them before, and how long ago.

    Parameters
    ----------
    items : (rows, width) item codes, -1 for none.
    first : (n_items,) time of the first event of each item, NaN if unknown.
    time : (rows,) time of each query, NaN if unknown.
    indptr, seen : seen items of each row, ascending, as in a CSR matrix.
    seen_time : time of the last event of each of them, NaN if unknown.
    out : (rows, width, 2 * n_members + 4); the last four features are written. With ages in days,
        these are ``log(1 + age) / 3`` of the item; for seen items 1, ``exp(-age)`` and
        ``log(1 + age) / 3`` of the last event. Unknown ages, and items not seen, have 0.
    """
    n_rows, width = items.shape
    f = 2 * n_members
    for r in range(n_rows):
        end = indptr[r + 1]
        for j in range(width):
            item = items[r, j]
            out[r, j, f : f + 4] = 0.0
            if item < 0:
                continue
            days = (time[r] - first[item]) / _SECONDS_PER_DAY
            if days > 0:
                out[r, j, f] = np.log(1.0 + days) / 3.0
            low, high = indptr[r], end
            while low < high:
                middle = (low + high) // 2
                if seen[middle] < item:
                    low = middle + 1
                else:
                    high = middle
            if low < end and seen[low] == item:
                out[r, j, f + 1] = 1.0
                days = (time[r] - seen_time[low]) / _SECONDS_PER_DAY
                if days >= 0:
                    out[r, j, f + 2] = np.exp(-days)
                    out[r, j, f + 3] = np.log(1.0 + days) / 3.0


@jit
def weigh_pool(features, sizes, contexts, weights, out):
    """Write the sums of weights and features of each pool, -inf behind its end.

    ``features`` (rows, width, n_features), ``contexts`` (rows, n_sets) the rows of ``weights`` that
    are added up for each row, ``out`` (rows, width).
    """
    n_rows, width, n_features = features.shape
    total = np.empty(n_features)
    for r in range(n_rows):
        total[:] = 0.0
        for c in contexts[r]:
            total += weights[c]
        for j in range(width):
            score = -np.inf
            if j < sizes[r]:
                score = 0.0
                for f in range(n_features):
                    score += total[f] * features[r, j, f]
            out[r, j] = score


@jit
def spread_pool(tiles, center, scale, pool, sizes, pool_scores, out):
    """Write the scores of a pool to a tile of all items, and all other items behind them.

    The others are ordered by the mean standardized score of the members, the best of them 1 below
    the lowest score of the pool. Returns the lowest score of each row, less 1.
    """
    n_members, n_rows, n_items = tiles.shape
    floors = np.empty(n_rows)
    others = np.empty(n_items, np.float64)
    for r in range(n_rows):
        others[:] = 0.0
        for e in range(n_members):
            tile, shift, factor = tiles[e, r], center[e, r], scale[e, r] / n_members
            for i in range(n_items):
                others[i] += (np.float64(tile[i]) - shift) * factor
        lowest = 0.0
        for j in range(sizes[r]):
            others[pool[r, j]] = np.nan
            lowest = pool_scores[r, j] if j == 0 else min(lowest, pool_scores[r, j])
        top, bottom = -np.inf, np.inf
        for i in range(n_items):
            if others[i] == others[i]:
                top, bottom = max(top, others[i]), min(bottom, others[i])
        if top == -np.inf:
            top = bottom = 0.0
        for i in range(n_items):
            out[r, i] = lowest - 1.0 + (others[i] - top)
        for j in range(sizes[r]):
            out[r, pool[r, j]] = pool_scores[r, j]
        floors[r] = lowest - 2.0 + (bottom - top)
    return floors


@inlined
def _nth_smallest(values, size, n, work):
    """Return the n-th of the first ``size`` values in ascending order, counted from 0.

    Quickselect on a copy in ``work``. `numpy.partition` takes longer to compile than `learn_blend`.
    """
    for j in range(size):
        work[j] = values[j]
    low, high = 0, size - 1
    while low < high:
        pivot = work[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while work[i] < pivot:
                i += 1
            while pivot < work[j]:
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return work[n]


@jit
def learn_blend(
    features, sizes, targets, contexts, importance, lists, weights, squares, options, ranks
):
    """Rank the target of each query by the weights as they are, then learn from it.

    The loss is the softmax cross-entropy of the target among the ``n_best`` items of highest score,
    learned only if the target is one of them. The targets of a list share one step of AdaGrad,
    whose sums of squared gradients decay by ``forgetting``. Sets of weights beside the first one
    divide by its sums and their own: a set that few lists reach learns no faster than the first.

    Parameters
    ----------
    features : (rows, width, n_features)
    sizes : (rows,) size of each pool.
    targets : (rows,) place of the target in its pool, -1 for none.
    contexts : (rows, n_sets) rows of ``weights`` that are added up for each query.
    importance : (rows,) weight of each query; 0 ranks without learning.
    lists : (rows,) number of each query's list; equal numbers follow each other.
    weights, squares : (n_contexts, n_features), updated in place.
    options : (learning_rate, forgetting, n_best)
    ranks : (rows,) rank of the target from 0; the size of the pool without a target.
    """
    n_rows, width, n_features = features.shape
    learning_rate, forgetting, n_best = options[0], options[1], int(options[2])
    scores, total, slope = np.empty(width), np.empty(n_features), np.zeros(n_features)
    drawn, work, learns = np.empty(n_features), np.empty(width), False
    for r in range(n_rows):
        size, target = sizes[r], targets[r]
        ranks[r] = size
        if target >= 0:
            total[:] = 0.0
            for c in contexts[r]:
                total += weights[c]
            for j in range(size):
                score = 0.0
                for f in range(n_features):
                    score += total[f] * features[r, j, f]
                scores[j] = score
            own, rank = scores[target], 0
            for j in range(size):
                rank += scores[j] > own or (scores[j] == own and j < target)
            ranks[r] = rank
            if rank < n_best and importance[r] > 0:
                learns = True
                least = -np.inf
                if size > n_best:
                    least = _nth_smallest(scores, size, size - n_best, work)
                highest = scores[:size].max()
                mass = 0.0
                drawn[:] = 0.0
                for j in range(size):
                    if scores[j] >= least:
                        share = np.exp(scores[j] - highest)
                        mass += share
                        for f in range(n_features):
                            drawn[f] += share * features[r, j, f]
                if mass > 0.0:  # it is not if weights are not finite
                    for f in range(n_features):
                        slope[f] += importance[r] * (drawn[f] / mass - features[r, target, f])
        if not learns or (r + 1 < n_rows and lists[r + 1] == lists[r]):
            continue
        first = contexts[r, 0]
        for c in contexts[r]:
            for f in range(n_features):
                squares[c, f] = forgetting * squares[c, f] + slope[f] * slope[f]
                scale = squares[c, f] + (squares[first, f] if c != first else 0.0)
                if scale > 0:
                    weights[c, f] -= learning_rate * slope[f] / np.sqrt(scale)
        slope[:] = 0.0
        learns = False
