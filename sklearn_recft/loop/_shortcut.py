"""Learn events in the thread that stores them, where the learner has nothing else to do."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sklearn_recft.loop._events import Appended, Event
from sklearn_recft.loop._learner import Learner
from sklearn_recft.loop._pace import Pace

# Callers of one commit: with more, others wait for the next commit while the model learns.
_FEW = 4
# Seconds of a step that callers of the next commit may wait for.
_QUICK = 0.005


class Shortcut:
    """Store events in one commit with the step that learns them, and take this step at once.

    The usual way wakes another thread after the commit, which writes the step by a transaction of
    its own. Here, a single client that waits for its list saves both. The log has the same rows
    in the same order, so a replay cannot tell them apart.

    Parameters
    ----------
    learner : Learner
    pace : Pace
    turn : RLock
        Held by whoever changes the model or writes steps.
    """

    def __init__(self, learner: Learner, pace: Pace, turn: threading.RLock) -> None:
        self._learner = learner
        self._pace = pace
        self._turn = turn
        self._is_planned = False

    def append(self, groups: Sequence[Sequence[Event]]) -> list[Appended]:
        """Store events of several callers, with a step if it can be the next one.

        `finish` must follow, in the same thread.
        """
        self._is_planned = False
        if not self._suits(groups) or not self._turn.acquire(blocking=False):
            return self._learner.store.append_all(groups)
        try:
            found, self._is_planned = self._learner.append(groups)
        finally:
            if not self._is_planned:
                self._turn.release()
        return found

    def finish(self) -> bool:
        """Take the step that was written; False if there is none, or it is left to the learner."""
        if not self._is_planned:
            return False
        self._is_planned = False
        try:
            return self._learner.learn_appended()
        except BaseException:  # the learner repeats the step, and reports what fails again
            return False
        finally:
            self._turn.release()

    def _suits(self, groups: Sequence[Sequence[Event]]) -> bool:
        learner, pace = self._learner, self._pace
        is_small = len(groups) <= _FEW and sum(map(len, groups)) <= pace.size
        return is_small and pace.at_once and learner.beside is None and learner.seconds < _QUICK
