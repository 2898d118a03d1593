"""Linked log: each entry points to the previous entry of its user."""

from __future__ import annotations

import numpy as np


def grown(last: np.ndarray, n_users: int) -> np.ndarray:
    """Return ``last`` if it has ``n_users`` entries, else a longer copy."""
    if n_users <= len(last):
        return last
    longer = np.full(max(n_users, len(last) * 3 // 2), -1, np.int32)
    longer[: len(last)] = last
    return longer


def without(users: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a mask of the rows of other users than ``gone``, and their new user codes.

    The remaining codes are renumbered to close the gaps.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes of the rows.
    gone : ndarray of shape (m,)
        Codes to remove.

    Returns
    -------
    kept : ndarray of shape (n,), bool
    users : ndarray of shape (n_kept,)
    """
    gone = np.unique(gone)
    kept = ~np.isin(users, gone)
    return kept, users[kept] - np.searchsorted(gone, users[kept])


def link(users: np.ndarray, begin: int, last: np.ndarray, previous: np.ndarray) -> None:
    """Link the entries from ``begin`` on, one for each of ``users`` in order of arrival.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes below ``len(last)``.
    begin : int
        Index of the first of these entries in the log.
    last : ndarray of shape (n_users,), int32
        Index of each user's latest entry, -1 for none; updated in place.
    previous : ndarray of shape (capacity,), int32
        For each entry, the index of its user's previous entry, -1 for none; updated in place.
    """
    order = np.argsort(users, kind="stable")
    places, grouped = (order + begin).astype(np.int32), users[order]
    behind = last[grouped]
    again = grouped[1:] == grouped[:-1]  # rows of a user with an earlier row in this call
    behind[1:][again] = places[:-1][again]
    previous[places] = behind
    last[grouped] = places  # the last row of each user wins


def are_sorted(users: np.ndarray, items: np.ndarray) -> bool:
    """Whether pairs are distinct and sorted; most others are found by their first ones."""
    for part in (slice(1000), slice(None)):
        ahead, behind = users[part][1:], users[part][:-1]
        if not (
            (ahead > behind) | ((ahead == behind) & (items[part][1:] > items[part][:-1]))
        ).all():
            return False
    return True
