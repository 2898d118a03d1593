"""The one door for data: any table of events in, a frozen set of checked plain arrays out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import narwhals as nw
import numpy as np
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.validation import validate_data

from sklearn_recft.columns import to_ids, to_numbers, to_seconds, to_texts

USER, ITEM, TIME, TEXT = "user_id", "item_id", "timestamp", "text"


@dataclass(frozen=True)
class Interactions:
    """Checked events, or queries where ``item_ids`` is None; n rows, in the order given.

    Attributes
    ----------
    user_ids, item_ids : ndarray of shape (n,)
        Raw ids: int64 where all are whole numbers, else strings or objects.
    feedback : ndarray of shape (n,), float64, or None
        The target ``y``; None where every row is a positive.
    timestamps : ndarray of shape (n,), float64, or None
        Seconds since 1970.
    text : ndarray of shape (n,), object, or None
    context : ndarray of shape (n, n_context), float64
    context_names : tuple of str
    sample_weight : ndarray of shape (n,), float64, or None
    outcome : ndarray of shape (n,), float64, or None
        What else came of the event, known only after it: never context.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray | None
    feedback: np.ndarray | None
    timestamps: np.ndarray | None
    text: np.ndarray | None
    context: np.ndarray
    context_names: tuple[str, ...]
    sample_weight: np.ndarray | None = None
    outcome: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user_ids)

    def take(self, rows: np.ndarray) -> Interactions:
        """Return the same columns at ``rows`` (integer indices or a boolean mask)."""

        def at(column: np.ndarray | None) -> Any:
            return None if column is None else column[rows]

        return Interactions(
            at(self.user_ids), at(self.item_ids), at(self.feedback), at(self.timestamps),
            at(self.text), self.context[rows], self.context_names, at(self.sample_weight),
            at(self.outcome),
        )  # fmt: skip


@dataclass(frozen=True)
class Events:
    """Events as a fitted model reads them: `Interactions` with codes in place of ids.

    Also the type of a log: what is remembered of users, in whatever order a function says.

    Attributes
    ----------
    user, item : ndarray of shape (n,), int
        Codes; -1 is an unknown id.
    time : ndarray of shape (n,), float64
        Seconds.
    feedback : ndarray of shape (n,)
        1 for every event where none was given.
    weight : ndarray of shape (n,)
        Sample weights, 1 where none were given.
    context : ndarray of shape (n, n_context)
        Numeric context of the request.
    text : tuple of str of length n, or None
        Text of each item, the id where it has none; None where nothing reads texts.
    outcome : ndarray of shape (n,), or None
        Auxiliary feedback, known only after the event.
    """

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    feedback: np.ndarray
    weight: np.ndarray
    context: np.ndarray
    text: tuple[str, ...] | None = None
    outcome: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: np.ndarray | slice) -> Events:
        """Return the same columns at ``rows``, without texts."""
        outcome = None if self.outcome is None else self.outcome[rows]
        return Events(
            self.user[rows],
            self.item[rows],
            self.time[rows],
            self.feedback[rows],
            self.weight[rows],
            self.context[rows],
            outcome=outcome,
        )

    def joined(self, later: Events) -> Events:
        """Return the events of both, these first, without texts and outcomes."""
        return Events(
            np.concatenate([self.user, later.user]),
            np.concatenate([self.item, later.item]),
            np.concatenate([self.time, later.time]),
            np.concatenate([self.feedback, later.feedback]),
            np.concatenate([self.weight, later.weight]),
            np.concatenate([self.context, later.context]),
        )


def check_interactions(X: Any, y: Any = None, *, sample_weight: Any = None) -> Interactions:
    """Check a table of events and its feedback; raise before anything is changed.

    Parameters
    ----------
    X : data frame or array-like of shape (n, n_columns)
        A frame with columns ``user_id`` and ``item_id`` (and, optionally, ``timestamp``,
        ``text`` and numeric context columns), or a table read by position: user, item,
        timestamp, context columns.
    y : array-like of shape (n,), default=None
        Finite feedback.
    sample_weight : array-like of shape (n,), default=None
        Weights, at least 0 and not all 0. Rows of weight 0 are left out, as if absent.

    Returns
    -------
    Interactions

    Raises
    ------
    ValueError
        Missing ids, NaN or infinite numbers, negative weights, too few columns, no rows,
        lengths that differ; the message names the column, how many rows and the mend.
    TypeError
        Sparse or unhashable input.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_interactions
    >>> rows = check_interactions([["ann", "tea", 60], ["bob", "rice", 90]], [5, 3])
    >>> rows.item_ids.tolist(), rows.timestamps.tolist()
    (['tea', 'rice'], [60.0, 90.0])
    """
    columns = _columns(X, (USER, ITEM, TIME))
    events = _checked(columns, y)
    if sample_weight is None:
        return events
    weight = to_numbers(column_or_1d(_as_1d(sample_weight, "sample_weight")), "sample_weight")
    _same_length(weight, len(events), "sample_weight")
    if (weight < 0).any():
        raise ValueError(
            f"sample_weight: {int((weight < 0).sum())} of {len(weight)} rows are negative; "
            "use weights of 0 or more."
        )
    if not weight.any():
        raise ValueError("sample_weight: every weight is zero; at least one must be positive.")
    object.__setattr__(events, "sample_weight", weight)
    return events.take(weight > 0) if (weight == 0).any() else events


def check_queries(X: Any) -> Interactions:
    """Check who asks, when and in what context: user ids (1-d) or a table of queries.

    A frame has a column ``user_id``; ``timestamp`` and context columns are optional. An
    array is read by position: user, timestamp, context columns.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_queries
    >>> check_queries(["ann", "bob"]).user_ids.tolist()
    ['ann', 'bob']
    """
    if not isinstance(X, (list, tuple)) and not _is_frame(X) and np.ndim(X) == 0:
        raise ValueError(f"recommend needs a list of user ids or a table; use [{X!r}].")
    if _is_frame(X):
        table = nw.from_native(X, eager_only=True, allow_series=True)
        if isinstance(table, nw.Series):
            return _checked({USER: table.to_numpy()}, None, query=True)
        return _checked(_columns(X, (USER, TIME)), None, query=True)
    if isinstance(X, np.ndarray) or issparse(X):
        values = X
    elif len(X) and isinstance(X[0], (list, np.ndarray)):
        values = _of_rows(X)
    else:
        values = np.empty(len(X), object)
        values[:] = list(X)
    if values.ndim == 1:
        return _checked({USER: values}, None, query=True)
    return _checked(_columns(values, (USER, TIME)), None, query=True)


def check_events(
    estimator: Any, X: Any, y: Any = None, *, sample_weight: Any = None, reset: bool,
    timed: str | None = None, outcome: str | None = None,
) -> Interactions:  # fmt: skip
    """`check_interactions`, and set (``reset``) or check the columns an estimator knows.

    ``n_features_in_`` and ``feature_names_in_`` are set last, once all else is sound. Named
    columns may come in any order, and ``timestamp`` and ``text`` may be left out later on;
    the context columns must be those of ``fit``. ``timed`` names a parameter that cannot do
    without timestamps, ``outcome`` a column that is no context and may be left out as well.
    """
    named = _is_frame(X) and USER in _names(X)
    if not reset and not named:
        values = X if _is_frame(X) or issparse(X) else _as_table(X)
        # What scikit-learn would find is known at once for an array of the right width.
        plain = isinstance(values, np.ndarray) and not hasattr(estimator, "feature_names_in_")
        if not (plain and values.shape[1] == estimator.n_features_in_):
            validate_data(estimator, values, reset=False, skip_check_array=True)
    events = _set_aside(check_interactions(X, y, sample_weight=sample_weight), outcome)
    if timed and events.timestamps is None:
        raise ValueError(
            f"{timed} needs the column `timestamp` (seconds or datetimes); add it to X or set "
            f"{timed} to None."
        )
    if reset:
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        validate_data(estimator, X, reset=True, skip_check_array=True)
        if named:
            estimator.feature_names_in_ = np.array(_names(X), dtype=object)
            estimator.n_features_in_ = len(estimator.feature_names_in_)
    elif named:
        events = _in_order_of_fit(estimator, events, outcome)
    return events


def check_items(items: Any) -> tuple[np.ndarray, np.ndarray]:
    """Check a table of items: ids (n,) and texts (n,), missing ones empty.

    A frame with columns ``item_id`` and ``text``, or a table of those two columns. An id given
    twice keeps its first text.

    Examples
    --------
    >>> from sklearn_recft.interactions import check_items
    >>> ids, texts = check_items([["a", "green tea"], ["b", None]])
    >>> texts.tolist()
    ['green tea', '']
    """
    columns = _columns(items, (ITEM, TEXT))
    if ITEM not in columns or TEXT not in columns:
        raise ValueError(
            f"items: columns {ITEM} and {TEXT} are needed, found {sorted(map(str, columns))}."
        )
    return to_ids(columns[ITEM], ITEM), to_texts(columns[TEXT])


def context_of_queries(queries: Interactions, names: tuple[str, ...]) -> np.ndarray | None:
    """Context of queries in the columns ``names`` of fit, (n, c); None where none is given."""
    if not names or not queries.context_names:
        return None
    if set(queries.context_names) == set(names):
        return queries.context[:, [queries.context_names.index(name) for name in names]]
    if len(queries.context_names) == len(names) and re.fullmatch(r"x\d+", queries.context_names[0]):
        return queries.context
    raise ValueError(
        f"The context columns of the queries, {list(queries.context_names)}, are not those of "
        f"fit: {list(names)}."
    )


def _set_aside(events: Interactions, outcome: str | None) -> Interactions:
    """Take the column ``outcome`` out of the context, where it is there."""
    if outcome not in events.context_names:
        return events
    names = tuple(name for name in events.context_names if name != outcome)
    kept = [events.context_names.index(name) for name in names]
    column = events.context[:, events.context_names.index(str(outcome))]
    return replace(events, context=events.context[:, kept], context_names=names, outcome=column)


def _in_order_of_fit(estimator: Any, events: Interactions, outcome: str | None) -> Interactions:
    names = events.context_names
    fitted = list(getattr(estimator, "feature_names_in_", ()))
    known = [name for name in fitted if name not in (USER, ITEM, TIME, TEXT, outcome)]
    if USER not in fitted or set(known) != set(names):
        absent, new = sorted(set(known) - set(names)), sorted(set(names) - set(known))
        raise ValueError(
            "The feature names should match those that were passed during fit. "
            f"Context columns missing: {absent}; unknown: {new}. Give the columns of fit."
        )
    if tuple(known) == names:
        return events
    columns = [names.index(name) for name in known]
    return replace(events, context=events.context[:, columns], context_names=tuple(known))


def timestamps_of(X: Any) -> np.ndarray:
    """Seconds since 1970 of each row of ``X``, shape (n,), float64."""
    times = times_or_none(X)
    if times is None:
        raise ValueError(
            "X has no `timestamp`: give a column of that name, or a third column of seconds "
            "since 1970, to order events in time."
        )
    return times


def times_or_none(X: Any) -> np.ndarray | None:
    """Seconds since 1970 of each row, or None where the table has no timestamps."""
    columns = _columns(X, (USER, ITEM, TIME))
    return to_seconds(columns[TIME], TIME) if TIME in columns else None


def users_of(X: Any) -> np.ndarray:
    """User id of each row of ``X``, shape (n,)."""
    return to_ids(_columns(X, (USER, ITEM, TIME))[USER], USER)


def items_of(X: Any) -> np.ndarray:
    """Item id of each row of ``X``, shape (n,)."""
    return to_ids(_columns(X, (USER, ITEM, TIME))[ITEM], ITEM)


# ---------------------------------------------------------------------- private


def _is_frame(X: Any) -> bool:
    return not isinstance(X, (np.ndarray, list, tuple)) and (
        hasattr(X, "__narwhals_dataframe__")
        or hasattr(X, "__narwhals_series__")
        or nw.dependencies.is_into_dataframe(X)
        or nw.dependencies.is_into_series(X)
    )


def _names(X: Any) -> list[str]:
    return [str(name) for name in nw.from_native(X, eager_only=True).columns]


def _columns(X: Any, positions: tuple[str, ...]) -> dict[str, Any]:
    """Columns by role: by name where ``user_id`` (and ``item_id``) are there, else by place."""
    if issparse(X):
        raise TypeError(
            "Sparse data was passed for X, but a dense table of events is required: "
            "one row per event, with columns user, item, timestamp."
        )
    needed = [p for p in positions if p in (USER, ITEM)]
    if _is_frame(X):
        table = nw.from_native(X, eager_only=True)
        if all(p in table.columns for p in needed):
            _some_rows(table.shape)
            return {str(name): table[name] for name in table.columns}
        series = [table[:, j] for j in range(table.shape[1])]
        return _by_position(series, [str(c) for c in table.columns], table.shape, positions)
    values = _as_table(X)
    names = [f"x{j}" for j in range(values.shape[1])]
    series = [values[:, j] for j in range(values.shape[1])]
    return _by_position(series, names, values.shape, positions)


def _as_table(X: Any) -> np.ndarray:
    if isinstance(X, (list, tuple)):
        X = _of_rows(X)
    values = np.asarray(X)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{values}\n")
    if values.ndim != 2:
        raise ValueError(
            f"Expected a table of events (2D array), got {values.ndim}D array instead. "
            "Reshape your data: one row per event, with columns user, item, timestamp."
        )
    return values


def _of_rows(X: Any) -> np.ndarray:
    """Array of objects of a list of rows, cell by cell: an id may be a tuple.

    numpy alone would look into tuples, and turn every number beside a string into a string.
    """
    rows = [list(row) if isinstance(row, (list, tuple)) or np.ndim(row) else row for row in X]
    widths = {len(row) if isinstance(row, list) else -1 for row in rows}
    width = widths.pop() if len(widths) == 1 else -1
    if width < 0:
        return np.fromiter(rows, object, len(rows))
    cells = np.fromiter(chain.from_iterable(rows), object, len(rows) * width)
    return cells.reshape(len(rows), width)


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


def _checked(columns: dict[str, Any], y: Any, *, query: bool = False) -> Interactions:
    users = to_ids(columns[USER], USER)
    items = None if query else to_ids(columns[ITEM], ITEM)
    _same_length(users, len(users), USER)
    if len(users) == 0:
        raise ValueError("X is empty: at least one row is required.")
    names = tuple(c for c in columns if c not in (USER, ITEM, TIME, TEXT))
    context = np.empty((len(users), len(names)))
    for j, name in enumerate(names):
        context[:, j] = to_numbers(columns[name], name)
    return Interactions(
        users,
        items,
        None if y is None else _feedback(y, len(users)),
        to_seconds(columns[TIME], TIME) if TIME in columns else None,
        to_texts(columns[TEXT]) if TEXT in columns else None,
        context,
        names,
    )


def _as_1d(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim == 0:
        raise ValueError(f"{name} should be a 1d array, got {values!r}.")
    return array


def _feedback(y: Any, n_rows: int) -> np.ndarray:
    values = _as_1d(y, "y")
    if values.ndim > 1:
        values = column_or_1d(values, warn=True)
    _same_length(values, n_rows, "y")
    return to_numbers(values, "Input y")


def _same_length(values: np.ndarray, n_rows: int, name: str) -> None:
    if len(values) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} "
            f"rows, {name} has {len(values)}."
        )
