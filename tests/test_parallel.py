"""Threads, and the lock that readers share."""

import copy
import itertools
import os
import pickle
import signal
import threading
import weakref
from _thread import interrupt_main
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic, sleep

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from sklearn_recft import parallel
from sklearn_recft.parallel import (
    SharedLock,
    Turns,
    blas_threads,
    in_kept_threads,
    in_threads,
    n_threads,
    torch_threads,
)

PATIENCE = 30  # seconds that nothing here takes, unless it hangs


def test_threads_of_n_jobs(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert [n_threads(n) for n in (None, 1, 3, -1, -2, -100)] == [1, 1, 3, 8, 7, 1]
    with pytest.raises(ValueError, match="n_jobs=0 has no meaning; give None"):
        n_threads(0)


# ------------------------------------------------------------------------- in threads

SIZES = {
    "equal": np.ones(100),
    "nothing": np.zeros(7),
    "one": np.array([5.0]),
    "one of all": np.r_[np.zeros(50), 1e9, np.zeros(49)],
    "falling": 1e6 / np.arange(1, 1001),
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_row_is_done_once(sizes, threads):
    pieces, done = [], np.zeros(len(sizes), int)

    def step(first, last):
        assert first < last
        pieces.append((first, last))
        done[first:last] += 1

    in_threads(step, sizes, threads, n_pieces=4)
    assert (done == 1).all()
    if threads == 1:
        assert pieces == [(0, len(sizes))]
    work = [(sizes[first:last] + 1).sum() for first, last in pieces]
    assert max(work) <= (sizes + 1).sum() / (4 * threads if threads > 1 else 1) + sizes.max() + 1
    assert len(pieces) <= 4 * threads


def test_threads_work_at_once():
    both = threading.Barrier(2)

    def step(first, last):
        both.wait(timeout=30)  # breaks unless another is at work too

    in_threads(step, np.ones(100), 2, n_pieces=1)


def test_an_error_of_a_piece_is_passed_on():
    def step(first, last):
        raise RuntimeError("piece")

    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="piece"):
            in_threads(step, np.ones(10), threads)


def test_kept_threads_do_every_piece_once():
    done, both = [], threading.Barrier(2)

    def step(piece):
        if piece < 2:
            both.wait(PATIENCE)  # breaks unless another thread is at work too
        done.append(piece)
        return piece**2

    for _ in range(2):  # the second time by the same threads
        done.clear()
        assert in_kept_threads(step, 7, 2) == [piece**2 for piece in range(7)]
        assert sorted(done) == list(range(7))
    assert in_kept_threads(lambda piece: piece, 3, 1) == [0, 1, 2]
    with pytest.raises(ZeroDivisionError):
        in_kept_threads(lambda piece: (both.wait(PATIENCE), 1 / piece), 2, 2)


def test_kept_threads_that_are_busy_are_not_waited_for(monkeypatch):
    with ThreadPoolExecutor(1) as busy:
        end = threading.Event()
        busy.submit(end.wait, PATIENCE)
        monkeypatch.setattr(parallel, "_helpers", lambda: busy)
        assert in_kept_threads(lambda piece: piece, 5, 3) == [0, 1, 2, 3, 4]
        assert not end.is_set()
        end.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_kept_threads_of_its_own():
    def two_at_work():
        both = threading.Barrier(2)
        return in_kept_threads(lambda piece: both.wait(5) * 0 + piece, 2, 2)

    assert two_at_work() == [0, 1]
    child = os.fork()
    if not child:
        try:
            os._exit(two_at_work() != [0, 1])
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def blas_sizes():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_linear_algebra_keeps_to_its_threads():
    before = blas_sizes()
    with blas_threads(2):
        assert blas_sizes() == {2}
        with blas_threads(1):
            assert blas_sizes() == {1}
        assert blas_sizes() == {2}
    assert blas_sizes() == before


def in_a_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(PATIENCE)


@pytest.fixture(autouse=True)
def _no_open_blocks(monkeypatch):
    """Start without blocks of earlier tests, which an interrupt may have left open."""
    monkeypatch.setattr(parallel, "_BLAS", {})
    monkeypatch.setattr(parallel._TORCH, "blocks", set())


@pytest.fixture
def two_threads():
    """Torch with two threads, whatever the environment."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("first_ends_first", [True, False])
def test_limits_of_torch_are_restored_in_any_order(first_ends_first):
    """Also where the second thread starts inside the block of the first."""
    inside, end = threading.Event(), threading.Event()

    def second():
        with torch_threads(1):
            inside.set()
            assert end.wait(PATIENCE)
            assert torch.get_num_threads() == 1
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        with torch_threads(1):
            found = pool.submit(second)
            assert inside.wait(PATIENCE)
            if not first_ends_first:
                end.set()
                assert found.result(PATIENCE) == 2
                assert torch.get_num_threads() == 1
        end.set()
        assert found.result(PATIENCE) == 2
    assert torch.get_num_threads() == 2
    assert in_a_thread(torch.get_num_threads) == 2


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_limits_of_linear_algebra_are_restored_in_any_order(monkeypatch, order):
    size = [8]

    class Limits:
        def __init__(self, n_threads):
            self.before, size[0] = size[0], n_threads

        def restore_original_limits(self):
            size[0] = self.before

    monkeypatch.setattr(parallel, "_limit_blas", Limits)
    blocks = [blas_threads(n) for n in (3, 1, 2)]
    for block, n in zip(blocks, (3, 1, 2), strict=True):
        block.__enter__()
        assert size == [n]
    for place in order:
        blocks[place].__exit__(None, None, None)
    assert size == [8]


@pytest.mark.usefixtures("two_threads")
def test_a_thread_that_started_inside_a_block_does_not_spread_its_limit():
    with torch_threads(1):
        pool = ThreadPoolExecutor(1)
        assert pool.submit(torch.get_num_threads).result(PATIENCE) == 1

    def limited():
        with torch_threads(1):
            pass
        return torch.get_num_threads()

    with pool:
        assert pool.submit(limited).result(PATIENCE) == 2
    assert in_a_thread(torch.get_num_threads) == 2


@pytest.mark.usefixtures("two_threads")
def test_nested_limits_of_torch():
    with torch_threads(3):
        with torch_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    assert torch.get_num_threads() == 2


# -------------------------------------------------------------------------- the shared lock


@contextmanager
def threads_of(*targets):
    """Run functions in threads of their own; all must end."""
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread waits for ever"


def wait_until(happened):
    end = monotonic() + PATIENCE
    while not happened():
        assert monotonic() < end, "it never happened"
        sleep(0.001)


def is_free(lock):
    """Whether another thread can take the lock alone."""
    taken = threading.Event()

    def take():
        with lock.writing():
            taken.set()

    with threads_of(take):
        return taken.wait(PATIENCE)


def test_readers_read_together():
    lock, all_three = SharedLock(), threading.Barrier(3, timeout=PATIENCE)
    met = []

    def read():
        with lock.reading():
            all_three.wait()  # breaks unless the others are inside too
            met.append(True)

    with threads_of(read, read, read):
        pass
    assert met == [True] * 3
    assert is_free(lock)


@pytest.mark.parametrize("held", ["reading", "writing"])
@pytest.mark.parametrize("wanted", ["reading", "writing"])
def test_a_writer_is_alone(held, wanted):
    lock, inside = SharedLock(), threading.Event()

    def take():
        with getattr(lock, wanted)():
            inside.set()

    together = held == wanted == "reading"
    with threads_of(take) if together else threads_of():
        pass
    with getattr(lock, held)():
        thread = threading.Thread(target=take, daemon=True)
        inside.clear()
        thread.start()
        assert inside.wait(PATIENCE if together else 0.3) == together
    thread.join(PATIENCE)
    assert inside.is_set()


def test_writers_do_not_write_at_once():
    lock, total, n_inside, most = SharedLock(), [0], [0], [0]

    def write():
        for _ in range(50):
            with lock.writing():
                n_inside[0] += 1
                most[0] = max(most[0], n_inside[0])
                before = total[0]
                sleep(0)
                total[0] = before + 1
                n_inside[0] -= 1

    with threads_of(*[write] * 4):
        pass
    assert most == [1]
    assert total == [200]


def test_a_waiting_writer_goes_before_readers_that_come_later():
    lock, order = SharedLock(), []
    come = threading.Event()

    def write():
        with lock.writing():
            order.append("writer")

    def read():
        come.set()
        with lock.reading():
            order.append("reader")

    with lock.reading():
        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        wait_until(lambda: len(lock._waiting_writers))
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        come.wait(PATIENCE)
        sleep(0.2)
        assert order == []
        # Who reads already may read once more: else it and the writer would wait for each other.
        with lock.reading():
            assert order == []
    for thread in (writer, reader):
        thread.join(PATIENCE)
    assert order == ["writer", "reader"]


def test_a_waiting_reader_goes_before_writes_that_come_later():
    """A thread that writes again and again lets a reader in after the write it waits for."""
    lock, order = SharedLock(), []

    def read():
        with lock.reading():
            order.append("reader")

    with lock.writing():
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        wait_until(lambda: len(lock._waiting_readers))
        with lock.writing():  # who writes already may write once more
            order.append("writer")
    with lock.writing():
        order.append("writer")
    reader.join(PATIENCE)
    assert order == ["writer", "reader", "writer"]


@pytest.mark.parametrize("outer", ["reading", "writing"])
@pytest.mark.parametrize("inner", ["reading", "writing"])
def test_a_thread_may_take_the_lock_again(outer, inner):
    lock = SharedLock()
    done = []

    def take():
        with getattr(lock, outer)():
            with getattr(lock, inner)():
                done.append("inner")
            # Still held.
            taken = threading.Event()
            other = threading.Thread(target=lambda: hold(taken), daemon=True)
            other.start()
            assert not taken.wait(0.2)
            done.append("outer")
        other.join(PATIENCE)
        assert taken.is_set()
        done.append("free")

    def hold(taken):
        with lock.writing():
            taken.set()

    with threads_of(take):
        pass
    assert done == ["inner", "outer", "free"]


@pytest.mark.parametrize("kind", ["reading", "writing"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_inside_lets_go(kind, error):
    lock = SharedLock()
    with pytest.raises(error), getattr(lock, kind)():
        raise error
    assert is_free(lock)


@pytest.fixture
def interrupts():
    """Interrupts that raise, also where whoever runs the tests ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("kind", ["reading", "writing"])
def test_an_interrupt_leaves_nothing_locked(kind):
    """Real ones, at whatever point of the lock's own code they arrive."""
    lock, n_rounds = SharedLock(), 100
    begun, caught, free = [], [], []  # plain lists: what waits must not be what is interrupted

    def interrupt_and_look():
        rng = np.random.default_rng(0)
        for done in range(n_rounds):
            wait_until(lambda done=done: len(begun) > done)
            sleep(rng.uniform(0, 2e-3))
            interrupt_main()
            wait_until(lambda done=done: len(caught) > done)
            with lock.writing():
                free.append(True)

    with threads_of(interrupt_and_look):
        for done in range(n_rounds):
            try:
                begun.append(True)
                end = monotonic() + PATIENCE
                while monotonic() < end:
                    with getattr(lock, kind)():
                        pass
            except KeyboardInterrupt:
                caught.append(True)
            wait_until(lambda done=done: len(free) > done)


@pytest.mark.parametrize("kind", ["reading", "writing"])
@pytest.mark.parametrize("at", ["_wait_for", "_let_go"])
def test_a_kept_traceback_keeps_nothing_locked(monkeypatch, kind, at):
    """Of a thread that was interrupted while it waited, or while it let go."""
    lock, kept, end = SharedLock(), [], threading.Event()

    def hold():
        with lock.writing():
            end.wait(PATIENCE)

    def interrupted(*args):
        if len(args) == 1 and callable(args[0]):
            assert not args[0]()  # it asked once, in vain
        raise KeyboardInterrupt

    with threads_of(*[hold] * (at == "_wait_for")):
        wait_until(lambda: len(lock._writers) == (at == "_wait_for"))
        with monkeypatch.context() as patch:
            patch.setattr(*([lock] if at == "_let_go" else [parallel]), at, interrupted)
            with pytest.raises(KeyboardInterrupt) as error, getattr(lock, kind)():
                assert at == "_let_go"
            kept.append(error)
        end.set()
    for free in ("reading", "writing"):
        taken = threading.Event()

        def take(free=free, taken=taken):
            with getattr(lock, free)():
                taken.set()

        with threads_of(take):
            assert taken.wait(PATIENCE)
    assert kept[0].tb is not None


def test_a_holder_that_is_thrown_away_holds_nothing():
    lock = SharedLock()
    for kind in ("reading", "writing"):
        context = getattr(lock, kind)()
        context.__enter__()
        del context
        assert is_free(lock)


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda k: pickle.loads(pickle.dumps(k))]
)
def test_a_copy_of_a_lock_is_free(clone):
    lock = SharedLock()
    with lock.writing():
        twin = clone(lock)
        assert is_free(twin)


# --------------------------------------------------------------------------------- turns


class Owner:
    """Something that calls change."""


def test_the_turn_of_an_object_is_held_by_one_thread():
    turns, owner, other = Turns(), Owner(), Owner()
    taken = {id(each): threading.Event() for each in (owner, other)}

    def take(each):
        with turns.of(each):
            taken[id(each)].set()

    with turns.of(owner), turns.of(owner), threads_of(lambda: take(other)):
        thread = threading.Thread(target=take, args=(owner,), daemon=True)
        thread.start()
        assert taken[id(other)].wait(PATIENCE)
        assert not taken[id(owner)].wait(0.2)
    thread.join(PATIENCE)
    assert taken[id(owner)].is_set()


def test_a_turn_does_not_keep_its_object_alive():
    turns, owner = Turns(), Owner()
    with turns.of(owner):
        gone = weakref.ref(owner)
        del owner
        assert gone() is None
