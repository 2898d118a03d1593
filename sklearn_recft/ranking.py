"""Scores by tiles, and the best k of each row: a score matrix that is never held whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.parallel import limit_torch_threads, torch_threads

# Rows x columns of a tile of scores: 2 MiB of float32 a thread stays in cache.
_TILE_ROWS, _TILE_COLUMNS = 128, 4096

TileScorer = Callable[[int, int, int, int, np.ndarray], None]


def top_k(
    score_tile: TileScorer,
    n_queries: int,
    n_columns: int,
    k: int,
    indptr: np.ndarray,
    row_columns: np.ndarray,
    *,
    among: bool = False,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Best ``k`` columns of a score matrix that is never held whole.

    Parameters
    ----------
    score_tile : callable ``(r0, r1, c0, c1, out)``
        Writes float32 scores of rows ``r0:r1`` and columns ``c0:c1``; thread-safe.
    n_queries, n_columns, k : int
        Shape of the matrix, and the length of a list.
    indptr, row_columns : ndarray
        CSR layout of the columns to leave out of each row, ascending in each row.
    among : bool, default=False
        Whether they are instead the columns to rank in each row, all others left out.
    n_threads : int, default=1

    Returns
    -------
    columns : ndarray of shape (n_queries, k), int64
        Best first, ties by lower column; -1 where a row has fewer columns to rank.
    scores : ndarray of shape (n_queries, k), float32

    Notes
    -----
    Each thread scores a few hundred rows against a cache-sized run of columns and merges it
    into a running list, so memory is O(threads x tile + n_queries x k).
    """
    scores = np.full((n_queries, k), -np.inf, np.float32)
    columns = np.full((n_queries, k), -1, np.int64)
    pointer = indptr[:-1].copy()
    merge = kernels.update_topk_among if among else kernels.update_topk
    rows = min(_TILE_ROWS, n_queries)
    width = _TILE_ROWS * _TILE_COLUMNS // max(rows, 1)

    def run(r0: int) -> None:
        r1 = min(r0 + rows, n_queries)
        buffer = np.empty((r1 - r0) * min(width, n_columns), np.float32)
        for c0 in range(0, n_columns, width):
            c1 = min(c0 + width, n_columns)
            tile = buffer[: (r1 - r0) * (c1 - c0)].reshape(r1 - r0, c1 - c0)
            score_tile(r0, r1, c0, c1, tile)
            merge(
                tile,
                c0,
                indptr[r0 : r1 + 1],
                row_columns,
                pointer[r0:r1],
                scores[r0:r1],
                columns[r0:r1],
            )

    starts = range(0, n_queries, rows)
    with torch_threads(1):
        if n_threads == 1 or len(starts) == 1:
            for r0 in starts:
                run(r0)
        else:
            with ThreadPoolExecutor(n_threads, initializer=limit_torch_threads) as pool:
                list(pool.map(run, starts))
    return columns, scores


def check_ranked(found: np.ndarray, sizes: np.ndarray) -> None:
    """Refuse scores that have no order: lists ``found`` shorter than their ``sizes``.

    A score that is NaN, or -inf in float32, never enters a list.
    """
    if (found >= 0).all():
        return
    bad = int(((found >= 0).sum(axis=1) < sizes).sum())
    if bad:
        raise ValueError(
            f"The scores of {bad} lists are NaN or beyond the range of float32, and cannot be "
            "ranked: fit to feedback y and context columns of moderate size."
        )


def dot_tiles(
    p: np.ndarray, q: np.ndarray, bias: np.ndarray, base: np.ndarray
) -> Callable[[int, int, int, int, np.ndarray], None]:
    """Scores ``p_r . q_c + bias_c + base_r``, tile by tile (see `top_k`); float32 arrays.

    Shapes: ``p`` (n, k), ``q`` (m, k), ``bias`` (m,), ``base`` (n,).
    """
    if len(p) == 1:
        # One row is a matrix-vector product, which numpy's BLAS does faster.
        def score_one(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            np.dot(q[c0:c1], p[0], out=out[0])
            out[0] += bias[c0:c1]
            out[0] += base

        return score_one
    import torch

    rows, columns, column_bias = map(torch.from_numpy, (p, q, bias))
    row_base = torch.from_numpy(base)[:, None]  # (n, 1)

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        tile = torch.from_numpy(out)
        # Where rows begin decides the order of MKL's sums, and so the last bit of a score: they
        # are copied to where torch begins a tensor.
        some = rows[r0:r1].clone()
        torch.addmm(column_bias[c0:c1], some, columns[c0:c1].T, out=tile)
        tile += row_base[r0:r1]

    return score


def cosine_tiles(vectors: np.ndarray, rows: np.ndarray) -> TileScorer:
    """Cosines of the vectors of ``rows`` with all ``vectors`` (m, k), tile by tile; 0 for zeros."""
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)
    p = unit[rows]
    return dot_tiles(p, unit, np.zeros(len(unit), np.float32), np.zeros(len(p), np.float32))
