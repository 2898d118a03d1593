"""Embeddings of the codes of rows: look-up with an unknown row, means of lists, and gradients."""

import numpy as np

from sklearn_recft.kernels._compile import jit


@jit
def look_up(tables, unknown, codes, kept, layout):
    """Return the embedding of each field of each row.

    Parameters
    ----------
    tables : tuple of 3 arrays of shape (n_rows, d), float32
    unknown : array of shape (n_kinds, d), float32
    codes : array of shape (B, K), int64
        Codes that are no rows of their table have the embedding ``unknown``.
    kept : array of shape (B, K), bool
        False treats a code as unknown.
    layout : array of shape (F, 4), int64
        For each field its table, its kind, its first column and its number of columns. With
        several columns, it is a list: -1 is no member, and its embedding is the mean.

    Returns
    -------
    embeddings : array of shape (B, F, d), float32
    """
    d = unknown.shape[1]
    out = np.zeros((len(codes), len(layout), d), np.float32)
    for b in range(len(codes)):
        for f in range(len(layout)):
            table, kind, start, width = layout[f]
            own = tables[table]
            count = 0
            for j in range(start, start + width):
                if width == 1 or codes[b, j] >= 0:
                    count += 1
            share = np.float32(1.0 / max(count, 1))
            for j in range(start, start + width):
                code = codes[b, j]
                if width > 1 and code < 0:
                    continue
                if kept[b, j] and 0 <= code < len(own):
                    for k in range(d):
                        out[b, f, k] += share * own[code, k]
                else:
                    for k in range(d):
                        out[b, f, k] += share * unknown[kind, k]
            if count == 0:
                for k in range(d):
                    out[b, f, k] = unknown[kind, k]
    return out


@jit
def look_up_gradients(gradient, n_rows, n_kinds, codes, kept, layout):
    """Return the gradients of the rows of the tables, and of the unknown embeddings.

    Parameters
    ----------
    gradient : array of shape (B, F, d), float32
        Gradient of the embeddings.
    n_rows : array of shape (3,), int64
        Length of each table.
    n_kinds : int
    codes, kept, layout : arrays
        Those of `look_up`.

    Returns
    -------
    rows : array of shape (n,), int64
        Rows that were read, ascending; table t starts at ``n_rows[:t].sum()``.
    sums : array of shape (n, d), float32
    to_unknown : array of shape (n_kinds, d), float32
    """
    d = gradient.shape[2]
    first = np.zeros(len(n_rows), np.int64)
    for t in range(1, len(n_rows)):
        first[t] = first[t - 1] + n_rows[t - 1]
    total = n_rows.sum()
    place = np.full(total, -1, np.int32)
    for b in range(len(codes)):
        for table, _, start, width in layout:
            for j in range(start, start + width):
                if kept[b, j] and 0 <= codes[b, j] < n_rows[table]:
                    place[first[table] + codes[b, j]] = 0
    rows = np.flatnonzero(place == 0)
    for i in range(len(rows)):
        place[rows[i]] = i
    sums = np.zeros((len(rows), d), np.float32)
    to_unknown = np.zeros((n_kinds, d), np.float32)
    for b in range(len(codes)):
        for f in range(len(layout)):
            table, kind, start, width = layout[f]
            count = 0
            for j in range(start, start + width):
                if width == 1 or codes[b, j] >= 0:
                    count += 1
            share = np.float32(1.0 / max(count, 1))
            for j in range(start, start + width):
                code = codes[b, j]
                if width > 1 and code < 0:
                    continue
                if kept[b, j] and 0 <= code < n_rows[table]:
                    at = place[first[table] + code]
                    for k in range(d):
                        sums[at, k] += share * gradient[b, f, k]
                else:
                    for k in range(d):
                        to_unknown[kind, k] += share * gradient[b, f, k]
            if count == 0:
                for k in range(d):
                    to_unknown[kind, k] += gradient[b, f, k]
    return rows, sums, to_unknown
