"""Feedback on displayed lists: which item stood at which place, and what was clicked."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.columns import to_ids, to_numbers
from sklearn_recft.models import N_PLACES, Shown
from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.tables import columns_of
from sklearn_recft.times import to_seconds
from sklearn_recft.vocabulary import Vocabulary

_COLUMNS = ("list_id", USER, ITEM, "rank", "clicked")


def check_shown(shown: Any) -> Shown:
    """Check a table of displayed lists, one row per shown item.

    Parameters
    ----------
    shown : table of shape (n, 5 or 6)
        Columns ``list_id``, ``user_id``, ``item_id``, ``rank`` (from 1), ``clicked`` (0 or 1) and
        optionally ``timestamp``, by name or in this order. A list has one user, and each rank and
        item once. With timestamps, lists are ordered by the first of theirs.

    Returns
    -------
    Shown

    Examples
    --------
    >>> from sklearn_recft.lists import check_shown
    >>> shown = check_shown([[7, "ann", "tea", 1, 0], [7, "ann", "rice", 2, 1]])
    >>> shown.clicked.tolist(), shown.place.tolist()
    ([False, True], [0, 1])
    """
    columns = _columns_of(shown)
    absent = [name for name in _COLUMNS if name not in columns]
    if absent:
        raise ValueError(f"shown: columns {absent} are missing; give {list(_COLUMNS)}.")
    lists = Vocabulary().extend(to_ids(columns["list_id"], "shown: list_id"))
    users, items = (to_ids(columns[name], f"shown: {name}") for name in (USER, ITEM))
    rank, clicked = (to_numbers(columns[n], f"shown: {n}") for n in ("rank", "clicked"))
    _refuse(~np.isin(clicked, (0, 1)), "clicked", "other than 0 and 1")
    _refuse((rank < 1) | (rank % 1 != 0), "rank", "that are no whole numbers from 1 on")
    _, first = np.unique(lists, return_index=True)
    _refuse(users != users[first][lists], USER, "of another user than the first of their list")
    place = np.minimum(rank, len(lists) + N_PLACES).astype(np.int64) - 1
    for name, values in (("rank", rank), (ITEM, Vocabulary().extend(items))):
        _refuse(_repeats(lists, values), name, "that an earlier row of their list has")
    times = to_seconds(columns[TIME], f"shown: {TIME}") if TIME in columns else None
    if times is not None:  # lists are learned in the order of time
        start = np.full(len(first), np.inf)
        np.minimum.at(start, lists, times)
        lists = np.argsort(np.argsort(start, kind="stable"))[lists]
    order = np.lexsort((rank, lists))
    return Shown(
        lists[order],
        users[order],
        items[order],
        place[order],
        clicked[order] > 0,
        None if times is None else times[order],
    )


def _columns_of(shown: Any) -> dict[str, Any]:
    if hasattr(shown, "__len__") and not len(shown):
        raise ValueError("shown is empty; leave it out.")
    try:
        return columns_of(shown, (*_COLUMNS, TIME))
    except ValueError as error:
        raise ValueError(f"shown is no table of displayed lists: {error}") from error


def _repeats(lists: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return which rows repeat a value of an earlier row of their list."""
    order = np.lexsort((values, lists))  # stable
    again = np.zeros(len(lists), bool)
    same = (np.diff(lists[order]) == 0) & (np.diff(values[order]) == 0)
    again[order[1:][same]] = True
    return again


def _refuse(wrong: np.ndarray, column: str, what: str) -> None:
    if wrong.any():
        raise ValueError(
            f"shown: {column}: {int(wrong.sum())} of {len(wrong)} rows have values {what}; fix or "
            "drop these rows."
        )
