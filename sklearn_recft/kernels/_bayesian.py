"""Bayesian factorization: sums of moments over events, and Gaussian posteriors from these sums.

A symmetric matrix (D, D) is stored as its upper triangle, row by row: ``D (D + 1) / 2`` numbers.
A row of ``sums`` or of ``moments`` is such a triangle, followed by a vector of D numbers.
"""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit


@jit
def add_moments(first, last, rows, starts, others, targets, weights, moments, n_dimensions, sums):
    """Add events to the ``sums`` of their rows, one event after the other.

    Row ``rows[n]``, for n from ``first`` to ``last - 1``, has the events ``starts[n] ..
    starts[n + 1] - 1``. With the moments ``E[x x^T]`` and ``E[x b]`` of the event's other side, its
    target t and its weight w, an event adds ``w E[x x^T]`` and ``w (t E[x] - E[x b])``. The first
    element of x is 1, so ``E[x]`` is the first row of ``E[x x^T]``.
    """
    size = n_dimensions * (n_dimensions + 1) // 2
    for n in range(first, last):
        row = rows[n]
        for s in range(starts[n], starts[n + 1]):
            other, target, weight = others[s], targets[s], weights[s]
            for k in range(size):
                sums[row, k] += weight * moments[other, k]
            for k in range(n_dimensions):
                sums[row, size + k] += weight * (
                    target * moments[other, k] - moments[other, size + k]
                )


@jit
def gaussian_posteriors(
    first,
    last,
    rows,
    sums,
    features,
    weights,
    precision,
    noise,
    means,
    covariances,
    moments,
):
    """Compute the Gaussian posteriors of ``rows`` from their sums.

    The prior of row ``rows[n]`` has the mean ``m = features[n] @ weights`` and the ``precision``
    (D, D). With the sums P and h, the posterior has the precision ``A = precision + P / noise`` and
    the mean ``m + A^-1 (h - P m) / noise``. The kernel writes row n of ``means`` (D numbers), of
    ``covariances`` (triangles of ``A^-1``) and of ``moments`` (as `add_moments` reads them). If
    ``covariances`` has no rows, only the means are written.
    """
    n_dimensions = means.shape[1]
    factor = np.empty((n_dimensions, n_dimensions))
    inverse = np.empty((n_dimensions, n_dimensions))
    whole = covariances.shape[0] > 0
    for n in range(first, last):
        _posterior(sums[rows[n]], features[n], weights, precision, 1.0 / noise, means[n], factor)
        if whole:
            _covariance(means[n], factor, inverse, covariances[n], moments[n])


# Separate functions from the loop over rows, so that the summation order within a row is fixed:
# the result must not depend on which rows are computed together.
@inlined
def _posterior(sums, features, weights, precision, share, mean, factor):
    """Write the mean of one row, and the Cholesky factor of its precision (lower triangle)."""
    n = mean.shape[0]
    vector = n * (n + 1) // 2
    for a in range(n):
        total = 0.0
        for f in range(features.shape[0]):
            total += features[f] * weights[f, a]
        factor[0, a] = total  # the prior mean, for now
    k = 0
    for a in range(n):
        mean[a] = sums[vector + a]
    for a in range(n):
        mean[a] -= sums[k] * factor[0, a]
        k += 1
        for b in range(a + 1, n):
            mean[a] -= sums[k] * factor[0, b]
            mean[b] -= sums[k] * factor[0, a]
            k += 1
    k = 0
    for a in range(n):
        for b in range(a, n):
            factor[b, a] = precision[b, a] + share * sums[k]
            k += 1
    for a in range(n):
        for b in range(a):
            total = factor[a, b]
            for c in range(b):
                total -= factor[a, c] * factor[b, c]
            factor[a, b] = total / factor[b, b]
        total = factor[a, a]
        for c in range(a):
            total -= factor[a, c] * factor[a, c]
        factor[a, a] = np.sqrt(total)
    for a in range(n):
        total = share * mean[a]
        for c in range(a):
            total -= factor[a, c] * mean[c]
        mean[a] = total / factor[a, a]
    for a in range(n - 1, -1, -1):
        total = mean[a]
        for c in range(a + 1, n):
            total -= factor[c, a] * mean[c]
        mean[a] = total / factor[a, a]
    for a in range(n):
        for f in range(features.shape[0]):
            mean[a] += features[f] * weights[f, a]


@inlined
def _covariance(mean, factor, inverse, covariance, moments):
    """Write the inverse of the precision whose Cholesky factor is given, and the moments."""
    n = mean.shape[0]
    vector = n * (n + 1) // 2
    for b in range(n):  # column b of the inverse factor, stored as row b
        inverse[b, b] = 1.0 / factor[b, b]
        for a in range(b + 1, n):
            total = 0.0
            for c in range(b, a):
                total -= factor[a, c] * inverse[b, c]
            inverse[b, a] = total / factor[a, a]
    k = 0
    for a in range(n):
        for b in range(a, n):
            total = 0.0
            for c in range(b, n):
                total += inverse[a, c] * inverse[b, c]
            covariance[k] = total
            k += 1
    moments[0] = 1.0
    for b in range(1, n):
        moments[b] = mean[b]
    k = n
    for a in range(1, n):
        for b in range(a, n):
            moments[k] = mean[a] * mean[b] + covariance[k]
            k += 1
    moments[vector] = mean[0]
    for b in range(1, n):
        moments[vector + b] = mean[0] * mean[b] + covariance[b]
