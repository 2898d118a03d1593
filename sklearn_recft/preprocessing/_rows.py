"""Read rows of a log for features of a stream: ids, times, feedback and the columns asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils.validation import validate_data

from sklearn_recft.columns import (
    is_absent,
    plain,
    summable,
    to_feedback,
    to_ids,
    to_numbers,
)
from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.tables import Table
from sklearn_recft.times import to_seconds

# A column of any values: the cells, and which of them are missing (None: no one).
Cells = tuple[np.ndarray, "np.ndarray | None"]


@dataclass(frozen=True)
class LogRows:
    """Checked columns of n rows, in the order given.

    Attributes
    ----------
    n_rows : int
    times : ndarray of shape (n,), or None
        Seconds since 1970.
    feedback : ndarray of shape (n,), or None
    columns : dict of str to column
        All columns of the table, not checked.
    """

    n_rows: int
    times: np.ndarray | None
    feedback: np.ndarray | None
    columns: dict[str, Any]

    def cells(self, name: str, owner: str) -> Cells:
        """Return the values of a column; those of ``user_id`` and ``item_id`` are never missing."""
        column = self._column(name, owner)
        if name in (USER, ITEM):
            return to_ids(column, name), None
        values = plain(column)
        missing = _missing(column, values)
        if missing is None or not missing.any():
            return to_ids(values, name), None
        known = np.zeros(0, np.int64) if missing.all() else to_ids(values[~missing], name)
        cells = np.empty(len(values), known.dtype if known.dtype.kind == "i" else object)
        cells[~missing] = known
        return cells, missing

    def numbers(self, name: str, owner: str) -> np.ndarray:
        """Return a column of finite numbers, whose sums are finite too."""
        return summable(to_numbers(self._column(name, owner), name), name)

    def _column(self, name: str, owner: str) -> Any:
        if name not in self.columns:
            raise ValueError(
                f"X has no column {name}, which {owner} names: found {list(self.columns)}. Add the "
                f"column, or leave it out of {owner}."
            )
        return self.columns[name]


def read_rows(estimator: Any, X: Any, y: Any = None, *, reset: bool) -> tuple[LogRows, Table]:
    """Check ids, times and feedback; raise before anything changes.

    Parameters
    ----------
    estimator : object
        Fitted, unless ``reset``.
    X : table of events
    y : array-like of shape (n,), default=None
    reset : bool
        Whether the columns need not be those of `fit`.

    Returns
    -------
    rows : LogRows
    table : Table
        For `set_names`.
    """
    table = Table.of(X)
    if not reset:
        _check_names(estimator, table)
    columns = table.columns((USER, ITEM, TIME))
    n_rows = len(columns[USER])
    times = to_seconds(columns[TIME], TIME) if TIME in columns else None
    feedback = None if y is None else to_feedback(y, n_rows)
    return LogRows(n_rows, times, feedback, columns), table


def in_order(cells: Cells, order: np.ndarray) -> Cells:
    """Return cells in another order."""
    values, missing = cells
    return values[order], None if missing is None else missing[order]


def set_names(estimator: Any, table: Table) -> None:
    """Set ``n_features_in_`` and ``feature_names_in_``."""
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_
    named = table.is_named()
    validate_data(estimator, table.given, reset=True, skip_check_array=True)
    if named:
        estimator.feature_names_in_ = np.array(list(map(str, table.names or ())), object)
        estimator.n_features_in_ = len(estimator.feature_names_in_)


def refuse_same_names(table: Table, names: list[str]) -> None:
    """Raise if features have the names of columns of the table that they are appended to."""
    same = sorted(set(map(str, table.names or ())) & set(names))
    if same:
        raise ValueError(
            f"passthrough: X has the columns {same}, which are names of features too. Rename them, "
            "or set passthrough=False."
        )


def beside(X: Any, features: np.ndarray, names: list[str]) -> Any:
    """Return the columns of a table and features (n, k) side by side, in a table of its type."""
    table = Table.of(X)
    if table.names is None:
        if table.values.dtype.kind in "iuf":
            return np.column_stack([table.values, features])
        return np.column_stack([table.values.astype(object), features.astype(object)])
    library = table.values.implementation
    added = [
        nw.new_series(name, np.ascontiguousarray(column), backend=library)
        for name, column in zip(names, features.T, strict=True)
    ]
    return table.values.with_columns(*added).to_native()


def _check_names(estimator: Any, table: Table) -> None:
    """Check the columns of a table without roles; a frame is read by name."""
    if not table.is_named():
        array = isinstance(table.values, np.ndarray)
        values = table.values if array else table.given
        validate_data(estimator, values, reset=False, skip_check_array=True)


def _missing(column: Any, values: np.ndarray) -> np.ndarray | None:
    """Return which cells are missing; None where none can be."""
    if values.dtype.kind in "iub":
        return None
    if values.dtype.kind == "f":
        return np.isnan(values)
    if isinstance(column, nw.Series):
        return column.is_null().to_numpy()
    return np.fromiter(map(is_absent, values.tolist()), bool, len(values))
