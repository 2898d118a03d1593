"""One event of a factorization in one call: arrays are given by address, which takes no time.

A call of a compiled function takes 0.1 to 0.2 microseconds for each array that it is given, longer
than the arithmetic on two rows of a table. So the addresses of all arrays are in one array.
"""

from typing import NamedTuple

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from sklearn_recft.kernels._compile import brief, inlined
from sklearn_recft.kernels._pass_call import address_of_pass, call_pass

_f4, _i4 = np.float32, np.int32


class EventTables(NamedTuple):
    """Arrays of a model, as `online_pass` and a linked log of seen items have them.

    All are C-contiguous: float32, but for ``moments`` (float64) and the log (int32).
    """

    user_factors: np.ndarray
    item_factors: np.ndarray
    user_bias: np.ndarray
    item_bias: np.ndarray
    user_count: np.ndarray
    item_count: np.ndarray
    mean: np.ndarray
    moments: np.ndarray
    last: np.ndarray
    previous: np.ndarray
    seen_item: np.ndarray
    seen_user: np.ndarray
    rates: np.ndarray  # (2, 11): of `partial_fit`, and of `partial_fit_predict`


class EventScratch:
    """Addresses of `EventTables`, sizes, and memory for a row and for what it changes.

    Parameters
    ----------
    tables : EventTables
    loss, newest : int
        As in `online_pass`.

    Attributes
    ----------
    words : ndarray of shape (25,), int64
        The only array that `learn_event` is given.
    """

    def __init__(self, tables: EventTables, loss: int, newest: int) -> None:
        n_factors = tables.user_factors.shape[1]
        row = np.zeros(8, np.float32)
        before = np.zeros(2 * n_factors + 5, np.float32)
        moments = np.zeros(5)
        self._arrays = (*tables, row, before, moments)  # which must live as long as the addresses
        addresses = [array.__array_interface__["data"][0] for array in self._arrays]
        numbers = [*map(len, tables[:2]), n_factors, loss, newest, 0, -1, 0, address_of_pass()]
        self.words = np.array([*addresses, *numbers], np.int64)


# Places in `EventScratch.words`, after those of `EventTables`.
(
    _ROW,
    _BEFORE,
    _MOMENTS,
    _N_USERS,
    _N_ITEMS,
    _N_FACTORS,
    _LOSS,
    _NEWEST,
    _RAW,
    _DONE,
    _LAST,
    _PASS,
) = range(len(EventTables._fields), len(EventTables._fields) + 12)
(
    _USER_FACTORS,
    _ITEM_FACTORS,
    _USER_BIAS,
    _ITEM_BIAS,
    _USER_COUNT,
    _ITEM_COUNT,
    _MEAN,
    _TARGETS,
    _SEEN_LAST,
    _SEEN_PREVIOUS,
    _SEEN_ITEM,
    _SEEN_USER,
    _RATES,
) = range(len(EventTables._fields))
# Sums of squares up to this are far from infinity.
_SAFE = np.float32(1e36)


def _pointer_to(kind):
    """Return a function for compiled code that makes a pointer of an address."""

    @intrinsic
    def pointer(_, address):
        found = types.CPointer(kind)

        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(found))

        return found(types.int64), generate

    return pointer


_floats, _doubles, _ints = map(_pointer_to, (types.float32, types.float64, types.int32))


@brief
def learn_event(words, user, item, target, size, streams):
    """Predict an event of known ids and learn it, as `online_pass` does, and mark it as seen.

    Parameters
    ----------
    words : (25,) int64
        Of an `EventScratch`.
    user, item : int
        Codes.
    target : float
    size : int
        Number of entries in the log of seen items, which has room for one more.
    streams : int
        Row of the rates.

    Returns
    -------
    scored : float
        The prediction before learning. NaN if parameters are not finite, or so large that they
        soon may not be: then nothing has changed.
    """
    n_users, n_items, n_factors = words[_N_USERS], words[_N_ITEMS], words[_N_FACTORS]
    user_factors = numba.carray(_floats(words[_USER_FACTORS]), (n_users, n_factors))
    item_factors = numba.carray(_floats(words[_ITEM_FACTORS]), (n_items, n_factors))
    user_bias = numba.carray(_floats(words[_USER_BIAS]), (n_users,))
    item_bias = numba.carray(_floats(words[_ITEM_BIAS]), (n_items,))
    user_count = numba.carray(_floats(words[_USER_COUNT]), (n_users,))
    item_count = numba.carray(_floats(words[_ITEM_COUNT]), (n_items,))
    mean = numba.carray(_floats(words[_MEAN]), (1,))
    moments = numba.carray(_doubles(words[_TARGETS]), (5,))
    rates = numba.carray(_floats(words[_RATES] + 44 * streams), (11,))
    before = numba.carray(_floats(words[_BEFORE]), (2 * n_factors + 5,))
    old_moments = numba.carray(_doubles(words[_MOMENTS]), (5,))
    for k in range(n_factors):
        before[k] = user_factors[user, k]
        before[n_factors + k] = item_factors[item, k]
    place = 2 * n_factors
    before[place], before[place + 1] = user_bias[user], item_bias[item]
    before[place + 2], before[place + 3] = user_count[user], item_count[item]
    before[place + 4] = mean[0]
    for k in range(5):
        old_moments[k] = moments[k]
    users = numba.carray(_ints(words[_ROW]), (1,))
    items = numba.carray(_ints(words[_ROW] + 4), (1,))
    targets = numba.carray(_floats(words[_ROW] + 8), (1,))
    weight = numba.carray(_floats(words[_ROW] + 12), (1,))
    scored = numba.carray(_floats(words[_ROW] + 16), (1,))
    context = numba.carray(_floats(words[_ROW] + 20), (1, 0))
    context_weight = numba.carray(_floats(words[_ROW] + 20), (0,))
    users[0], items[0] = user, item
    targets[0], weight[0] = target, 1.0
    call_pass(
        words[_PASS],
        (
            users,
            items,
            targets,
            weight,
            context,
            scored,
            moments,
            rates,
            words[_LOSS],
            words[_NEWEST],
            words[_RAW] != 0,
            mean,
            user_bias,
            item_bias,
            user_factors,
            item_factors,
            context_weight,
            user_count,
            item_count,
        ),
    )
    p_size, q_size = _f4(0.0), _f4(0.0)
    for k in range(n_factors):
        p_size += user_factors[user, k] * user_factors[user, k]
        q_size += item_factors[item, k] * item_factors[item, k]
    last = numba.carray(_ints(words[_SEEN_LAST]), (n_users,))
    words[_LAST] = last[user]
    words[_DONE] = size
    # Written so that NaN is refused as well.
    if not (p_size < _SAFE and q_size < _SAFE and abs(scored[0]) < _SAFE):
        _put_back(words, user, item)
        return np.nan
    numba.carray(_ints(words[_SEEN_PREVIOUS]), (size + 1,))[size] = last[user]
    numba.carray(_ints(words[_SEEN_ITEM]), (size + 1,))[size] = item
    numba.carray(_ints(words[_SEEN_USER]), (size + 1,))[size] = user
    last[user] = size
    return np.float64(scored[0])


@inlined
def _put_back(words, user, item):
    n_factors = words[_N_FACTORS]
    place = 2 * n_factors
    before = numba.carray(_floats(words[_BEFORE]), (place + 5,))
    p = numba.carray(_floats(words[_USER_FACTORS] + 4 * n_factors * user), (n_factors,))
    q = numba.carray(_floats(words[_ITEM_FACTORS] + 4 * n_factors * item), (n_factors,))
    for k in range(n_factors):
        p[k], q[k] = before[k], before[n_factors + k]
    numba.carray(_floats(words[_USER_BIAS]), (user + 1,))[user] = before[place]
    numba.carray(_floats(words[_ITEM_BIAS]), (item + 1,))[item] = before[place + 1]
    numba.carray(_floats(words[_USER_COUNT]), (user + 1,))[user] = before[place + 2]
    numba.carray(_floats(words[_ITEM_COUNT]), (item + 1,))[item] = before[place + 3]
    numba.carray(_floats(words[_MEAN]), (1,))[0] = before[place + 4]
    moments = numba.carray(_doubles(words[_TARGETS]), (5,))
    old = numba.carray(_doubles(words[_MOMENTS]), (5,))
    for k in range(5):
        moments[k] = old[k]
    numba.carray(_ints(words[_SEEN_LAST]), (user + 1,))[user] = words[_LAST]
    words[_DONE] = -1


@brief
def undo_event(words, user, item, size):
    """Undo a call of `learn_event` with these arguments, if it is the latest one and was done."""
    if words[_DONE] == size:
        _put_back(words, user, item)
