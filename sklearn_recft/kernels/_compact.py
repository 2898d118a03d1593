"""Products of float vectors with rows of int8, which are read as they are stored."""

import numpy as np

from sklearn_recft.kernels._compile import jit


@jit
def int8_products(codes, scales, bias, p, base, out):
    """Write ``scales_j (codes_j . p_r) + bias_j + base_r`` to ``out`` (r, j).

    Parameters
    ----------
    codes : (m, k) int8
    scales, bias : (m,) float32
    p : (n, k) float32
    base : (n,) float32
    out : (n, m) float32
    """
    n_columns, k = codes.shape
    for r in range(p.shape[0]):
        query, row, own = p[r], out[r], base[r]
        for j in range(n_columns):
            code = codes[j]
            total = np.float32(0.0)
            for f in range(k):
                total += np.float32(code[f]) * query[f]
            row[j] = scales[j] * total + bias[j] + own


@jit
def expand_int8(codes, scales, out):
    """Write ``scales_j codes_j`` to the first k columns of ``out`` (m, k or more), float32."""
    n_rows, k = codes.shape
    for j in range(n_rows):
        scale = scales[j]
        for f in range(k):
            out[j, f] = np.float32(codes[j, f]) * scale


@jit
def expand_bfloat16(codes, out):
    """Write the upper 16 bits of numbers, ``codes`` (m, k), to the bits of ``out``, as above."""
    n_rows, k = codes.shape
    for j in range(n_rows):
        for f in range(k):
            out[j, f] = np.uint32(codes[j, f]) << np.uint32(16)
