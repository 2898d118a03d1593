"""Decayed counts of the baskets in which a user took an item, in a hash table of pairs."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit

# Exposures are whole numbers of this unit: their sum does not depend on the order of users.
EXPOSURE_UNIT = 2.0**-20


@inlined
def _find(user, item, slots, pair_user, pair_item):
    """Return the slot of a pair, or the free slot where it belongs."""
    mask = np.uint64(slots.shape[0] - 1)
    code = np.uint64(user) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(item)
    code = (code ^ (code >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    slot = (code ^ (code >> np.uint64(32))) & mask
    while slots[slot] >= 0:
        place = slots[slot]
        if pair_user[place] == user and pair_item[place] == item:
            break
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def link_pairs(size, slots, last, previous, pair_user, pair_item):
    """Put pairs 0 to ``size`` into empty ``slots``, and chain those of each user."""
    for place in range(size):
        user = pair_user[place]
        slots[_find(user, pair_item[place], slots, pair_user, pair_item)] = place
        previous[place] = last[user]
        last[user] = place


@jit
def count_habits(
    users,
    items,
    times,
    half_life,
    size,
    slots,
    last,
    previous,
    pair_user,
    pair_item,
    strength,
    time,
    basket,
    repeats,
    exposures,
    again,
    exposure,
    before,
):
    """Count events, in the order of user, time and item; return how many pairs there are.

    Parameters
    ----------
    users, items, times : (n,) codes, and seconds.
    half_life : seconds; infinity for no decay.
    size : pairs known so far.
    slots : (power of two above all pairs,) places of pairs, -1 where free.
    last : (n_users,) place of each user's newest pair, -1 for none.
    previous, pair_user, pair_item, strength, time : (capacity,) the user's pair before a pair,
        its ids, its decayed count and the seconds at which that holds.
    basket : (n_users,) seconds of each user's newest basket.
    repeats, exposures : (n_items,) int64, added to: how often an item was taken again, and the
        decayed counts of those who might have, in units of ``EXPOSURE_UNIT``.
    again, exposure : (capacity,) what each pair has added to ``repeats`` and ``exposures``.
    before : (n,) float32, overwritten: decayed count of each row's pair in earlier baskets.

    A basket is all a user takes at one time. It counts an item once.
    """
    n, start = users.shape[0], 0
    while start < n:
        user, now = users[start], times[start]
        stop = start + 1
        while stop < n and users[stop] == user and times[stop] == now:
            stop += 1
        if now > basket[user]:
            place = last[user]
            while place >= 0:
                left = strength[place] * 2.0 ** ((time[place] - now) / half_life)
                units = np.int64(np.rint(left / EXPOSURE_UNIT))
                exposures[pair_item[place]] += units
                exposure[place] += units
                place = previous[place]
            basket[user] = now
        for row in range(start, stop):
            item = items[row]
            slot = _find(user, item, slots, pair_user, pair_item)
            place = slots[slot]
            if place < 0:
                slots[slot], pair_user[size], pair_item[size] = size, user, item
                previous[size], last[user] = last[user], size
                strength[size], time[size], before[row] = 1.0, now, 0.0
                again[size], exposure[size] = 0, 0
                size += 1
                continue
            then = time[place]
            if then < now:
                left = np.float32(strength[place] * 2.0 ** ((then - now) / half_life))
                before[row] = left
                strength[place], time[place] = left + np.float32(1), now
                repeats[item] += 1
                again[place] += 1
            elif then == now:
                before[row] = strength[place] - np.float32(1)
            else:  # a late event: what came before it is no longer known
                before[row] = 0.0
                strength[place] += np.float32(2.0 ** ((now - then) / half_life))
        start = stop
    return size


@inlined
def _at(strength, then, now, half_life):
    """Return a decayed count before a time; 0 if the newest basket is later, as it is not known."""
    if then < now:
        return strength * 2.0 ** ((then - now) / half_life)
    return strength - 1.0 if then == now else 0.0


@jit
def habits_of_pairs(
    users, items, times, half_life, slots, pair_user, pair_item, strength, time, out
):
    """Write the decayed count (n,) of each pair before a time; 0 for unknown ids (-1)."""
    for row in range(users.shape[0]):
        out[row] = 0.0
        if users[row] >= 0 and items[row] >= 0:
            place = slots[_find(users[row], items[row], slots, pair_user, pair_item)]
            if place >= 0:
                out[row] = _at(strength[place], time[place], times[row], half_life)


@jit
def habits_of_users(
    users, times, half_life, column_of, last, previous, pair_item, strength, time, indptr, out
):
    """Write the columns and decayed counts of each query, ``indptr`` (n + 1,) says where.

    Parameters
    ----------
    users, times : (n,) who asks, -1 for unknown users, and when, in seconds.
    column_of : (n_items,) column of each item, -1 for none.
    indptr : (n + 1,) int64, overwritten if ``out`` has no rows.
    out : (n_found, 2) float64, overwritten: column and decayed count, columns not sorted. With
        no rows, only ``indptr`` is written.
    """
    found, fill = 0, out.shape[0] > 0
    for row in range(users.shape[0]):
        indptr[row] = found
        place = last[users[row]] if 0 <= users[row] < last.shape[0] else -1
        while place >= 0:
            column = column_of[pair_item[place]]
            if column >= 0:
                if fill:
                    out[found, 0] = column
                    out[found, 1] = _at(strength[place], time[place], times[row], half_life)
                found += 1
            place = previous[place]
    indptr[users.shape[0]] = found


@jit
def pairs_of_users(users, last, previous, out):
    """Write the places of all pairs of distinct users as far as ``out`` reaches; count them."""
    found = 0
    for row in range(users.shape[0]):
        place = last[users[row]]
        while place >= 0:
            if found < out.shape[0]:
                out[found] = place
            found += 1
            place = previous[place]
    return found


@jit
def add_to_tile(indptr, columns, values, first_row, first_column, out):
    """Add ``values`` at ``columns`` of each row to a tile ``out`` of rows and columns."""
    width = out.shape[1]
    for row in range(out.shape[0]):
        for place in range(indptr[first_row + row], indptr[first_row + row + 1]):
            column = columns[place] - first_column
            if 0 <= column < width:
                out[row, column] += values[place]
