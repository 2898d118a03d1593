"""Changes of the model that no event makes: other versions, updates beside it, and erased users."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import Bunch

from sklearn_recft.loop._errors import ServingError
from sklearn_recft.loop._events import Event, EventBatch, check_ids
from sklearn_recft.loop._items import ADD_ITEMS, first_sort, is_item, item_table
from sklearn_recft.loop._learner import PAGE, PIECE, Learner, Range
from sklearn_recft.loop._model import Served
from sklearn_recft.loop._rows import check_learns, teach
from sklearn_recft.loop._steps import BASE, Step
from sklearn_recft.model_selection import Guard

# Newest rows of an update that the guard describes.
_DESCRIBED = 10_000


@dataclass(frozen=True)
class LoopReceipt:
    """What `Loop.forget` did. It holds numbers only, and no id.

    Attributes
    ----------
    level : str
        That of the model: "exact" or "erased" (`sklearn_recft.ForgetReceipt`).
    n_users : int
        How many of the given users had events or lists in the store, or were known to the model.
    store : dict of str to int
        Rows removed from the store, by table.
    model : dict of str to int
        Rows removed from the model, by part.
    n_snapshots : int
        Saved models that were written again without the users.
    seq : int
        Number of the last event that the model had learned.
    time : float
        When the call ended, in seconds since 1970.
    """

    level: str
    n_users: int
    store: dict[str, int]
    model: dict[str, int]
    n_snapshots: int
    seq: int
    time: float


class Candidate:
    """A model beside the one in use: it learns the same steps, and the guard compares both.

    Parameters
    ----------
    learner : Learner
    model : Served
    base : Step
        It becomes a step of the log when the candidate goes live.
    guard : Guard
    """

    def __init__(self, learner: Learner, model: Served, base: Step, guard: Guard) -> None:
        self.model, self.base = model, base
        self.cuts: list[Step] = []
        self.verdict = "watch"
        self._learner, self._guard = learner, guard

    def learn(self, step: Step, batch: EventBatch) -> None:
        """Compare both models on events, then learn them."""
        if self.verdict == "watch" and len(batch) and step.verb != ADD_ITEMS:
            self.verdict = self._compare(batch)
        teach(self.model, step.verb, batch, self._learner.rows)
        self.cuts.append(step)

    def _compare(self, batch: EventBatch) -> str:
        try:
            X, y = self._learner.rows.make(self.model, batch)
            return self._guard.update(X, y)
        except ValueError:  # rows that no model takes: the guard leaves them out
            if len(batch) == 1:
                return "watch"
        half = len(batch) // 2
        verdict = self._compare(batch.take(slice(None, half)))
        return verdict if verdict != "watch" else self._compare(batch.take(slice(half, None)))


class Versions:
    """Replace the model of a learner. The caller sees to it that the learner does not learn then.

    Parameters
    ----------
    learner : Learner
    guard : Guard or None
    """

    def __init__(self, learner: Learner, guard: Guard | None) -> None:
        self._learner = learner
        self._guard = guard
        self.candidate: Candidate | None = None
        self.decisions: list[dict[str, Any]] = []

    def promote(self, name: str, *, release: bool = False) -> str:
        """Take a saved model, and learn what came after it."""
        one = self._find(name)
        model = self._loaded(one)
        refused = () if release else self._learner.refused
        return self.go_live(model, one.seq, "promote", refused)

    def rollback(self, name: str | None = None, refuse: Range | None = None) -> str:
        """Take an older saved model, and learn what came after it, but for a range of events."""
        learner = self._learner
        if name is None:
            older = [one for one in self.saved() if one.seq < learner.seq]
            if not older:
                raise ValueError(f"No saved model is older than event {learner.seq}.")
            name = max(older, key=lambda one: (one.seq, one.step)).name
        one = self._find(name)
        after, until = _range_of(refuse) if refuse is not None else (one.seq, learner.seq)
        if not one.seq <= after <= until <= learner.seq:
            raise ValueError(
                f"refuse={refuse}: give two numbers from that of the model on, {one.seq}, up to "
                f"{learner.seq}, the last event that was learned: the events after the first, up "
                "to the second, are left out."
            )
        model = self._loaded(one)
        return self.go_live(model, one.seq, "rollback", (*learner.refused, (after, until)))

    def saved(self) -> list[Bunch]:
        """Return all saved models, by step."""
        learner = self._learner
        names = learner.snapshots.names(base=True)
        bases = {step.details.get("name") for step in learner.steps.bases(names)}
        found = [
            Bunch(**one, base=base, live=base and one.name == learner.name)
            for base in (False, True)
            for one in learner.snapshots.saved(base=base)
            if not base or one.name in bases  # not one that the guard still compares
        ]
        return sorted(found, key=lambda one: (one.step, one.base))

    def go_live(self, model: Served, seq: int, reason: str, refused: Sequence[Range]) -> str:
        """Replace the model by one that has learned up to ``seq``, after it has caught up."""
        learner = self._learner
        self.drop("another model went live")
        base = self._saved_base(model, seq, reason, refused)
        steps = self._caught_up(model, base)
        learner.in_doubt = True
        learner.steps.add([base, *steps], durable=True)
        learner.exchange(model, base, steps[-1] if steps else None)
        return str(base.details["name"])

    # ------------------------------------------------------------------ updates beside

    def updated(self, verb: str, last: int | None) -> tuple[Served, int, EventBatch]:
        """Return a model that has learned the log by another verb; nothing else changes.

        Returns
        -------
        model : Served
        seq : int
            Last event that it has learned.
        batch : EventBatch
            Its newest events.
        """
        learner = self._learner
        if last is not None and (type(last) is not int or last < 1):
            raise ValueError(f"last={last!r}: give an integer of at least 1, or None.")
        until, refused = learner.seq, learner.refused
        if verb == "fit":
            model, after = clone(learner.model), 0
        elif verb == "partial_fit":
            base = learner.steps.last(BASE)
            if base is None:
                raise ServingError("There is no base to update.")
            model, after = learner.snapshots.load(learner.name, base=True), base.until
        else:
            raise ValueError(f"verb={verb!r}: give 'fit' or 'partial_fit'.")
        new, batch = self._of_log(after, until, refused, last)
        if not len(batch):
            raise ValueError("The log has no events to learn.")
        reasons: dict[int, str] = {}
        if verb == "fit":
            self._fit(model, batch, new)
        else:
            teach(model, verb, new, learner.rows)
            reasons = teach(model, verb, batch, learner.rows)
        if len(reasons) == len(batch):
            raise ValueError(f"The model refused all events: {next(iter(reasons.values()))}")
        return model, until, batch.take(slice(max(len(batch) - _DESCRIBED, 0), None))

    def _fit(self, model: Served, batch: EventBatch, new: EventBatch) -> None:
        """Fit a model to events, and to items that it takes without any."""
        new = self._without_rejected(new)
        X, y = self._learner.rows.make(model, self._without_rejected(batch))
        more = {"items": item_table(new)} if len(new) else {}
        getattr(model, "fit")(X, y, **more)  # noqa: B009

    def propose(self, model: Served, seq: int, reason: str, newest: EventBatch) -> str | None:
        """Let a model go live: at once without a guard, else when the guard says so."""
        learner = self._learner
        if self._guard is None:
            return self.go_live(model, seq, reason, learner.refused)
        self.drop("another update came")
        base = self._saved_base(model, seq, reason, learner.refused, live=False)
        X, y = learner.rows.make(model, newest)
        candidate = Candidate(learner, model, base, self._guard)
        candidate.cuts = self._caught_up(model, base)
        self._guard.begin(learner.model, model, X, y)
        self.candidate = learner.beside = candidate
        return None

    def settle(self) -> bool:
        """Do what the guard has decided; return whether a model went live."""
        candidate, learner = self.candidate, self._learner
        if candidate is None or candidate.verdict == "watch":
            return False
        if candidate.verdict != "promote":
            self.drop(self._guard.reason_ if self._guard else "")
            return False
        number = learner.last_number() + 1
        base = Step(
            number, BASE, candidate.base.after, candidate.base.until, candidate.base.details
        )
        steps = [
            Step(number + n, cut.verb, cut.after, cut.until)
            for n, cut in enumerate(candidate.cuts, 1)
        ]
        learner.in_doubt = True
        learner.steps.add([base, *steps], durable=True)
        learner.exchange(candidate.model, base, steps[-1] if steps else None)
        self._decide("promote", self._guard.reason_ if self._guard else "")
        return True

    def drop(self, reason: str) -> None:
        """Drop the candidate, if there is one."""
        if self.candidate is not None:
            learner, name = self._learner, self.candidate.base.details["name"]
            if not learner.steps.bases([name]):
                learner.snapshots.remove(name, base=True)  # no step needs a model equal to it
            self._decide("roll back", reason)

    # ------------------------------------------------------------------ erased users

    def forget(self, user_ids: Iterable[Any]) -> LoopReceipt:
        """Erase users from the store, the model and all saved models."""
        learner = self._learner
        ids = check_ids(user_ids, "user_ids")
        self.drop("users were erased")
        details = {"reason": "forget", "user_ids": ids, "refused": list(learner.refused)}
        step = Step(learner.last_number() + 1, BASE, learner.seq, learner.seq, details)
        learner.in_doubt = True
        learner.steps.add([step], durable=True)
        return self._finish_forget(step)

    def n_forgetting(self) -> int:
        """Return how many users are not erased yet, though the log says so."""
        last = self._learner.steps.last(BASE)  # nothing follows an erasure that is not finished
        return 0 if last is None else len(last.details.get("user_ids", ()))

    def finish(self) -> bool:
        """Finish to erase users, where the process ended meanwhile."""
        pending = self._learner.steps.after(self._learner.step, 1)
        if not pending or "user_ids" not in pending[0].details:
            return False
        self._finish_forget(pending[0])
        return True

    def _finish_forget(self, step: Step) -> LoopReceipt:
        learner, ids = self._learner, step.details["user_ids"]
        stored = learner.store.forget(ids)
        level, known, removed = _forgotten(learner.model, ids)
        snapshots = learner.snapshots
        old = snapshots.rewrite(lambda model: _without(model, ids))
        bases = snapshots.rewrite(lambda model: _without(model, ids), base=True)
        for base in learner.steps.bases(bases):
            name = base.details["name"]
            details = {**base.details, "name": bases[name]}
            learner.steps.describe(Step(base.number, BASE, base.after, base.until, details))
        for names, is_base in ((old, False), (bases, True)):
            for name, new in names.items():
                if new != name:
                    snapshots.remove(name, base=is_base)
        name = snapshots.save(learner.model, learner.seq, step.number, base=True)
        details = {"reason": "forget", "name": name, "refused": step.details["refused"]}
        done = Step(step.number, BASE, step.after, learner.seq, details)
        learner.steps.describe(done)
        learner.store.database.overwrite_deleted()
        learner.exchange(learner.model, done)
        return LoopReceipt(
            level,
            max(stored.n_users, known),
            stored.removed,
            removed,
            len(old) + len(bases),
            learner.seq,
            time.time(),
        )

    # ------------------------------------------------------------------ private

    def _find(self, name: str) -> Bunch:
        saved = self.saved()
        found = next((one for one in saved if one.name == name), None)
        if found is None:
            raise ValueError(f"There is no model {name!r}; there are {[o.name for o in saved]}.")
        return found

    def _loaded(self, one: Bunch) -> Served:
        """Load a saved model that can take the place of the one in use."""
        model = self._learner.snapshots.load(one.name, base=one.base)
        check_learns(model, self._learner.verb)
        self._learner.rows.check(model)
        return model

    def _saved_base(
        self, model: Served, seq: int, reason: str, refused: Sequence[Range], live: bool = True
    ) -> Step:
        """Save a model, and return the step that names it, which is not written yet."""
        number = self._learner.last_number() + 1
        name = self._learner.snapshots.save(model, seq, number, base=True, live=live)
        details = {"name": name, "reason": reason, "refused": [list(pair) for pair in refused]}
        return Step(number, BASE, seq, seq, details)

    def _caught_up(self, model: Served, base: Step) -> list[Step]:
        """Let a model learn all that the model in use has learned; return the steps."""
        learner, at = self._learner, base.until
        steps: list[Step] = []
        refused = [(a, b) for a, b in base.details["refused"]]
        while at < learner.seq:
            found = learner.store.read(at, PIECE, until=learner.seq)
            piece = first_sort(found)
            is_last = len(piece) == len(found) < PIECE
            until = learner.seq if is_last else int(piece.seq[-1])
            verb, batch = learner.verb_for(piece), piece.without(refused)
            steps.append(Step(base.number + len(steps) + 1, verb, at, until))
            teach(model, verb, batch, learner.rows)
            at = until
        return steps

    def _of_log(
        self, after: int, until: int, refused: Sequence[Range], last: int | None
    ) -> tuple[EventBatch, EventBatch]:
        """Return the new items, and the events, or the ``last`` ones of them alone."""
        learner = self._learner
        items: list[tuple[int, Event]] = []
        events: deque[tuple[int, Event]] = deque(maxlen=last)
        while after < until:
            found = learner.store.read(after, PAGE, until=until)
            if not len(found):
                break
            after = int(found.seq[-1])
            kept = found.without(refused)
            for seq, event in zip(kept.seq.tolist(), kept.events, strict=True):
                (items if is_item(event) else events).append((seq, event))
        return EventBatch.of(items), EventBatch.of(events)

    def _without_rejected(self, batch: EventBatch) -> EventBatch:
        rejected = self._learner.steps.are_rejected(batch.seq)
        return batch.take(np.flatnonzero(~rejected)) if rejected.any() else batch

    def _decide(self, verdict: str, reason: str) -> None:
        candidate = self.candidate
        self.candidate = self._learner.beside = None
        if candidate is not None:
            name = candidate.base.details["name"]
            self.decisions.append({"model": name, "verdict": verdict, "reason": reason})
            del self.decisions[:-20]


def _range_of(refuse: Any) -> Range:
    """Return a range of events, of two plain integers."""
    pair = tuple(refuse) if isinstance(refuse, (tuple, list)) else ()
    if len(pair) != 2 or not all(type(one) is int for one in pair):
        raise TypeError(f"refuse={refuse!r}: give two integers.")
    return pair[0], pair[1]


def _without(model: Served, user_ids: Sequence[Any]) -> Served:
    _forgotten(model, user_ids)
    return model


def _forgotten(model: Served, user_ids: Sequence[Any]) -> tuple[str, int, dict[str, int]]:
    """Erase users from a model; return the level, how many were known, and the rows removed."""
    known = set(getattr(model, "user_ids_", ())) & set(user_ids)
    if not known:
        return "exact", 0, {}
    receipt = model.forget(sorted(known, key=str)).forget_receipt_
    return receipt.level, receipt.n_users, receipt.removed
