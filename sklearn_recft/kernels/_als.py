"""Alternating least squares over all (user, item) pairs, with sparse feedback."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit


@jit
def als_rows(first, last, rows, starts, codes, values, gram, reg, n_steps, others, factors):
    """Update rows of ``factors`` by conjugate gradients; the factors of the other side are fixed.

    Row ``r = rows[n]``, for n from ``first`` to ``last - 1``, has the events ``starts[n] ..
    starts[n + 1] - 1``. With ``q_j = others[j]``, each row approaches the minimum of

    ``sum_j c_j (t_j - p . q_j)^2 + reg |p|^2``   over all j.

    For events, ``c_j = 1 + |value_j|``, and ``t_j`` is 1 if the value is positive, else 0. All
    other pairs have weight 1 and target 0, and enter through ``gram = sum_j q_j q_j^T``. The
    kernel runs ``n_steps`` of conjugate gradients from the current row (Takács et al. 2011). They
    never form the matrix, and as many steps as factors solve the system.
    """
    work = np.empty((3, factors.shape[1]), np.float32)
    for n in range(first, last):
        _als_row(
            factors[rows[n]],
            codes[starts[n] : starts[n + 1]],
            values[starts[n] : starts[n + 1]],
            gram,
            reg,
            n_steps,
            others,
            work[0],
            work[1],
            work[2],
        )


# A separate function from the loop over rows, so that the summation order within a row is fixed:
# the result must not depend on the number of threads that share the rows.
@inlined
def _als_row(p, codes, values, gram, reg, n_steps, others, residual, direction, image):
    """Update one row of `als_rows`."""
    n_factors = p.shape[0]
    for a in range(n_factors):
        total = reg * p[a]
        for b in range(n_factors):
            total += gram[a, b] * p[b]
        residual[a] = -total
    for s in range(codes.shape[0]):
        q, value = others[codes[s]], values[s]
        product = np.float32(0.0)
        for a in range(n_factors):
            product += p[a] * q[a]
        coefficient = -abs(value) * product
        if value > 0:
            coefficient += np.float32(1.0) + value
        for a in range(n_factors):
            residual[a] += coefficient * q[a]
    size = np.float32(0.0)
    for a in range(n_factors):
        size += residual[a] * residual[a]
    direction[:] = residual
    goal = np.float32(1e-13) * size + np.float32(1e-30)
    for _ in range(n_steps):
        if size <= goal:
            break
        for a in range(n_factors):
            total = reg * direction[a]
            for b in range(n_factors):
                total += gram[a, b] * direction[b]
            image[a] = total
        for s in range(codes.shape[0]):
            q = others[codes[s]]
            product = np.float32(0.0)
            for a in range(n_factors):
                product += direction[a] * q[a]
            product *= abs(values[s])
            for a in range(n_factors):
                image[a] += product * q[a]
        curvature = np.float32(0.0)
        for a in range(n_factors):
            curvature += direction[a] * image[a]
        step = size / curvature
        before, size = size, np.float32(0.0)
        for a in range(n_factors):
            p[a] += step * direction[a]
            residual[a] -= step * image[a]
        for a in range(n_factors):
            size += residual[a] * residual[a]
        for a in range(n_factors):
            direction[a] = residual[a] + size / before * direction[a]
