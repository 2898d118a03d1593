"""Every way to cut a past out of a log."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.history._events import EventHistory
from sklearn_recft.interactions import Events


@dataclass(frozen=True)
class Past:
    """The past of rows, newest event first, padded behind the oldest.

    Attributes
    ----------
    item : ndarray of shape (n, L), int64
        Codes; -1 where there is no event.
    feedback, age : ndarray of shape (n, L), float32
        Age in days; 0 where there is no event.
    """

    item: np.ndarray
    feedback: np.ndarray
    age: np.ndarray

    def take(self, rows: np.ndarray | slice | int) -> Past:
        """Return the past of some rows."""
        return Past(*(getattr(self, f.name)[rows] for f in fields(self)))

    def shortened(self) -> Past:
        """Return the same past as long as the longest of the rows, at least 1."""
        longest = max(int((self.item >= 0).sum(1).max(initial=0)), 1)
        return Past(*(getattr(self, f.name)[:, :longest] for f in fields(self)))


@dataclass(frozen=True)
class Spans:
    """Runs of consecutive events in a sorted log, ``log[start:stop]`` for each row.

    Attributes
    ----------
    start, stop : ndarray of shape (n,), int64
    """

    start: np.ndarray
    stop: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    @property
    def size(self) -> np.ndarray:
        """Events of each run, (n,)."""
        return self.stop - self.start

    def take(self, rows: np.ndarray | slice) -> Spans:
        """Return some of the runs."""
        return Spans(self.start[rows], self.stop[rows])


def log_windows(
    users: np.ndarray, times: np.ndarray, max_history: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find, for each row of a log, the user's last events strictly earlier in time.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes of the rows, in order of arrival; rows of -1 have no past and are no one's.
    times : ndarray of shape (n,)
        Seconds; they need not ascend.
    max_history : int
        Events of a row at most.

    Returns
    -------
    order : ndarray of shape (n,), int64
        Rows by user, then time, then arrival.
    start, stop : ndarray of shape (n,), int64
        ``order[start[j]:stop[j]]`` are the events before row ``j``, oldest first. Of events
        at one time those that arrived last count as the newest.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import log_windows
    >>> users, times = np.array([0, 1, 0, 0, 0]), np.array([10.0, 10, 20, 20, 30])
    >>> order, start, stop = log_windows(users, times, max_history=2)
    >>> [order[a:b].tolist() for a, b in zip(start, stop)]
    [[], [], [0], [0], [2, 3]]
    """
    order = np.lexsort((times, users))
    grouped, ordered = users[order], times[order]
    is_first, is_later = np.ones(len(order), bool), np.ones(len(order), bool)
    is_first[1:] = grouped[1:] != grouped[:-1]
    is_later[1:] = is_first[1:] | (ordered[1:] != ordered[:-1])
    places = np.arange(len(order))
    first = np.maximum.accumulate(np.where(is_first, places, 0))  # of the user
    tied = np.maximum.accumulate(np.where(is_later, places, 0))  # of the user at this time
    start, stop = np.empty_like(places), np.empty_like(places)
    start[order] = np.where(grouped < 0, tied, np.maximum(first, tied - max_history))
    stop[order] = tied
    return order, start, stop


def windows_of_last(log: Events, n_last: int, max_history: int) -> tuple[Events, Spans]:
    """Sort a log by user and time, and find what lies strictly before its last rows.

    Returns the sorted log, and the runs in it for the last ``n_last`` rows of the unsorted log.
    """
    order, start, stop = log_windows(log.user, log.time, max_history)
    last = slice(len(order) - n_last, None)
    return log.take(order), Spans(start[last], stop[last])


def past_at(history: EventHistory, users: np.ndarray, times: np.ndarray) -> Past:
    """Read the past of users (codes, -1: unknown), strictly before ``times`` (n,)."""
    shape = len(users), history.max_history
    item, feedback = np.empty(shape, np.int32), np.empty(shape, np.float32)
    age = np.empty(shape, np.float32)
    kernels.gather_past(users, times, *history.log, history.max_history, item, feedback, age)
    return Past(item.astype(np.int64), feedback, age)


def past_in(log: Events, spans: Spans, times: np.ndarray, max_history: int) -> Past:
    """Write out the runs of a sorted log that lie before ``times`` (n,)."""
    place = spans.stop[:, None] - 1 - np.arange(max_history)
    there = place >= spans.start[:, None]
    place = np.where(there, place, 0)
    age = (times[:, None] - log.time[place]) / SECONDS_PER_DAY
    return Past(
        np.where(there, log.item[place], -1),
        np.where(there, log.feedback[place], 0).astype(np.float32),
        np.where(there, age, 0).astype(np.float32),
    )


def in_order(log: Events) -> Events:
    """Sort a log by user, then time, then arrival."""
    return log.take(np.lexsort((log.time, log.user)))


def sequences_of(history: EventHistory, users: np.ndarray) -> tuple[Events, Spans]:
    """Read the sequences of distinct users (codes), each in order of time, then arrival.

    Returns the log, one user after the other, and each one's run in it.
    """
    log, counts = history.events_of(users)
    order = np.lexsort((log.time, np.repeat(np.arange(len(users)), counts)))
    stop = np.cumsum(counts)
    return log.take(order), Spans(stop - counts, stop)


def training_windows(log: Events, max_history: int, until: float = np.inf) -> Spans:
    """Cut each user's events into windows from the newest back, each event with a target.

    Parameters
    ----------
    log : Events
        Sorted by `in_order`; rows of weight 0 are no targets.
    max_history : int
        Events of a window at most.
    until : float, default=inf
        Seconds; no window, and no target, goes beyond.

    Returns
    -------
    Spans
        Windows in the log. The event behind each event of a window is its target; windows
        without a target are left out.
    """
    known = log.time <= until
    users, count = np.unique(log.user[known], return_counts=True)
    start = np.searchsorted(log.user, users)  # known events are a user's first
    n_inputs = count - 1
    n_windows = -(-n_inputs // max_history)
    user = np.repeat(np.arange(len(users)), n_windows)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    stop = n_inputs[user] - nth * max_history
    begin = np.maximum(stop - max_history, 0)
    total = np.concatenate([[0], np.cumsum(log.weight > 0)])
    begin, stop = start[user] + begin, start[user] + stop
    real = total[stop + 1] > total[begin + 1]
    return Spans(begin[real], stop[real])
