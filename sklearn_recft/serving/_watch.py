"""Watch a service: predictions before events are stored, lists and what became of them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sklearn_recft.loop import EventBatch, Loop, Predicted, Served, ServingError, is_item
from sklearn_recft.serving._batches import MicroBatcher
from sklearn_recft.serving._metrics import Metrics
from sklearn_recft.serving._problems import Problem
from sklearn_recft.serving._quality import Quality
from sklearn_recft.serving._reads import KnownIds, WatchCall, Watched
from sklearn_recft.tags import recommender_tags

log = logging.getLogger("sklearn_recft.serving")

# Requests a second of which the loss is computed, unless a share is given.
_A_SECOND = 10.0
_NUMBERS = ("seq", "lag", "snapshot_age", "rejected", "forget_pending")


class LearnerWatch:
    """Take predictions from the steps that learn events; an error here never stops a step."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._model: Served | None = None

    def before(self, model: Served, batch: EventBatch) -> None:
        """Count unknown ids."""
        self._model = model
        events = [event for event in batch.events if not is_item(event)]
        try:
            if events:
                self._watch.before_learning(model, events)
        except Exception as error:
            log.info("unknown ids are not counted: %s", type(error).__name__)

    def after(self, predicted: Sequence[Predicted]) -> None:
        """Add the loss."""
        try:
            classes = getattr(self._model, "classes_", None)  # not before the first events
            for y, predictions in predicted:
                self._watch.quality.add_predictions(y, predictions, classes)
        except Exception as error:
            log.info("events are not watched: %s", type(error).__name__)


class Watch:
    """Count requests and events, and compute the figures of quality.

    No event can influence its own prediction. Where the method that learns returns predictions,
    they are taken from there, in the thread that learns. Otherwise, the model predicts the feedback
    of events before they are stored.

    Parameters
    ----------
    loop : Loop
    reads : MicroBatcher
    kinds : sequence of str
        Kinds of events that are counted by name.
    share : float or None
        Share of the requests with events whose loss is computed, 0 to 1; None: up to 10 a second.
        Where the method that learns returns predictions, the loss is that of all events unless the
        share is 0, and the share is that of steps whose unknown ids are counted.
    """

    def __init__(
        self,
        loop: Loop,
        reads: MicroBatcher[Any],
        kinds: Sequence[str],
        share: float | None,
    ) -> None:
        self._loop = loop
        self._reads = reads
        self._feedback = loop.feedback  # None: a model of positives has no loss
        self._share = share
        self._due = 0.0
        self._next = -math.inf  # when the next request is due without a share
        self._has_loss = False
        self._in_learner = False
        self._known = KnownIds()
        self.n_storing = 0
        self.quality = Quality(probability=False)
        self.metrics = Metrics(kinds, self.figures)

    def begin(self) -> None:
        """Find out what the model of the running loop predicts."""
        with self._loop.reading() as view:
            predicts = recommender_tags(view.model).predicts
        self._has_loss = self._feedback is not None and predicts != "order"
        probability = predicts == "probability"
        self.quality = Quality(probability=probability)
        wanted = self._has_loss and self._share != 0
        self._in_learner = wanted and self._loop.watch(LearnerWatch(self), probability=probability)

    @property
    def model(self) -> str:
        """Name of the model in use."""
        with self._loop.reading() as view:
            return view.name

    @property
    def gives_reasons(self) -> bool:
        """Whether the model explains its lists."""
        with self._loop.reading() as view:
            return hasattr(view.model, "explain")

    async def before(self, events: Sequence[Any]) -> Watched | None:
        """Predict events that are about to be stored; None if these are not watched.

        The events are stored, whatever the model says of them: it may know no event yet.
        """
        if self._in_learner or not self._is_due():
            return None
        try:
            return await self._reads.submit(WatchCall(events, self._has_loss))
        except Problem:
            raise  # too many wait
        except Exception as error:
            log.info("events are not watched: %s", type(error).__name__)
            return None

    def after(self, events: Sequence[Any], duplicates: int, before: Watched | None) -> None:
        """Count events that were stored, and join them with their predictions and lists."""
        if duplicates:  # it is not known which of them were learned before
            self.metrics.events("any", "duplicate", duplicates)
            self.metrics.events("any", "accepted", len(events) - duplicates)
            return
        for event in events:
            self.metrics.events(event.kind, "accepted")
            if event.list_id is not None and self._is_taken(self._value(event)):
                self.quality.add_feedback(event.list_id, event.item_id)
        if before is not None:
            self.quality.add_unknown("users", before.unknown_users)
            self.quality.add_unknown("items", before.unknown_items)
            if before.predictions is not None:
                values = np.array([self._value(event) for event in events], object)
                self.quality.add_predictions(values, before.predictions, before.classes)

    def before_learning(self, model: Served, events: Sequence[Any]) -> None:
        """Count unknown ids of events that are about to be learned."""
        if self._is_due():
            users, items = self._known.unknown(model, events)
            self.quality.add_unknown("users", users)
            self.quality.add_unknown("items", items)

    def _is_due(self) -> bool:
        if self._share is None:
            now = time.monotonic()
            is_due = now >= self._next
            if is_due:
                self._next = now + 1.0 / _A_SECOND
            return is_due
        self._due += self._share
        is_due = self._due >= 1
        self._due -= is_due
        return is_due

    def _value(self, event: Any) -> float | str:
        if self._feedback is None:
            return 1.0
        found: float | str = event.value
        return self._feedback.get(event.kind, 0.0) if found is None else found

    def _is_taken(self, value: float | str) -> bool:
        """Whether feedback is positive: the larger of the labels, where they are texts."""
        if isinstance(value, str):
            return value == max(str(label) for label in (self._feedback or {}).values())
        return value > 0

    def figures(self) -> dict[str, float]:
        """Return all figures by name, NaN where one is not defined yet."""
        with self._loop.reading() as view:
            catalogue = np.asarray(
                getattr(view.model, "item_ids_", ())
            )  # none before the first event
        found = self.quality.summary(catalogue.tolist())
        found["waiting_events"] = float(self.n_storing)
        found["waiting_reads"] = float(self._reads.n_waiting)
        try:
            return found | _of_health(self._loop.health())
        except ServingError:  # the database cannot be read: an alert waits for this figure
            return found | {"seq": float(self._loop.seq), "ready": 0.0}


def _of_health(health: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of the loop's state."""
    verdicts = [one.get("verdict") for one in health["decisions"]]
    return {name: float(health[name]) for name in _NUMBERS} | {
        "guard_refused": float(verdicts.count("roll back")),
        "guard_promoted": float(verdicts.count("promote")),
        "ready": float(bool(health["running"] and not health["error"])),
    }
