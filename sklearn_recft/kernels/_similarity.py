"""Item-item similarities from a sparse user-item matrix, and rules from sequences of items.

The matrix is given as CSR arrays by user (``starts``, item ``codes``, ``values``) and by item
(``item_starts``, ``users``, ``item_values``); codes ascend within a row.
"""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit
from sklearn_recft.kernels._sort import sort_part

LARGEST_RULE = 1e24  # float32 holds sums of rules times feedback


@jit
def gram_rows(first, last, item_starts, users, item_values, starts, codes, values, out):
    """Write rows ``first .. last - 1`` of ``X^T X``, up to the diagonal, to ``out``."""
    for i in range(first, last):
        row = out[i]
        for s in range(item_starts[i], item_starts[i + 1]):
            u, value = users[s], np.float64(item_values[s])
            for t in range(starts[u], starts[u + 1]):
                j = codes[t]
                if j > i:
                    break
                row[j] += value * values[t]


@inlined
def _nth(values, n, k):
    """Return the k-th smallest of the first n values, which are reordered; k from 0.

    Hoare's quickselect. `np.partition` gives the same, and takes ten seconds to compile.
    """
    low, high = 0, n - 1
    while low < high:
        middle = (low + high) // 2
        a, b, c = values[low], values[middle], values[high]
        pivot = c  # the median of three
        if (a < b) == (b < c):
            pivot = b
        elif (b < a) == (a < c):
            pivot = a
        left, right = low, high
        while left <= right:
            while values[left] < pivot:
                left += 1
            while values[right] > pivot:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if k <= right:
            high = right
        elif k >= left:
            low = left
        else:
            low = high = k
    return values[k]


@inlined
def _keep_largest(i, near, score, n_near, scratch, found, values):
    """Write the items with the largest of n_near scores to row i; return their number.

    Items of ``near`` ascend, and so do those of ``found[i]``; ties prefer lower codes.
    """
    k = found.shape[1]
    worst, room = np.float32(-np.inf), 0
    if n_near > k:
        for a in range(n_near):
            scratch[a] = score[a]
        worst = _nth(scratch, n_near, n_near - k)
        room = k
        for a in range(n_near):
            room -= score[a] > worst
    n = 0
    for a in range(n_near):
        if score[a] == worst:
            room -= 1
        if score[a] > worst or (score[a] == worst and room >= 0):
            found[i, n] = near[a]
            values[i, n] = score[a]
            n += 1
    return n


@jit
def nearest_items(
    first,
    last,
    item_starts,
    users,
    item_values,
    starts,
    codes,
    values,
    size,
    shrinkage,
    found,
    similarity,
    n_found,
):
    """Find the items most similar to items ``first .. last - 1``, the item itself included.

    With ``g_ij = sum_u x_ui x_uj``, the similarity is ``g_ij / (size_i size_j + shrinkage)``. The
    ``found.shape[1]`` most similar items of item i are written to ``found[i]`` and
    ``similarity[i]`` in ascending order of code; ties prefer lower codes. ``n_found[i]`` is their
    number.
    """
    n_items = size.shape[0]
    total = np.zeros(n_items)
    is_near = np.zeros(n_items, np.bool_)
    near = np.empty(n_items, np.int32)
    score, scratch = np.empty(n_items, np.float32), np.empty(n_items, np.float32)
    for i in range(first, last):
        n_terms, n_near = 0, 0
        for s in range(item_starts[i], item_starts[i + 1]):
            n_terms += starts[users[s] + 1] - starts[users[s]]
        if n_terms < n_items:  # few terms: list the neighbours as they occur
            for s in range(item_starts[i], item_starts[i + 1]):
                u, value = users[s], np.float64(item_values[s])
                for t in range(starts[u], starts[u + 1]):
                    j = codes[t]
                    total[j] += value * values[t]
                    if not is_near[j]:
                        is_near[j] = True
                        near[n_near] = j
                        n_near += 1
            sort_part(near, 0, n_near)
        else:  # many terms: one scan over all items is cheaper than a check per term
            for s in range(item_starts[i], item_starts[i + 1]):
                u, value = users[s], np.float64(item_values[s])
                for t in range(starts[u], starts[u + 1]):
                    total[codes[t]] += value * values[t]
                    is_near[codes[t]] = True
            for j in range(n_items):
                if is_near[j]:
                    near[n_near] = j
                    n_near += 1
        for a in range(n_near):
            j = near[a]
            below = size[i] * size[j] + shrinkage
            score[a] = total[j] / below if below > 0 else 0.0
            total[j] = 0.0
            is_near[j] = False
        n = _keep_largest(i, near, score, n_near, scratch, found, similarity)
        n_found[i] = n


@jit
def follow_items(
    first,
    last,
    starts,
    places,
    user,
    item,
    given,
    taken,
    time,
    max_distance,
    gap_half_life,
    row_scale,
    column_scale,
    found,
    strength,
    n_found,
):
    """Weigh the rules of items ``first .. last - 1``: which items follow them in sequences.

    Parameters
    ----------
    starts, places : places of each item's events in the sequences, as CSR arrays by item.
    user, item, given, taken, time : (n,) the sequences, one user after the other. ``given`` and
        ``taken`` weigh an event as the earlier and as the later one of a pair; times in seconds.
    max_distance : events that are farther apart make no pair.
    gap_half_life : seconds between two events after which a pair counts half, 0 for no decay.
    row_scale, column_scale : (n_items,) factors of a rule by its earlier and its later item. No
        rule is larger than ``LARGEST_RULE``, also where an item's count has decayed to nothing.
    found, strength, n_found : as in `nearest_items`; pairs count ``1 / distance``.
    """
    n_items, n_events = row_scale.shape[0], user.shape[0]
    total = np.zeros(n_items)
    is_near = np.zeros(n_items, np.bool_)
    near = np.empty(n_items, np.int32)
    score, scratch = np.empty(n_items, np.float32), np.empty(n_items, np.float32)
    for i in range(first, last):
        n_near = 0
        for s in range(starts[i], starts[i + 1]):
            p = places[s]
            for q in range(p + 1, min(p + max_distance + 1, n_events)):
                if user[q] != user[p]:
                    break
                weight = given[p] * taken[q] / (q - p)
                if gap_half_life > 0:
                    weight *= 2.0 ** (-(time[q] - time[p]) / gap_half_life)
                j = item[q]
                total[j] += weight
                if not is_near[j]:
                    is_near[j] = True
                    near[n_near] = j
                    n_near += 1
        sort_part(near, 0, n_near)
        for a in range(n_near):
            j = near[a]
            score[a] = min(total[j] * row_scale[i] * column_scale[j], LARGEST_RULE)
            total[j] = 0.0
            is_near[j] = False
        n_found[i] = _keep_largest(i, near, score, n_near, scratch, found, strength)


@jit
def mark_largest(starts, values, k, kept):
    """Set ``kept`` to whether each value is among the k largest of its row; ties prefer the first.

    Row r of ``values`` is ``starts[r] .. starts[r + 1] - 1``.
    """
    longest = 0
    for r in range(starts.shape[0] - 1):
        longest = max(longest, starts[r + 1] - starts[r])
    scratch = np.empty(longest, values.dtype)
    for r in range(starts.shape[0] - 1):
        first, last = starts[r], starts[r + 1]
        n = last - first
        if n <= k:
            for s in range(first, last):
                kept[s] = True
            continue
        for s in range(first, last):
            scratch[s - first] = values[s]
        worst = _nth(scratch, n, n - k)
        room = k
        for s in range(first, last):
            room -= values[s] > worst
        for s in range(first, last):
            kept[s] = values[s] > worst
            if values[s] == worst and room > 0:
                kept[s] = True
                room -= 1


@jit
def spread(starts, codes, values, near_starts, near, similarity, first, out):
    """Add ``sum_j values_rj similarity_jc`` to ``out[r, c - first]``, for each user row r.

    ``near`` holds the neighbours of each item in ascending order. Only columns from ``first`` to
    ``first + out.shape[1] - 1`` are computed.
    """
    last = first + out.shape[1]
    for r in range(starts.shape[0] - 1):
        row = out[r]
        for s in range(starts[r], starts[r + 1]):
            value = values[s]
            low, high = near_starts[codes[s]], near_starts[codes[s] + 1]
            if first > 0:
                end = high
                while low < end:  # the first neighbour inside the tile
                    middle = (low + end) // 2
                    if near[middle] < first:
                        low = middle + 1
                    else:
                        end = middle
            for t in range(low, high):
                if near[t] >= last:
                    break
                row[near[t] - first] += value * similarity[t]
