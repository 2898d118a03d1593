"""Store events of many callers in one commit, and answer each after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from time import monotonic
from typing import Any, NamedTuple

from sklearn_recft.loop._errors import NotRunningError, QueueFullError
from sklearn_recft.loop._events import Appended, Event
from sklearn_recft.loop._lists import ShownList
from sklearn_recft.loop._store import FeedbackStore

# Lists are stored once there are so many, or after so many seconds.
_MANY_LISTS, _PATIENCE = 256, 0.2


class _Waiting(NamedTuple):
    """Events of one or several callers that wait for the same commit."""

    groups: Sequence[Sequence[Event]]
    future: Future[Any]
    is_one: bool  # whether the answer is that of one caller, not a list of answers
    size: int


class Committer:
    """A thread that stores what callers have queued; while it commits, the next callers queue up.

    Lists have commits of their own, which do not wait for the disk: no caller waits for them.

    Parameters
    ----------
    store : FeedbackStore
    queue_size : int
        Largest number of events that wait. The same for lists; further lists are dropped.
    append : callable
        ``append(groups)`` stores the events of several callers in one commit, and returns an answer
        for each of them.
    after_commit : callable
        Called without arguments after each commit of events, once the callers have their answers.
    """

    def __init__(
        self,
        store: FeedbackStore,
        queue_size: int,
        append: Callable[[Sequence[Sequence[Event]]], list[Appended]],
        after_commit: Callable[[], None],
    ) -> None:
        self._store = store
        self._queue_size = queue_size
        self._append = append
        self._after_commit = after_commit
        self._waiting: deque[_Waiting] = deque()
        self._lists: list[ShownList] = []
        self._lists_due = 0.0  # when the lists that wait are stored
        self._n_events = 0
        self.n_commits = 0
        self.n_dropped_lists = 0
        self.error: str | None = None
        self._changed = threading.Condition()
        self._open = False
        self._thread: threading.Thread | None = None

    @property
    def n_waiting(self) -> int:
        """Number of events that wait for their commit."""
        return self._n_events

    def start(self) -> None:
        """Start the thread."""
        self._open = True
        self._thread = threading.Thread(target=self._run, name="recft-committer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, and end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def submit(self, events: Sequence[Event]) -> Future[Appended]:
        """Queue checked events; the future has the answer after the commit."""
        return self._queue([events], True)

    def submit_all(self, groups: Sequence[Sequence[Event]]) -> Future[list[Appended]]:
        """Queue checked events of several callers, all of them or none."""
        return self._queue(groups, False)

    def add_lists(self, lists: Sequence[ShownList]) -> None:
        """Queue lists for the next commit; they are dropped if too many wait."""
        with self._changed:
            room = self._queue_size - len(self._lists)
            if not self._open or room < len(lists):
                self.n_dropped_lists += len(lists)
                return
            if not self._lists:
                self._lists_due = monotonic() + _PATIENCE
            is_new = not self._lists or len(self._lists) + len(lists) >= _MANY_LISTS
            self._lists.extend(lists)
            if is_new:  # else the thread knows how long it may sleep
                self._changed.notify_all()

    # ------------------------------------------------------------------ private

    def _queue(self, groups: Sequence[Sequence[Event]], is_one: bool) -> Future[Any]:
        waiting = _Waiting(groups, Future(), is_one, sum(map(len, groups)))
        with self._changed:
            if not self._open:
                raise NotRunningError(
                    "The loop is not running: call start, or use it in a with-block."
                )
            if self._n_events and self._n_events + waiting.size > self._queue_size:
                raise QueueFullError(
                    f"{self._n_events} events wait for their commit, and the queue holds "
                    f"{self._queue_size}. Nothing was stored; send these {waiting.size} events "
                    "again later."
                )
            self._waiting.append(waiting)
            self._n_events += waiting.size
            self._changed.notify_all()
        return waiting.future

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting and not self._are_lists_due():
                    self._changed.wait(self._lists_due - monotonic() if self._lists else None)
                calls, lists = self._take()
                if not calls and not lists:
                    return  # stopped, and nothing is left
            if lists:
                self._store_lists(lists)
            if calls:
                self._commit(calls)

    def _are_lists_due(self) -> bool:
        if not self._lists:
            return False
        return len(self._lists) >= _MANY_LISTS or monotonic() >= self._lists_due

    def _take(self) -> tuple[list[_Waiting], list[ShownList]]:
        """Take what is stored next: whole calls, up to some batches of the store, and lists."""
        calls: list[_Waiting] = []
        size, is_flush = 0, False
        while self._waiting and (not calls or size < 8 * self._store.batch_size):
            call = self._waiting.popleft()
            calls.append(call)
            size += call.size
            is_flush |= not call.size  # no events: its caller waits for what was queued before
        self._n_events -= size
        if not (self._are_lists_due() or is_flush or not self._open):
            return calls, []
        lists, self._lists = self._lists, []
        return calls, lists

    def _store_lists(self, lists: list[ShownList]) -> None:
        try:
            self._store.append_lists(lists, durable=False)
            self.error = None
        except Exception as error:
            self.error = str(error)
            self.n_dropped_lists += len(lists)

    def _commit(self, calls: list[_Waiting]) -> None:
        calls = [call for call in calls if call.future.set_running_or_notify_cancel()]
        try:
            found = self._append([group for call in calls for group in call.groups])
        except BaseException as error:
            self.error = str(error)
            for call in calls:
                call.future.set_exception(error)
            return
        if any(call.size for call in calls):  # else nothing was written
            self.error = None
            self.n_commits += 1
        answers = iter(found)
        for call in calls:
            own = list(islice(answers, len(call.groups)))
            call.future.set_result(own[0] if call.is_one else own)
        self._after_commit()
