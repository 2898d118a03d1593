"""A log in which each entry points at its user's entry before it."""

from __future__ import annotations

import numpy as np


def grown(last: np.ndarray, n_users: int) -> np.ndarray:
    """Return ``last`` if it has a place for each of ``n_users``, else a longer copy."""
    if n_users <= len(last):
        return last
    longer = np.full(max(n_users, len(last) * 3 // 2), -1, np.int32)
    longer[: len(last)] = last
    return longer


def without(users: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows are not of the users ``gone``, and the codes of their users from now on.

    Codes behind an erased one move up.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes of the rows.
    gone : ndarray of shape (m,)
        Codes to erase.

    Returns
    -------
    kept : ndarray of shape (n,), bool
    users : ndarray of shape (n_kept,)
    """
    gone = np.unique(gone)
    kept = ~np.isin(users, gone)
    return kept, users[kept] - np.searchsorted(gone, users[kept])


def link(users: np.ndarray, begin: int, last: np.ndarray, previous: np.ndarray) -> None:
    """Chain the entries from ``begin`` on, one for each of ``users`` in order of arrival.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes below ``len(last)``.
    begin : int
        Place of the first of these entries in the log.
    last : ndarray of shape (n_users,), int32
        Place of each user's latest entry, -1 for none; written to.
    previous : ndarray of shape (capacity,), int32
        For each entry, the place of its user's entry before it, -1 for none; written to.
    """
    order = np.argsort(users, kind="stable")
    places, grouped = (order + begin).astype(np.int32), users[order]
    behind = last[grouped]
    again = grouped[1:] == grouped[:-1]  # a user's second row here follows the first
    behind[1:][again] = places[:-1][again]
    previous[places] = behind
    last[grouped] = places  # of several the last one stays
