"""The service behind the routes: one method each, between messages and the loop."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sklearn_recft.loop import (
    Appended,
    Event,
    Loop,
    check_stored_events,
    listed_id,
)
from sklearn_recft.serving import _messages as messages
from sklearn_recft.serving._audit import AuditLog
from sklearn_recft.serving._batches import Bridge, MicroBatcher
from sklearn_recft.serving._edge import PRINCIPAL
from sklearn_recft.serving._history import History
from sklearn_recft.serving._limits import Limits
from sklearn_recft.serving._problems import Problem
from sklearn_recft.serving._reads import ListCall, PredictCall, Reader
from sklearn_recft.serving._tables import as_ids, event_table
from sklearn_recft.serving._translate import (
    as_problems,
    finite,
    id_of_path,
    plain,
    stored_event,
    stored_item,
)
from sklearn_recft.serving._watch import Watch

# Seconds for which a request waits until the event of its `min_seq` is learned.
_PATIENCE = 30.0
# Requests that are answered by one call of the model.
_MAX_BATCH = 64


@dataclass(frozen=True)
class Options:
    """What the service does with events and lists; see `create_app`."""

    kinds: tuple[str, ...]
    exclude_seen: bool
    watched: float | None


class Service:
    """What the routes do.

    Parameters
    ----------
    loop : Loop
    limits : Limits
    audit : AuditLog or None
    options : Options
    """

    def __init__(
        self, loop: Loop, limits: Limits, audit: AuditLog | None, options: Options
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._audit = audit
        self._options = options
        self._kinds = frozenset(options.kinds)
        reader = Reader(loop)
        self._reads: MicroBatcher[Any] = MicroBatcher(
            reader.answer,
            call_now=reader.answer_now,
            max_batch=_MAX_BATCH,
            max_waiting=limits.max_waiting,
            name="recft-reader",
        )
        self._n_behind = 0  # requests that wait until an event is learned
        self._commits: Bridge[Sequence[Event]] = Bridge(loop.submit_all, len)
        self.watch = Watch(loop, self._reads, options.kinds, options.watched)
        self.history = History(self.watch)

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
        watch = self.watch
        if watch.n_storing >= self._limits.max_waiting:
            raise Problem("queue-full", "Send the request again later.", retry_after=1)
        watch.n_storing += 1
        try:
            before = await as_problems(watch.before(body.events))
            found = await as_problems(self._store(body.events))
        finally:
            watch.n_storing -= 1
        watch.after(body.events, found.duplicates, before)
        accepted = len(body.events) - found.duplicates
        answer = {"seq": max(found.seq), "accepted": accepted, "duplicates": found.duplicates}
        return JSONResponse(answer, 202)

    async def _store(self, events: Sequence[messages.NewEvent]) -> Appended:
        found: Appended = await self._commits.submit(
            check_stored_events([stored_event(one) for one in events])
        )
        return found

    async def put_items(self, body: messages.NewItems) -> Response:
        """Store new items, and register them: they can be recommended without an event.

        The answer comes after the commit. The model must read texts, vectors or features of items.
        An item that is sent again with the same content is stored once.
        """
        self._check_size("items", len(body.items), self._limits.max_events)
        rows = [stored_item(one) for one in body.items]
        found = await as_problems(self._later(rows))
        accepted = len(rows) - found.duplicates
        answer = {"seq": max(found.seq), "accepted": accepted, "duplicates": found.duplicates}
        return JSONResponse(answer, 202)

    async def _later(self, rows: Sequence[Mapping[str, Any]]) -> Appended:
        return await asyncio.wrap_future(self._loop.add_items_later(rows))

    # ------------------------------------------------------------------------------ lists

    async def recommend(self, body: messages.ListRequest) -> Response:
        """Make a list for each user or query, best item first, and remember it by its `list_id`."""
        call = self._list_call(body)
        await self._learned(body.min_seq)
        found = await as_problems(self._reads.submit(call))
        lists = []
        for row, user in enumerate(call.users):
            own = [
                {"item_id": listed_id(item, "item_id"), "score": finite(score)}
                for item, score in zip(found.items[row], found.scores[row], strict=True)
                if item is not None
            ]
            if found.because is not None:
                for place, reasons in zip(own, found.because[row], strict=False):
                    place["because"] = [
                        {"item_id": listed_id(item, "item_id"), "contribution": finite(value)}
                        for item, value in reasons
                    ]
            list_id = found.list_ids[row]
            if body.remember:
                self.watch.quality.add_list(list_id, [place["item_id"] for place in own])
            lists.append({"user_id": user, "list_id": list_id, "items": own})
        return JSONResponse({"lists": lists, "model": found.model, "seq": found.seq})

    async def predict(self, body: messages.Rows) -> Response:
        """Predict the feedback of pairs of user and item."""
        self._check_size("rows", len(body.rows), self._limits.max_events)
        predictions = await as_problems(self._reads.submit(PredictCall(body.rows)))
        values = [finite(one) for one in predictions.tolist()]
        answer = {"predictions": values, "seq": self._loop.seq}
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
            own["queries"] = body.queries
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
        if body.because:
            own["because"] = True
        if not body.remember:
            own["remember"] = False
        seen = self._options.exclude_seen if body.exclude_seen is None else body.exclude_seen
        return ListCall(users, (body.n, seen), own)

    async def _learned(self, seq: int | None) -> None:
        """Wait until an event is learned."""
        if seq is None or self._loop.seq >= seq:
            return
        if self._n_behind >= self._limits.max_waiting:
            raise Problem("queue-full", "Send the request again later.", retry_after=1)
        running = asyncio.get_running_loop()
        learned: asyncio.Future[None] = running.create_future()
        cancel = self._loop.when(seq, lambda: running.call_soon_threadsafe(_finish, learned))
        self._n_behind += 1
        try:
            await asyncio.wait_for(learned, _PATIENCE)
        except asyncio.TimeoutError:
            problem = f"Event {seq} has not been learned yet."
            raise Problem("behind", problem, retry_after=1) from None
        finally:
            self._n_behind -= 1
            cancel()

    # ------------------------------------------------------------------------------ users

    async def forget_user(
        self, request: Request, user_id: str, id_type: Literal["string", "integer"] | None = None
    ) -> Response:
        """Erase a user in the store, the model, the saved models and the lists shown.

        A text that looks like an integer needs `id_type`: 17 and "17" are two users.
        """
        user = id_of_path(user_id, id_type)
        receipt = await as_problems(asyncio.to_thread(self._loop.forget, [user]))
        self._note(request, "forget", users=1)
        return JSONResponse({"receipt": plain(receipt)})

    async def export_user(
        self, user_id: str, id_type: Literal["string", "integer"] | None = None
    ) -> Response:
        """Return everything that is stored of a user."""
        user = id_of_path(user_id, id_type)
        found = await as_problems(asyncio.to_thread(self._loop.export, user))
        return JSONResponse(plain(found))

    # ------------------------------------------------------------------------------ models

    async def list_models(self) -> Response:
        """Return the saved models, oldest first."""
        found = await as_problems(asyncio.to_thread(self._loop.models))
        names = ("name", "seq", "digest", "kind", "live")
        return JSONResponse({"models": [{name: one[name] for name in names} for one in found]})

    async def save_model(self, request: Request) -> Response:
        """Save the model as it is now."""
        name = await as_problems(asyncio.to_thread(self._loop.snapshot))
        self._note(request, "save", model=name)
        return JSONResponse({"model": name})

    async def promote_model(self, request: Request, name: str, release: bool = False) -> Response:
        """Go back to a saved model, and learn the events after it again.

        With `release`, also those that a rollback refused.
        """
        if name not in [
            one.name for one in await as_problems(asyncio.to_thread(self._loop.models))
        ]:
            raise Problem("not-found", "There is no saved model of this name.")
        served = await as_problems(asyncio.to_thread(self._loop.promote, name, release=release))
        self._note(request, "promote", model=served, release=release)
        return JSONResponse({"model": served})

    async def roll_back_model(self, request: Request) -> Response:
        """Go back to the saved model before, without the events after it."""
        served = await as_problems(asyncio.to_thread(self._loop.rollback))
        self._note(request, "rollback", model=served)
        return JSONResponse({"model": served})

    # ------------------------------------------------------------------------------ state

    async def live(self) -> Response:
        """Answer as long as the process runs."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> Response:
        """Answer 503 unless events are stored and learned."""
        health = await as_problems(asyncio.to_thread(self._loop.health))
        if not health.running or health.error:
            raise Problem("not-ready", "The loop does not run, or its last step failed.")
        return JSONResponse({"status": "ok"})

    async def metrics_page(self) -> Response:
        """Return the metrics in the format of Prometheus."""
        text, kind = await asyncio.to_thread(self.watch.metrics.text)
        return Response(text, media_type=kind)

    async def quality(self) -> Response:
        """Return the figures of the model and of the loop, now and since the start."""
        return JSONResponse(await as_problems(asyncio.to_thread(self.history.document)))

    # ------------------------------------------------------------------------------ private

    @staticmethod
    def _check_size(name: str, n: int, most: int) -> None:
        if n > most:
            raise Problem("too-large", f"{name}: {n} is more than {most}.")

    def _check_kinds(self, events: Sequence[messages.NewEvent]) -> None:
        """Refuse events that the loop could store but not learn."""
        if self._loop.feedback is None:
            if any(event.value is not None for event in events):
                raise Problem("invalid", "value: the model learns positives, without values.")
            unknown = [event for event in events if event.kind not in self._kinds]
        else:
            unknown = [e for e in events if e.value is None and e.kind not in self._kinds]
        if unknown:
            raise Problem(
                "invalid",
                f"kind: {len(unknown)} of {len(events)} events have an unknown kind and no value. "
                f"Known kinds: {sorted(self._kinds)}.",
            )

    def _note(self, request: Request, what: str, **details: Any) -> None:
        if self._audit is not None:
            self._audit.append(request.scope[PRINCIPAL].id, what, **details)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
