"""Scores by tiles, and the best k of each row: a score matrix that is never held whole."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import RLock
from typing import Any
from weakref import ref

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.parallel import in_kept_threads, limit_torch_threads, torch_threads

# Rows x columns of a tile of scores: 2 MiB of float32 a thread stays in cache.
_TILE_ROWS, _TILE_COLUMNS = 128, 4096

# Lists from this length on whose square is above so many times the columns are sorted: inserting
# scores one by one takes steps like the square of the length. Scores held for it are bounded.
_LONG, _LONG_RATIO, _HELD = 128, 8, 2**24

# Fewer numbers of a table are read as they are: the scan of int8 has a fixed cost.
_SCANNED = 2**21
# To round a row to int8 takes as long as to score about so many rows once.
_ROUNDING_COST = 8
# Rows that are scored again at a time, which bounds memory.
_RESCORED = 2**16
# Pieces of a scan for each thread: what one thread does not do in time, another takes.
_PIECES = 4
# BLAS is given so many rows at a time. Of other numbers of rows, it sums the last ones, and those
# where its threads meet, in another order.
_ALIGNED = 16

TileScorer = Callable[[int, int, int, int, np.ndarray], None]
_NO_ROWS, _NO_PLACES = np.empty(0, np.int64), np.empty(0, np.int32)


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
    into a running list, so memory is O(threads x tile + n_queries x k). A `RowScan` of one query
    finds the same list by itself. For long lists, a thread holds whole rows of scores, 64 MiB or
    one row, and sorts them.
    """
    is_long = k >= _LONG and k * k > _LONG_RATIO * n_columns
    if isinstance(score_tile, RowScan) and not among and not is_long:
        found = score_tile.top_k(k, row_columns, n_threads)
        if found is not None:
            return found
    scores = np.full((n_queries, k), -np.inf, np.float32)
    columns = np.full((n_queries, k), -1, np.int64)
    pointer = indptr[:-1].copy()
    merge = kernels.update_topk_among if among else kernels.update_topk
    rows = min(_TILE_ROWS, n_queries)
    if is_long:
        rows = min(rows, max(1, _HELD // n_columns))
    width = _TILE_ROWS * _TILE_COLUMNS // max(rows, 1)

    def run(r0: int) -> None:
        r1 = min(r0 + rows, n_queries)
        held = np.empty((r1 - r0, n_columns if is_long else 0), np.float32)
        buffer = np.empty((r1 - r0) * min(width, n_columns), np.float32)
        for c0 in range(0, n_columns, width):
            c1 = min(c0 + width, n_columns)
            tile = buffer[: (r1 - r0) * (c1 - c0)].reshape(r1 - r0, c1 - c0)
            score_tile(r0, r1, c0, c1, tile)
            if is_long:
                held[:, c0:c1] = tile
                continue
            merge(
                tile,
                c0,
                indptr[r0 : r1 + 1],
                row_columns,
                pointer[r0:r1],
                scores[r0:r1],
                columns[r0:r1],
            )
        for r, row in enumerate(held if is_long else (), r0):
            its = row_columns[indptr[r] : indptr[r + 1]]
            best = _sorted_best(row, k, its, among=among)
            columns[r, : len(best)], scores[r, : len(best)] = best, row[best]

    starts = range(0, n_queries, rows)
    with torch_threads(1):
        if n_threads == 1 or len(starts) == 1:
            for r0 in starts:
                run(r0)
        else:
            with ThreadPoolExecutor(n_threads, initializer=limit_torch_threads) as pool:
                list(pool.map(run, starts))
    return columns, scores


def _sorted_best(row: np.ndarray, k: int, its: np.ndarray, *, among: bool) -> np.ndarray:
    """Return the columns of the best ``k`` scores of a row, ties by lower column.

    Columns ``its`` are left out, or are the only ones; so are scores that are NaN or -inf.
    """
    if not among:
        row[its] = -np.inf
    columns = its if among else np.arange(len(row))
    columns = columns[row[columns] > -np.inf]
    falling = -row[columns]
    if len(columns) > 2 * k:
        near = falling <= np.partition(falling, k - 1)[k - 1]
        columns, falling = columns[near], falling[near]
    best: np.ndarray = columns[np.argsort(falling, kind="stable")[:k]]
    return best


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

    rows, column_bias = map(torch.from_numpy, (p, bias))
    is_fixed = not q.flags.writeable  # of a file that is mapped: torch would warn
    row_base = torch.from_numpy(base)[:, None]  # (n, 1)

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        tile = torch.from_numpy(out)
        # Where rows begin decides the order of MKL's sums, and so the last bit of a score: they
        # are copied to where torch begins a tensor.
        some = rows[r0:r1].clone()
        columns = torch.from_numpy(q[c0:c1].copy() if is_fixed else q[c0:c1])
        torch.addmm(column_bias[c0:c1], some, columns.T, out=tile)
        tile += row_base[r0:r1]

    return score


class Changes:
    """Which rows of a table have changed, or are new.

    Attributes
    ----------
    rows : ndarray of shape (n,), bool
    """

    def __init__(self, n_rows: int) -> None:
        self.rows = np.zeros(n_rows, bool)

    def touch(self, rows: Any) -> None:
        """Note that ``rows`` (a code, or codes of which some may be beyond the end) change."""
        self.rows[rows if isinstance(rows, int) else rows[rows < len(self.rows)]] = True

    def resize(self, n_rows: int) -> None:
        """Note that the table gets ``n_rows`` rows, and that further ones are new."""
        kept = self.rows[:n_rows]
        self.rows = np.append(kept, np.ones(n_rows - len(kept), bool))


class QuantizedRows:
    """An int8 copy of a float32 table (n, d) for `RowScan`: ``d + 9`` bytes per row.

    It is made when single queries repeat, and then holds which rows have changed since. They are
    rounded again by the next query, unless they are too many for the queries so far: to round
    the whole table costs as much as a few queries. Whoever writes to rows of the table calls
    `touch` or `resize` before, while nobody reads. A copy or a pickle of it is empty.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._watches: list[ref[Changes]] = []
        self._changes: Changes | None = None
        self.clear()

    def watch(self, n_rows: int) -> Changes:
        """Return what notes the changes of the table's ``n_rows`` rows from now on."""
        changes = Changes(n_rows)
        with self._lock:
            self._watches = [*(w for w in self._watches if w() is not None), ref(changes)]
        return changes

    def clear(self) -> None:
        """Forget all rows: the table is another one."""
        for watch in self._watches:
            changes = watch()
            if changes is not None:
                changes.resize(0)
        self._codes = np.empty((0, 0), np.int8)
        self._scale, self._error = np.empty(0, np.float32), np.empty(0, np.float32)
        self._changes, self._credit = None, 0

    def touch(self, rows: Any) -> None:
        """Note that ``rows`` (a code, or codes of which some may be beyond the end) change."""
        for watch in self._watches:
            changes = watch()
            if changes is not None:
                changes.touch(rows)

    def resize(self, n_rows: int) -> None:
        """Note that the table gets ``n_rows`` rows, and that further ones are new."""
        for watch in self._watches:
            changes = watch()
            if changes is not None and n_rows != len(changes.rows):
                changes.resize(n_rows)

    def current(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """Return codes (n, d), scales (n,) and errors (n,) of all rows; None to read the table.

        See `kernels.quantize_rows`. Several threads may call it at the same time.
        """
        with self._lock:
            n = len(table)
            n_stale = n
            if self._changes is not None and len(self._changes.rows) == n:
                n_stale = int(np.count_nonzero(self._changes.rows))
            if _ROUNDING_COST * n_stale > n + self._credit:
                self._credit += n
                return None
            if n_stale:
                self._round(table, n_stale)
            self._credit = 0
            return self._codes[:n], self._scale[:n], self._error[:n]

    def _round(self, table: np.ndarray, n_stale: int) -> None:
        """Round the rows that have changed."""
        n, kept = len(table), len(self._codes)
        if self._changes is None or n_stale == n:
            self._codes, kept = np.empty((0, table.shape[1]), np.int8), 0
            self._changes = self.watch(n)
            self._changes.rows[:] = True
        if n > kept:  # spare room, so that new rows do not copy all
            room = n if not kept else max(n, kept * 9 // 8)
            arrays = self._codes, self._scale, self._error
            self._codes, self._scale, self._error = (
                _with_room(array, kept, room) for array in arrays
            )
        rows = np.flatnonzero(self._changes.rows)
        kernels.quantize_rows(table, rows, self._codes, self._scale, self._error)
        self._changes.rows[rows] = False

    def __reduce__(self) -> tuple[type[QuantizedRows], tuple[()]]:
        return QuantizedRows, ()


def _with_room(array: np.ndarray, kept: int, room: int) -> np.ndarray:
    larger = np.empty((room, *array.shape[1:]), array.dtype)
    larger[:kept] = array[:kept]
    return larger


@dataclass(frozen=True)
class RowScan:
    """Scores ``p . x_c + bias_c + base`` of one query: tiles, and the best k by a scan of int8.

    The scan bounds the score of each row from its int8 copy. For ``x = s c + e`` with codes c, the
    inequality of Cauchy and Schwarz is ``|p . x - s p . c| <= |p| |e|``. A row whose upper bound is
    below the k-th best lower bound is not among the best k. The others are scored again from the
    float32 rows, so the list is the one of all scores.

    Attributes
    ----------
    p : ndarray of shape (d,), float32
    table : ndarray of shape (n, d), float32
    bias : ndarray of shape (n,), float32
    base : float32
    columns : ndarray of shape (m,), int64
        Rows of the table to rank, ascending; empty for all.
    quantized : QuantizedRows
        That of the table.
    """

    p: np.ndarray
    table: np.ndarray
    bias: np.ndarray
    base: np.float32
    columns: np.ndarray
    quantized: QuantizedRows

    def __call__(self, r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        """Write the scores of columns ``c0:c1``, to the same bits as `exact`."""
        rest = c1 - (c1 - c0) % _ALIGNED
        rows = self.columns[c0:rest] if len(self.columns) else slice(c0, rest)
        scores = out[0, : rest - c0]
        scores[:] = self._products(self.table[rows])
        scores += self.bias[rows]
        scores += self.base
        if rest < c1:
            out[0, rest - c0 :] = self.exact(np.arange(rest, c1))[0]

    def top_k(
        self, k: int, hidden: np.ndarray, n_threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the best ``k`` columns (1, k) that are not ``hidden``, and their scores.

        As `ranking.top_k`; None if there is no int8 copy yet.
        """
        rounded = self.quantized.current(self.table)
        if rounded is None:
            return None
        found = self._candidates(rounded, k, hidden, n_threads)
        scores = np.full((1, k), -np.inf, np.float32)
        places = np.full((1, k), -1, np.int64)
        nothing = np.zeros(2, np.int64)
        for start in range(0, len(found), _RESCORED):
            tile = self.exact(found[start : start + _RESCORED])
            kernels.update_topk(tile, start, nothing, _NO_PLACES, nothing[:1], scores, places)
        return np.append(found, -1)[places].astype(np.int64), scores

    def exact(self, columns: np.ndarray) -> np.ndarray:
        """Return the scores (1, n) of n columns."""
        n = len(columns)
        rows = self.columns[columns] if len(self.columns) else columns
        aligned = np.pad(rows, (0, -n % _ALIGNED), mode="edge")
        scores = self._products(self.table[aligned])[:n]
        scores += self.bias[rows]
        scores += self.base
        return scores[None]

    def _products(self, rows: np.ndarray) -> np.ndarray:
        """Return ``x . p`` of rows (n, d), n a multiple of 16."""
        n, d = rows.shape
        products: np.ndarray = np.matmul(rows.reshape(n // _ALIGNED, _ALIGNED, d), self.p)
        return products.ravel()

    def _candidates(
        self, rounded: tuple[np.ndarray, ...], k: int, hidden: np.ndarray, n_threads: int
    ) -> np.ndarray:
        """Return the columns that may be among the best ``k``, ascending; at least one."""
        n = len(self.columns) or len(self.table)
        with np.errstate(over="ignore", invalid="ignore"):  # without bounds, all are candidates
            size = np.float32(np.linalg.norm(self.p.astype(np.float64)) * (1 + 1e-6))
            # Rounding of the sum with the base, and of products below the range of float32.
            rest = np.float32(abs(np.float64(self.base)) * 2.0**-21 + len(self.p) * 1e-37)

        n_pieces = 1 if n_threads == 1 else n_threads * _PIECES
        ends = np.linspace(0, n, n_pieces + 1).astype(np.int64).tolist()

        def scan(j: int) -> np.ndarray:
            start, stop = ends[j : j + 2]
            found = np.empty(stop - start, np.int32)
            n_found = kernels.scan_rows(
                *rounded, self.bias, self.columns, start, stop, self.p, size, rest, hidden, k, found
            )
            return found[:n_found]

        found = in_kept_threads(scan, n_pieces, n_threads)
        return found[0] if n_pieces == 1 else np.concatenate(found)


def row_tiles(
    p: np.ndarray,
    table: np.ndarray,
    bias: np.ndarray,
    base: np.ndarray,
    columns: np.ndarray,
    quantized: QuantizedRows,
) -> TileScorer:
    """Return `dot_tiles` of the rows ``columns`` of a table; for one query of many, a `RowScan`.

    Parameters
    ----------
    p, table, bias, base : ndarray
        Those of `dot_tiles`, for all rows of the table.
    columns : ndarray of shape (m,), int64
        Ascending, all different.
    quantized : QuantizedRows
        That of the table.
    """
    whole = len(columns) == len(table)
    if len(p) == 1 and len(columns) * table.shape[1] >= _SCANNED:
        rows = _NO_ROWS if whole else columns
        return RowScan(p[0], table, bias, base[0], rows, quantized)
    if not whole:
        table, bias = table[columns], bias[columns]
    return dot_tiles(p, table, bias, base)


def cosine_tiles(vectors: np.ndarray, rows: np.ndarray) -> TileScorer:
    """Cosines of the vectors of ``rows`` with all ``vectors`` (m, k), tile by tile; 0 for zeros."""
    size = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)
    p = unit[rows]
    return dot_tiles(p, unit, np.zeros(len(unit), np.float32), np.zeros(len(p), np.float32))
