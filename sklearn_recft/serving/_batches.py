"""Micro-batches: requests that come at the same time are answered by one call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from sklearn_recft.serving._problems import Problem

Request = TypeVar("Request")

# Seconds for which a call may hold up the event loop, and what an older one counts for.
_QUICK, _OLDER = 0.002, 0.9


class MicroBatcher(Generic[Request]):
    """Collect requests, and answer each batch with one call in a thread of its own.

    A batch is closed when the call before it has ended, and at the latest ``window`` seconds
    after its first request. A single client never waits: the window is used only if the batch
    before had more than one request.

    Parameters
    ----------
    call : callable
        ``call(requests)`` returns one result for each request. A result that is an exception is
        raised to its request alone.
    max_batch : int
        Requests of one call.
    max_waiting : int
        Waiting requests; others raise the problem "queue-full".
    window : float, default=0.002
        Seconds.
    call_now : callable, default=None
        ``call_now(request)`` returns the result of a request, or None where it would have to wait
        or take long. It answers a request that comes alone, in the thread of the event loop: two
        changes of threads take longer than a list. Not while such calls take long.
    name : str, default="batches"
        Name of the thread.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Request]], Sequence[Any]],
        *,
        max_batch: int,
        max_waiting: int,
        window: float = 0.002,
        call_now: Callable[[Request], Any] | None = None,
        name: str = "batches",
    ) -> None:
        self._call = call
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._window = window
        self._call_now = call_now
        self._seconds = 0.0  # that the last calls of it took; older ones count less
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._waiting: list[tuple[Request, asyncio.Future[Any]]] = []
        self._running: asyncio.Task[None] | None = None
        self._last_size = 1

    @property
    def n_waiting(self) -> int:
        """Requests that wait for a call."""
        return len(self._waiting)

    async def submit(self, request: Request) -> Any:
        """Return the result of a request."""
        if len(self._waiting) >= self._max_waiting:
            raise Problem("queue-full", "Send the request again later.", retry_after=1)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((request, answer))
        if self._running is None:
            self._running = loop.create_task(self._run())
        return await answer

    def close(self) -> None:
        """End the thread, after the call that runs."""
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._last_size > 1:
                await asyncio.sleep(self._window)
            while self._waiting:
                batch = self._waiting[: self._max_batch]
                del self._waiting[: self._max_batch]
                self._last_size = len(batch)
                requests = [request for request, _ in batch]
                if self._answered_now(batch):
                    continue
                try:
                    results = await loop.run_in_executor(self._thread, self._call, requests)
                except Exception as error:  # the same for all of them
                    results = [error] * len(batch)
                for (_, answer), result in zip(batch, results, strict=True):
                    _resolve(answer, result)
        finally:
            self._running = None

    def _answered_now(self, batch: Sequence[tuple[Request, asyncio.Future[Any]]]) -> bool:
        """Answer a request that came alone; return False where the other thread has to."""
        if self._call_now is None or len(batch) > 1:
            return False
        self._seconds *= _OLDER
        if self._seconds > _QUICK:
            return False
        begin = time.perf_counter()
        try:
            result = self._call_now(batch[0][0])
        except Exception as error:
            result = error
        self._seconds = max(self._seconds, time.perf_counter() - begin)
        if result is not None:
            _resolve(batch[0][1], result)
        return result is not None


class Bridge(Generic[Request]):
    """Collect requests of one turn of the event loop, and hand them to another thread at once.

    Their answers come back with one wake-up of the event loop.

    Parameters
    ----------
    call : callable
        ``call(requests)`` returns a future with a list of answers.
    size_of : callable
        Size of a request.
    most : int, default=512
        A call has at most so much, or one request.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Request]], Future[Any]],
        size_of: Callable[[Request], int],
        most: int = 512,
    ) -> None:
        self._call, self._size_of, self._most = call, size_of, most
        self._requests: list[Request] = []
        self._answers: list[asyncio.Future[Any]] = []
        self._size = 0

    def submit(self, request: Request) -> asyncio.Future[Any]:
        """Return a future of the running event loop with the answer of a request."""
        loop, size = asyncio.get_running_loop(), self._size_of(request)
        if self._requests and self._size + size > self._most:
            self._send(loop)
        if not self._requests:
            loop.call_soon(self._send, loop)
        answer: asyncio.Future[Any] = loop.create_future()
        self._requests.append(request)
        self._answers.append(answer)
        self._size += size
        return answer

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        requests, answers = self._requests, self._answers
        self._requests, self._answers, self._size = [], [], 0
        if not requests:
            return

        def ready(future: Future[Any]) -> None:  # in the other thread
            loop.call_soon_threadsafe(_resolve_all, answers, future)

        try:
            future = self._call(requests)
        except Exception as error:  # the same for all of them
            for answer in answers:
                _resolve(answer, error)
        else:
            future.add_done_callback(ready)


def _resolve_all(answers: Sequence[asyncio.Future[Any]], future: Future[Any]) -> None:
    error = future.exception()
    results = [error] * len(answers) if error else future.result()
    for answer, result in zip(answers, results, strict=True):
        _resolve(answer, result)


def _resolve(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # its client has gone
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
