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
