"""Alarms of drift from the log of a blend: a member is worth more or less than before."""

from __future__ import annotations

import numpy as np

# Chunks on both sides of a change, at least.
_SHORTEST = 5
# Confidence of one test; the tests of all places and members share it.
_DELTA = 1e-3


def alarms(
    times: np.ndarray, sizes: np.ndarray, gaps: np.ndarray
) -> list[tuple[float, int, float, float]]:
    """Return the time, the column, and the means before and after of each change of a mean.

    As ADWIN does, each chunk is the end of a window, and the window is cut at each place. An alarm
    drops what is before the cut. The noise of a mean is estimated from the means of chunks, so
    that queries of one chunk may depend on each other.

    Parameters
    ----------
    times : ndarray of shape (n,)
        Of chunks, oldest first.
    sizes : ndarray of shape (n,)
        Number of queries of each chunk.
    gaps : ndarray of shape (n, n_columns)
        Means of differences between two learners over the queries of each chunk.
    """
    found = []
    for column in range(gaps.shape[1]):
        first = 0
        for last in range(2 * _SHORTEST, len(gaps) + 1):
            window = slice(first, last)
            change = _change(sizes[window], gaps[window, column], gaps.shape[1])
            if change is not None:
                cut, before, after = change
                found.append((last - 1, column, before, after))
                first += cut
    return [
        (float(times[chunk]), column, before, after)
        for chunk, column, before, after in sorted(found)
    ]


def _change(sizes: np.ndarray, gaps: np.ndarray, n_columns: int) -> tuple[int, float, float] | None:
    """Return the place of the clearest change of the mean, and both means; None without any."""
    cuts = np.arange(_SHORTEST, len(gaps) - _SHORTEST + 1)
    if not len(cuts):
        return None
    weight, total = np.cumsum(sizes), np.cumsum(sizes * gaps)
    squares = np.cumsum(sizes * gaps**2)
    left, right = weight[cuts - 1], weight[-1] - weight[cuts - 1]
    before, after = total[cuts - 1] / left, (total[-1] - total[cuts - 1]) / right
    rest = squares[-1] - left * before**2 - right * after**2
    spread = np.maximum(rest, 0.0) / (len(gaps) - 2)  # of a chunk, times its size
    noise = np.sqrt(spread * (1.0 / left + 1.0 / right)) + 1e-12
    steps = np.abs(after - before) / noise
    best = int(steps.argmax())
    if steps[best] <= np.sqrt(2.0 * np.log(2.0 * len(cuts) * n_columns / _DELTA)):
        return None
    return int(cuts[best]), float(before[best]), float(after[best])
