"""Read the past of rows, and training windows, from a log or a history."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Events
from sklearn_recft.history._events import EventHistory


@dataclass(frozen=True)
class Past:
    """Past events of rows, newest first, padded at the end.

    Attributes
    ----------
    item : ndarray of shape (n, L), int64
        Item codes; -1 at padding.
    feedback, age : ndarray of shape (n, L), float32
        Ages are in days; 0 at padding.
    """

    item: np.ndarray
    feedback: np.ndarray
    age: np.ndarray

    def take(self, rows: np.ndarray | slice | int) -> Past:
        """Return the past of some rows."""
        return Past(*(getattr(self, f.name)[rows] for f in fields(self)))

    def shortened(self) -> Past:
        """Cut the padding to the longest row; the length is at least 1."""
        longest = max(int((self.item >= 0).sum(1).max(initial=0)), 1)
        return Past(*(getattr(self, f.name)[:, :longest] for f in fields(self)))

    def oldest(self, counts: np.ndarray) -> Past:
        """Return the ``counts`` (n,) oldest events of each row, in the same width."""
        back = np.arange(self.item.shape[1])
        place = (self.item >= 0).sum(1)[:, None] - counts[:, None] + back
        there, place = back < counts[:, None], np.minimum(place, self.item.shape[1] - 1)
        none = fields(self), (-1, 0, 0)
        return Past(
            *(
                np.where(there, np.take_along_axis(getattr(self, f.name), place, 1), empty)
                for f, empty in zip(*none, strict=True)
            )
        )

    def steps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add the events of each row one by one, oldest first.

        Returns the row of each step, the item code of the event that it adds (-1 at the first step
        of a row, which has none), and the number of events at each step.
        """
        counts = (self.item >= 0).sum(1)
        row = np.repeat(np.arange(len(counts)), counts + 1)
        n_kept = np.arange(len(row)) - np.repeat(np.cumsum(counts + 1) - counts - 1, counts + 1)
        item = np.full(len(row), -1, np.int64)
        adds = n_kept > 0
        item[adds] = self.item[row[adds], (counts[row] - n_kept)[adds]]
        return row, item, n_kept


@dataclass(frozen=True)
class Spans:
    """Ranges of consecutive events in a sorted log, ``log[start:stop]`` for each row.

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
        """Number of events of each range, (n,)."""
        return self.stop - self.start

    def take(self, rows: np.ndarray | slice) -> Spans:
        """Return the ranges of some rows."""
        return Spans(self.start[rows], self.stop[rows])


def log_windows(
    users: np.ndarray, times: np.ndarray, max_history: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find, for each row of a log, the user's last events strictly earlier in time.

    Parameters
    ----------
    users : ndarray of shape (n,)
        User codes of the rows, in order of arrival; -1 is an unknown user without a past.
    times : ndarray of shape (n,)
        Seconds, in any order.
    max_history : int
        Maximal number of past events of a row.

    Returns
    -------
    order : ndarray of shape (n,), int64
        Row indices sorted by user, then time, then arrival.
    start, stop : ndarray of shape (n,), int64
        ``order[start[j]:stop[j]]`` are the events before row ``j``, oldest first. Events at
        equal times are ordered by arrival.

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
    """Sort a log by user and time, and find the past of its last ``n_last`` rows.

    Returns the sorted log, and the ranges in it with the events strictly before each row.
    """
    order, start, stop = log_windows(log.user, log.time, max_history)
    last = slice(len(order) - n_last, None)
    return log.take(order), Spans(start[last], stop[last])


def windows_before(log: Events, users: np.ndarray, times: np.ndarray, max_history: int) -> Spans:
    """Find the past of queries that are no events of a log sorted by user and time.

    Parameters
    ----------
    log : Events
    users : ndarray of shape (n,)
        Codes; -1 is an unknown user without a past.
    times : ndarray of shape (n,)
        Seconds; only strictly earlier events are past.
    max_history : int
    """
    known, place = np.unique(np.concatenate([log.time, times]), return_inverse=True)
    key = np.concatenate([log.user, users]) * np.int64(len(known)) + place
    stop = np.searchsorted(key[: len(log)], key[len(log) :])
    start = np.maximum(np.searchsorted(log.user, users), stop - max_history)
    return Spans(np.where(users < 0, stop, start), stop)


def past_at(history: EventHistory, users: np.ndarray, times: np.ndarray) -> Past:
    """Read the past of users (codes, -1: unknown) strictly before ``times`` (n,)."""
    shape = len(users), history.max_history
    item, feedback = np.empty(shape, np.int32), np.empty(shape, np.float32)
    age = np.empty(shape, np.float32)
    times = np.array(times, np.float64)  # one layout: each other one would be compiled
    kernels.gather_past(users, times, *history.log, history.max_history, item, feedback, age)
    return Past(item.astype(np.int64), feedback, age)


def past_in(log: Events, spans: Spans, times: np.ndarray, max_history: int) -> Past:
    """Read the past of rows from ranges of a sorted log; ages are relative to ``times`` (n,)."""
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

    Returns the log, one user after the other, and the range of each user in it.
    """
    log, counts = history.events_of(users)
    order = np.lexsort((log.time, np.repeat(np.arange(len(users)), counts)))
    stop = np.cumsum(counts)
    return log.take(order), Spans(stop - counts, stop)


def training_windows(log: Events, max_history: int, until: float = np.inf) -> Spans:
    """Split each user's events into windows, from the newest back, with a target per event.

    Parameters
    ----------
    log : Events
        Sorted by `in_order`; rows of weight 0 are not targets.
    max_history : int
        Maximal number of events of a window.
    until : float, default=inf
        Seconds; later events are neither in windows nor targets.

    Returns
    -------
    Spans
        Ranges of the windows in the log. The target of each event is the next event of the log.
        Windows without targets are omitted.
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
