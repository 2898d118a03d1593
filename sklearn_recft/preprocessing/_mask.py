"""Coarsen a log before it is stored or shared: times, context, and items of few users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from sklearn_recft.columns import to_ids, to_numbers
from sklearn_recft.names import ITEM, TEXT, TIME, USER
from sklearn_recft.preprocessing._replaced import replaced
from sklearn_recft.tables import Table
from sklearn_recft.times import to_seconds

_SECONDS = {"hour": 3600.0, "day": 86_400.0}
_CONSTRAINTS: dict[str, Any] = {
    "time": [StrOptions(set(_SECONDS)), None],
    "context_bins": [dict, None],
    "min_users_per_item": [Interval(Integral, 1, None, closed="left")],
}


@dataclass(frozen=True)
class MaskingReport:
    """What `mask_interactions` changed.

    Attributes
    ----------
    n_rows : int
    rows_changed : dict of str to int
        Number of rows with another value, by column.
    n_items : int
        Number of items before.
    n_items_grouped : int
        Number of items that became ``other``.
    n_users_of_other : int
        Number of users with an event of ``other``. If it is above 0 and below
        ``min_users_per_item``, ``other`` is no better protected than the items were.
    """

    n_rows: int
    rows_changed: dict[str, int]
    n_items: int
    n_items_grouped: int
    n_users_of_other: int


class Masked(NamedTuple):
    """The table that `mask_interactions` returns, and its report."""

    X: Any
    report: MaskingReport


def mask_interactions(
    X: Any,
    *,
    time: str | None = None,
    context_bins: Mapping[str, int] | None = None,
    min_users_per_item: int = 1,
    other: Any = None,
) -> Masked:
    """Round times, bin context columns, and group the items of few users into one.

    No row is dropped, and the order of the rows stays.

    Parameters
    ----------
    X : data frame or array-like of shape (n, n_columns)
        A table of events.
    time : {"hour", "day"}, default=None
        Round ``timestamp`` down to the hour or day, in UTC. The column becomes seconds since 1970.
        Rows keep their order, so events of one user can still be ordered.
    context_bins : dict of str to int, default=None
        Numbers of bins by numeric column. Bins hold about equally many rows, and each value becomes
        the mean of its bin. The column becomes floats.
    min_users_per_item : int, default=1
        Items with fewer users become ``other``, so that an item stands for at least so many users
        (k-anonymity of single items). ``text`` of these rows becomes ``other`` too.
    other : id, default=None
        The item that stands for them. None: -1 if all ids are integers, else "other".

    Returns
    -------
    masked : Masked
        A named tuple ``X, report``: a frame of the library given, or an array of objects, and a
        `MaskingReport`.

    Raises
    ------
    ValueError
        If a column is missing or invalid, or ``other`` is the id of an item.

    Notes
    -----
    The function does not make a log anonymous: many events of one user together single the user
    out, however coarse each is. It removes what single events give away.

    ``other`` is an item of the masked log. Leave it out of lists by ``exclude=[other]`` of
    `recommend`.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import mask_interactions
    >>> X = pd.DataFrame({"user_id": ["ann", "bob", "cem"], "item_id": ["tea", "tea", "rye"],
    ...                   "timestamp": [3700, 7300, 7300]})
    >>> X, report = mask_interactions(X, time="hour", min_users_per_item=2)
    >>> X["item_id"].tolist(), X["timestamp"].tolist()
    (['tea', 'tea', 'other'], [3600.0, 7200.0, 7200.0])
    >>> report.rows_changed, report.n_users_of_other
    ({'timestamp': 3, 'item_id': 1}, 1)
    """
    given = {"time": time, "context_bins": context_bins, "min_users_per_item": min_users_per_item}
    validate_parameter_constraints(_CONSTRAINTS, given, caller_name="mask_interactions")
    table = Table.of(X)
    columns = table.columns((USER, ITEM, TIME))
    users, items = (to_ids(columns[name], name) for name in (USER, ITEM))
    new: dict[str, np.ndarray] = {}
    changed: dict[str, int] = {}
    if time is not None:
        seconds = to_seconds(_column(columns, TIME, "time"), TIME)
        new[TIME] = np.floor(seconds / _SECONDS[time]) * _SECONDS[time]
        changed[TIME] = int((new[TIME] != seconds).sum())
    if time is not None and TIME in (context_bins or {}):
        raise ValueError(f"context_bins: {TIME} is rounded by time={time!r}; give one of the two.")
    for name, n_bins in (context_bins or {}).items():
        values = to_numbers(_column(columns, name, "context_bins"), name)
        new[name] = _binned(values, n_bins, name)
        changed[name] = int((new[name] != values).sum())
    rare, codes = _rare(users, items, min_users_per_item)
    if rare.any():
        label = _label(items, other)
        gone = rare[codes]
        new[ITEM] = _with(items, gone, label)
        changed[ITEM] = int(gone.sum())
        if TEXT in columns:
            new[TEXT] = _with(np.array(list(columns[TEXT]), object), gone, str(label))
    n_of_other = len(set(users[rare[codes]].tolist()))
    report = MaskingReport(len(users), changed, len(rare), int(rare.sum()), n_of_other)
    return Masked(replaced(table, new) if new else X, report)


def _column(columns: dict[str, Any], name: str, owner: str) -> Any:
    if name not in columns or name in (USER, ITEM):
        found = [column for column in columns if column not in (USER, ITEM)]
        raise ValueError(f"{owner}: X has no column {name!r} to mask; found {found}.")
    return columns[name]


def _binned(values: np.ndarray, n_bins: Any, name: str) -> np.ndarray:
    """Return the mean of each value's bin, (n,)."""
    if isinstance(n_bins, bool) or not isinstance(n_bins, Integral) or n_bins < 1:
        raise ValueError(f"context_bins: {name} needs a number of bins from 1 on, got {n_bins!r}.")
    edges = np.unique(np.quantile(values, np.arange(1, int(n_bins)) / int(n_bins)))
    places = np.searchsorted(edges, values, side="right")
    largest = float(np.abs(values).max()) or 1.0
    scale = largest if largest > 1e300 else 1.0  # so that no sum overflows
    means = np.bincount(places, values / scale) / np.maximum(np.bincount(places), 1)
    return means[places] * scale


def _rare(users: np.ndarray, items: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each item has fewer than ``least`` users, and the item of each row."""
    places: dict[Any, int] = {}
    codes = np.array([places.setdefault(item, len(places)) for item in items.tolist()], np.int64)
    distinct = set(zip(users.tolist(), codes.tolist(), strict=True))
    counts = np.bincount([code for _, code in distinct], minlength=len(places))
    return counts < least, codes


def _label(items: np.ndarray, other: Any) -> Any:
    whole = items.dtype.kind == "i"
    if other is None:
        label: Any = -1 if whole else "other"
    else:
        label = _as_id(other)
    texts = all(isinstance(item, str) for item in items.tolist())
    fits = isinstance(label, int) and -(2**63) <= label < 2**63
    if (whole and not fits) or (texts and not isinstance(label, str)):
        kind = "integers of 64 bits" if whole else "strings"
        raise ValueError(f"other={other!r}: the items are {kind}; give an id of this type.")
    if label in set(items.tolist()):
        raise ValueError(f"other={label!r} is the id of an item; choose another id.")
    return label


def _as_id(other: Any) -> Any:
    """Return the id of the item that stands for others, checked."""
    listed = np.empty(1, object)
    listed[0] = other
    try:
        return to_ids(listed, "other").tolist()[0]
    except (TypeError, ValueError) as error:
        raise ValueError(f"other={other!r} is no id; give a string or an integer.") from error


def _with(values: np.ndarray, rows: np.ndarray, label: Any) -> np.ndarray:
    """Return a copy with ``label`` in some rows."""
    whole = values.dtype.kind == "i" and isinstance(label, int)
    new = values.copy() if whole else values.astype(object)
    new[rows] = label
    return new
