"""Rows of a few-shot evaluation: old users to fit, and support and query rows of new users."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import check_cv
from sklearn.utils import check_scalar

from sklearn_recft.interactions import times_or_none, timestamps_of, users_of
from sklearn_recft.vocabulary import Vocabulary


@dataclass(frozen=True)
class FewShotTask:
    """One split of users, as indices of rows.

    Attributes
    ----------
    train : ndarray of shape (n,)
        All rows of old users.
    support : ndarray of shape (n_users, n_shots)
        Rows of each new user, the first to learn first.
    query : ndarray of shape (n_users, n_query)
        Rows of each new user to predict; none is a support row.
    """

    train: np.ndarray
    support: np.ndarray
    query: np.ndarray

    def first(self, n_shots: int) -> np.ndarray:
        """Return the rows that new users learn first, each user's rows in their order."""
        return self.support[:, :n_shots].ravel()


@dataclass(frozen=True)
class FewShotSplit:
    """How users and their rows are divided; see `few_shot_curve`."""

    shots: np.ndarray
    n_query: int
    order: str
    new_users: Any

    @classmethod
    def of(cls, shots: Any, n_query: int, order: str, new_users: Any) -> FewShotSplit:
        """Validate the parameters."""
        values = np.asarray(shots)
        if values.ndim != 1 or not len(values) or values.dtype.kind not in "iu" or values.min() < 0:
            raise ValueError(f"shots must be integers of at least 0, such as (0, 1, 5): {shots!r}.")
        check_scalar(n_query, "n_query", Integral, min_val=1)
        if order not in ("random", "time"):
            raise ValueError(f"order must be 'random' or 'time', got {order!r}.")
        if isinstance(new_users, Real) and not isinstance(new_users, Integral):
            check_scalar(
                new_users, "new_users", Real, min_val=0, max_val=1, include_boundaries="neither"
            )
        return cls(np.unique(values), int(n_query), order, new_users)

    @property
    def n_rows(self) -> int:
        """Rows that a new user needs."""
        return int(self.shots[-1]) + self.n_query

    def tasks(self, X: Any, y: Any, rng: np.random.Generator) -> Iterator[FewShotTask]:
        """Yield the splits of users."""
        users = Vocabulary().extend(users_of(X))
        times = timestamps_of(X) if self.order == "time" else times_or_none(X)
        for fold, (train, test) in enumerate(self._folds(X, y, users, rng)):
            shared = np.intersect1d(users[train], users[test])
            if len(shared):
                raise ValueError(
                    f"new_users: split {fold} trains on rows of {len(shared)} of its test users. "
                    "Use a splitter that divides users, such as ColdUserSplit(n_support=0)."
                )
            if self.order == "random":
                test = rng.permutation(test)
            elif times is not None:
                test = test[np.argsort(times[test], kind="stable")]
            rows = self._rows_by_user(users[test], test)
            if not len(rows):
                raise ValueError(
                    f"Split {fold}: no new user has {self.n_rows} rows, the largest of shots and "
                    f"n_query={self.n_query}. Use fewer shots or query rows."
                )
            shots = self.n_rows - self.n_query
            yield FewShotTask(train, rows[:, :shots], rows[:, shots:])

    def _folds(
        self, X: Any, y: Any, users: np.ndarray, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if isinstance(self.new_users, Real) and not isinstance(self.new_users, Integral):
            able = np.flatnonzero(np.bincount(users) >= self.n_rows)
            n_new = max(1, round(float(self.new_users) * len(able)))
            is_new = np.isin(users, rng.permutation(able)[:n_new])
            if not is_new.any() or is_new.all():
                raise ValueError(
                    f"{len(able)} users have {self.n_rows} rows, the largest of shots and "
                    f"n_query={self.n_query}, and {int(users.max()) + 1} users are given: new and "
                    "old users are needed. Use fewer shots or query rows, or more users."
                )
            yield np.flatnonzero(~is_new), np.flatnonzero(is_new)
            return
        fold = -1
        for fold, (train, test) in enumerate(check_cv(self.new_users).split(X, y)):
            yield _row_numbers(train, len(users), fold), _row_numbers(test, len(users), fold)
        if fold < 0:
            raise ValueError("new_users: no split is given, where at least one is needed.")

    def _rows_by_user(self, users: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the first rows (n_users, n_rows) of users who have enough, in the given order."""
        order = np.argsort(users, kind="stable")
        _, first, size = np.unique(users[order], return_index=True, return_counts=True)
        first = first[size >= self.n_rows]
        return rows[order[first[:, None] + np.arange(self.n_rows)]]


def _row_numbers(rows: Any, n_rows: int, fold: int) -> np.ndarray:
    """Return distinct row numbers, ascending, of row numbers or a mask of all rows."""
    given = np.asarray(rows)
    if given.dtype == bool and len(given) == n_rows:
        return np.flatnonzero(given)
    is_number = given.ndim == 1 and given.dtype.kind in "iu"
    if not is_number or not len(given) or given.min() < 0 or given.max() >= n_rows:
        raise ValueError(
            f"new_users: split {fold} is no pair of (train, test), each of row numbers from 0 to "
            f"{n_rows - 1}; got {rows!r}."
        )
    return np.unique(given)
