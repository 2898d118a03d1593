"""Alternating least squares over all pairs, of which only the events are stored."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit


@jit
def als_rows(first, last, rows, starts, codes, values, gram, reg, n_steps, others, factors):
    """Move rows of ``factors`` towards the least squares solution, the other side being fixed.

    Row ``r = rows[n]``, n from ``first`` to ``last - 1``, has the events ``starts[n] ..
    starts[n + 1] - 1``. With ``q_j = others[j]`` it goes towards the minimum of

    ``sum_j c_j (t_j - p . q_j)^2 + reg |p|^2``   over all j,

    where ``c_j = 1 + |value_j|``, ``t_j`` is 1 where the value is positive and else 0, and
    both are 1 and 0 for whatever has no event: their share is ``gram = sum_j q_j q_j^T``.
    ``n_steps`` rounds of conjugate gradients from where the row stands (Takács et al. 2011),
    which never form the matrix; as many as factors solve it.
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


# Apart from the loop over rows, so that the sums of a row are taken in the same order whichever
# rows are done with it: the result must not depend on how many threads share them.
@inlined
def _als_row(p, codes, values, gram, reg, n_steps, others, rest, direction, image):
    """Do one row of `als_rows`."""
    n_factors = p.shape[0]
    for a in range(n_factors):
        total = reg * p[a]
        for b in range(n_factors):
            total += gram[a, b] * p[b]
        rest[a] = -total
    for s in range(codes.shape[0]):
        q, value = others[codes[s]], values[s]
        along = np.float32(0.0)
        for a in range(n_factors):
            along += p[a] * q[a]
        pull = -abs(value) * along
        if value > 0:
            pull += np.float32(1.0) + value
        for a in range(n_factors):
            rest[a] += pull * q[a]
    size = np.float32(0.0)
    for a in range(n_factors):
        direction[a] = rest[a]
        size += rest[a] * rest[a]
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
            along = np.float32(0.0)
            for a in range(n_factors):
                along += direction[a] * q[a]
            along *= abs(values[s])
            for a in range(n_factors):
                image[a] += along * q[a]
        curve = np.float32(0.0)
        for a in range(n_factors):
            curve += direction[a] * image[a]
        step = size / curve
        before, size = size, np.float32(0.0)
        for a in range(n_factors):
            p[a] += step * direction[a]
            rest[a] -= step * image[a]
            size += rest[a] * rest[a]
        for a in range(n_factors):
            direction[a] = rest[a] + size / before * direction[a]
