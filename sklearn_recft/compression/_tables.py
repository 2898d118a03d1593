"""A table of vectors in 8 or 16 bits a number, which is scored as it is stored."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.ranking import TileScorer

PRECISIONS = ("int8", "float16", "bfloat16")
_TYPES: dict[str, np.dtype] = {
    "int8": np.dtype(np.int8),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(np.uint16),  # the upper half of a float32
}
_LARGEST = 127  # of int8: -128 is not used, so that rows and their negatives have the same codes
_FLOAT16 = float(np.finfo(np.float16).max)
# Rows that are expanded at once: in all, and as columns of a tile, which stay in cache.
_BLOCK, _COLUMNS = 4096, 1024
# For so many queries, the compiled product is faster than expanding the rows for BLAS.
_FEW_QUERIES = 4


class CompactTable:
    """Rows of numbers in ``precision``; rows that changed since are kept in float32 beside them.

    With int8, row ``j`` is ``scales_j codes_j`` with ``scales_j = max |row| / 127``. So the error
    of a number is at most half a scale. A table never changes: `followed` makes a new one.

    Parameters
    ----------
    width : int
        Numbers of a row.
    precision : {"int8", "float16", "bfloat16"}, default="int8"

    Attributes
    ----------
    codes : ndarray of shape (n, width), int8, float16 or uint16
    scales : ndarray of shape (n,), float32
        Of int8; otherwise empty.
    changed : ndarray of shape (m,), int64
        Rows that are read from ``full``, ascending.
    full : ndarray of shape (m, width), float32
    """

    def __init__(self, width: int, precision: str = "int8") -> None:
        self.precision = precision
        self.codes = np.empty((0, width), _TYPES[precision])
        self.scales = np.empty(0, np.float32)
        self.changed, self.full = np.empty(0, np.int64), np.empty((0, width), np.float32)

    @classmethod
    def of(cls, rows: np.ndarray, precision: str, name: str = "the table") -> CompactTable:
        """Compress rows (n, width) of float32.

        Raises
        ------
        ValueError
            If a number is not finite, or beyond the range of float16.
        """
        table = cls(rows.shape[1], precision)
        table.codes = np.empty(rows.shape, _TYPES[precision])
        table.scales = np.empty(len(rows) if precision == "int8" else 0, np.float32)
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, start + _BLOCK)
            table._write(block, np.ascontiguousarray(rows[block], np.float32), name)
        return table

    def _write(self, block: slice, rows: np.ndarray, name: str) -> None:
        """Compress some rows."""
        bad = int((~np.isfinite(rows)).any(axis=1).sum())
        if bad:
            raise ValueError(
                f"{name}: {bad} rows are not finite, and cannot be compressed. Fit again with a "
                "lower learning rate, or feedback y of moderate size."
            )
        if self.precision == "int8":
            size = np.abs(rows).max(axis=1, initial=0.0)
            scale = size / np.float32(_LARGEST)
            with np.errstate(over="ignore"):
                too_long = np.isinf(scale * np.float32(_LARGEST))
            scale[too_long] = np.nextafter(scale[too_long], np.float32(0))
            safe = np.where(scale > 0, scale, np.float32(1))
            codes = np.rint(rows / safe[:, None])
            self.codes[block] = np.clip(codes, -_LARGEST, _LARGEST)
            self.scales[block] = scale
        elif self.precision == "float16":
            far = int((np.abs(rows) > _FLOAT16).any(axis=1).sum())
            if far:
                raise ValueError(
                    f"{name}: {far} rows have numbers beyond {_FLOAT16:g}, the largest float16. "
                    "Compress with tables='int8' or 'bfloat16'."
                )
            self.codes[block] = rows
        else:
            self.codes[block] = _rounded(rows.view(np.uint32))

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of columns."""
        return len(self.codes), self.codes.shape[1]

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        arrays = self.codes, self.scales, self.changed, self.full
        return sum(array.nbytes for array in arrays)

    # ------------------------------------------------------------------ reading

    def rows(self, codes: np.ndarray) -> np.ndarray:
        """Return rows (n, width) of known ``codes`` as float32."""
        scales = self.scales[codes] if len(self.scales) else self.scales
        found = self._expanded(self.codes[codes], scales)
        if len(self.changed):
            place = np.searchsorted(self.changed, codes)
            place[place == len(self.changed)] = 0
            there = self.changed[place] == codes
            found[there] = self.full[place[there]]
        return found

    def expanded(self) -> np.ndarray:
        """Return all rows as float32."""
        found = self._expanded(self.codes, self.scales)
        found[self.changed] = self.full
        return found

    def mean(self) -> np.ndarray:
        """Return the mean (width,) of all rows, float32."""
        total = np.zeros(self.width)
        for start in range(0, len(self), _BLOCK):
            total += self._block(start).sum(axis=0, dtype=np.float64)
        return (total / max(len(self), 1)).astype(np.float32)

    def gram(self) -> np.ndarray:
        """Return the products (width, width) of the columns, float64."""
        total = np.zeros((self.width, self.width))
        for start in range(0, len(self), _BLOCK):
            wide = self._block(start).astype(np.float64)
            total += wide.T @ wide
        return total

    def norms(self) -> np.ndarray:
        """Return the lengths (n,) of the rows, float32."""
        starts = range(0, len(self), _BLOCK)
        found = [np.linalg.norm(self._block(start), axis=1) for start in starts]
        return np.concatenate([np.empty(0, np.float32), *found])

    def _block(self, start: int) -> np.ndarray:
        return self.rows(np.arange(start, min(start + _BLOCK, len(self))))

    def _expanded(self, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
        """Return rows of codes as float32, without those that changed."""
        found = np.empty(codes.shape, np.float32)
        self._expand(codes, scales, found)
        return found

    def _expand(self, codes: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
        """Write rows of codes (m, k) to the first k columns of ``out``."""
        if self.precision == "int8":
            kernels.expand_int8(plain(codes), plain(scales), out)
        elif self.precision == "float16":
            import torch  # its conversion is vector code

            torch.from_numpy(out[:, : codes.shape[1]]).copy_(torch.from_numpy(plain(codes)))
        else:
            kernels.expand_bfloat16(plain(codes), out.view(np.uint32))

    # ------------------------------------------------------------------ scoring

    def tiles(
        self, p: np.ndarray, columns: np.ndarray | None, bias: np.ndarray, base: np.ndarray
    ) -> TileScorer:
        """Return a function that writes ``p_r . row_c + bias_c + base_r`` (see `ranking.top_k`).

        Parameters
        ----------
        p : ndarray of shape (n, width), float32
        columns : ndarray of shape (m,) or None
            Ascending rows of the table; None means all.
        bias : ndarray of shape (m,), float32
        base : ndarray of shape (n,), float32
        """
        codes, scales = self.codes, self.scales
        changed, full = self.changed, self.full
        if columns is not None and len(columns) < len(self):
            codes, scales = codes[columns], scales[columns] if len(scales) else scales
            place = np.searchsorted(columns, changed)
            place[place == len(columns)] = 0
            there = columns[place] == changed if len(columns) else np.zeros(len(changed), bool)
            changed, full = place[there], full[there]
        codes, scales = plain(codes), plain(scales)
        p, base = np.ascontiguousarray(p, np.float32), np.ascontiguousarray(base, np.float32)
        bias = np.ascontiguousarray(bias, np.float32)
        # The product of (p_r, base_r, 1) and (row_c, 1, bias_c) spares two passes over the tile.
        wide = np.column_stack([p, base, np.ones(len(p), np.float32)])

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            own = slice(c0, c1)
            parts = codes[own], scales[own] if len(scales) else scales, bias[own]
            if self.precision == "int8" and r1 - r0 <= _FEW_QUERIES:
                kernels.int8_products(*parts, p[r0:r1], base[r0:r1], out)
            else:
                self._score_blocks(parts, wide[r0:r1], out)
            first, last = np.searchsorted(changed, (c0, c1))
            if first < last:
                at = changed[first:last]
                out[:, at - c0] = p[r0:r1] @ full[first:last].T + bias[at] + base[r0:r1, None]

        return score

    def _score_blocks(
        self, parts: tuple[np.ndarray, np.ndarray, np.ndarray], wide: np.ndarray, out: np.ndarray
    ) -> None:
        """Expand a few rows after the others, and multiply them by all queries."""
        import torch

        codes, scales, bias = parts
        # Where the rows begin decides the order of MKL's sums: see `ranking.dot_tiles`.
        queries, tile, width = torch.from_numpy(wide).clone(), torch.from_numpy(out), wide.shape[1]
        for start in range(0, len(codes), _COLUMNS):
            block = slice(start, min(start + _COLUMNS, len(codes)))
            rows = np.empty((block.stop - start, width), np.float32)
            self._expand(codes[block], scales[block] if len(scales) else scales, rows)
            rows[:, -2], rows[:, -1] = 1, bias[block]
            torch.mm(queries, torch.from_numpy(rows).T, out=tile[:, block])

    def cosine_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of the rows ``items`` with all; 0 for zeros."""
        norms, nothing = self.norms(), np.zeros(len(self), np.float32)
        inverse = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
        p = self.rows(items) * inverse[items, None]
        products = self.tiles(p, None, nothing, np.zeros(len(p), np.float32))

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            products(r0, r1, c0, c1, out)
            out *= inverse[c0:c1]

        return score

    # ------------------------------------------------------------------ changing, saving

    def followed(self, rows: np.ndarray) -> CompactTable:
        """Return the table of ``rows`` (m, width), m >= n: what differs is kept in float32."""
        n = len(self)
        differs = np.ones(len(rows), bool)
        for start in range(0, n, _BLOCK):
            stop = min(start + _BLOCK, n)
            differs[start:stop] = (rows[start:stop] != self._block(start)).any(axis=1)
        differs[self.changed] = True
        table = self.grown(len(rows))
        table.changed = np.flatnonzero(differs)
        table.full = np.ascontiguousarray(rows[table.changed], np.float32)
        return table

    def grown(self, n: int) -> CompactTable:
        """Return the table with ``n`` rows, new ones zero."""
        table, n_new = CompactTable(self.width, self.precision), n - len(self)
        table.codes = np.pad(plain(self.codes), ((0, n_new), (0, 0)))
        table.scales = np.pad(plain(self.scales), (0, n_new if self.precision == "int8" else 0))
        table.changed, table.full = self.changed, self.full
        return table

    def replaced(self, codes: np.ndarray, rows: np.ndarray, *, in_full: bool) -> CompactTable:
        """Return the table with other ``rows`` (m, width) at distinct ``codes``, ascending.

        They are compressed or, if ``in_full``, kept in float32.
        """
        table = self.grown(len(self))
        if not in_full:
            new = CompactTable.of(rows, self.precision)
            table.codes[codes] = new.codes
            if len(table.scales):
                table.scales[codes] = new.scales
        kept = ~np.isin(self.changed, codes)
        table.changed, table.full = self.changed[kept], self.full[kept]
        if in_full:
            changed = np.concatenate([table.changed, codes])
            order = np.argsort(changed)
            table.changed = changed[order].astype(np.int64)
            table.full = np.concatenate([table.full, rows.astype(np.float32)])[order]
        return table

    def first_columns(self, width: int) -> CompactTable:
        """Return the table of the first ``width`` columns."""
        if width == self.width:
            return self
        table = CompactTable(width, self.precision)
        table.codes, table.scales = np.ascontiguousarray(self.codes[:, :width]), self.scales
        table.changed, table.full = self.changed, np.ascontiguousarray(self.full[:, :width])
        return table

    def without(self, rows: np.ndarray) -> CompactTable:
        """Return the table without ``rows``; later rows close the gaps."""
        table = CompactTable(self.width, self.precision)
        table.codes = np.delete(self.codes, rows, axis=0)
        table.scales = np.delete(self.scales, rows) if len(self.scales) else self.scales
        kept = ~np.isin(self.changed, rows)
        gone = np.searchsorted(np.unique(rows), self.changed[kept])
        table.changed, table.full = self.changed[kept] - gone, self.full[kept]
        return table

    def state(self, prefix: str = "") -> dict[str, Any]:
        """Return the arrays, named after ``prefix``; nothing writes to them."""
        names = ("codes", "scales", "changed", "full")
        return {f"{prefix}{name}": getattr(self, name) for name in names}

    @classmethod
    def from_state(cls, state: dict[str, Any], precision: str, prefix: str = "") -> CompactTable:
        """Return the table that `state` was made of.

        Raises
        ------
        ValueError
            If the arrays do not fit together: another program may have changed them.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"{precision!r} is not one of {PRECISIONS}")
        codes, scales, changed, full = (
            state[f"{prefix}{name}"] for name in ("codes", "scales", "changed", "full")
        )
        table = cls(codes.shape[1], precision)
        n, is_int8 = len(codes), precision == "int8"
        fits = (
            codes.dtype == _TYPES[precision]
            and codes.ndim == full.ndim == 2
            and scales.shape == (n if is_int8 else 0,)
            and scales.dtype == full.dtype == np.float32
            and (not is_int8 or float(scales.min(initial=0.0)) >= 0)
            and changed.dtype == np.int64
            and full.shape == (*changed.shape, codes.shape[1])
            and (np.diff(changed) > 0).all()
            and 0 <= int(changed.min(initial=0)) <= int(changed.max(initial=-1)) + 1 <= n
        )
        if not fits or (precision == "bfloat16" and ((codes & 0x7F80) == 0x7F80).any()):
            raise ValueError(f"{prefix}codes: this is not a table of {precision}")
        table.codes, table.scales, table.changed, table.full = codes, scales, changed, full
        return table


def plain(array: np.ndarray) -> np.ndarray:
    """Return an array that compiled loops know, also of one that is mapped from a file."""
    return array.view(np.ndarray)


def _rounded(bits: np.ndarray) -> np.ndarray:
    """Round float32 numbers, given as bits, to the nearest of their upper halves, ties to even.

    The largest numbers are cut instead, as they would become infinite.
    """
    up = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    is_finite = (up & np.uint32(0x7F800000)) != np.uint32(0x7F800000)
    return (np.where(is_finite, up, bits) >> np.uint32(16)).astype(np.uint16)
