"""Check whether a split trains on rows of a user that are later than the user's test rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv

from sklearn_recft.interactions import timestamps_of, users_of
from sklearn_recft.vocabulary import Vocabulary


class RandomSplitWarning(UserWarning):
    """A split trains on rows of a user that are later than the user's test rows.

    Scores on such a split are too good, because the model was fitted on later events.
    """


def check_time_order(cv: Any, X: Any, y: Any = None, *, groups: Any = None) -> np.ndarray:
    """Warn if a split trains on rows of a user from after the user's test rows.

    Call it before a search or a cross-validation with the same `cv` and ``X``, because the
    splitters of scikit-learn ignore timestamps. Rows of one timestamp may be on both sides.

    Parameters
    ----------
    cv : splitter, int or list of (train, test)
        As in :func:`sklearn.model_selection.cross_validate`. Pass a list instead of a generator,
        which can be used only once.
    X : table of n rows with a ``timestamp``
    y : array-like of shape (n,), default=None
        Passed to ``cv.split``.
    groups : array-like of shape (n,), default=None
        Passed to ``cv.split``.

    Returns
    -------
    share : ndarray of shape (n_splits,)
        Share of the test users of each split who have a train row later than a test row.
        All zero for :class:`TemporalSplit`, :class:`LeaveLastOut` and :class:`ColdUserSplit`.

    Raises
    ------
    ValueError
        If ``X`` has no timestamps.

    Warns
    -----
    RandomSplitWarning
        If any share is above 0.

    Notes
    -----
    This compares the rows of each user alone. Later rows of *other* users in training also raise
    scores, by trends and new items, but less. :class:`LeaveLastOut` allows them,
    :class:`TemporalSplit` does not.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.model_selection import KFold
    >>> from sklearn_recft.model_selection import TemporalSplit, check_time_order
    >>> X = [["ann", "tea", 1], ["ann", "milk", 2], ["ann", "rice", 3], ["bob", "tea", 4]]
    >>> check_time_order(TemporalSplit(2), X)
    array([0., 0.])
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     check_time_order(KFold(2), X)
    array([1., 0.])
    >>> print(caught[0].message)
    1 of 2 splits train on rows from after ...
    """
    splits = list(check_cv(cv).split(X, y, groups))
    return warn_of_late_rows(splits, users_of(X), timestamps_of(X), stacklevel=3)


def warn_of_late_rows(
    splits: Iterable[tuple[np.ndarray, np.ndarray]],
    user_ids: np.ndarray,
    times: np.ndarray,
    *,
    stacklevel: int,
) -> np.ndarray:
    """Warn of splits with train rows later than test rows of the same user; return the shares."""
    users = Vocabulary().extend(user_ids)
    share = np.array([_late_share(users, times, train, test) for train, test in splits])
    if share.any():
        warnings.warn(
            f"{np.count_nonzero(share)} of {len(share)} splits train on rows from after the test "
            f"rows of the same user (of up to {share.max():.0%} of the test users): the split "
            "looks random, and scores on it are too good. Use TemporalSplit, or LeaveLastOut, of "
            "sklearn_recft.model_selection.",
            RandomSplitWarning,
            stacklevel=stacklevel,
        )
    return share


def _late_share(users: np.ndarray, times: np.ndarray, train: Any, test: Any) -> float:
    """Return the share of test users whose last train row is later than their first test row."""
    last_trained = np.full(users.max() + 1, -np.inf)
    np.maximum.at(last_trained, users[train], times[train])
    first_tested = np.full(users.max() + 1, np.inf)
    np.minimum.at(first_tested, users[test], times[test])
    tested = np.isfinite(first_tested)
    return float(np.mean(last_trained[tested] > first_tested[tested])) if tested.any() else 0.0
