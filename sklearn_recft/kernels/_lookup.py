"""Embeddings of the codes of rows: look-up with an unknown row, means of lists, and gradients."""

import numpy as np

from sklearn_recft.kernels._compile import jit


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
    out = np.zeros((len(codes), len(layout), unknown.shape[1]), np.float32)
    _look_up(tables, unknown, codes, kept, layout, out)
    return out


@jit
def _look_up(tables, unknown, codes, kept, layout, out):
    d = unknown.shape[1]
    for b in range(len(codes)):
        for f in range(len(layout)):
            table, kind, start, width = layout[f, 0], layout[f, 1], layout[f, 2], layout[f, 3]
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
    # Arrays are made here: in a kernel, that takes longer to compile than the loops.
    first = np.cumsum(n_rows) - n_rows
    place = np.full(n_rows.sum(), -1, np.int32)
    _mark_rows(place, first, n_rows, codes, kept, layout)
    rows = np.flatnonzero(place == 0)
    place[rows] = np.arange(len(rows))
    sums = np.zeros((len(rows), gradient.shape[2]), np.float32)
    to_unknown = np.zeros((n_kinds, gradient.shape[2]), np.float32)
    _add_gradients(gradient, place, first, n_rows, codes, kept, layout, sums, to_unknown)
    return rows, sums, to_unknown


@jit
def _mark_rows(place, first, n_rows, codes, kept, layout):
    for f in range(len(layout)):
        table, start = layout[f, 0], layout[f, 2]
        for j in range(start, start + layout[f, 3]):
            for b in range(len(codes)):
                if kept[b, j] and 0 <= codes[b, j] < n_rows[table]:
                    place[first[table] + codes[b, j]] = 0


@jit
def _add_gradients(gradient, place, first, n_rows, codes, kept, layout, sums, to_unknown):
    d = gradient.shape[2]
    for b in range(len(codes)):
        for f in range(len(layout)):
            table, kind, start, width = layout[f, 0], layout[f, 1], layout[f, 2], layout[f, 3]
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
