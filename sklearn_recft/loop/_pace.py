"""When the next events are learned, and how many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable

from sklearn_recft.loop._learner import PIECE


class Pace:
    """Learn at once, or in chunks that are full or old enough.

    Parameters
    ----------
    learn : {"event", "observe", "chunk"}
    chunk_size : int
    chunk_seconds : float

    Attributes
    ----------
    at_once : bool
        Whether events are learned as soon as they are stored.
    size : int
        Largest number of events of a step.
    """

    def __init__(self, learn: str, chunk_size: int, chunk_seconds: float) -> None:
        if type(chunk_size) is not int or chunk_size < 1:
            raise ValueError(f"chunk_size={chunk_size!r}: give an integer of at least 1.")
        if not chunk_seconds >= 0:
            raise ValueError(f"chunk_seconds={chunk_seconds!r}: give a number of at least 0.")
        self.at_once = learn != "chunk"
        self._seconds = chunk_seconds
        self._since: float | None = None
        self.size = PIECE if self.at_once else chunk_size

    def is_time(self, seq: int, last_seq: Callable[[], int]) -> bool:
        """Whether to learn now, given the last events that were learned and stored."""
        if self.at_once:
            return True
        waiting = last_seq() - seq
        if not waiting:
            self._since = None
            return False
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if waiting < self.size and now - self._since < self._seconds:
            return False
        self._since = None
        return True

    def seconds(self, poll: float) -> float:
        """Return how long to sleep, at most."""
        if self._since is None:
            return poll
        return max(min(poll, self._since + self._seconds - time.monotonic()), 0.0)
