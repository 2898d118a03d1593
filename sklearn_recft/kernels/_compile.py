"""How every loop of this room is compiled."""

import numba

_OPTIONS = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


def jit(function):
    """Compile on first call, and keep what is compiled where there is a place to keep it."""
    try:
        return numba.njit(function, cache=True, **_OPTIONS)
    except RuntimeError:
        # A read-only disk without a home is no reason not to run.
        return numba.njit(function, **_OPTIONS)


def inlined(function):
    """Make a function part of every kernel that calls it, so that there is but one code of it.

    Else a process that compiled the kernel and one that read it from disk may each run a copy of
    the helper, ``np.sum`` among them, that sums in another order, and differ in the last digit.
    """
    return numba.njit(function, inline="always", **_OPTIONS)
