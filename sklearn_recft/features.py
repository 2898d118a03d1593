"""Features of users and items: columns of one kind each, and tables of one row for each id."""

from __future__ import annotations

import decimal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_recft.columns import is_absent, plain, refuse_beyond_float32, to_ids, to_texts
from sklearn_recft.names import ITEM, ROLES, TEXT, TIME, USER, are_numbered, as_roles
from sklearn_recft.tables import Table, columns_of, is_frame, names_of
from sklearn_recft.vectors import to_vectors
from sklearn_recft.vocabulary import Vocabulary

# Names of the parameters that hold tables of features, by the column of ids.
TABLES = {USER: "users", ITEM: "items"}

# Names of the parameters that name columns of ``X`` which are features.
PARAMETERS = {USER: "user_features", ITEM: "item_features"}

# What the cells of a column are, by kind.
_SPELLED = {
    "number": "numbers",
    "category": "categories",
    "set": "lists of categories",
    "text": "texts",
    "vector": "vectors",
}
_KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("category", (str, bool, np.bool_)),
    ("number", (int, float, np.integer, np.floating, decimal.Decimal)),
    ("set", (list, tuple, set, frozenset, np.ndarray)),
)
_FIX = (
    "a feature is a column of numbers, of categories (strings or bools), or of lists of categories"
)


@dataclass(frozen=True)
class FeatureColumn:
    """One checked feature of n rows.

    Attributes
    ----------
    kind : {"number", "category", "set", "text", "vector", "missing"}
        A column without any value is "missing".
    data : ndarray of shape (n,)
        Numbers, float64 with NaN for a missing one; of other kinds, places in ``levels``, int64
        with -1 for a missing value.
    levels : tuple, or ndarray of shape (k, width), float32
        Distinct values: strings, sorted tuples of distinct strings for a set, or vectors.
    """

    kind: str
    data: np.ndarray
    levels: Any = ()

    def __len__(self) -> int:
        return len(self.data)

    @property
    def is_missing(self) -> np.ndarray:
        """Whether each value is missing, (n,)."""
        return np.isnan(self.data) if self.kind == "number" else self.data < 0

    @property
    def values(self) -> list[Any]:
        """The values of all rows: None, or NaN among numbers, for a missing one."""
        cells: list[Any] = self.data.tolist()
        if self.kind == "number":
            return cells
        return [None if cell < 0 else self.levels[cell] for cell in cells]

    def take(self, rows: np.ndarray) -> FeatureColumn:
        """Return the column at ``rows``."""
        return FeatureColumn(self.kind, self.data[rows], self.levels)

    def used(self) -> tuple[list[Any], np.ndarray]:
        """Return the levels that rows have, and the place of each row in them; -1 is missing."""
        places, inverse = np.unique(self.data, return_inverse=True)
        n_missing = int((places < 0).sum())
        return [self.levels[place] for place in places[n_missing:].tolist()], inverse - n_missing


@dataclass(frozen=True)
class FeatureTable:
    """Features of users or of items: one row for each id.

    Attributes
    ----------
    ids : ndarray of shape (n,)
        Distinct ids.
    columns : dict of str to FeatureColumn of length n
    """

    ids: np.ndarray
    columns: dict[str, FeatureColumn]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of_rows(
        cls, ids: np.ndarray, columns: Mapping[str, FeatureColumn], role: str, title: str = ""
    ) -> FeatureTable:
        """Return the features of distinct ids, in order of first appearance.

        A feature of an id is its first value that is not missing.

        Parameters
        ----------
        ids : ndarray of shape (n,)
            Ids of rows, which may repeat.
        columns : dict of str to FeatureColumn of length n
        role : {"user_id", "item_id"}
        title : str, default=""
            Name of the table, for messages; the columns are those of events without one.

        Raises
        ------
        ValueError
            If rows of one id have different values.
        """
        vocabulary = Vocabulary()
        codes = vocabulary.extend(ids)
        _, first = np.unique(codes, return_index=True)
        if len(first) == len(codes):
            return cls(ids, dict(columns))
        kept = {}
        for name, column in columns.items():
            rows = _first_known(codes, first, column)
            different = _n_different(column, rows[codes])
            if different:
                raise _two_values(f"{different} of {len(column)}", name, role, title)
            kept[name] = column.take(rows)
        return cls(ids[first], kept)

    def joined(self, other: FeatureTable | None) -> FeatureTable:
        """Return the columns of both tables, for the ids of both; here, values are first.

        Columns of both tables are read from this one.
        """
        if other is None or not other.columns:
            return self
        vocabulary = Vocabulary()
        mine, theirs = vocabulary.extend(self.ids), vocabulary.extend(other.ids)
        n = len(vocabulary)
        columns = {name: _placed(column, mine, n) for name, column in self.columns.items()}
        for name, column in other.columns.items():
            if name not in columns:
                columns[name] = _placed(column, theirs, n)
        return FeatureTable(vocabulary.ids, columns)


def feature_names(estimator: Any) -> tuple[str, ...]:
    """Return the columns of ``X`` that an estimator reads as features of users or items.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from sklearn_recft.features import feature_names
    >>> feature_names(SimpleNamespace(user_features=["age"], item_features=None))
    ('age',)
    """
    parameters = PARAMETERS.values()
    return tuple(str(name) for p in parameters for name in getattr(estimator, p, None) or ())


def feature_columns(estimator: Any) -> tuple[str, ...]:
    """Return the columns of queries that an estimator reads as features: see `feature_names`.

    A fitted one also reads those of the tables ``users`` and ``items`` of `fit`.
    """
    given = feature_names(estimator)
    return tuple(dict.fromkeys((*given, *getattr(estimator, "feature_columns_", ()))))


def names_of_categories(X: Any) -> tuple[str, ...]:
    """Return the columns of a table of events that are neither ids, times nor plain numbers.

    A frame may lack ids.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.features import names_of_categories
    >>> X = pd.DataFrame({"user_id": [1], "item_id": [2], "clicks": [3], "device": ["phone"]})
    >>> names_of_categories(X)
    ('device',)
    """
    table = Table.of(X)
    absent = table.absent((USER, ITEM))
    if not absent and not table.is_named():
        return ()
    columns = table.columns(tuple(role for role in (USER, ITEM, TIME) if role not in absent))
    return tuple(n for n, c in columns.items() if n not in ROLES and not _is_plainly_numeric(c))


def as_categories(column: FeatureColumn, name: str) -> FeatureColumn:
    """Return numbers as categories, by their names; other kinds stay.

    Examples
    --------
    >>> from sklearn_recft.features import as_categories, to_feature
    >>> as_categories(to_feature([7, 8, 7], "zone"), "zone").values
    ['7', '8', '7']
    """
    if column.kind != "number":
        return column
    numbers, places = np.unique(column.data, return_inverse=True)
    cells = [None if np.isnan(number) else _category(number) for number in numbers]
    return _of_levels("category", cells, places)


def as_lists(column: FeatureColumn, name: str) -> FeatureColumn:
    """Split categories at "|", such as "Comedy|Drama"; lists stay.

    Examples
    --------
    >>> from sklearn_recft.features import as_lists, to_feature
    >>> as_lists(to_feature(["war|drama", None, "war"], "genres"), "genres").values
    [('drama', 'war'), None, ('war',)]
    """
    if column.kind in ("number", "text", "vector"):
        raise TypeError(
            f"{name}: all {len(column)} rows are {spelled(column.kind)}, and lists names columns "
            'of lists, or of strings such as "Comedy|Drama". Leave it out of lists.'
        )
    if column.kind != "category":
        return column
    parts = [tuple(sorted({p for p in level.split("|") if p})) for level in column.levels]
    levels = [part or None for part in parts] + [None]
    return _of_levels("set", levels, column.data)


def spelled(kind: str) -> str:
    """Return what the values of a kind of column are, for messages."""
    return _SPELLED.get(kind, "missing values")


def refuse_other_kind(column: FeatureColumn, name: str, kind: str, width: int = 0) -> None:
    """Raise if a column is of another kind than in `fit`, or its vectors of another width.

    Parameters
    ----------
    column : FeatureColumn
    name : str
    kind : str
        Kind in `fit`.
    width : int, default=0
        Width of the vectors in `fit`.

    Raises
    ------
    TypeError
        If the kind differs.
    ValueError
        If the width differs.

    Examples
    --------
    >>> from sklearn_recft.features import refuse_other_kind, to_feature
    >>> refuse_other_kind(to_feature(["f", "m"], "sex"), "sex", "category")
    """
    if "missing" in (kind, column.kind):
        return
    given, fitted = spelled(column.kind), spelled(kind)
    if kind != column.kind:
        fix = "Give the type of fit."
    elif kind == "vector" and column.levels.shape[1] != width:
        given, fitted = f"{given} of width {column.levels.shape[1]}", f"{fitted} of width {width}"
        fix = "Give vectors of this width, or call fit with the new ones."
    else:
        return
    error = TypeError if kind != column.kind else ValueError
    n_given = int((~column.is_missing).sum())
    rows = f"all {len(column)}" if n_given == len(column) else f"{n_given} of {len(column)}"
    raise error(f"{name}: {rows} rows are {given}, and fit had {fitted}. {fix}")


def to_feature(column: Any, name: str, *, text: bool = False) -> FeatureColumn:
    """Check a column of features, whose type alone decides its kind.

    Numbers are a number; strings, bools and types of categories are a category; lists, tuples,
    sets and arrays are a set of categories, or a vector if they hold floats of one width
    (`to_vectors`). None, NaN, empty strings and empty lists are missing. A string is one category:
    split "Comedy|Drama" for two.

    Parameters
    ----------
    column : series or array-like of shape (n,)
    name : str
        Name of the column, for messages.
    text : bool, default=False
        Whether strings are texts to encode.

    Raises
    ------
    TypeError
        If values are of other types, or of several kinds.
    ValueError
        If numbers are infinite, or vectors have several widths.

    Examples
    --------
    >>> from sklearn_recft.features import to_feature
    >>> to_feature([["drama", "war"], None, ["war"]], "genres").kind
    'set'
    >>> to_feature([[0.5, -0.1], None, [0.2, 0.3]], "image").kind
    'vector'
    """
    values = _cells(column)
    if values.ndim > 1:
        found = to_vectors(values, np.arange(len(values)), name)
        if found is not None:
            return _of_vectors(*found)
        values = _objects(values)
    if text:
        distinct, places = _distinct(values)
        texts = map(str, to_texts(_objects(distinct), name).tolist())
        cells = [one if one.strip() else None for one in texts]
        return _of_levels("text", cells, places)
    if values.dtype.kind in "iuf" and not _is_categorical(column):
        if np.isnan(values).all():  # as pandas reads a column without values, of any kind
            return FeatureColumn("missing", np.full(len(values), -1))
        return FeatureColumn("number", _numbers(values, name))
    if values.dtype.kind == "b" or _is_categorical(column):
        distinct, places = _distinct(values)
        return _of_levels("category", list(map(_category, distinct)), places)
    if values.dtype.kind not in "OUT":
        raise TypeError(
            f"{name}: all {len(values)} rows are of type {values.dtype}; {_FIX}. Turn it into "
            "numbers first, such as years."
        )
    return _by_cells(values, name)


def check_features(
    table: Any, role: str, *, names: Iterable[str] | None = None, text: bool = False
) -> FeatureTable:
    """Check a table of features of users or items.

    Parameters
    ----------
    table : data frame, or array-like of shape (n, n_columns)
        A frame with a column of ids, called ``role``; each other column is a feature. In a table
        without names, the ids are the first column, and the features are called x1, x2, ...
    role : {"user_id", "item_id"}
    names : iterable of str, default=None
        Features to read; other columns of the table are ignored. None means all columns.
    text : bool, default=False
        Whether the column ``text`` is read, as a text. It is never a category.

    Returns
    -------
    FeatureTable

    Raises
    ------
    ValueError, TypeError
        If the ids are missing, an id has two different values in a column, or a column is of a
        type that is no feature.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.features import check_features
    >>> users = pd.DataFrame({"user_id": [7, 8], "age": [30.0, None], "sex": ["f", "m"]})
    >>> check_features(users, "user_id").columns["sex"].values
    ['f', 'm']
    """
    title = TABLES[role]
    _refuse_without_ids(table, role)
    if is_frame(table) and not len(table):
        raise ValueError(f"{title}: the table has no rows. Leave it out: {title}=None.")
    try:
        columns = columns_of(table, (role,))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{title}: {error}") from None
    ids = to_ids(columns.pop(role), f"{title}, {role}")
    wanted = None if names is None else set(names)
    kept = {
        name: to_feature(column, f"{title}, {name}", text=name == TEXT)
        for name, column in columns.items()
        if (text if name == TEXT else wanted is None or name in wanted)
    }
    return FeatureTable.of_rows(ids, kept, role, title)


# ---------------------------------------------------------------------- private


def _refuse_without_ids(table: Any, role: str) -> None:
    """Raise if a frame has no column of ids."""
    if not is_frame(table) or not hasattr(table, "columns"):
        return
    names = names_of(table)
    if role in as_roles(names) or are_numbered(names):
        return
    index = getattr(getattr(table, "index", None), "names", None) or ()
    fix = (
        f"The index is no column: use {TABLES[role]}.reset_index()."
        if role in index
        else "Rename the column of ids."
    )
    raise ValueError(
        f"{TABLES[role]}: none of the {len(names)} columns {names} is called {role}. {fix}"
    )


def _cells(column: Any) -> np.ndarray:
    """Return the cells of a column as a 1-d array; lists stay cells."""
    if isinstance(column, nw.Series) and isinstance(column.dtype, nw.Struct):
        column = column.to_list()  # dicts, where an array has tuples
    if isinstance(column, (list, tuple)):
        return _objects(column)
    return plain(column)  # of shape (n, w) if it has lists of one length


def _objects(cells: Sequence[Any] | np.ndarray) -> np.ndarray:
    values = np.empty(len(cells), object)
    for row, cell in enumerate(cells):  # a slice would look into tuples and lists
        values[row] = cell
    return values


def _is_plainly_numeric(column: Any) -> bool:
    values = plain(column)
    return not _is_categorical(column) and values.ndim == 1 and values.dtype.kind in "iufb"


def _is_categorical(column: Any) -> bool:
    return isinstance(column, nw.Series) and isinstance(column.dtype, (nw.Categorical, nw.Enum))


def _category(value: Any) -> str | None:
    """Return the name of a category; integers beside missing ones are floats in pandas."""
    if is_absent(value):
        return None
    is_whole = isinstance(value, (float, np.floating)) and value.is_integer()
    return str(int(value) if is_whole else value) or None


def _by_cells(values: np.ndarray, name: str) -> FeatureColumn:
    """Decide the kind of a column of objects by the types of its cells."""
    distinct, places = _distinct(values)
    found = to_vectors(distinct, places, name)
    if found is not None:
        return _of_vectors(*found)
    cells = [None if _is_absent(value) else value for value in distinct]
    types = {type(value) for value in cells if value is not None}
    kinds = {_kind(one) for one in types}
    if len(kinds) > 1 or None in kinds:
        wrong = [_kind(type(value)) is None and value is not None for value in cells]
        n_wrong = int(np.array(wrong)[places].sum()) or len(values)
        spelled = sorted(one.__name__ for one in types)
        raise TypeError(
            f"{name}: {n_wrong} of {len(values)} rows are of the types {spelled}; {_FIX}."
        )
    kind = kinds.pop() if kinds else "missing"
    if kind == "number":
        numbers = np.array([np.nan if value is None else float(value) for value in cells])
        return FeatureColumn("number", _numbers(numbers[places], name))
    read = str if kind == "category" else partial(_members, name=name)
    known = (None if value is None else read(value) or None for value in cells)
    return _of_levels(str(kind), list(known), places)


def _distinct(values: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return distinct cells, and the place of each row in them.

    Lists are told apart by identity: in a table that was joined, the rows of an id share a list.
    """
    cells = values.tolist() if values.dtype == object else values.astype(object).tolist()
    try:
        index = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
        return list(index), np.fromiter(map(index.__getitem__, cells), np.int64, len(cells))
    except TypeError:  # unhashable
        keys = list(map(id, cells))
        by_id = dict(zip(keys, cells, strict=True))
        places = {key: place for place, key in enumerate(by_id)}
        return list(by_id.values()), np.fromiter(map(places.__getitem__, keys), np.int64, len(keys))


def _of_vectors(vectors: np.ndarray, places: np.ndarray) -> FeatureColumn:
    return FeatureColumn("vector" if len(vectors) else "missing", places, vectors)


def _of_levels(kind: str, cells: list[Any], places: np.ndarray) -> FeatureColumn:
    """Return a column of the values ``cells[places]``, of which some may be equal or None."""
    index: dict[Any, int] = {}
    codes = [-1 if cell is None else index.setdefault(cell, len(index)) for cell in cells]
    data = np.array(codes, np.int64)[places]
    return FeatureColumn(kind if index else "missing", data, tuple(index))


def _kind(type_: type) -> str | None:
    """Return the kind of cells of a type; bool comes before int, which it is a subclass of."""
    return next((kind for kind, types in _KINDS if issubclass(type_, types)), None)


def _is_absent(value: Any) -> bool:
    return not isinstance(value, _KINDS[2][1]) and is_absent(value)


def _members(cell: Any, name: str) -> tuple[str, ...]:
    """Return the distinct categories of a list, sorted; missing ones are left out."""
    if isinstance(cell, np.ndarray) and not cell.ndim:
        raise TypeError(f"{name}: a cell is an array without an axis; give a list, or a number.")
    members = [value for value in cell if not _is_absent(value)]
    wrong = [type(v).__name__ for v in members if _kind(type(v)) in (None, "set")]
    if wrong:
        raise TypeError(f"{name}: a list holds a {wrong[0]}; a list of categories holds strings.")
    return tuple(sorted({name for name in map(_category, members) if name is not None}))


def _numbers(values: np.ndarray, name: str) -> np.ndarray:
    numbers = values.astype(np.float64)
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        raise ValueError(
            f"{name}: {infinite} of {len(numbers)} rows are infinite; set them to NaN, which "
            "counts as missing."
        )
    refuse_beyond_float32(np.nan_to_num(numbers), name)
    return numbers


def _first_known(codes: np.ndarray, first: np.ndarray, column: FeatureColumn) -> np.ndarray:
    """Return the first row of each code with a value, or its first row if it has none."""
    rows = first.copy()
    known = np.flatnonzero(~column.is_missing)
    rows[codes[known[::-1]]] = known[::-1]
    return rows


def _n_different(column: FeatureColumn, rows: np.ndarray) -> int:
    """Count the rows with another value than the row that is kept for their id."""
    known = ~column.is_missing
    return int((column.data[known] != column.data[rows[known]]).sum())


def _two_values(rows: str, name: str, role: str, title: str) -> ValueError:
    """Return the error of an id with two values in a column."""
    what = role.removesuffix("_id")
    fix = (
        f"Keep one row for each {what}, for example by {title}.drop_duplicates({role!r})."
        if title
        else f"Keep the first, for example by X.groupby({role!r})[{name!r}].transform('first'), "
        "or leave it out of the features."
    )
    return ValueError(
        f"{f'{title}, ' if title else ''}{name}: {rows} rows have another value than an earlier "
        f"row of the same {role}; a feature has one value for each {what}. {fix}"
    )


def _placed(column: FeatureColumn, codes: np.ndarray, n: int) -> FeatureColumn:
    """Return a column of ``n`` rows with the values at ``codes``; the others are missing."""
    data = np.full(n, np.nan if column.kind == "number" else -1, column.data.dtype)
    data[codes] = column.data
    return FeatureColumn(column.kind, data, column.levels)
