"""What features of a stream share: each row is described by strictly earlier rows, then learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._set_output import _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklearn_recft.columns import plain
from sklearn_recft.parallel import SharedLock, Turns
from sklearn_recft.preprocessing._rows import (
    LogRows,
    beside,
    read_rows,
    refuse_same_names,
    set_names,
)

# Calls that learn take turns, and wait for those that read the state.
_TURNS, _LOCKS = Turns(), Turns(SharedLock)


@dataclass(frozen=True)
class Stream:
    """Rows in the order of time.

    Attributes
    ----------
    order : ndarray of shape (n,)
        Positions of the rows in the table.
    times : ndarray of shape (n,)
        Seconds, ascending.
    counted : ndarray of shape (n,), bool
        Rows to learn; the others are only described.
    """

    order: np.ndarray
    times: np.ndarray
    counted: np.ndarray


class Part(Protocol):
    """A part of a state, whose changes since `mark` can be undone until `release`."""

    def mark(self) -> Any:
        """Return what `restore` needs."""

    def restore(self, mark: Any) -> None:
        """Undo all changes since ``mark``."""

    def release(self) -> None:
        """Keep all changes."""


class StreamState(Protocol):
    """State of a fitted transformer."""

    def parts(self) -> list[Part]:
        """Return all that `update` changes."""

    def read(self, rows: LogRows, *, learning: bool) -> Any:
        """Check and return the columns that are read; nothing changes."""

    def update(self, read: Any, stream: Stream) -> np.ndarray:
        """Describe rows in the order of time, and learn them; return features in that order."""

    def transform(self, read: Any, times: np.ndarray) -> np.ndarray:
        """Describe rows."""

    def names(self) -> list[str]:
        """Names of the features."""


class StreamFeatures(TransformerMixin, BaseEstimator, ABC):
    """Features of each row from strictly earlier rows.

    A subclass makes its state in `_make_state`.
    """

    passthrough: bool
    _passes = False  # the `passthrough` of `fit`
    _state: StreamState
    _timed: bool
    _n_events: int
    _newest: float
    _needs_y = False

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Any:
        """Drop all earlier state, and learn a log.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Rows in any order; ``timestamp`` says which came first. Without it, the order of the
            rows is the order of time.
        y : array-like of shape (n,), default=None
            Feedback.

        Returns
        -------
        self : object
        """
        self._learn(X, y, reset=True)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Any:
        """Add events to the past.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            With timestamps if and only if `fit` had them.
        y : array-like of shape (n,), default=None

        Returns
        -------
        self : object
        """
        self._learn(X, y, reset=not self.__sklearn_is_fitted__())
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None, counted: Any = None) -> Any:
        """Learn a log, and return the features of each row as of its own time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            The features of a row use that of strictly earlier rows only.
        counted : array-like of shape (n,), bool, default=None
            Rows that have happened. The others, such as sampled negatives, are only described, and
            their feedback is ignored. None means all rows.

        Returns
        -------
        features : ndarray or frame of shape (n, n_features_out), float32
            In the order of the rows. With ``passthrough``, the columns of ``X`` come first.
        """
        return self._output(X, self._learn(X, y, counted, reset=True))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit_transform(self, X: Any, y: Any = None, counted: Any = None) -> Any:
        """Return the features of each row as of its own time, and add the rows to the past.

        Use it for the rows of a stream: `fit_transform` on all of them gives the same features, as
        long as the calls are in the order of time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
        counted : array-like of shape (n,), bool, default=None
            Rows that have happened. The others, such as sampled negatives, are only described, and
            their feedback is ignored. None means all rows.

        Returns
        -------
        features : ndarray or frame of shape (n, n_features_out), float32
        """
        found = self._learn(X, y, counted, reset=not self.__sklearn_is_fitted__())
        return _wrap_data_with_container("transform", self._output(X, found), X, self)

    def transform(self, X: Any) -> Any:
        """Return the features of rows that are not learned; nothing changes.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Rows do not see each other. Rows without timestamps are described as just after the
            newest event.

        Returns
        -------
        features : ndarray or frame of shape (n, n_features_out), float32
        """
        check_is_fitted(self)
        rows, _ = read_rows(self, X, reset=False)
        state = self._state
        with _LOCKS.of(state).reading():
            times = rows.times if self._timed else None
            if times is None:
                times = np.full(rows.n_rows, np.nextafter(self._newest, np.inf))
            found = state.transform(state.read(rows, learning=False), times)
        return self._output(X, found.astype(np.float32))

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Must be the names of `fit`, if given.

        Returns
        -------
        names : ndarray of shape (n_features_out,), object
        """
        check_is_fitted(self)
        given = _check_feature_names_in(self, input_features)
        names = self._state.names()
        return np.array([*given, *names] if self._passes else names, dtype=object)

    # ------------------------------------------------------------------ private

    @abstractmethod
    def _make_state(self, rows: LogRows) -> StreamState:
        """Return the state without events; check parameters."""

    def _output(self, X: Any, features: np.ndarray) -> Any:
        return beside(X, features, self._state.names()) if self._passes else features

    def _learn(self, X: Any, y: Any, counted: Any = None, *, reset: bool) -> np.ndarray:
        """Process the events in time order; a call that fails changes nothing."""
        with _TURNS.of(self):
            return self._learn_in_turn(X, y, counted, reset=reset)

    def _learn_in_turn(self, X: Any, y: Any, counted: Any, *, reset: bool) -> np.ndarray:
        """Check the events, and learn them; the only place that changes state."""
        if y is None and self._needs_y:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None: give the feedback of each event."
            )
        rows, table = read_rows(self, X, y, reset=reset)
        timed = rows.times is not None
        if not reset and timed != self._timed:
            raise ValueError(
                f"timestamp: fit had {'it' if self._timed else 'none'}, this X has "
                f"{'it' if timed else 'none'}; give the column on both sides or on neither."
            )
        state = self._make_state(rows) if reset else self._state
        n_features = len(_distinct(state.names()))
        passes = self.passthrough if reset else self._passes
        if passes:
            refuse_same_names(table, state.names())
        read = state.read(rows, learning=True)
        mask = _mask(counted, rows.n_rows)
        n_before = 0 if reset else self._n_events
        times = rows.times
        if times is None:
            times = n_before + np.arange(float(rows.n_rows))
        order = np.argsort(times, kind="stable")
        found = np.empty((rows.n_rows, n_features), np.float32)
        stream = Stream(order, times[order], mask[order])
        with self._transaction(state, reset=reset):
            found[order] = state.update(read, stream)
            if reset:
                set_names(self, table)
            now = float(stream.times[-1])
            self._newest = now if reset else max(self._newest, now)
            self._state, self._timed, self._n_events = state, timed, n_before + rows.n_rows
            self._passes = passes
        return found

    @contextmanager
    def _transaction(self, state: StreamState, *, reset: bool) -> Iterator[None]:
        """Lock the state; undo all changes within the block if it fails, or is interrupted."""
        parts = [] if reset else state.parts()
        with _LOCKS.of(state).writing(), ExitStack() as end, ExitStack() as stack:
            stack.callback(setattr, self, "__dict__", dict(vars(self)))
            for part in parts:
                end.callback(part.release)
                stack.callback(part.restore, part.mark())
            yield
            stack.pop_all()  # as in `FittedModel.transaction`; importing it would load torch

    def __sklearn_is_fitted__(self) -> bool:
        return "_state" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self._needs_y
        tags.transformer_tags.preserves_dtype = []
        return tags


def _distinct(names: list[str]) -> list[str]:
    """Return names of features; raise where two are equal."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"The features {twice} would have two columns each. Name each column once, rename a "
            "column of X, or give half_lives that differ more."
        )
    return names


def _mask(counted: Any, n_rows: int) -> np.ndarray:
    if counted is None:
        return np.ones(n_rows, bool)
    mask = plain(counted)
    if mask.dtype != bool or mask.shape != (n_rows,):
        raise ValueError(
            f"counted must be True or False for each of the {n_rows} rows; got an array of type "
            f"{mask.dtype} and shape {mask.shape}."
        )
    return mask
