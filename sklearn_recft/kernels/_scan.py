"""One query against all rows of a table, read as int8: which rows can be among the best k."""

import numpy as np

from sklearn_recft.kernels._compile import jit

_BLOCK = 64
_LEVELS = 127
# Bits of a float32 without its sign, and of infinity: larger ones are NaN.
_SIZE_BITS, _INFINITE = np.int32(0x7FFFFFFF), np.int32(0x7F800000)
# Rows of smaller numbers are not rounded: the inverse of their scale may not be finite.
_SMALL = np.float32(1e-30)
# Bound of the sums' rounding errors, in units of 2^-22 for each term and for the rest.
_ROUNDING, _REST = np.float32(2.0**-22), 16
# Scores and errors at which sums may be beyond the range of float32: these have no bounds.
_LARGE, _WIDE = np.float32(1e37), np.float32(1e31)


@jit
def quantize_rows(table, rows, codes, scale, error):
    """Round ``rows`` of a table to int8, with a scale for each row.

    Parameters
    ----------
    table : (n, d), float32.
    rows : (m,) row numbers, all different.
    codes, scale, error : (n, d) int8, (n,) and (n,) float32; written at ``rows``.

    A row is about ``scale * codes``. For any vector ``p``, the float32 product of ``p`` and the
    row, summed in any order, is at most ``|p| * error`` away from ``scale * (p . codes)``, which is
    a float32 sum too. The error of a row that is not finite, or of tiny numbers, is as large as
    the row itself.
    """
    d = table.shape[1]
    root = np.float32(np.sqrt(d))
    size = np.empty(1, np.int32)
    peak = size.view(np.float32)
    for r in range(rows.shape[0]):
        i = rows[r]
        row, bits, code = table[i], table[i].view(np.int32), codes[i]
        largest = np.int32(0)
        for j in range(d):  # of integers: the maximum of floats does not compile to vector code
            largest = max(largest, np.int32(bits[j] & _SIZE_BITS))
        size[0] = largest
        if largest >= _INFINITE or peak[0] < _SMALL:
            code[:] = 0
            scale[i] = 0
            error[i] = np.inf if largest >= _INFINITE else np.float32(1.001) * peak[0] * root
            continue
        step = peak[0] / np.float32(_LEVELS)
        inverse = np.float32(1) / step
        square = np.float32(0)
        for j in range(d):
            exact = row[j] * inverse
            near = np.rint(exact)
            code[j] = np.int8(np.int32(near))
            square += (exact - near) * (exact - near)
        rounding = np.float32(d + _REST) * _ROUNDING * peak[0] * root
        scale[i] = step
        error[i] = np.float32(1.0001) * np.sqrt(square) * step + rounding


@jit
def scan_rows(codes, scale, error, bias, columns, start, stop, p, size, rest, hidden, k, found):
    """Find the columns whose score can be among the best ``k``.

    The score of a column is the product of ``p`` and its row, plus its bias.

    Parameters
    ----------
    codes, scale, error : what `quantize_rows` wrote.
    bias : (n,), float32; by row, as ``codes``.
    columns : (m,) the row of each column, or empty: column and row are the same.
    start, stop : columns to scan.
    p : (d,), float32.
    size : at least the norm of ``p``.
    rest : what is added to the bound of each error.
    hidden : columns to leave out, ascending.
    found : (stop - start,) int32; written from its start with the columns found, ascending.

    Returns
    -------
    n_found : int
        At most ``k`` columns are certainly better than one that is not found.
    """
    d, some = codes.shape[1], columns.shape[0] > 0
    high, least = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    best = np.full(k, -np.inf, np.float32)
    upper = np.empty(stop - start, np.float32)
    worst, n_found = np.float32(-np.inf), 0
    pointer = np.searchsorted(hidden, start)
    for left in range(start, stop, _BLOCK):
        n = min(_BLOCK, stop - left)
        for j in range(0, n, 2):
            last = min(j + 1, n - 1)
            one = codes[columns[left + j] if some else left + j]
            other = codes[columns[left + last] if some else left + last]
            first, second = np.float32(0), np.float32(0)
            for f in range(d):  # two rows at a time: half of the overhead
                first += p[f] * np.float32(one[f])
                second += p[f] * np.float32(other[f])
            high[j], high[last] = first, second
        hits = np.int32(0)
        for j in range(n):
            i = columns[left + j] if some else left + j
            score = high[j] * scale[i] + bias[i]
            width = error[i] * size + abs(bias[i]) * (np.float32(2) * _ROUNDING) + rest
            bounded = abs(score) < _LARGE and width < _WIDE
            high[j] = score + width if bounded else np.float32(np.inf)
            least[j] = score - width if bounded else np.float32(-np.inf)
            hits |= np.int32(high[j] >= worst)
        if hits == 0:
            continue
        for j in range(n):
            if high[j] < worst:
                continue
            while pointer < hidden.shape[0] and hidden[pointer] < left + j:
                pointer += 1
            if pointer < hidden.shape[0] and hidden[pointer] == left + j:
                continue
            found[n_found], upper[n_found] = left + j, high[j]
            n_found += 1
            if least[j] > worst:
                place = k - 1
                while place > 0 and best[place - 1] < least[j]:
                    best[place] = best[place - 1]
                    place -= 1
                best[place] = least[j]
                worst = best[k - 1]
    kept = 0
    for r in range(n_found):
        if upper[r] >= worst:
            found[kept] = found[r]
            kept += 1
    return kept
