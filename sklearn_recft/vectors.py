"""Columns of vectors: lists of numbers of one width, such as embeddings of images or audio."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from sklearn_recft.columns import is_absent, plain, refuse_beyond_float32


def to_vectors(
    cells: np.ndarray | list[Any], places: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return distinct vectors and the place of each row in them; None if cells are no vectors.

    Lists of numbers are vectors if some members have a fractional part, or if they are floats and
    all lists have one length above 1. So lists of strings, of integers, and of whole numbers of
    several lengths are categories. The rows of a 2-d array of floats are always vectors.

    Parameters
    ----------
    cells : list, or ndarray of shape (m, w)
        Cells of a column; None and empty lists are missing. So is a vector with a missing member.
    places : ndarray of shape (n,), int
        Place of each row in ``cells``.
    name : str
        Name of the column, for messages.

    Returns
    -------
    vectors : ndarray of shape (k, w), float32
    places : ndarray of shape (n,), int64
        -1 is a missing vector.

    Raises
    ------
    ValueError
        If vectors have several widths, or numbers are infinite.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.vectors import to_vectors
    >>> vectors, places = to_vectors([[0.5, 1], None, [0.5, 1.0]], np.arange(3), "image")
    >>> vectors.tolist(), places.tolist()
    ([[0.5, 1.0]], [0, -1, 0])
    """
    found = _arrays(cells)
    if found is None:
        return None
    at, arrays = found
    widths = np.array([len(array) for array in arrays])
    members = arrays.ravel() if isinstance(arrays, np.ndarray) else np.concatenate(arrays)
    members = members.astype(np.float64, copy=False)
    with np.errstate(invalid="ignore"):
        fractional = (np.isfinite(members) & (members != np.trunc(members))).any()
    common = int(np.bincount(widths).argmax())
    several = bool((widths != common).any())
    if not (isinstance(cells, np.ndarray) or fractional) and (
        several or common < 2 or np.isnan(members).any()
    ):
        return None
    n_rows = np.bincount(places, minlength=len(cells))[at]  # of each array
    if several:
        raise ValueError(
            f"{name}: {int(n_rows[widths != common].sum())} of {len(places)} rows are vectors of "
            f"another width than {common}, which most have. Give vectors of one width, and None "
            "for a missing one."
        )
    table = members.reshape(-1, common)
    infinite = int(n_rows[np.isinf(table).any(axis=1)].sum())
    if infinite:
        raise ValueError(
            f"{name}: {infinite} of {len(places)} rows are vectors with infinite numbers; set "
            "them to None, which counts as missing."
        )
    largest = np.zeros(len(cells))
    largest[at] = np.nan_to_num(np.abs(table).max(axis=1))
    refuse_beyond_float32(largest[places], name)
    place, vectors = _distinct(table.astype(np.float32))
    of_cells = np.full(len(cells), -1)
    of_cells[at] = place
    return vectors, of_cells[places]


def check_vectors(column: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Check a column that must hold vectors; return distinct ones and the place of each row.

    Unlike `to_vectors`, it takes whole numbers for vectors, and refuses NaN.

    Parameters
    ----------
    column : series, array-like of shape (n,) or (n, w)
        Lists or arrays of finite numbers, of one length. None, NaN and empty lists are missing.
    name : str
        Name of the column, for messages.

    Returns
    -------
    vectors : ndarray of shape (k, w), float32
    places : ndarray of shape (n,), int64
        -1 is a missing vector.

    Raises
    ------
    TypeError
        If cells are no vectors.
    ValueError
        If vectors have several widths, or numbers are NaN or infinite.

    Examples
    --------
    >>> from sklearn_recft.vectors import check_vectors
    >>> vectors, places = check_vectors([[1, 0], None, [1, 0]], "image")
    >>> vectors.tolist(), places.tolist()
    ([[1.0, 0.0]], [0, -1, 0])
    """
    cells = column if isinstance(column, (list, tuple)) else plain(column)
    arrays, cell_of = _vector_cells(cells, name)
    n, known = len(cells), np.flatnonzero(cell_of >= 0)
    if not len(known):
        return np.empty((0, 0), np.float32), np.full(n, -1)
    widths = np.array([len(array) for array in arrays])
    common = int(np.bincount(widths[cell_of[known]]).argmax())
    wrong = int((widths[cell_of[known]] != common).sum())
    if wrong:
        raise ValueError(
            f"{name}: {wrong} of {n} rows are vectors of another width than {common}, which most "
            "have. Give vectors of one width, and None for a missing one."
        )
    table = np.array(arrays, np.float64).reshape(-1, common)
    finite = np.asarray(np.isfinite(table).all(axis=1))
    wrong = int((~finite[cell_of[known]]).sum())
    if wrong:
        raise ValueError(
            f"{name}: {wrong} of {n} rows are vectors with NaN or infinite numbers. Replace these "
            "numbers, or set the vector to None, which counts as missing."
        )
    largest = np.zeros(n)
    largest[known] = np.abs(table).max(axis=1)[cell_of[known]]
    refuse_beyond_float32(largest, name)
    place, vectors = _distinct(table.astype(np.float32) + np.float32(0))  # no negative zeros
    places = np.full(n, -1)
    places[known] = place[cell_of[known]]
    return vectors, places


def _vector_cells(cells: Any, name: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the distinct arrays in cells, and the index of that of each row; -1 is missing.

    Lists are told apart by identity: in a table that was joined, the rows of an item share a list.
    """
    arrays: list[np.ndarray] = []
    found: dict[int, int] = {}
    cell_of, wrong = np.full(len(cells), -1), Counter[str]()
    shared = not (isinstance(cells, np.ndarray) and cells.ndim > 1)  # else, each row is a new view
    for row, cell in enumerate(cells):
        if shared and id(cell) in found:
            cell_of[row] = found[id(cell)]
            continue
        array = _as_array(cell)
        if array is None:
            wrong[type(cell).__name__] += 1
        elif len(array):
            cell_of[row] = found[id(cell)] = len(arrays)
            arrays.append(array)
    if wrong:
        raise TypeError(
            f"{name}: {wrong.total()} of {len(cells)} rows are no vectors but {sorted(wrong)}. "
            "Give lists or arrays of numbers, all of one length, and None for a missing one; or "
            "rename the column if it holds no vectors of items."
        )
    return arrays, cell_of


def _as_array(cell: Any) -> np.ndarray | None:
    """Return a cell as an array (w,), empty if it is missing; None if it is no vector."""
    if not isinstance(cell, (list, tuple, np.ndarray)):
        return np.empty(0) if is_absent(cell) else None
    array = np.asarray(cell) if _are_numbers(cell) else None
    return array if array is not None and array.ndim == 1 else None


def _arrays(cells: np.ndarray | list[Any]) -> tuple[np.ndarray, Any] | None:
    """Return the places of cells that are lists of numbers, and these; None if others are not."""
    if isinstance(cells, np.ndarray):  # of one width
        return (np.arange(len(cells)), cells) if cells.dtype.kind == "f" and cells.size else None
    at, arrays, has_floats = [], [], False
    for place, cell in enumerate(cells):
        if not isinstance(cell, (list, tuple, np.ndarray)):
            if is_absent(cell):
                continue
            return None
        array = np.asarray(cell) if _are_numbers(cell) else None
        if array is None or array.ndim != 1 or array.dtype.kind not in "iuf":
            return None
        if array.size:
            has_floats |= array.dtype.kind == "f"
            at.append(place)
            arrays.append(array)
    return (np.array(at), arrays) if has_floats else None


def _are_numbers(cell: Any) -> bool:
    """Whether all members are numbers: NumPy would turn numbers beside strings into strings."""
    if isinstance(cell, np.ndarray):
        return cell.dtype.kind in "iuf"
    numbers = (int, float, np.integer, np.floating)
    return all(isinstance(v, numbers) and not isinstance(v, bool) for v in cell)


def _distinct(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the place of each row among distinct ones, and these; -1 for rows with NaN."""
    known = ~np.isnan(table).any(axis=1)
    index: dict[bytes, int] = {}
    place = np.full(len(table), -1)
    place[known] = [index.setdefault(row.tobytes(), len(index)) for row in table[known]]
    first = np.full(len(index), -1)
    rows = np.flatnonzero(place >= 0)[::-1]
    first[place[rows]] = rows
    return place, table[first]
