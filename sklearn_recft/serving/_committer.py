"""Store events of many callers in one commit, and answer each after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from sklearn_recft.serving._errors import NotRunningError, QueueFullError
from sklearn_recft.serving._events import Appended, Event
from sklearn_recft.serving._lists import ShownList
from sklearn_recft.serving._store import FeedbackStore

# Lists alone are stored once there are so many, or after so many seconds.
_MANY_LISTS, _PATIENCE = 256, 0.2

_Waiting = tuple[Sequence[Event], "Future[Appended]"]


class Committer:
    """A thread that stores what callers have queued; while it commits, the next callers queue up.

    Parameters
    ----------
    store : FeedbackStore
    queue_size : int
        Largest number of events that wait. The same for lists; further lists are dropped.
    after_commit : callable
        Called without arguments after each commit.
    """

    def __init__(
        self, store: FeedbackStore, queue_size: int, after_commit: Callable[[], None]
    ) -> None:
        self._store = store
        self._queue_size = queue_size
        self._after_commit = after_commit
        self._waiting: deque[_Waiting] = deque()
        self._lists: deque[ShownList] = deque()
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
        future: Future[Appended] = Future()
        with self._changed:
            if not self._open:
                raise NotRunningError(
                    "The loop is not running: call start, or use it in a with-block."
                )
            if self._n_events and self._n_events + len(events) > self._queue_size:
                raise QueueFullError(
                    f"{self._n_events} events wait for their commit, and the queue holds "
                    f"{self._queue_size}. Nothing was stored; send these {len(events)} events "
                    "again later."
                )
            self._waiting.append((events, future))
            self._n_events += len(events)
            self._changed.notify_all()
        return future

    def add_lists(self, lists: Sequence[ShownList]) -> None:
        """Queue lists for the next commit; they are dropped if too many wait."""
        with self._changed:
            room = self._queue_size - len(self._lists)
            if not self._open or room < len(lists):
                self.n_dropped_lists += len(lists)
                return
            self._lists.extend(lists)
            self._changed.notify_all()

    # ------------------------------------------------------------------ private

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._waiting and len(self._lists) < _MANY_LISTS:
                    if not self._changed.wait(_PATIENCE if self._lists else None):
                        break
                groups, lists = self._take()
                if not groups and not lists:
                    return  # stopped, and nothing is left
            self._commit(groups, lists)

    def _take(self) -> tuple[list[_Waiting], list[ShownList]]:
        """Take what one commit stores: whole calls, up to some batches of the store."""
        groups: list[_Waiting] = []
        size = 0
        while self._waiting and (not groups or size < 8 * self._store.batch_size):
            group = self._waiting.popleft()
            groups.append(group)
            size += len(group[0])
        self._n_events -= size
        lists = list(self._lists)
        self._lists.clear()
        return groups, lists

    def _commit(self, groups: list[_Waiting], lists: list[ShownList]) -> None:
        groups = [group for group in groups if group[1].set_running_or_notify_cancel()]
        try:
            answers = self._store.append_all([events for events, _ in groups], lists)
        except BaseException as error:
            self.error = str(error)
            self.n_dropped_lists += len(lists)
            for _, future in groups:
                future.set_exception(error)
            return
        self.error = None
        self.n_commits += 1
        for (_, future), answer in zip(groups, answers, strict=True):
            future.set_result(answer)
        self._after_commit()
