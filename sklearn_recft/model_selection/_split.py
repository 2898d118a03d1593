"""Splitters that choose rows by time or by user; every index array is in time order.

Sorting by time is stable: rows of one timestamp keep their order in ``X``.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state, check_scalar

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.interactions import times_or_none, timestamps_of, users_of
from sklearn_recft.vocabulary import Vocabulary

_Fold = tuple[np.ndarray, np.ndarray]


class TemporalSplit(BaseCrossValidator):
    """Temporal split: train on earlier rows of all users, test on later ones, several times.

    The last ``n_splits * test_size`` rows in time order are cut into `n_splits` test sets. The
    train set of each has the rows before it. A boundary never divides rows of one timestamp: they
    all go to the later side. So every test row is strictly later than every train row. If ``t`` is
    the first time of a test set, the train rows have
    ``t - gap - max_train_window <= time < t - gap``.

    Parameters
    ----------
    n_splits : int, default=5
        Number of test sets, at least 1.
    test_size : int or float, default=None
        Size of each test set, in rows or as a fraction of all rows. None: one of
        ``n_splits + 1`` equal parts. Ties at the boundaries change it by a few rows.
    gap : float, default=0
        Days before the test set that are left out of training, for labels that arrive late.
    max_train_window : float, default=None
        Length of a train set in days; None for all earlier rows.

    Examples
    --------
    >>> from sklearn_recft.model_selection import TemporalSplit
    >>> X = [["ann", "tea", 40], ["bob", "tea", 10], ["ann", "milk", 30], ["bob", "rice", 20]]
    >>> for train, test in TemporalSplit(n_splits=2, test_size=1).split(X):
    ...     print(train, test)
    [1 3] [2]
    [1 3 2] [0]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: float | None = None,
        gap: float = 0,
        max_train_window: float | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.test_size = test_size
        self.gap = gap
        self.max_train_window = max_train_window

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of (train, test) pairs."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[_Fold]:
        """Yield row indices of train and test sets, earliest test set first.

        Parameters
        ----------
        X : table of n rows with a ``timestamp``
        y, groups : ignored

        Yields
        ------
        train, test : ndarray of int
            Row indices in time order.

        Raises
        ------
        ValueError
            If ``X`` has no timestamps, a parameter is out of range, or a train or test set
            would be empty.
        """
        times = timestamps_of(X)
        order = np.argsort(times, kind="stable")
        times = times[order]
        test_size = self._test_rows(len(times))
        nominal = len(times) - test_size * np.arange(self.n_splits, 0, -1)
        starts = np.searchsorted(times, times[nominal], side="left")
        for start, stop in zip(starts, [*starts[1:], len(times)], strict=True):
            last = times[start] - self.gap * SECONDS_PER_DAY
            first = -np.inf
            if self.max_train_window is not None:
                first = last - self.max_train_window * SECONDS_PER_DAY
            begin, end = np.searchsorted(times, [first, last], side="left")
            if begin == end or start == stop:
                raise ValueError(
                    f"TemporalSplit: the {'test' if start == stop else 'train'} set around "
                    f"timestamp {times[start]:.0f} is empty; use fewer splits, another "
                    "test_size, a smaller gap or a wider max_train_window (rows of one "
                    "timestamp stay together)."
                )
            yield order[begin:end], order[start:stop]

    def _test_rows(self, n_rows: int) -> int:
        """Validate the parameters, and return the number of rows of one test set."""
        check_scalar(self.n_splits, "n_splits", Integral, min_val=1)
        check_scalar(self.gap, "gap", Real, min_val=0)
        if self.max_train_window is not None:
            check_scalar(
                self.max_train_window,
                "max_train_window",
                Real,
                min_val=0,
                include_boundaries="neither",
            )
        size = self.test_size
        if size is None:
            rows = n_rows // (self.n_splits + 1)
        else:
            rows = int(size) if isinstance(size, (int, np.integer)) else round(size * n_rows)
        if rows < 1 or rows * self.n_splits >= n_rows:
            raise ValueError(
                f"{n_rows} rows cannot give {self.n_splits} test sets of {rows} rows "
                f"(test_size={size}) and rows to train on."
            )
        return rows


class LeaveLastOut(BaseCrossValidator):
    """Leave-one-out by time: test on the last rows of every user, train on all others.

    It is one split, and the protocol of most published sequential recommenders. Training includes
    events of other users that are later than a test event; :class:`TemporalSplit` has none.

    Parameters
    ----------
    n_last : int, default=1
        Test rows per user: the last by time, ties by row order. Without timestamps, row order
        alone.
    min_train : int, default=1
        Minimal number of train rows of a tested user. All rows of users with fewer than
        ``n_last + min_train`` rows are train rows.

    Examples
    --------
    >>> from sklearn_recft.model_selection import LeaveLastOut
    >>> X = [["ann", "tea", 40], ["bob", "tea", 10], ["ann", "milk", 30], ["ann", "rice", 20]]
    >>> [(train, test)] = LeaveLastOut().split(X)
    >>> print(train, test)
    [1 3 2] [0]
    """

    def __init__(self, n_last: int = 1, *, min_train: int = 1) -> None:
        self.n_last = n_last
        self.min_train = min_train

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return 1."""
        return 1

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[_Fold]:
        """Yield the one pair of train and test row indices, in time order.

        Parameters
        ----------
        X : table of n rows
        y, groups : ignored

        Yields
        ------
        train, test : ndarray of int

        Raises
        ------
        ValueError
            If a parameter is out of range, no user has enough rows, or there are no train rows.
        """
        check_scalar(self.n_last, "n_last", Integral, min_val=1)
        check_scalar(self.min_train, "min_train", Integral, min_val=0)
        order, users, place = _places(X)
        sizes = np.bincount(users)
        tested = sizes >= self.n_last + self.min_train
        is_test = tested[users] & (place >= sizes[users] - self.n_last)
        yield _nonempty(self, order[~is_test], order[is_test])


class ColdUserSplit(BaseCrossValidator):
    """Test on cold-start users, of whom at most the first few rows are in training.

    Users, not rows, are shuffled and divided into `n_splits` folds. The first `n_support` rows of
    the users of a fold are in the train set, all their later rows in the test set.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    n_support : int, default=0
        Train rows of every test user: the first by time, ties by row order. Without timestamps,
        row order alone. Users with no further rows are not tested.
    random_state : int, RandomState or None, default=None
        Seed of the shuffle. Pass an int for the same folds in every call, which searches by
        successive halving require.

    Examples
    --------
    >>> from sklearn_recft.model_selection import ColdUserSplit
    >>> X = [["ann", "tea", 1], ["bob", "tea", 2], ["ann", "milk", 3], ["bob", "rice", 4]]
    >>> for train, test in ColdUserSplit(n_splits=2, n_support=1, random_state=0).split(X):
    ...     print(train, test)
    [0 1 2] [3]
    [0 1 3] [2]
    """

    def __init__(self, n_splits: int = 5, *, n_support: int = 0, random_state: Any = None) -> None:
        self.n_splits = n_splits
        self.n_support = n_support
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[_Fold]:
        """Yield row indices of train and test sets, each in time order.

        Parameters
        ----------
        X : table of n rows
        y, groups : ignored

        Yields
        ------
        train, test : ndarray of int

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer users than folds, or a train or
            test set would be empty.
        """
        check_scalar(self.n_splits, "n_splits", Integral, min_val=2)
        check_scalar(self.n_support, "n_support", Integral, min_val=0)
        order, users, place = _places(X)
        n_users = int(users.max()) + 1
        if n_users < self.n_splits:
            raise ValueError(f"{n_users} users cannot be divided into {self.n_splits} folds.")
        fold = np.empty(n_users, dtype=np.int64)
        given = np.random.RandomState() if self.random_state is None else self.random_state
        shuffled = check_random_state(given).permutation(n_users)
        fold[shuffled] = np.arange(n_users) % self.n_splits
        for j in range(self.n_splits):
            is_test = (fold[users] == j) & (place >= self.n_support)
            yield _nonempty(self, order[~is_test], order[is_test])


def _places(X: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the time order of rows and, in it, user codes and the index of a row in its user.

    User codes are assigned in row order, so that they do not depend on the timestamps.
    """
    users = Vocabulary().extend(users_of(X))
    times = times_or_none(X)
    order = np.arange(len(users)) if times is None else np.argsort(times, kind="stable")
    users = users[order]
    by_user = np.argsort(users, kind="stable")
    sizes = np.bincount(users)
    place = np.empty(len(users), dtype=np.int64)
    place[by_user] = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order, users, place


def _nonempty(splitter: BaseCrossValidator, train: np.ndarray, test: np.ndarray) -> _Fold:
    if not len(train) or not len(test):
        raise ValueError(
            f"{splitter!r} leaves {len(train)} rows to train on and {len(test)} to test on; "
            "users have too few rows for it."
        )
    return train, test
