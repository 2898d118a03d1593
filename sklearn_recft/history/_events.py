"""Recent events of each user, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.events import Events
from sklearn_recft.history._log import grown, link, without

_NO_PLACES = np.empty(0, np.int64)


class EventHistory:
    """The last ``2 * max_history`` events of each user, in order of arrival.

    Events are a linked log: each entry points to the previous entry of its user. An append is
    O(1), and the events of a user are found without an index. When the log is full, all events
    before a user's last ``2 * max_history`` arrivals are dropped. The log is doubled only if this
    did not halve it. Appends therefore take amortised constant time. The capacity is below four
    times the number of stored events, or 64, with 24 bytes per event. Repeated items are separate
    events. Reads use only these arrivals, so results do not depend on when old events are dropped.

    The log holds twice ``max_history`` events, because a query sees only strictly earlier events.
    The newest events may tie with a query (a basket, times in whole seconds) or come after it. The
    history is complete if there are at most ``max_history`` such events.

    Parameters
    ----------
    max_history : int
        Maximal number of past events of a query.

    Attributes
    ----------
    last : ndarray of shape (n_users,), int32
        Index in the log of each user's latest entry, -1 for none.
    previous, item : ndarray of shape (capacity,), int32
        For each entry, the index of the user's previous entry (-1: none) and the item code.
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
        """Arrays ``last, previous, item, feedback, time``, as the kernels read them."""
        return self.last, self.previous, self.item, self.feedback, self.time

    def append(
        self,
        users: np.ndarray,
        items: np.ndarray,
        feedback: np.ndarray,
        times: np.ndarray,
        n_users: int,
    ) -> None:
        """Append events of ``users`` (codes below ``n_users``), in order of arrival.

        Parameters
        ----------
        users, items : ndarray of shape (n,)
            Codes.
        feedback : ndarray of shape (n,)
        times : ndarray of shape (n,)
            Seconds, in any order.
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
        """Return the stored events of ``users``, one user after the other.

        Parameters
        ----------
        users : ndarray of shape (n,)
            Codes; -1 and users without events have none.

        Returns
        -------
        log : Events
            In the order of ``users``, then of arrival. Weights are 1, and there is no context.
        counts : ndarray of shape (n,), int64
            Number of events of each user.
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
        """Return what `restore` needs to undo later appends of ``users``."""
        known = users[users < len(self.last)]
        return vars(self).copy(), known, self.last[known]

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo every append since ``mark``."""
        # Dropping old events makes new arrays, so the marked arrays have not changed.
        state, known, last = mark
        vars(self).update(state)
        self.last[self.last >= self.size] = -1
        self.last[known] = last

    def _rows(self) -> tuple[np.ndarray, ...]:
        """Return users, items, feedback and times of all entries."""
        columns = (self._user, self.item, self.feedback, self.time)
        return tuple(column[: self.size] for column in columns)

    def _allocate(self, capacity: int) -> None:
        """Allocate an empty log."""
        self.previous, self.item = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self.feedback, self.time = np.empty(capacity, np.float32), np.empty(capacity)
        self._user = np.empty(capacity, np.int32)
        self.size = 0

    def _write(self, rows: tuple[np.ndarray, ...]) -> None:
        """Append rows within the capacity."""
        begin, self.size = self.size, self.size + len(rows[0])
        for column, values in zip(self._rows(), rows, strict=True):
            column[begin:] = values
        link(rows[0], begin, self.last, self.previous)

    def state(self) -> dict[str, Any]:
        """Return the stored events, sorted by user, then by arrival."""
        kept = _newest(self._user[: self.size], 2 * self.max_history)
        names = ("user", "item", "feedback", "time")
        columns = {name: c[kept] for name, c in zip(names, self._rows(), strict=True)}
        return {"max_history": self.max_history, **columns}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.__init__(state["max_history"])  # type: ignore[misc]
        n_users = int(state["user"].max(initial=-1)) + 1
        self.append(state["user"], state["item"], state["feedback"], state["time"], n_users)

    def forget(self, users: np.ndarray) -> None:
        """Remove the events of ``users`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["user"], users)
        columns = {name: state[name][kept] for name in ("item", "feedback", "time")}
        self.load_state({**state, **columns, "user": moved})

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the events of ``items`` (codes), and renumber the others to close the gaps."""
        state = self.state()
        kept, moved = without(state["item"], items)
        columns = {name: state[name][kept] for name in ("user", "feedback", "time")}
        self.load_state({**state, **columns, "item": moved})


def _newest(users: np.ndarray, limit: int) -> np.ndarray:
    """Return the indices of the last ``limit`` rows of each user, by user and arrival."""
    order = np.argsort(users, kind="stable")
    grouped, beyond = users[order], max(len(users) - limit, 0)
    kept = np.ones(len(users), bool)
    kept[:beyond] = (
        grouped[limit:] != grouped[:beyond]
    )  # the row ``limit`` places later is another user's
    return order[kept]
