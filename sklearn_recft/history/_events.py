"""What each user did last, and when: events kept in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.history._log import grown, link, without
from sklearn_recft.interactions import Events

_NO_PLACES = np.empty(0, np.int64)


class EventHistory:
    """The last ``2 * max_history`` events of each user, in order of arrival.

    A log in which each entry points at the user's previous one, so an append is O(1) and a
    user's events are found without an index. When the log is full, whatever is beyond a user's
    last ``2 * max_history`` arrivals is dropped, and the log is doubled only if that did not halve
    it: the cost of an append is amortised, and there is room for less than four times the events
    kept (or for 64), of 24 bytes each. An item met twice is two events. What is read never goes
    beyond these arrivals either, so no answer depends on when old events were dropped.

    Twice ``max_history``, because only events strictly earlier than a query count: where the
    newest ones tie with it in time (a basket, a session logged to the second) or come after it,
    as many as ``max_history`` of them may be passed over and the history is still complete.

    Parameters
    ----------
    max_history : int
        Events of a user that a query may need.

    Attributes
    ----------
    last : ndarray of shape (n_users,), int32
        Place in the log of each user's latest entry, -1 for none.
    previous, item : ndarray of shape (capacity,), int32
        For each entry, the place of the user's entry before it (-1: none) and the item code.
    feedback : ndarray of shape (capacity,), float32
    time : ndarray of shape (capacity,), float64
        Seconds.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import EventHistory
    >>> past = EventHistory(max_history=1)
    >>> users, items = np.array([0, 1, 0, 0]), np.array([7, 7, 3, 7])
    >>> past.append(users, items, np.array([1.0, 0, 0, 1]), np.arange(4) * 60.0, n_users=2)
    >>> past.events_of(np.array([0]))[0].item
    array([3, 7], dtype=int32)
    """

    def __init__(self, max_history: int) -> None:
        self.max_history = max_history
        self.last = np.empty(0, np.int32)
        self._allocate(0)

    @property
    def log(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``last, previous, item, feedback, time``: what a compiled walk reads."""
        return self.last, self.previous, self.item, self.feedback, self.time

    def append(
        self,
        users: np.ndarray,
        items: np.ndarray,
        feedback: np.ndarray,
        times: np.ndarray,
        n_users: int,
    ) -> None:
        """Remember what each of ``users`` (codes below ``n_users``) did, in order of arrival.

        Parameters
        ----------
        users, items : ndarray of shape (n,)
            Codes.
        feedback : ndarray of shape (n,)
        times : ndarray of shape (n,)
            Seconds; they need not ascend.
        n_users : int
        """
        self.last = grown(self.last, n_users)
        if not len(users):
            return
        rows = (users, items, feedback, times)
        if self.size + len(users) <= len(self.item):
            self._write(rows)
            return
        joined = [np.concatenate(pair) for pair in zip(self._rows(), rows, strict=True)]
        kept = _newest(joined[0], 2 * self.max_history)
        capacity = max(len(self.item), 64)
        while len(kept) * 2 > capacity:
            capacity *= 2
        self._allocate(capacity)
        self.last = np.full(len(self.last), -1, np.int32)
        self._write(tuple(column[kept] for column in joined))

    def events_of(self, users: np.ndarray) -> tuple[Events, np.ndarray]:
        """Return the remembered events of ``users``, one user after the other.

        Parameters
        ----------
        users : ndarray of shape (n,)
            Codes; -1 and users without events have none.

        Returns
        -------
        log : Events
            In the order of ``users``, each user's in order of arrival; weights are 1, and there
            is no context.
        counts : ndarray of shape (n,), int64
            Events of each user.
        """
        counts, limit = np.empty(len(users), np.int64), 2 * self.max_history
        kernels.latest_events(users, self.last, self.previous, limit, counts, _NO_PLACES)
        place = np.empty(counts.sum(), np.int64)
        if len(place):
            kernels.latest_events(users, self.last, self.previous, limit, counts, place)
        log = Events(
            np.repeat(users, counts),
            self.item[place],
            self.time[place],
            self.feedback[place],
            np.ones(len(place)),
            np.empty((len(place), 0)),
        )
        return log, counts

    def mark(self, users: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo appends of ``users`` made from here on."""
        known = users[users < len(self.last)]
        return vars(self).copy(), known, self.last[known]

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo every append since ``mark``."""
        # A log that was freed of old events is a new one; the one of then is as it was.
        state, known, last = mark
        vars(self).update(state)
        self.last[self.last >= self.size] = -1
        self.last[known] = last

    def _rows(self) -> tuple[np.ndarray, ...]:
        """Users, items, feedback and times of all entries."""
        columns = (self._user, self.item, self.feedback, self.time)
        return tuple(column[: self.size] for column in columns)

    def _allocate(self, capacity: int) -> None:
        """Start an empty log."""
        self.previous, self.item = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self.feedback, self.time = np.empty(capacity, np.float32), np.empty(capacity)
        self._user = np.empty(capacity, np.int32)
        self.size = 0

    def _write(self, rows: tuple[np.ndarray, ...]) -> None:
        """Add rows for which there is room."""
        begin, self.size = self.size, self.size + len(rows[0])
        for column, values in zip(self._rows(), rows, strict=True):
            column[begin:] = values
        link(rows[0], begin, self.last, self.previous)

    def state(self) -> dict[str, Any]:
        """Return the kept events, by user and in order of arrival."""
        kept = _newest(self._user[: self.size], 2 * self.max_history)
        names = ("user", "item", "feedback", "time")
        columns = {name: c[kept] for name, c in zip(names, self._rows(), strict=True)}
        return {"max_history": self.max_history, **columns}

    def load_state(self, state: dict[str, Any]) -> None:
        """Become what `state` described."""
        self.__init__(state["max_history"])  # type: ignore[misc]
        n_users = int(state["user"].max(initial=-1)) + 1
        self.append(state["user"], state["item"], state["feedback"], state["time"], n_users)

    def forget(self, users: np.ndarray) -> None:
        """Erase the events of ``users`` (codes); the codes behind them move up."""
        state = self.state()
        kept, moved = without(state["user"], users)
        columns = {name: state[name][kept] for name in ("item", "feedback", "time")}
        self.load_state({**state, **columns, "user": moved})

    def __getstate__(self) -> dict[str, Any]:
        return self.state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.load_state(state)


def _newest(users: np.ndarray, limit: int) -> np.ndarray:
    """Places of the last ``limit`` rows of each user, by user and in order of arrival."""
    order = np.argsort(users, kind="stable")
    grouped, beyond = users[order], max(len(users) - limit, 0)
    kept = np.ones(len(users), bool)
    kept[:beyond] = grouped[limit:] != grouped[:beyond]  # no row of the user so much later
    return order[kept]
