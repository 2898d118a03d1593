"""Compilation options shared by all kernels."""

import numba

# Whether kernels have addresses: not with NUMBA_DISABLE_JIT=1, as debuggers and coverage set it.
COMPILED = not numba.config.DISABLE_JIT
_OPTIONS = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz", "arcp"}}


def jit(function):
    """Compile a function on its first call, and cache the result on disk if possible.

    A loop over floats that adds up to a scalar must store to no array. Before such a loop, compiled
    code compares the addresses of the arrays, and sums in another order if these are close: equal
    inputs would give sums that differ in the last digit, by where memory was free.
    """
    return _compiled(function, _OPTIONS)


def brief(function):
    """Compile a function of a microsecond, as `jit` does: it keeps the interpreter lock.

    To give the lock back and take it again would take a good part of the time, and much longer if
    another thread takes it meanwhile.
    """
    return _compiled(function, {**_OPTIONS, "nogil": False})


def _compiled(function, options):
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:
        # Without a writable cache directory, compile in memory only.
        return numba.njit(function, **options)


def inlined(function):
    """Inline a function into every kernel that calls it, so that it is compiled once.

    Otherwise a compiled kernel and a cached one may use different copies of the helper. These can
    sum in another order, and results would differ in the last digit.
    """
    return numba.njit(function, inline="always", **_OPTIONS)
