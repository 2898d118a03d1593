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
        total = sums[rows[n]]
        for s in range(starts[n], starts[n + 1]):
            other, weight = moments[others[s]], weights[s]
            target = weight * targets[s]
            for k in range(size):
                total[k] += weight * other[k]
            for k in range(n_dimensions):
                total[size + k] += target * other[k] - weight * other[size + k]


@jit
def gaussian_posteriors(
    first,
    last,
    places,
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
    """Compute the Gaussian posteriors of rows from their sums.

    These are the rows ``rows[n]`` for n in ``places[first:last]``. The prior of such a row has the
    mean ``m = features[n] @ weights`` and the ``precision`` (D, D). With the sums P and h, the
    posterior has the precision ``A = precision + P / noise`` and the mean
    ``m + A^-1 (h - P m) / noise``. The kernel writes row n of ``means`` (D numbers), of
    ``covariances`` (triangles of ``A^-1``) and of ``moments`` (as `add_moments` reads them). If
    ``covariances`` has no rows, only the means are written.
    """
    n_dimensions = means.shape[1]
    factor = np.empty((n_dimensions, n_dimensions))
    inverse, full = np.empty_like(factor), np.empty_like(factor)
    prior = np.empty(n_dimensions)
    whole = covariances.shape[0] > 0
    for place in range(first, last):
        n = places[place]
        row, mean = sums[rows[n]], means[n]
        _posterior(row, features[n], weights, precision, 1.0 / noise, mean, prior, factor)
        if whole:
            _covariance(mean, factor, inverse, full, covariances[n], moments[n])


@jit
def score_moments(
    first, last, users, items, means, covariances, item_means, item_covariances, moments, found
):
    """Write the mean and the mean square of ``c_u + b_i + p_u . q_i`` for pairs of posteriors.

    The pairs are ``users[n], items[n]``, for n from ``first`` to ``last - 1``. ``means`` and
    ``covariances`` are those of ``w = [c, p]``, and ``moments`` belong to the items. With
    ``x = [1, q]``, the mean square is ``tr(E[x x^T] E[w w^T]) + 2 E[x b] . E[w] + E[b^2]``. Row n
    of ``found`` (n, 2) is written.
    """
    n_dimensions = means.shape[1]
    size = n_dimensions * (n_dimensions + 1) // 2
    for n in range(first, last):
        user, item = users[n], items[n]
        w, spread, x = means[user], covariances[user], moments[item]
        bias = item_means[item, 0]
        mean, square = bias, bias * bias + item_covariances[item, 0]
        k = 0
        for a in range(n_dimensions):
            mean += w[a] * x[a]
            row = 2.0 * x[size + a] * w[a] + x[k] * (spread[k] + w[a] * w[a])
            for b in range(a + 1, n_dimensions):
                row += 2.0 * x[k + b - a] * (spread[k + b - a] + w[a] * w[b])
            square += row
            k += n_dimensions - a
        found[n, 0], found[n, 1] = mean, square


# Separate functions from the loop over rows, so that the summation order within a row is fixed:
# the result must not depend on which rows are computed together. Inner loops add a multiple of one
# run of numbers to another, which is vectorized, unlike sums of short products.
@inlined
def _posterior(sums, features, weights, precision, share, mean, prior, factor):
    """Write the mean of one row, and U of its precision ``U^T U`` (upper triangle)."""
    n = mean.shape[0]
    vector = n * (n + 1) // 2
    for a in range(n):
        prior[a] = 0.0
        mean[a] = sums[vector + a]
    for f in range(features.shape[0]):
        for a in range(n):
            prior[a] += features[f] * weights[f, a]
    k = 0
    for a in range(n):
        for b in range(a, n):
            factor[a, b] = precision[a, b] + share * sums[k + b - a]
        mean[a] -= sums[k] * prior[a]
        for b in range(a + 1, n):
            mean[a] -= sums[k + b - a] * prior[b]
            mean[b] -= sums[k + b - a] * prior[a]
        k += n - a
    for a in range(n):
        pivot = 1.0 / np.sqrt(factor[a, a])
        for b in range(a, n):
            factor[a, b] *= pivot
        for c in range(a + 1, n):
            step = factor[a, c]
            for b in range(c, n):
                factor[c, b] -= step * factor[a, b]
    for a in range(n):  # U^T z = mean
        mean[a] = mean[a] / factor[a, a]
        step = mean[a]
        for b in range(a + 1, n):
            mean[b] -= step * factor[a, b]
    for a in range(n - 1, -1, -1):  # U x = z
        total = mean[a]
        for b in range(a + 1, n):
            total -= factor[a, b] * mean[b]
        mean[a] = total / factor[a, a]
    for a in range(n):
        mean[a] = prior[a] + share * mean[a]


@inlined
def _covariance(mean, factor, inverse, full, covariance, moments):
    """Write the inverse of ``U^T U`` with the given ``factor`` U, and the moments."""
    n = mean.shape[0]
    vector = n * (n + 1) // 2
    for a in range(n):
        for b in range(n):
            inverse[a, b] = 0.0
            full[a, b] = 0.0
    for a in range(n):  # the lower triangle of U^-T
        pivot = 1.0 / factor[a, a]
        inverse[a, a] = pivot
        for c in range(a):
            step = pivot * factor[c, a]
            for b in range(c + 1):
                inverse[a, b] -= step * inverse[c, b]
        for c in range(a + 1):
            step = inverse[a, c]
            for b in range(c, a + 1):
                full[c, b] += step * inverse[a, b]
    k = 0
    for a in range(n):
        for b in range(a, n):
            covariance[k + b - a] = full[a, b]
            moments[k + b - a] = mean[a] * mean[b] + full[a, b]
        k += n - a
    moments[0] = 1.0
    moments[vector] = mean[0]
    for b in range(1, n):
        moments[vector + b] = moments[b]
        moments[b] = mean[b]
