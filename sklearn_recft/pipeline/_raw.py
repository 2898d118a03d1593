"""Tables that lack columns, such as queries, made whole for transformers and cut again after."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_recft.columns import plain
from sklearn_recft.interactions import check_ids
from sklearn_recft.names import QUERY, ROLES, as_roles
from sklearn_recft.tables import (
    ITEM,
    TEXT,
    TIME,
    USER,
    as_table,
    columns_of,
    is_frame,
    is_named,
    names_of,
    table_of_queries,
)

_ROLES = (USER, ITEM, TIME)


@dataclass(frozen=True)
class RawColumns:
    """The columns of the table that a pipeline was fitted on, before any transformer.

    Attributes
    ----------
    library : str or None
        Data frame library; None for a table without names, whose columns have the names of
        `columns_of`.
    examples : dict of str to ndarray of shape (2,)
        Two values of each column, different ones if there are any, in the order of the columns.
        Ids of users are not kept. Columns with a role have its name, without a prefix.
    spelled : dict of str to str
        Names of columns in the table, where they have a prefix.
    """

    library: str | None
    examples: dict[str, np.ndarray]
    spelled: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Any) -> RawColumns | None:
        """Return the columns of a table; None if it is none that this package reads."""
        try:
            names = _names(X)
            columns: dict[str, Any] = columns_of(X, _ROLES) if names is None else _by_name(X)
            examples = {name: _two_values(plain(column)) for name, column in columns.items()}
        except (TypeError, ValueError):
            return None
        if USER in examples:
            examples[USER] = np.empty(0)
        library = None if names is None else nw.from_native(X, eager_only=True).implementation.value
        return cls(library, examples, dict(zip(as_roles(names or ()), names or (), strict=True)))

    def given_by(
        self, X: Any, *, items: bool, outcome: str | None, features: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Return the columns of a query table or ids, or (``items``) of a table of events.

        The item and the text of a query are left out.
        """
        if USER not in self.examples:
            if not is_frame(X):
                raise ValueError(
                    f"X: the pipeline was fitted on a frame without the column {USER}, so ids have "
                    f"no name. Pass a frame with columns of fit: {list(self.examples)}."
                )
            return _by_name(X)
        if is_named(X, query=not items):
            given = _by_name(X)
        elif items:
            given = columns_of(X, _ROLES)
        else:
            given = self._by_position(X, (outcome, *features))
        return given if items else {n: v for n, v in given.items() if n not in (ITEM, TEXT)}

    def _by_position(self, X: Any, aside: tuple[str | None, ...]) -> dict[str, Any]:
        table = table_of_queries(X)
        if table is None:
            return {USER: check_ids(X, USER, "a list of user ids or a table is needed")}
        found = table.columns((USER, TIME))
        context = [n for n in self.examples if n not in (*ROLES, *aside)]
        given = list(found)[2:]
        if len(given) not in (0, len(context)):
            raise ValueError(
                f"X has {len(found)} columns. A query without column names is user, timestamp and "
                f"all {len(context)} context columns of fit, {context}, without the item; or the "
                "user, or the user and the timestamp, alone."
            )
        names = dict(zip(given, context, strict=False))
        return {names.get(name, name): column for name, column in found.items()}

    def whole(self, given: dict[str, Any]) -> Any:
        """Return a table with all columns and all rows twice.

        Columns that are not given have the first example in the first half of the rows, and the
        second one in the other.
        """
        n_rows = len(next(iter(given.values())))
        columns = {
            name: _twice(given[name]) if name in given else np.repeat(pair, n_rows)
            for name, pair in self.examples.items()
        }
        columns |= {name: _twice(given[name]) for name in given if name not in columns}
        if self.library is not None:
            made = [
                _series(self.spelled.get(name, name), column, self.library)
                for name, column in columns.items()
            ]
            return nw.from_dict({one.name: one for one in made}).to_native()
        return _stacked([plain(column) for column in columns.values()])

    def cut(
        self,
        table: Any,
        given: dict[str, Any],
        *,
        items: bool,
        outcome: str | None,
        features: tuple[str, ...] = (),
    ) -> Any:
        """Return the columns and rows of a transformed table that depend on given columns alone.

        Parameters
        ----------
        table : table
            That of `whole`, transformed.
        given : dict of str to column
        items : bool
            Whether the table has items; a query has none.
        outcome : str or None
            Column of auxiliary feedback, which no answer reads.
        features : tuple of str
            Columns that are features of users or items, which may be left out.
        """
        found = columns_of(table, _ROLES)
        absent = [name for name in self.examples if name not in given]
        made_up = {name for name, column in found.items() if not _has_equal_halves(plain(column))}
        if USER in made_up or (items and ITEM in made_up):
            raise ValueError(
                f"The transformers make {USER} or {ITEM} from columns that X lacks: {absent}. Give "
                "these columns."
            )
        aside = {*ROLES, outcome, *features}
        context = [name for name in found if name not in aside]
        lost = [name for name in context if name in made_up]
        own = [name for name in given if name not in aside]
        if lost and own:
            raise ValueError(
                f"The transformers make the context {lost} from columns that X lacks, which are "
                f"some of {absent}; a query has no item. Give these columns, or leave out all "
                f"context: {own}."
            )
        kept = [USER, ITEM] if items else [USER]
        if TIME in found and TIME not in made_up and TIME not in absent:
            kept.append(TIME)
        if QUERY in found and QUERY not in made_up and QUERY not in absent:
            kept.append(QUERY)
        kept += [] if lost else context
        kept += [n for n in features if n in found and n not in made_up and n not in absent]
        return _select(table, found, kept)


def _select(table: Any, columns: dict[str, Any], kept: list[str]) -> Any:
    """Return columns of the first half of a table, in the order of events or queries."""
    half = slice(len(columns[USER]) // 2)
    if is_frame(table):
        series = {name: _alone(columns[name][half], name) for name in kept}
        return nw.from_dict(series).to_native()
    has_context = any(name not in (USER, ITEM, TIME) for name in kept)
    if has_context and TIME in columns and TIME not in kept:
        raise ValueError(
            f"X has no {TIME}, and a table without names has the context after it. Add the "
            "column, or let the transformers return frames: set_output(transform='pandas')."
        )
    values = as_table(table)[half][:, [list(columns).index(name) for name in kept]]
    return values[:, 0] if kept == [USER] else values


def _names(X: Any) -> list[str] | None:
    """Return the names of the columns of a frame; None where they are read by position."""
    if not is_frame(X):
        return None
    try:
        by_position = not is_named(X)
    except ValueError:  # a transformer gives the columns other names
        by_position = False
    return None if by_position else names_of(X)


def _by_name(X: Any) -> dict[str, nw.Series]:
    table = nw.from_native(X, eager_only=True)
    return {role: table[n] for role, n in zip(as_roles(table.columns), table.columns, strict=True)}


def _two_values(values: np.ndarray) -> np.ndarray:
    """Return the least and the largest number, or the first value and the first other one."""
    if values.ndim == 1 and values.dtype.kind in "iuf" and not np.isnan(values).any():
        return values[[values.argmin(), values.argmax()]]
    cells = values.tolist()
    other = next((row for row, cell in enumerate(cells) if not _are_equal(cell, cells[0])), 0)
    if values.ndim == 1:
        return values[[0, other]]
    pair = np.empty(2, object)  # of lists
    pair[:] = cells[0], cells[other]
    return pair


def _twice(column: Any) -> Any:
    """Return a column with all rows twice."""
    if isinstance(column, nw.Series):
        return column[np.tile(np.arange(len(column)), 2)]
    return np.concatenate([column, column])


def _series(name: str, column: Any, library: Any) -> nw.Series:
    if isinstance(column, nw.Series) and column.implementation.value == library:
        return _alone(column, name)
    values = plain(column)
    listed = values.tolist() if values.dtype.kind == "O" else values
    return nw.new_series(name, listed, backend=library)


def _alone(column: nw.Series, name: str) -> nw.Series:
    """Return a column without an index of its own."""
    return nw.maybe_reset_index(column).alias(name)


def _stacked(columns: list[np.ndarray]) -> np.ndarray:
    if all(column.dtype.kind in "iufb" for column in columns):
        return np.column_stack(columns)
    table = np.empty((len(columns[0]), len(columns)), object)
    for place, column in enumerate(columns):
        table[:, place] = column
    return table


def _has_equal_halves(values: np.ndarray) -> bool:
    """Whether both halves of a column are equal; missing values are equal to each other."""
    first, second = np.split(values, [len(values) // 2])
    if values.dtype.kind in "iufb":
        return np.array_equal(first, second, equal_nan=True)
    pairs = zip(first.tolist(), second.tolist(), strict=True)
    return all(_are_equal(a, b) for a, b in pairs)


def _are_equal(a: Any, b: Any) -> bool:
    """Whether two cells are equal; cells may be arrays, and missing values are equal."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and np.array_equal(a, b)
    return bool(a is b or a == b or (a != a and b != b))
