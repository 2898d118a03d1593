"""Threads: how many work at a time, and a lock that readers share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import count
from threading import RLock, get_ident, local
from time import sleep
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
from threadpoolctl import ThreadpoolController

Found = TypeVar("Found")

# Seconds after which a waiting thread looks again: at first, and at most.
_SOON, _LATE = 1e-4, 0.02

# Limits of the process are set and restored by one thread at a time.
_SETTINGS = RLock()
# Of each block that has not ended: at the first place, what was before all of them.
_BLAS: dict[object, Any] = {}


class _Libraries:
    """The libraries of the process, looked for again once another module has been imported."""

    def __init__(self) -> None:
        self.n_modules = 0
        self.controller: ThreadpoolController | None = None

    def find(self) -> ThreadpoolController:
        """Return what sets the threads of all libraries of linear algebra."""
        n_modules = len(sys.modules)
        if self.controller is None or n_modules != self.n_modules:
            self.controller, self.n_modules = ThreadpoolController(), n_modules
        return self.controller


_LIBRARIES = _Libraries()


def _limit_blas(n_threads: int) -> Any:
    """Limit the threads of BLAS; ``restore_original_limits`` of the result undoes it."""
    return _LIBRARIES.find().limit(limits=n_threads, user_api="blas")


class _Torch:
    """What is known of the threads of torch: blocks that have not ended, and limits they set."""

    def __init__(self) -> None:
        self.blocks: set[object] = set()
        self.default = 1
        self.limits: set[int] = set()
        self.known = local()  # threads whose number is theirs, and not a limit


_TORCH = _Torch()


def n_threads(n_jobs: int | None) -> int:
    """Return the number of threads for ``n_jobs``: None is 1, -1 is all cores."""
    if n_jobs is None:
        return 1
    if n_jobs == 0:
        raise ValueError("n_jobs=0 has no meaning; give None, a positive or a negative number.")
    return n_jobs if n_jobs > 0 else max(1, (os.cpu_count() or 1) + 1 + n_jobs)


@contextmanager
def blas_threads(n_threads: int) -> Iterator[None]:
    """Limit the BLAS of numpy and scipy to ``n_threads`` inside a with-block.

    The limit is one of the process: of blocks in several threads, the last to end restores what
    was before the first.
    """
    block = object()
    try:
        with _SETTINGS:
            limits = _limit_blas(n_threads)
            _BLAS[block] = limits
        yield
    finally:
        with _SETTINGS:
            if block in _BLAS:
                first = next(iter(_BLAS.values()))
                del _BLAS[block]
                limits.restore_original_limits()
                if _BLAS:
                    _BLAS[next(iter(_BLAS))] = first
                elif first is not limits:
                    first.restore_original_limits()


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Limit torch to ``n`` threads inside a with-block; nothing to do where torch is not loaded.

    The limit is one of the thread, but each new thread starts with what any thread set last: it is
    restored whenever a block ends, also in a thread that started inside of another's block.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    block = object()
    try:
        with _SETTINGS:
            before = _torch_threads_of_now(torch, n)
            _TORCH.blocks.add(block)
            torch.set_num_threads(n)
        yield
    finally:
        with _SETTINGS:
            if block in _TORCH.blocks:
                _TORCH.blocks.remove(block)
                torch.set_num_threads(before)


def _torch_threads_of_now(torch: Any, n: int) -> int:
    """Return the number of threads to restore in this thread, other than a limit of ours."""
    now = int(torch.get_num_threads())
    _TORCH.limits.add(n)
    if not hasattr(_TORCH.known, "thread"):
        _TORCH.known.thread = True
        if now in _TORCH.limits and now != _TORCH.default:  # started in another thread's block?
            if _TORCH.blocks:
                return _TORCH.default
            with ThreadPoolExecutor(1) as pool:  # what a thread starts with outside of all blocks
                now = int(pool.submit(torch.get_num_threads).result())
    if not _TORCH.blocks:
        _TORCH.default = now
    return now


def limit_torch_threads() -> None:
    """Limit torch to one thread for good, where it is loaded: the start of a worker thread."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def in_threads(
    step: Callable[[int, int], None], sizes: np.ndarray, n_threads: int, n_pieces: int = 8
) -> None:
    """Run ``step(first, last)`` over pieces of the rows, each of about the same work.

    ``sizes`` (n,) is the work of each row. Pieces must write to separate results; the outcome
    then does not depend on ``n_threads``.
    """
    if n_threads == 1 or not len(sizes):
        step(0, len(sizes))
        return
    work = np.cumsum(sizes + 1.0)
    cuts = np.searchsorted(work, np.linspace(0, work[-1], n_pieces * n_threads + 1)[1:-1])
    bounds = np.unique(np.r_[0, cuts, len(sizes)]).tolist()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(step, bounds[:-1], bounds[1:]))


@cache
def _helpers() -> ThreadPoolExecutor:
    """Return the threads that are kept for `in_kept_threads`."""
    return ThreadPoolExecutor(os.cpu_count() or 1)


if hasattr(os, "register_at_fork"):  # a fork has none of these threads
    os.register_at_fork(after_in_child=_helpers.cache_clear)


def in_kept_threads(step: Callable[[int], Found], n_pieces: int, n_threads: int) -> list[Found]:
    """Return ``step(j)`` of each piece j, for work of milliseconds.

    This thread takes pieces too, until none is left. The others are kept between calls, since to
    start a thread may take a millisecond. One that has not started by the end is not waited for.
    """
    found: list[Any] = [None] * n_pieces
    left = count()

    def work() -> None:
        while (j := next(left)) < n_pieces:
            found[j] = step(j)

    helpers = [_helpers().submit(work) for _ in range(min(n_threads, n_pieces) - 1)]
    try:
        work()
    finally:
        started = [helper for helper in helpers if not helper.cancel()]
        wait(started)
    for helper in started:
        helper.result()  # raises what it has raised
    return found


_PLACES = count()


class _Claim:
    """What one thread holds of a lock, or waits for, inside a with-block: until that ends or dies.

    ``admit(claim)`` takes the lock or returns False; ``let_go(claim, *places)`` gives it back.
    """

    __slots__ = ("__weakref__", "_admit", "_let_go", "_places", "place", "thread")

    def __init__(
        self,
        admit: Callable[[_Claim], bool],
        let_go: Callable[..., None],
        *places: WeakSet[_Claim],
    ) -> None:
        self._admit, self._let_go, self._places = admit, let_go, places

    def __enter__(self) -> None:
        self.thread: int | None = get_ident()
        self.place = next(_PLACES)  # in the order in which threads came
        try:
            _wait_for(self._admitted)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *error: object) -> None:
        self.thread = None  # in one step: an interrupt of what follows leaves it let go
        self._let_go(self, *self._places)

    def _admitted(self) -> bool:
        return self._admit(self)


class SharedLock:
    """Many readers or one writer; a thread that holds the lock may take it again.

    Who waits goes before those that come later and would keep it waiting. So a thread that learns
    all the time lets readers in, and many readers let a writer in. An interrupt (Ctrl-C) between
    two lines leaves nothing locked, also where its traceback is kept.

    Examples
    --------
    >>> from sklearn_recft.parallel import SharedLock
    >>> lock = SharedLock()
    >>> with lock.writing(), lock.reading():
    ...     pass

    A step of a microsecond may hold ``mutex`` in place of the lock, if `may_read` or `may_write`
    says so: nobody takes the lock or gives it back meanwhile.

    >>> with lock.mutex:
    ...     lock.may_write(), lock.n_writings
    (True, 1)

    Attributes
    ----------
    mutex : RLock
    n_writings : int
        How many times `writing` has been entered, and `count_writing` called.
    """

    def __init__(self) -> None:
        # Not a Condition: its own Python code can be interrupted between acquiring and returning.
        self._mutex = self.mutex = RLock()
        self.n_writings = 0
        self._readers: WeakSet[_Claim] = WeakSet()
        self._writers: WeakSet[_Claim] = WeakSet()
        self._waiting_readers: WeakSet[_Claim] = WeakSet()
        self._waiting_writers: WeakSet[_Claim] = WeakSet()

    def reading(self) -> _Claim:
        """Hold the lock together with other readers inside a with-block."""
        return _Claim(self._admit_reader, self._let_go, self._readers, self._waiting_readers)

    def writing(self) -> _Claim:
        """Hold the lock alone inside a with-block."""
        return _Claim(self._admit_writer, self._let_go, self._writers, self._waiting_writers)

    # The sets of references: the methods of a `WeakSet` take three times as long. A reference to
    # what is gone only makes the answer no.

    def may_read(self) -> bool:
        """Whether nobody writes or waits to write, while the caller holds ``mutex``."""
        return not (self._writers.data or self._waiting_writers.data)  # type: ignore[attr-defined]

    def may_write(self) -> bool:
        """Whether nobody holds the lock or waits for it, while the caller holds ``mutex``."""
        return not (
            self._readers.data  # type: ignore[attr-defined]
            or self._writers.data  # type: ignore[attr-defined]
            or self._waiting_readers.data  # type: ignore[attr-defined]
            or self._waiting_writers.data  # type: ignore[attr-defined]
        )

    def count_writing(self) -> int:
        """Count a step that writes while it holds ``mutex`` as a writing; return the new number."""
        self.n_writings += 1
        return self.n_writings

    def _admit_reader(self, claim: _Claim) -> bool:
        with self._mutex:
            if _others(self._writers, claim) or self._goes_behind(claim, self._waiting_writers):
                self._waiting_readers.add(claim)
                return False
            self._readers.add(claim)
            self._waiting_readers.discard(claim)
            return True

    def _admit_writer(self, claim: _Claim) -> bool:
        with self._mutex:
            held = _others(self._writers, claim) or _others(self._readers, claim)
            if held or self._goes_behind(claim, self._waiting_readers):
                self._waiting_writers.add(claim)
                return False
            self._writers.add(claim)
            self.n_writings += 1
            self._waiting_writers.discard(claim)
            return True

    def _goes_behind(self, claim: _Claim, waiting: WeakSet[_Claim]) -> bool:
        """Whether a claim has to let others go first; not if its thread holds the lock already."""
        if not waiting:
            return False
        came_before = [c for c in waiting if c.place < claim.place]
        return _others(came_before, claim) and not self._held_by(claim.thread)

    def _held_by(self, thread: int | None) -> bool:
        return any(c.thread == thread for held in (self._readers, self._writers) for c in held)

    def _let_go(self, claim: _Claim, *places: WeakSet[_Claim]) -> None:
        with self._mutex:
            for held in places:
                held.discard(claim)

    def __reduce__(self) -> tuple[type[SharedLock], tuple[()]]:
        return SharedLock, ()  # a copy, or a pickle, is a new lock that nobody holds


class Turns:
    """A lock for each object, by which calls that change it come one after the other.

    A thread that has the turn may take it again. The locks are no part of the objects, and so of
    no copy or pickle of them.

    Parameters
    ----------
    make : callable, default=RLock
        Makes a lock, such as a `SharedLock`.
    """

    def __init__(self, make: Callable[[], Any] = RLock) -> None:
        self._locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._make = make

    def of(self, owner: Any) -> Any:
        """Return the lock of ``owner``, an object that weak references and hashes accept."""
        lock = self._locks.get(owner)
        return self._locks.setdefault(owner, self._make()) if lock is None else lock


def _others(claims: Collection[_Claim], claim: _Claim) -> bool:
    """Whether one of the claims is of another thread."""
    return bool(claims) and any(other.thread not in (claim.thread, None) for other in claims)


def _wait_for(admitted: Callable[[], bool]) -> None:
    """Ask again and again until the answer is yes, for about as long as was waited already."""
    pause = _SOON
    while not admitted():
        sleep(pause)
        pause = min(2 * pause, _LATE)
