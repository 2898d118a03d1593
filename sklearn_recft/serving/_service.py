"""The service behind the routes: one method each, between messages and the loop."""

import asyncio
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sklearn_recft.serving import _messages as messages
from sklearn_recft.serving._audit import AuditLog
from sklearn_recft.serving._batches import MicroBatcher
from sklearn_recft.serving._edge import PRINCIPAL
from sklearn_recft.serving._errors import QueueFullError, ServingError
from sklearn_recft.serving._limits import Limits
from sklearn_recft.serving._loop import Loop
from sklearn_recft.serving._metrics import Metrics
from sklearn_recft.serving._problems import Problem
from sklearn_recft.serving._quality import Quality
from sklearn_recft.serving._tables import RowForm, as_ids, event_table, query_table

# Seconds for which a request waits until the event of its `min_seq` is learned.
_PATIENCE = 30.0
# Seconds between two looks at it: at first, and at most.
_LOOK, _LONGEST_LOOK = 0.001, 0.02
# Requests that are answered by one call of the model.
_MAX_BATCH = 64
_INTEGERS = 2**63


@dataclass(frozen=True)
class ListCall:
    """One request for lists; requests with the same ``options`` and no ``own`` share a call.

    Attributes
    ----------
    users : sequence of ids
    options : tuple
        Items of a list, and whether seen items are left out.
    own : dict
        A table of queries (``X``), ``candidates``, ``exclude`` and ``history``.
    """

    users: Sequence[Any]
    options: tuple[int, bool]
    own: Mapping[str, Any]


class Service:
    """What the routes do.

    Parameters
    ----------
    loop : Loop
    limits : Limits
    audit : AuditLog or None
    feedback : mapping of str to float
        Feedback by kind of event; events of other kinds need a value.
    exclude_seen : bool
        What lists do if a request does not say.
    """

    def __init__(
        self,
        loop: Loop,
        limits: Limits,
        audit: AuditLog | None,
        feedback: Mapping[str, float],
        exclude_seen: bool,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._audit = audit
        self._feedback = dict(feedback)
        self._exclude_seen = exclude_seen
        self._form = RowForm()
        self._reads: MicroBatcher[Any] = MicroBatcher(
            self._answer,
            max_batch=_MAX_BATCH,
            max_waiting=limits.max_waiting,
            name="recft-reader",
        )
        self._n_storing = 0
        self.quality = Quality(probability=False)
        self.metrics = Metrics(feedback, self._figures)

    def close(self) -> None:
        """End the thread that reads."""
        self._reads.close()

    # ------------------------------------------------------------------------------ events

    async def append_events(self, body: messages.NewEvents) -> Response:
        """Store events; the answer comes after the commit, and they are learned soon after it.

        An event that is sent again with the same `event_id` is stored once.
        """
        self._check_size("events", len(body.events), self._limits.max_events)
        self._check_kinds(body.events)
        if self._n_storing >= self._limits.max_waiting:
            raise Problem("queue-full", "Send the request again later.", retry_after=1)
        events = [_stored(event) for event in body.events]
        self._n_storing += 1
        try:
            future = self._loop.submit_later(events)
            found = await _problems(asyncio.wrap_future(future))
        except (ServingError, ValueError, TypeError) as error:
            raise problem_of(error) from error
        finally:
            self._n_storing -= 1
        accepted = len(events) - found.duplicates
        self._count(body.events, found.duplicates)
        answer = {"seq": max(found.seq), "accepted": accepted, "duplicates": found.duplicates}
        return JSONResponse(answer, 202)

    # ------------------------------------------------------------------------------ lists

    async def recommend(self, body: messages.ListRequest) -> Response:
        """Make a list for each user or query, best item first, and remember it by its `list_id`."""
        call = self._list_call(body)
        await self._learned(body.min_seq)
        found = await _problems(self._reads.submit(call))
        lists = []
        for user, list_id, items, scores in zip(call.users, *found[:3], strict=True):
            pairs = [(item, s) for item, s in zip(items, scores, strict=True) if item is not None]
            self.quality.add_list(list_id, [item for item, _ in pairs])
            own = [{"item_id": item, "score": score} for item, score in pairs]
            lists.append({"user_id": user, "list_id": list_id, "items": own})
        return JSONResponse({"lists": lists, "model": found[3], "seq": found[4]})

    async def predict(self, body: messages.Rows) -> Response:
        """Predict the feedback of pairs of user and item."""
        self._check_size("rows", len(body.rows), self._limits.max_events)
        predictions = await _problems(self._reads.submit(body.rows))
        answer = {"predictions": predictions.tolist(), "seq": self._loop.seq}
        return JSONResponse(answer)

    def _list_call(self, body: messages.ListRequest) -> ListCall:
        if (body.users is None) == (body.queries is None):
            raise Problem("invalid", "Give either users or queries.")
        limits = self._limits
        own: dict[str, Any] = {}
        if body.queries is None:
            users: Sequence[Any] = body.users or ()
        else:
            users = [query.user_id for query in body.queries]
            own["X"] = query_table(body.queries)
        self._check_size("users", len(users), limits.max_users)
        self._check_size("n", body.n, limits.max_items)
        for name in ("candidates", "exclude"):
            ids = getattr(body, name)
            if ids:
                self._check_size(name, len(ids), limits.max_items)
                own[name] = as_ids(ids)
        if body.history:
            self._check_size("history", len(body.history), limits.max_events)
            own["history"] = event_table(body.history)
        seen = self._exclude_seen if body.exclude_seen is None else body.exclude_seen
        return ListCall(users, (body.n, seen), own)

    async def _learned(self, seq: int | None) -> None:
        """Wait until an event is learned."""
        if seq is None or self._loop.seq >= seq:
            return
        end, pause = time.monotonic() + _PATIENCE, _LOOK
        while self._loop.seq < seq:
            if time.monotonic() > end:
                raise Problem("behind", f"Event {seq} has not been learned yet.", retry_after=1)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)

    def _answer(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Answer requests for lists and predictions, in the thread that reads."""
        answers: dict[int, Any] = {}
        shared: dict[tuple[int, bool], list[int]] = {}
        for place, request in enumerate(requests):
            if isinstance(request, ListCall) and not request.own:
                shared.setdefault(request.options, []).append(place)
            else:
                answers[place] = _tried(self._alone, request)
        for places in shared.values():
            answers.update(self._together(places, [requests[place] for place in places]))
        return [answers[place] for place in range(len(requests))]

    def _together(self, places: list[int], calls: list[ListCall]) -> dict[int, Any]:
        """Answer requests that differ in their users by one call."""
        users = [user for call in calls for user in call.users]
        found = _tried(self._alone, ListCall(users, calls[0].options, {}))
        if isinstance(found, Exception):  # each gets its own message, without ids of others
            return {p: _tried(self._alone, call) for p, call in zip(places, calls, strict=True)}
        answers, start = {}, 0
        for place, call in zip(places, calls, strict=True):
            part = slice(start, start + len(call.users))
            answers[place] = (*(values[part] for values in found[:3]), *found[3:])
            start = part.stop
        return answers

    def _alone(self, request: Any) -> Any:
        if not isinstance(request, ListCall):
            return self._form.call(self._loop.predict, request)
        own = dict(request.own)
        n, exclude_seen = request.options
        found = self._loop.recommend(
            own.pop("X", as_ids(request.users)),
            n_recommendations=n,
            exclude_seen=exclude_seen,
            on_missing="pad",
            **own,
        )
        items, scores = found.items.tolist(), found.scores.tolist()
        return found.list_ids, items, scores, found.model, found.seq

    # ------------------------------------------------------------------------------ users

    async def forget_user(
        self, request: Request, user_id: str, id_type: Literal["string", "integer"] | None = None
    ) -> Response:
        """Erase a user in the store, the model, the saved models and the lists shown.

        A text that looks like an integer needs `id_type`: 17 and "17" are two users.
        """
        user = _id_of(user_id, id_type)
        receipt = await _problems(asyncio.to_thread(self._loop.forget, [user]))
        self._note(request, "forget", users=1)
        return JSONResponse({"receipt": _plain(receipt)})

    async def export_user(
        self, user_id: str, id_type: Literal["string", "integer"] | None = None
    ) -> Response:
        """Return everything that is stored of a user."""
        user = _id_of(user_id, id_type)
        found = await _problems(asyncio.to_thread(self._loop.export, user))
        return JSONResponse(_plain(found))

    # ------------------------------------------------------------------------------ models

    async def list_models(self) -> Response:
        """Return the saved models, oldest first."""
        found = await _problems(asyncio.to_thread(self._loop.models))
        names = ("name", "seq", "digest", "kind")
        return JSONResponse({"models": [{name: one[name] for name in names} for one in found]})

    async def save_model(self, request: Request) -> Response:
        """Save the model as it is now."""
        name = await _problems(asyncio.to_thread(self._loop.snapshot))
        self._note(request, "save", model=name)
        return JSONResponse({"model": name})

    async def promote_model(self, request: Request, name: str) -> Response:
        """Go back to a saved model, and learn the events after it again."""
        if name not in [one.name for one in await asyncio.to_thread(self._loop.models)]:
            raise Problem("not-found", "There is no saved model of this name.")
        served = await _problems(asyncio.to_thread(self._loop.promote, name))
        self._note(request, "promote", model=served)
        return JSONResponse({"model": served})

    async def roll_back_model(self, request: Request) -> Response:
        """Go back to the saved model before, without the events after it."""
        served = await _problems(asyncio.to_thread(self._loop.rollback))
        self._note(request, "rollback", model=served)
        return JSONResponse({"model": served})

    # ------------------------------------------------------------------------------ state

    async def live(self) -> Response:
        """Answer as long as the process runs."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> Response:
        """Answer 503 unless events are stored and learned."""
        health = await asyncio.to_thread(self._loop.health)
        if not health.running or health.error:
            raise Problem("not-ready", "The loop does not run, or its last step failed.")
        return JSONResponse({"status": "ok"})

    async def metrics_page(self) -> Response:
        """Return the metrics in the format of Prometheus."""
        text, kind = await asyncio.to_thread(self.metrics.text)
        return Response(text, media_type=kind)

    def _figures(self) -> Mapping[str, float]:
        health = self._loop.health()
        figures = self.quality.summary(())
        found = {name: float(health[name]) for name in _NUMBERS if name in health}
        ready = float(bool(health.running and not health.error))
        waiting = {"waiting_events": self._n_storing, "waiting_reads": self._reads.n_waiting}
        return {**figures, **found, **waiting, "ready": ready}

    # ------------------------------------------------------------------------------ private

    @staticmethod
    def _check_size(name: str, n: int, most: int) -> None:
        if n > most:
            raise Problem("too-large", f"{name}: {n} is more than {most}.")

    def _check_kinds(self, events: Sequence[messages.NewEvent]) -> None:
        unknown = [e for e in events if e.value is None and e.kind not in self._feedback]
        if unknown:
            raise Problem(
                "invalid",
                f"kind: {len(unknown)} of {len(events)} events have an unknown kind and no value. "
                f"Known kinds: {sorted(self._feedback)}.",
            )

    def _count(self, events: Sequence[messages.NewEvent], duplicates: int) -> None:
        """Count events that were stored, and join them with the lists they come from."""
        if duplicates:  # which of them were stored before is not told
            self.metrics.events("any", "duplicate", duplicates)
        if duplicates == len(events):
            return
        for event in events:
            self.metrics.events(event.kind, "accepted")
            value = self._feedback.get(event.kind, 0.0) if event.value is None else event.value
            if event.list_id is not None and value > 0:
                self.quality.add_feedback(event.list_id, event.item_id)

    def _note(self, request: Request, what: str, **details: Any) -> None:
        if self._audit is not None:
            self._audit.append(request.scope[PRINCIPAL].id, what, **details)


_NUMBERS = ("seq", "lag", "snapshot_age", "rejected", "forget_pending", "guard_refused")


def problem_of(error: BaseException) -> Problem:
    """Return the problem for an error of the loop; an unknown error is raised again."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueFullError):
        return Problem("queue-full", "Send the request again later.", retry_after=1)
    if isinstance(error, ServingError):
        return Problem("not-ready", "The store or the loop cannot do this now.", retry_after=5)
    if isinstance(error, (TypeError, ValueError)):
        return Problem("invalid", str(error))
    raise error


async def _problems(answer: Awaitable[Any]) -> Any:
    """Wait for an answer; errors of the loop become problems."""
    try:
        return await answer
    except (Problem, ServingError, TypeError, ValueError) as error:
        raise problem_of(error) from error


def _tried(function: Any, request: Any) -> Any:
    """Return the answer of one request, or its error."""
    try:
        return function(request)
    except Exception as error:
        return error


def _stored(event: messages.NewEvent) -> dict[str, Any]:
    """Return an event as the store takes it."""
    return {name: value for name, value in event.__dict__.items() if value is not None}


def _id_of(text: str, id_type: str | None) -> int | str:
    """Return the id that a path holds."""
    digits = text.removeprefix("-")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 20
    if id_type is None and is_number:
        raise Problem("invalid", "The id looks like an integer: add ?id_type=integer or =string.")
    if id_type != "integer":
        return text
    if not is_number or not -_INTEGERS <= int(text) < _INTEGERS:
        raise Problem("invalid", "The id is no integer of 64 bits.")
    return int(text)


def _plain(value: Any) -> Any:
    """Return receipts and exports as JSON holds them."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
