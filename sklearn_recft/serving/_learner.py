"""The model and its place in the log: learn new events, or repeat the steps that are written."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.parallel import SharedLock
from sklearn_recft.serving._errors import ServingError
from sklearn_recft.serving._events import EventBatch
from sklearn_recft.serving._rows import RowMaker, teach
from sklearn_recft.serving._snapshots import Snapshots
from sklearn_recft.serving._steps import BASE, Step, StepLog
from sklearn_recft.serving._store import FeedbackStore

Range = tuple[int, int]


@dataclass(frozen=True)
class View:
    """What a reader sees: a model, and how far it has learned."""

    model: Any
    name: str
    seq: int


class Learner:
    """A model that follows a log.

    `advance` of the writer makes steps: it writes down which events come next, and then learns
    them. `repeat` makes the model repeat steps that are written: after a restart, and in a process
    that follows. Both end in the same method, so they lead to the same model.

    Parameters
    ----------
    store : FeedbackStore
    snapshots : Snapshots
    rows : RowMaker
    """

    def __init__(self, store: FeedbackStore, snapshots: Snapshots, rows: RowMaker) -> None:
        self.store = store
        self.steps = StepLog(store.database)
        self.snapshots = snapshots
        self.rows = rows
        self.model: Any = None
        self.name = ""  # of the base that the model comes from
        self.seq = 0
        self.step = 0
        self.refused: tuple[Range, ...] = ()
        self.n_learned = 0  # events, since the start of this process
        self.followers: list[Any] = []  # are shown each batch before and after it is learned
        self._unfinished: tuple[Step, EventBatch] | None = None
        self._lock = SharedLock()
        self._changed = threading.Condition()

    # ------------------------------------------------------------------ reading

    @contextmanager
    def reading(self) -> Iterator[View]:
        """Read the model inside a with-block; it does not change meanwhile."""
        with self._lock.reading():
            yield View(self.model, self.name, self.seq)

    def wait(self, seq: int, timeout: float | None) -> bool:
        """Wait until the model has learned up to a number."""
        with self._changed:
            return self._changed.wait_for(lambda: self.seq >= seq, timeout)

    # ------------------------------------------------------------------ starting

    def begin(self, model: Any, seq: int, reason: str) -> None:
        """Make a model the first one: it has learned all events up to ``seq``."""
        number = self._last_number() + 1
        name = self.snapshots.save(model, seq, number, base=True)
        step = Step(number, BASE, seq, seq, {"name": name, "reason": reason, "refused": []})
        self.steps.add([step], durable=True)
        self.exchange(model, step)

    def restore(self) -> bool:
        """Load the newest saved model that can be read; False if there is none."""
        last = self._last_number()
        bases = [step for step in self.steps.bases() if step.details.get("name")]
        found = self.snapshots.load_newest(
            [(one.step, one.name, False) for one in self.snapshots.list() if one.step <= last]
            + [(step.number, step.details["name"], True) for step in bases]
        )
        if found is None:
            return False
        model, number, name, is_base = found
        base = self.steps.last(BASE, until=number)
        if base is None:
            raise ServingError(f"{self.store.database.name}: the steps of the model are lost.")
        self.exchange(model, base)
        if not is_base:
            at = next(one for one in self.snapshots.list() if one.name == name)
            self.seq, self.step = at.seq, number
        return True

    # ------------------------------------------------------------------ learning

    def repeat(self, limit: int = 1000) -> int:
        """Repeat the next steps that are written, and return how many."""
        found = self.steps.after(self.step, limit)
        for step in found:
            if step.verb == BASE and "name" not in step.details:
                return 0  # it is not saved yet: a writer is at it
            self._repeat(step)
        return len(found)

    def advance(self, verb: str, size: int) -> int:
        """Learn the next events, and return how many: their step is written before."""
        if self._unfinished is None:
            batch = self.store.read(self.seq, size)
            if not len(batch):
                return 0
            step = Step(self.step + 1, verb, self.seq, int(batch.seq[-1]))
            self.steps.add([step], durable=False)
            self._unfinished = step, batch
        step, batch = self._unfinished
        self._learn(step, batch)
        self._unfinished = None
        return len(batch)

    def exchange(self, model: Any, base: Step, steps: Sequence[Step] = ()) -> None:
        """Replace the model by one that is after a base and further steps, in one moment."""
        last = steps[-1] if steps else base
        with self._lock.writing():
            self.model, self.name = model, base.details["name"]
            self.seq, self.step = last.until, last.number
            self.refused = tuple((a, b) for a, b in base.details.get("refused", ()))
        self._notify()

    def without_refused(self, batch: EventBatch, refused: Iterable[Range]) -> EventBatch:
        """Leave out the events of ranges ``(after, until]``."""
        kept = np.ones(len(batch), bool)
        for after, until in refused:
            kept &= (batch.seq <= after) | (batch.seq > until)
        return batch if kept.all() else batch.take(np.flatnonzero(kept))

    def events_of(self, step: Step) -> EventBatch:
        """Return the events of a step."""
        return self.store.read(step.after, step.until - step.after, until=step.until)

    # ------------------------------------------------------------------ private

    def _last_number(self) -> int:
        last = self.steps.last()
        return 0 if last is None else last.number

    def _repeat(self, step: Step) -> None:
        if step.verb == BASE:
            try:
                model = self.snapshots.load(step.details["name"], base=True)
            except (ValueError, OSError) as error:
                raise ServingError(
                    f"{error} The steps before it cannot replace this model. Restore the folder "
                    "from a copy."
                ) from error
            self.exchange(model, step)
        else:
            self._learn(step, self.events_of(step), written=True)

    def _learn(self, step: Step, batch: EventBatch, *, written: bool = False) -> None:
        batch = self.without_refused(batch, self.refused)
        for follower in self.followers:
            follower.before(step, batch)
        with self._lock.writing():
            reasons = teach(self.model, step.verb, batch, self.rows)
            self.seq, self.step = step.until, step.number
        self.n_learned += len(batch) - len(reasons)
        if reasons and not written:
            self.steps.reject(reasons)
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
