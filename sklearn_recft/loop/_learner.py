"""The model and its place in the log: learn new events, or repeat the steps that are written."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sklearn_recft.loop._errors import NotRunningError, ServingError, StoreError
from sklearn_recft.loop._events import Appended, Event, EventBatch
from sklearn_recft.loop._items import ADD_ITEMS, first_sort, is_item
from sklearn_recft.loop._model import Served
from sklearn_recft.loop._rows import VERBS, Predicted, RowMaker, is_cut_free, teach
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.loop._steps import BASE, Step, StepLog
from sklearn_recft.loop._store import FeedbackStore
from sklearn_recft.parallel import SharedLock

if TYPE_CHECKING:
    from sqlalchemy import Connection

Range = tuple[int, int]
# Largest number of events that are learned while readers wait.
PIECE = 256
# Events that are read, and repeated, at once.
PAGE = 10_000


@dataclass(frozen=True)
class View:
    """What a reader sees: a model, and how far it has learned."""

    model: Served
    name: str
    seq: int


class Beside(Protocol):
    """What is shown each step just before the model learns it."""

    def learn(self, step: Step, batch: EventBatch) -> None:
        """Learn a step, too."""


class Monitor(Protocol):
    """What watches how a model learns: events are given in the order of the log, each once."""

    def before(self, model: Served, batch: EventBatch) -> None:
        """Take events that the model is about to learn; do not change the model."""

    def after(self, predicted: Sequence[Predicted]) -> None:
        """Take what the model predicted for them before it learned them."""


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
        self.verb = ""  # of the steps that `advance` makes
        self.name = ""  # of the base that the model comes from
        self.seq = 0
        self.step = 0
        self.refused: tuple[Range, ...] = ()
        self.n_learned = 0  # events, since the start of this process
        self.beside: Beside | None = None
        self._monitor: Monitor | None = None
        self._monitored = 0  # the last event that the monitor was given
        self._model: Served | None = None
        self.writes = True
        self.in_doubt = False  # whether steps may be written that were not done
        self.is_broken = False  # whether a step may be done in part
        self.seconds = math.inf  # that the last steps took; older ones count less
        self._appended: tuple[Step, EventBatch] | None = None  # written, to be learned next
        self._lock = SharedLock()
        self.is_level = False  # whether memory showed that the last step ended with the log
        self._changed = threading.Condition()
        self._calls: dict[Callable[[], object], int] = {}  # with the number that each waits for
        self._reasons: dict[int, str] = {}  # of refused events, that are not written yet

    # ------------------------------------------------------------------ reading

    @property
    def model(self) -> Served:
        """The model in use."""
        if self._model is None:
            raise NotRunningError("The loop has no model yet: call start.")
        return self._model

    @contextmanager
    def reading(self) -> Iterator[View]:
        """Read the model inside a with-block; it does not change meanwhile."""
        with self._lock.reading():
            yield View(self.model, self.name, self.seq)

    @contextmanager
    def reading_now(self) -> Iterator[View | None]:
        """Read the model inside a with-block, as `reading`; None where that would have to wait."""
        with ExitStack() as held:
            with self._lock.mutex:
                is_free = self._lock.may_read()
                if is_free:
                    held.enter_context(self._lock.reading())
            yield View(self.model, self.name, self.seq) if is_free else None

    def wait(self, seq: int, timeout: float | None) -> bool:
        """Wait until the model has learned up to a number."""
        with self._changed:
            return self._changed.wait_for(lambda: self.seq >= seq, timeout)

    def when(self, seq: int, call: Callable[[], object]) -> Callable[[], None]:
        """Call a function once the model has learned up to a number; return what cancels it."""
        with self._changed:
            is_done = self.seq >= seq
            if not is_done:
                self._calls[call] = seq

        def cancel() -> None:
            with self._changed:
                self._calls.pop(call, None)

        if is_done:
            call()
        return cancel

    def watch(self, monitor: Monitor) -> None:
        """Give a monitor all events that are learned from now on."""
        with self._lock.reading():
            self._monitor, self._monitored = monitor, self.seq

    # ------------------------------------------------------------------ starting

    def begin(self, model: Served, seq: int, reason: str) -> None:
        """Make a model the first one: it has learned all events up to ``seq``."""
        number = self.last_number() + 1
        name = self.snapshots.save(model, seq, number, base=True)
        step = Step(number, BASE, seq, seq, {"name": name, "reason": reason, "refused": []})
        self.steps.add([step], durable=True)
        self.exchange(model, step)

    def restore(self) -> bool:
        """Load the newest saved model that can be read; False if there is none.

        Raises
        ------
        ServingError
            If the folder is ahead of the store, or only damaged models are left.
        """
        saved = self.snapshots.saved()  # before the steps: a writer may add both meanwhile
        last = self.last_number()
        beyond = [one.name for one in saved if one.step > last]
        if beyond:
            raise ServingError(
                f"{self.snapshots.folder} has models of later steps ({beyond[-1]}) than "
                f"{self.store.database.name} knows: the two do not belong together. Give the store "
                "that goes with the folder, or another folder."
            )
        places = {(one.step, one.name, False): one.seq for one in saved}
        for step in self.steps.bases(self.snapshots.names(base=True)):
            places[step.number, step.details["name"], True] = step.until
        found = self.snapshots.load_newest(list(places))
        if found is None:
            if self.snapshots.damaged and last:
                raise ServingError(f"No saved model can be read: {self.snapshots.damaged}.")
            return False
        model, number, name, is_base = found
        base = self.steps.last(BASE, until=number)
        if base is None:
            raise ServingError(f"{self.store.database.name}: the steps of the model are lost.")
        self.exchange(model, base, Step(number, BASE, 0, places[number, name, is_base]))
        return True

    # ------------------------------------------------------------------ learning

    def repeat(self, limit: int = PAGE) -> int:
        """Repeat the next steps that are written, and return how many."""
        found = self.steps.after(self.step, limit)
        if found and found[0].number != self.step + 1:
            raise ServingError(f"{self.store.database.name}: steps after {self.step} are missing.")
        self._check(found)
        for is_base, group in groupby(found, lambda step: step.verb == BASE):
            steps = list(group)
            if not is_base:
                for step, batch in self._with_events(self._joined(steps), steps[-1].until):
                    self._learn(step, batch)
                continue
            for step in steps:
                if "name" not in step.details:
                    return 0  # it is not saved yet: a writer is at it
                self._exchange(step)
        return len(found)

    def follow(self) -> int:
        """Repeat the next steps of a writer; load its newest model where they are gone."""
        try:
            if self.is_broken:
                self.restore()
            return self.repeat()
        except ServingError:  # the steps, or the base, were removed meanwhile
            before = self.step
            if self.restore() and self.step > before:
                return 1
            raise

    def advance(self, size: int = PIECE) -> int:
        """Learn the next events, and return how many: their step is written before."""
        found, more = self.store.fresh(self.seq, size) or (self.store.read(self.seq, size), True)
        batch = first_sort(found)
        self.is_level = not more and len(batch) == len(found)
        if not len(batch):
            return 0
        step = Step(self.step + 1, self.verb_for(batch), self.seq, int(batch.seq[-1]))
        self.in_doubt = True
        self.steps.add([step], durable=False)
        self._learn(step, batch)
        self.in_doubt = False
        return len(batch)

    def append(self, groups: Sequence[Sequence[Event]]) -> tuple[list[Appended], bool]:
        """Store events, in one commit with the step that learns them if it can be the next one.

        Returns
        -------
        appended : list of Appended
            The answer to each caller.
        is_planned : bool
            Whether the step is written: `learn_appended` takes it.
        """
        self._appended = None

        def plan(connection: Connection, batch: EventBatch) -> None:
            is_next = not self.in_doubt and batch.seq[0] == self.seq + 1
            if is_next and len(first_sort(batch)) == len(batch):
                step = Step(self.step + 1, self.verb_for(batch), self.seq, int(batch.seq[-1]))
                self.in_doubt = True
                self.steps.add_within(connection, [step])
                self._appended = step, batch

        found = self.store.append_all(groups, plan)
        return found, self._appended is not None

    def learn_appended(self) -> bool:
        """Take the step of `append`; False if it has to wait for a reader, and is not taken."""
        if self._appended is None:
            return False
        step, batch = self._appended
        self._appended = None
        with ExitStack() as alone:
            with self._lock.mutex:
                if not self._lock.may_write():
                    return False
                alone.enter_context(self._lock.writing())
            reasons = self._taught(step, batch)
        self._report(reasons)
        self.in_doubt = False
        return True

    def verb_for(self, batch: EventBatch) -> str:
        """Return the verb of a step: new items have their own."""
        return ADD_ITEMS if batch.events and is_item(batch.events[0]) else self.verb

    def exchange(self, model: Served, base: Step, last: Step | None = None) -> None:
        """Replace the model, in one moment, by one that is after a base, and a last step."""
        last = last or base
        with self._lock.writing():
            self._model, self.name = model, base.details["name"]
            self.rows.clear()
            self.seq, self.step = last.until, last.number
            self.refused = tuple((a, b) for a, b in base.details.get("refused", ()))
            self.in_doubt = self.is_broken = False
        self._notify()

    def save(self) -> str:
        """Save the model after the last step, and remove events that are too old."""
        self.steps.sync()  # the folder must not be ahead of the store
        name = self.snapshots.save(self.model, self.seq, self.step)
        if self.store.retention_days is not None:
            self.store.expire(min((one.seq for one in self.snapshots.saved()), default=0))
        return name

    def last_number(self) -> int:
        """Return the number of the last step that is written."""
        last = self.steps.last()
        return 0 if last is None else last.number

    # ------------------------------------------------------------------ private

    def _check(self, steps: Sequence[Step]) -> None:
        """Refuse steps that do not follow each other: events would be lost, or learned twice."""
        at, last = self.seq, self.store.last_seq() if steps else 0
        for step in steps:
            learns = step.verb in VERBS and step.after == at and step.until <= last
            if not learns and step.verb != BASE:
                raise StoreError(
                    f"{self.store.database.name}: row {step.number} of the table learned is "
                    "damaged, or events are missing. Restore the store from a copy."
                )
            at = step.until

    def _joined(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Join steps that follow each other, where the model does not mind the cuts."""
        held: Step | None = None
        is_free: bool | None = None
        for step in steps:
            if held is None:
                held = step
                continue
            if is_free is None:  # the model changes only when a step is yielded
                is_free = is_cut_free(self.model, held.verb)
            if is_free and step.verb == held.verb and step.until - held.after <= PAGE:
                held = Step(step.number, step.verb, held.after, step.until)
                continue
            yield held
            held, is_free = step, None
        if held is not None:
            yield held

    def _with_events(self, steps: Iterable[Step], last: int) -> Iterator[tuple[Step, EventBatch]]:
        """Yield steps with their events, which are read for many steps at once, up to the last."""
        ahead = EventBatch(np.empty(0, np.int64), [])
        start, end = 0, -1  # of what was read
        for step in steps:
            if not start <= step.after <= step.until <= end:
                start, end = step.after, max(step.until, min(step.after + PAGE, last))
                ahead = self._read(start, end)
            places = np.searchsorted(ahead.seq, (step.after, step.until), side="right").tolist()
            whole = places == [0, len(ahead)]
            yield step, ahead if whole else ahead.take(slice(*places))

    def _read(self, after: int, until: int) -> EventBatch:
        """Return the events of a range, or what the model learns of them."""
        if self.rows.takes_columns(self.model):
            return self.store.read_columns(after, until)
        return self.store.read(after, until - after, until=until)

    def _exchange(self, step: Step) -> None:
        """Replace the model by the saved one that a step names."""
        try:
            model = self.snapshots.load(step.details["name"], base=True)
        except (ValueError, OSError) as error:
            raise ServingError(
                f"{error} The steps before it cannot replace this model. Restore the folder "
                "from a copy."
            ) from error
        self.exchange(model, step)

    def _learn(self, step: Step, batch: EventBatch) -> None:
        self._report(self._taught(step, batch))

    def _taught(self, step: Step, batch: EventBatch) -> dict[int, str]:
        """Take a step; return the reason for each ``seq`` that the model refused."""
        batch = batch.without(self.refused)
        self.is_broken = True  # unless all of this ends well
        if self.beside is not None:
            self.beside.learn(step, batch)
        # None where a step is repeated after a rollback or an error: each event counts once.
        monitor = self._monitor if step.after >= self._monitored else None
        if monitor is not None:
            monitor.before(self.model, batch)
        predicted: list[Predicted] = []
        with self._lock.writing():
            begin = time.perf_counter()
            reasons = teach(self.model, step.verb, batch, self.rows, predicted)
            seconds = time.perf_counter() - begin
            if monitor is not None:
                monitor.after(predicted)
                self._monitored = step.until
            self.seq, self.step = step.until, step.number
        self.is_broken = False
        self.seconds = max(seconds, 0.5 * self.seconds) if math.isfinite(self.seconds) else seconds
        self.n_learned += len(batch) - len(reasons)
        return reasons

    def _report(self, reasons: dict[int, str]) -> None:
        """Write down what was refused, and wake those who wait for the step."""
        try:
            if self.writes:
                self._reasons |= reasons
                self.write_reasons()
        finally:
            self._notify()

    def write_reasons(self) -> None:
        """Write down what was refused, also what could not be written when it was."""
        if self._reasons:
            self.steps.reject(self._reasons)
            self._reasons = {}

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
            due = [call for call, seq in self._calls.items() if seq <= self.seq]
            for call in due:
                del self._calls[call]
        with ExitStack() as calls:  # all of them, whatever one raises
            for call in reversed(due):
                calls.callback(call)
