"""Approximate search: an inverted file of item factors, and exact scores of what has changed."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from sklearn_recft.ranking import Changes, QuantizedRows, RowScan

# The inverted file: lists per square root of the rows, rows per list to train, and rounds.
_LISTS, _TRAINED, _ROUNDS = 2, 40, 5
# Share of the rows that may have changed before the inverted file is built again.
_CHANGED = 0.02
# Found in the inverted file for each item of a list; all are scored again.
_SPARE = 2


def import_faiss() -> Any:
    """Import faiss, or raise an error that names the extra."""
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "ApproximateLists needs the package faiss-cpu: pip install 'sklearn-recft[ann]'."
        ) from error
    return faiss


@dataclass(frozen=True)
class _Built:
    """An inverted file, the rows that it is of, and which of them have changed since."""

    file: Any
    quantized: QuantizedRows
    changes: Changes


class RowIndex:
    """Find rows with high products by the inverted file of faiss.

    For a product to be searched as a distance, a row ``(x, b)`` of factors and bias gets one
    further number, ``sqrt(M - |x|^2 - b^2)``, with which all rows have the same norm
    (Bachrach et al. 2014).

    Parameters
    ----------
    n_probe : int
        Lists of the inverted file that are searched.
    """

    def __init__(self, n_probe: int) -> None:
        self.n_probe = n_probe
        self._faiss = import_faiss()
        self._lock = Lock()
        self._built: _Built | None = None

    def top_k(
        self, scan: RowScan, k: int, hidden: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return about the best ``k`` columns (1, k) that are not ``hidden``, and their scores.

        The scores are exact. Rows that have changed since the inverted file was built are all
        scored. None if fewer than ``k`` are found.
        """
        built = self._current(scan)
        allowed = np.zeros(len(scan.table), bool)
        allowed[scan.columns if len(scan.columns) else slice(None)] = True
        allowed[scan.columns[hidden] if len(scan.columns) else hidden] = False
        changed = np.flatnonzero(built.changes.rows & allowed)
        allowed &= ~built.changes.rows
        rows = np.sort(np.concatenate([changed, self._search(built, scan, k, allowed)]))
        if len(rows) < k:
            return None
        columns = np.searchsorted(scan.columns, rows) if len(scan.columns) else rows
        scores = scan.exact(columns)[0]
        best = np.argsort(-scores, kind="stable")[:k]
        if not np.isfinite(scores).all():
            return None
        return columns[best][None], scores[best][None]

    def _search(self, built: _Built, scan: RowScan, k: int, allowed: np.ndarray) -> np.ndarray:
        """Return allowed rows of the inverted file with high scores."""
        bits = np.packbits(allowed, bitorder="little")
        chosen = self._faiss.IDSelectorBitmap(bits)
        options = self._faiss.SearchParametersIVF(sel=chosen, nprobe=self.n_probe)
        query = np.concatenate([scan.p, np.array([1, 0], np.float32)])[None]
        _, (rows,) = built.file.search(query, _SPARE * k, params=options)
        found: np.ndarray = rows[rows >= 0]
        return found

    def _current(self, scan: RowScan) -> _Built:
        """Return the inverted file; build it if it is of other rows, or many have changed."""
        with self._lock:
            built, n = self._built, len(scan.table)
            if built is not None and built.quantized is scan.quantized:
                changed = built.changes.rows
                if len(changed) == n and np.count_nonzero(changed) <= _CHANGED * n:
                    return built
            self._built = None  # of which the memory is free now
            # From before the rows are read: nothing is missed.
            changes = scan.quantized.watch(n)
            self._built = _Built(self._build(scan), scan.quantized, changes)
            return self._built

    def _build(self, scan: RowScan) -> Any:
        """Build the inverted file of all rows."""
        rows = np.concatenate([scan.table, scan.bias[:, None]], axis=1)
        square = np.einsum("nf,nf->n", rows, rows, dtype=np.float64)
        rest = np.sqrt(square.max() - square).astype(np.float32)
        rows = np.concatenate([rows, rest[:, None]], axis=1)
        n_lists = max(1, int(_LISTS * np.sqrt(len(rows))))
        center = self._faiss.IndexFlatL2(rows.shape[1])
        file = self._faiss.IndexIVFFlat(center, rows.shape[1], n_lists, self._faiss.METRIC_L2)
        file.cp.niter, file.cp.max_points_per_centroid = _ROUNDS, _TRAINED
        n_trained = min(len(rows), _TRAINED * n_lists)
        file.train(rows[np.random.default_rng(0).choice(len(rows), n_trained, replace=False)])
        file.add(rows)
        return file
