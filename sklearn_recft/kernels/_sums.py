"""Sums of what the events of each key added, strictly before each row, in a hash table of keys."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit

# First columns of a key's state: times of its first event, its newest one, and the newest one
# before that time.
TIMES = 3
# First columns of the output: seconds since the newest and since the first event.
GAPS = 2


@inlined
def _slot(key, slots, keys):
    """Return the slot of a key, or the free slot where it belongs."""
    mask = np.uint64(slots.shape[0] - 1)
    code = (np.uint64(key) ^ (np.uint64(key) >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    slot = (code ^ (code >> np.uint64(32))) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def link_keys(size, slots, keys):
    """Put keys 0 to ``size`` into empty ``slots`` (a power of two of them)."""
    for place in range(size):
        slots[_slot(keys[place], slots, keys)] = place


@jit
def find_keys(wanted, slots, keys, places):
    """Write the place of each key, or -1 for an unknown or a negative one."""
    for row in range(wanted.shape[0]):
        places[row] = slots[_slot(wanted[row], slots, keys)] if wanted[row] >= 0 else -1


@jit
def add_keys(wanted, first, size, slots, keys, places):
    """Write the place of each key from row ``first`` on, and add those that are new.

    Returns
    -------
    row, size : int
        First row that is not done, because ``keys`` is full, and number of keys.
    """
    for row in range(first, wanted.shape[0]):
        if wanted[row] < 0:
            places[row] = -1
            continue
        slot = _slot(wanted[row], slots, keys)
        if slots[slot] < 0:
            if size == keys.shape[0]:
                return row, size
            slots[slot], keys[size] = size, wanted[row]
            size += 1
        places[row] = slots[slot]
    return wanted.shape[0], size


@inlined
def _write_row(place, now, half_lives, n_sums, state, row, out):
    """Write what is known of a key strictly before ``now``; return if all its events are."""
    newest = state[place, 1]
    later = now > newest
    out[row, 0] = now - newest if later else now - state[place, 2]
    out[row, 1] = now - state[place, 0] if state[place, 0] < now else np.inf
    for j in range(n_sums):
        added = state[place, TIMES + n_sums + j] if later else 0.0
        out[row, GAPS + j] = state[place, TIMES + j] + added
    for h in range(half_lives.shape[0]):
        left = 2.0 ** ((newest - now) / half_lives[h]) if later else 1.0
        read, write = TIMES + (2 + h) * n_sums, GAPS + (1 + h) * n_sums
        for j in range(n_sums):
            added = state[place, TIMES + n_sums + j] if later else 0.0
            out[row, write + j] = (state[place, read + j] + added) * left
    return later


@inlined
def _write_nothing(row, out):
    """Write what is known of a key without events."""
    out[row, 0] = out[row, 1] = np.inf
    for j in range(GAPS, out.shape[1]):
        out[row, j] = 0.0


@jit
def transform_sums(places, times, half_lives, n_sums, state, out):
    """Write the sums of each row's key strictly before its time; no row changes the state.

    Parameters
    ----------
    places : (n,) place of each row's key, -1 for an unknown one.
    times : (n,) seconds. A row before the newest event of its key reads the state just before
        that event.
    half_lives : (n_half_lives,) seconds.
    n_sums : int
    state : (n_keys, 3 + n_sums * (2 + n_half_lives)) float64
        Times; sums of events before the newest time; sums of those at the newest time; decayed
        sums of events before the newest time, as of that time, for each half-life.
    out : (n, 2 + n_sums * (1 + n_half_lives)) float64, overwritten
        Seconds since the newest and the first event, infinite without one; sums; decayed sums.
    """
    for row in range(places.shape[0]):
        if places[row] >= 0:
            _write_row(places[row], times[row], half_lives, n_sums, state, row, out)
        else:
            _write_nothing(row, out)


@jit
def update_sums(places, times, values, half_lives, state, out):
    """Write each row like `transform_sums`, then add its ``values`` (n, n_sums) to its key.

    Rows ascend in time; those without a key (-1) are not counted. Rows of equal times do not see
    each other, across calls as well: events at the newest time of a key are summed separately until
    a later row comes. An event before the newest time of its key is added to the events before that
    time.
    """
    n_sums, n_half_lives = values.shape[1], half_lives.shape[0]
    for row in range(places.shape[0]):
        place, now = places[row], times[row]
        if place < 0:
            _write_nothing(row, out)
            continue
        if _write_row(place, now, half_lives, n_sums, state, row, out):
            state[place, 2], state[place, 1] = state[place, 1], now
            for j in range(n_sums):
                state[place, TIMES + j] = out[row, GAPS + j]
                state[place, TIMES + n_sums + j] = 0.0
            for j in range(n_half_lives * n_sums):
                state[place, TIMES + 2 * n_sums + j] = out[row, GAPS + n_sums + j]
        state[place, 0] = min(state[place, 0], now)
        if now == state[place, 1]:
            for j in range(n_sums):
                state[place, TIMES + n_sums + j] += values[row, j]
            continue
        state[place, 2] = max(state[place, 2], now)
        for j in range(n_sums):
            state[place, TIMES + j] += values[row, j]
        for h in range(n_half_lives):
            left = 2.0 ** ((now - state[place, 1]) / half_lives[h])
            for j in range(n_sums):
                state[place, TIMES + (2 + h) * n_sums + j] += values[row, j] * left


@jit
def cross_lists(starts, values, other_starts, other_values, made_starts, out):
    """Write every pair of a value and another value of each row, as one number.

    Parameters
    ----------
    starts, other_starts : (n + 1,) where the values of each row begin.
    values, other_values : codes below 2**31
    made_starts : (n + 1,) where the pairs of each row begin.
    out : (made_starts[n],) int64, overwritten: value * 2**31 + other value.
    """
    for row in range(starts.shape[0] - 1):
        to = made_starts[row]
        for i in range(starts[row], starts[row + 1]):
            for j in range(other_starts[row], other_starts[row + 1]):
                out[to] = (np.int64(values[i]) << np.int64(31)) | np.int64(other_values[j])
                to += 1
