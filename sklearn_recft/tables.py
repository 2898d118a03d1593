"""Any table in, its columns by role out: by name in a frame, by position where no names are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse

from sklearn_recft.columns import plain
from sklearn_recft.names import (
    EXPECTED,
    ITEM,
    QUERY,
    ROLES,
    TEXT,
    TIME,
    USER,
    are_numbered,
    as_roles,
    no_such_columns,
)
from sklearn_recft.times import to_seconds

# How a table that has not been read yet is read, by the package that it is of.
_READ_BY = {"dask": "compute()", "duckdb": "df()", "ibis": "execute()", "pyspark": "toPandas()"}


def is_frame(X: Any) -> bool:
    """Whether narwhals reads ``X``: a data frame or a series of one."""
    if isinstance(X, (np.ndarray, list, tuple)):
        return False
    return isinstance(X, (nw.DataFrame, nw.Series)) or (
        nw.dependencies.is_pandas_dataframe(X)  # by its type, where the others look for attributes
        or hasattr(X, "__narwhals_dataframe__")
        or hasattr(X, "__narwhals_series__")
        or nw.dependencies.is_into_dataframe(X)
        or nw.dependencies.is_into_series(X)
    )


@dataclass(frozen=True)
class EventRow:
    """One event by the names of its columns: a table for `check_events`, without a data frame.

    Attributes
    ----------
    columns : dict of str to object
        ``user_id`` and ``item_id``, and optionally ``timestamp`` and others.
    """

    columns: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return 1, len(self.columns)

    def cells(self) -> list[np.ndarray]:
        """Return each column as an array of shape (1,), object."""
        cells = [np.empty(1, object) for _ in self.columns]
        for cell, value in zip(cells, self.columns.values(), strict=True):
            cell[0] = value
        return cells


@dataclass(frozen=True)
class Table:
    """A table of events or queries, which is looked at once.

    Attributes
    ----------
    given : object
        The table as it was passed.
    values : DataFrame or Series of narwhals, ndarray of shape (n, n_columns), or EventRow
    names : list, or None
        Names of the columns of a frame, or of an event.
    """

    given: Any
    values: Any
    names: list[Any] | None = None

    @classmethod
    def of(cls, X: Any) -> Table:
        """Read any table but a sparse one."""
        if isinstance(X, EventRow):
            return cls(X, X, list(X.columns))
        if is_frame(X):
            values = nw.from_native(X, eager_only=True, allow_series=True)
            return cls(X, values, None if isinstance(values, nw.Series) else values.columns)
        if issparse(X):
            raise TypeError(
                "Sparse data was passed for X, but a dense table of events is required: "
                "one row per event, with columns user, item, timestamp. A transformer makes dense "
                "columns by OneHotEncoder(sparse_output=False), a ColumnTransformer by "
                "sparse_threshold=0; else pass X.toarray()."
            )
        return cls(X, as_table(X))

    def is_named(self, needed: tuple[str, ...] = (USER, ITEM)) -> bool:
        """Whether this is a frame with the needed columns; raise if it has names, but not those."""
        if self.names is None:
            return False
        if all(role in as_roles(self.names) for role in needed):
            return True
        if are_numbered(self.names):
            return False
        raise no_such_columns(nw.to_native(self.given, pass_through=True), self.names, needed)

    def absent(self, roles: Iterable[str]) -> tuple[str, ...]:
        """Return the roles that the names of a frame lack; none of a table read by position."""
        if self.names is None or are_numbered(self.names):
            return ()
        own = as_roles(self.names)
        return tuple(role for role in roles if role not in own)

    def columns(self, positions: tuple[str, ...]) -> dict[str, Any]:
        """Columns by role: by name in a frame, by position in a table without names."""
        values = self.values
        if isinstance(values, EventRow):
            return dict(zip(as_roles(values.columns), values.cells(), strict=True))
        if isinstance(values, nw.Series):
            raise ValueError(
                f"Expected a table of events (2D), got a single column {values.name!r} instead: "
                "one row per event, with columns user, item, timestamp."
            )
        if self.names is None:
            series = [values[:, j] for j in range(values.shape[1])]
            return _by_position(series, _numbered(len(series)), values.shape, positions)
        names = list(map(str, self.names))
        if self.is_named(tuple(p for p in positions if p in (USER, ITEM))):
            _some_rows(values.shape)
            roles = as_roles(names)
            _refuse_numbers_as_texts(values, names, roles)
            return dict(zip(roles, map(values.get_column, self.names), strict=True))
        series = [values[:, j] for j in range(len(names))]
        return _by_position(series, names, values.shape, positions)


def names_of(X: Any) -> list[str]:
    """Names of the columns of a frame."""
    return [str(name) for name in nw.from_native(X, eager_only=True).columns]


def is_named(X: Any, *, query: bool = False) -> bool:
    """Whether ``X`` is a frame with the columns a table of events, or queries, needs.

    Raises
    ------
    ValueError
        ``X`` has names, but not those.
    """
    if not is_frame(X):
        refuse_names(X)
        return False
    return Table.of(X).is_named((USER,) if query else (USER, ITEM))


def columns_of(X: Any, positions: tuple[str, ...]) -> dict[str, Any]:
    """Columns by role: by name in a frame, by position in a table without names."""
    return Table.of(X).columns(positions)


def _refuse_numbers_as_texts(table: Any, names: list[str], roles: list[str]) -> None:
    """Refuse what `TfidfVectorizer` makes of the word "text": a number called tfidf__text."""
    for role, meaning in ((TEXT, "the text of the item"), (QUERY, "search words")):
        if role not in roles or role in names:
            continue
        name = names[roles.index(role)]
        if table[name].dtype.is_numeric():
            raise ValueError(
                f"{name}: a column whose name ends in __{role} is read as {meaning}, "
                f"but all {table.shape[0]} rows are numbers. Rename the column."
            )


def with_items_of(X: Any, rows: np.ndarray, others: np.ndarray, names: Iterable[str] = ()) -> Any:
    """Table of ``rows`` (n,) of ``X`` with the items of the rows ``others`` (n,).

    An item comes with its text, and with the columns ``names``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.tables import with_items_of
    >>> X = np.array([["ann", "tea"], ["bob", "rice"]], object)
    >>> with_items_of(X, np.array([0, 0]), np.array([0, 1])).tolist()
    [['ann', 'tea'], ['ann', 'rice']]
    """
    table = Table.of(X)
    if table.names is None:
        made = table.values[rows].copy()
        made[:, 1] = table.values[others, 1]
        return made
    its = set(names) | {ITEM, TEXT}
    roles = as_roles(table.names) if table.is_named() else [USER, ITEM, *table.names[2:]]
    columns = [name for name, role in zip(table.names, roles, strict=True) if role in its]
    taken, other = table.values[rows.tolist()], table.values[others.tolist()]
    return taken.with_columns(*(other[name] for name in columns)).to_native()


def stacked(X: Any, below: Any) -> Any:
    """Rows of ``X``, then those of a table that `with_items_of` made of it."""
    if not is_frame(X):
        return np.concatenate([as_table(X), below])
    frames = [nw.from_native(one, eager_only=True) for one in (X, below)]
    return nw.concat(frames, how="vertical").to_native()


def without(X: Any, name: str) -> Any:
    """Table without a column; as it is if it has none of that name.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.tables import without
    >>> without(pd.DataFrame({"user_id": [1], "price": [2.0]}), "price").columns.tolist()
    ['user_id']
    """
    if not is_frame(X):
        return X
    table = nw.from_native(X, eager_only=True, allow_series=True)
    if isinstance(table, nw.Series) or name not in table.columns:
        return X
    return table.drop(name).to_native()


def refuse_names(X: Any) -> None:
    """Raise where what is no frame has names of columns all the same, or has not been read yet."""
    if isinstance(X, np.ndarray) and X.dtype.names is None:
        return
    if not isinstance(X, list | tuple) and nw.dependencies.is_into_lazyframe(X):
        read = _READ_BY.get(type(X).__module__.strip("_").partition(".")[0], "collect()")
        raise ValueError(f"X is a {type(X).__name__}, not read yet: pass X.{read}.")
    found = _names_in(X)
    if found is None:
        return
    what, names = found
    raise ValueError(
        f"X is {what} with the names {[str(name) for name in names]}, {EXPECTED}. Columns are "
        "read by name from a data frame alone: pass pd.DataFrame(X), of pandas or polars."
    )


def _names_in(X: Any) -> tuple[str, list[Any]] | None:
    if isinstance(X, np.ndarray):
        return None if X.dtype.names is None else ("a structured array", list(X.dtype.names))
    if isinstance(X, Mapping):
        return "a dict", list(X)
    if isinstance(X, (list, tuple)):
        row: Any = X[0] if len(X) else None
        if type(row) in (list, tuple, int, str):
            return None
        if isinstance(row, Mapping) or (hasattr(row, "keys") and not hasattr(row, "dtype")):
            return "a list of dicts", list(row.keys())
        if hasattr(row, "_fields"):
            return "a list of named tuples", list(row._fields)
        if is_dataclass(row):
            return f"a list of {type(row).__name__}", [field.name for field in fields(row)]
        return None
    columns = getattr(X, "columns", None)
    if columns is None or callable(columns) or isinstance(columns, (str, int)):
        return None
    return f"a {type(X).__name__}", list(columns)


def as_table(X: Any) -> np.ndarray:
    """Array (n, n_columns) of a table without names."""
    refuse_names(X)
    if isinstance(X, (list, tuple)):
        X = of_rows(X)
    values = plain(X)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{values}\n")
    if values.ndim != 2:
        raise ValueError(
            f"Expected a table of events (2D array), got {values.ndim}D array instead"
            f"{_ragged(values)}. "
            "Reshape your data: one row per event, with columns user, item, timestamp."
        )
    return values


def _ragged(rows: np.ndarray) -> str:
    """Say which of the rows differ in length."""
    listed = rows.tolist() if rows.ndim == 1 and rows.dtype == object else []
    if not any(isinstance(row, list) for row in listed):
        return ""
    widths = [len(row) if isinstance(row, list) else 1 for row in listed]
    other = next((j for j, width in enumerate(widths) if width != widths[0]), 0)
    n_others = sum(width != widths[0] for width in widths)
    return (
        f": the first row has {widths[0]} cells, but {n_others} of {len(widths)} rows have "
        f"another number, such as row {other} with {widths[other]}"
    )


def table_of_queries(X: Any) -> Table | None:
    """Read what has columns in it; None where ``X`` is a list of ids."""
    if is_frame(X):
        table = Table.of(X)
        return None if table.names is None else table
    refuse_names(X)
    if isinstance(X, (list, tuple)):
        return Table.of(X) if len(X) and isinstance(X[0], (list, np.ndarray)) else None
    tabular = issparse(X) or (hasattr(X, "__array__") and np.ndim(X) > 1)
    return Table.of(X) if tabular else None


def refuse_events(
    columns: dict[str, Any], estimator: Any, aside: Sequence[str | None] = ()
) -> None:
    """Refuse a table without names that has an item in its second column."""
    allowed = None if estimator is None else _widths_of_queries(estimator, aside)
    names = list(columns)
    wrong = allowed is not None and len(names) not in allowed
    if wrong or (
        len(names) > 2 and _are_times(columns[names[2]]) and not _are_times(columns[names[1]])
    ):
        raise ValueError(
            f"X has {len(names)} columns and looks like events. A query without column names is "
            "user, timestamp and the context columns of fit, without the item: leave that out, "
            "for example with X[:, [0, 2]], or pass a frame with the columns user_id and "
            "timestamp."
        )


def _widths_of_queries(estimator: Any, aside: Sequence[str | None]) -> set[int]:
    names = as_roles(getattr(estimator, "feature_names_in_", ()))
    if USER not in names:
        n_aside = sum(name is not None for name in aside)
        return {1, 2, max(estimator.n_features_in_ - 1 - n_aside, 2)}
    return {1, 2, 2 + sum(name not in (*ROLES, *aside) for name in names)}


def _are_times(column: Any) -> bool:
    """Whether a column holds seconds since 1970 of our days, or datetimes."""
    try:
        return bool((to_seconds(column, TIME) > 3e8).all())
    except (TypeError, ValueError):
        return False


def of_rows(X: Any) -> np.ndarray:
    """Array of objects of a list of rows, cell by cell: an id may be a tuple.

    numpy alone would look into tuples, and turn every number beside a string into a string.
    """
    rows = [_cells(row) for row in X]
    widths = {len(row) if isinstance(row, list) else -1 for row in rows}
    width = widths.pop() if len(widths) == 1 else -1
    if width < 0:
        return np.fromiter(rows, object, len(rows))
    cells = np.fromiter(chain.from_iterable(rows), object, len(rows) * width)
    return cells.reshape(len(rows), width)


def _cells(row: Any) -> Any:
    if isinstance(row, (list, tuple)):
        return list(row)
    if isinstance(row, np.ma.MaskedArray):
        row = plain(row)
    return list(row) if np.ndim(row) else row


def _numbered(n_columns: int) -> list[str]:
    return [f"x{j}" for j in range(n_columns)]


def _by_position(
    series: list[Any], names: list[str], shape: tuple[int, ...], positions: tuple[str, ...]
) -> dict[str, Any]:
    least = 2 if ITEM in positions else 1
    if len(series) < least:
        raise ValueError(
            f"Found array with {len(series)} feature(s) (shape={tuple(shape)}) while a minimum "
            f"of {least} is required. Give a frame with columns user_id and item_id, or the "
            "user in column 0 and the item in column 1."
        )
    _some_rows(shape)
    roles = [*positions, *names[len(positions) :]]
    return dict(zip(roles, series, strict=False))


def _some_rows(shape: tuple[int, ...]) -> None:
    if shape[0] == 0:
        raise ValueError(
            f"Found array with 0 sample(s) (shape={tuple(shape)}) while a minimum of 1 is "
            "required: X is empty."
        )
