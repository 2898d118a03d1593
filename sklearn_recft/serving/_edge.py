"""The edge of the service: sizes, senders, errors and one log line, before and after each route."""

from __future__ import annotations

import asyncio
import logging
import traceback
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from time import perf_counter
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sklearn_recft.serving._access import Access
from sklearn_recft.serving._problems import Problem

log = logging.getLogger("sklearn_recft.serving")

# Seconds in which a body must arrive.
_PATIENCE = 10.0
# The scope of ASGI has the principal and the body here.
PRINCIPAL = "recft_principal"
BODY = "recft_body"


class Watcher(Protocol):
    """Anything that counts requests."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        ...


class Edge:
    """ASGI middleware around all routes.

    It refuses large bodies before they are read, identifies the sender, turns every error into a
    problem document, and logs the route, never the path: that may hold the id of a user.

    Parameters
    ----------
    app : ASGI application
    access : Access
    watcher : Watcher
    max_body : int
        Bytes.
    direct : mapping
        Endpoints by method and path that are called at once. The framework has them too; its own
        way to them takes longer than they do.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access: Access,
        watcher: Watcher,
        max_body: int,
        direct: Mapping[tuple[str, str], Callable[[Scope], Awaitable[Response]]],
    ) -> None:
        self.app = app
        self._direct = direct
        self._access = access
        self._watcher = watcher
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        clock, status = perf_counter(), 0
        direct = self._direct.get((scope["method"], scope["path"]))

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            scope[PRINCIPAL] = self._access.identify(scope)
            scope[BODY] = body = await self._body(scope, receive)
            if direct is None:
                await self.app(scope, _replay(body, receive), watched)
            else:
                response = await direct(scope)
                await response(scope, receive, watched)
        except Problem as problem:
            await problem.response()(scope, receive, watched)
        except Exception as error:
            log.error("error %s", _where(error))
            if status:  # half of an answer is sent: only the connection can be ended
                raise ConnectionError("the answer was not completed") from None
            await Problem("internal", "The service has logged where.").response()(
                scope, receive, watched
            )
        finally:
            seconds = perf_counter() - clock
            route = scope["path"] if direct else getattr(scope.get("route"), "path_format", "none")
            self._watcher.request(route, status, seconds)
            if status >= 400 or log.isEnabledFor(logging.DEBUG):
                log.log(
                    logging.WARNING if status >= 500 else logging.INFO,
                    "%s %s %d %.1f ms",
                    scope["method"][:8],
                    route,
                    status,
                    1000 * seconds,
                )

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """Read the body, within its limits of size and time."""
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if length == b"0" and b"transfer-encoding" not in headers:
            return b""
        if scope[PRINCIPAL] is None:
            raise Problem("unauthorized", "Send the header `Authorization: Bearer KEY`.")
        if length.isdigit() and int(length) > self._max_body:
            raise self._too_large()
        return await _in_time(self._whole(receive))

    async def _whole(self, receive: Receive) -> bytes:
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Problem("timeout", "The body is not complete.")
            parts.append(message.get("body", b""))
            size, more = size + len(parts[-1]), message.get("more_body", False)
            if size > self._max_body:
                raise self._too_large()
        return b"".join(parts)

    def _too_large(self) -> Problem:
        return Problem("too-large", f"A request has at most {self._max_body} bytes.")


async def _in_time(body: Coroutine[Any, Any, bytes]) -> bytes:
    """Wait for a body; `asyncio.wait_for` does the same with a task, which takes longer."""
    try:
        waits_for = body.send(None)
    except StopIteration as end:  # it was there already: no clock is needed
        whole: bytes = end.value
        return whole
    task, late = asyncio.current_task(), False

    def expire() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(_PATIENCE, expire)
    try:
        return await _resumed(body, waits_for)
    except asyncio.CancelledError:
        if not late:
            raise
        raise Problem("timeout", f"The body must arrive within {_PATIENCE:g} s.") from None
    finally:
        timer.cancel()


@types.coroutine
def _resumed(body: Coroutine[Any, Any, bytes], waits_for: Any) -> Generator[Any, Any, bytes]:
    """Go on with a coroutine that was started by hand, and waits for a future."""
    while True:
        try:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = body.throw(error)
            else:
                waits_for = body.send(sent)
        except StopIteration as end:
            whole: bytes = end.value
            return whole


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, and then what comes after it."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _where(error: BaseException) -> str:
    """Return the type and the lines of an error: its message may hold ids."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    lines = " < ".join(
        f"{one.filename.rsplit('/', 1)[-1]}:{one.lineno}" for one in reversed(frames)
    )
    return f"{type(error).__name__} at {lines}"
