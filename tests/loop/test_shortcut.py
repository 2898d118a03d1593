"""Events that the thread which stores them also learns: the same rows, steps and models."""

import asyncio
import threading
from contextlib import contextmanager

import pytest

from sklearn_recft import PopularityRecommender
from sklearn_recft.loop._events import check_stored_events
from sklearn_recft.loop._learner import Learner
from sklearn_recft.loop._pace import Pace
from sklearn_recft.loop._rows import RowMaker, verb_of
from sklearn_recft.loop._shortcut import Shortcut
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.persistence import save
from sklearn_recft.serving import FeedbackStore, Loop, replay
from sklearn_recft.serving._batches import MicroBatcher

FEEDBACK = {"click": 1}


@pytest.fixture
def store(tmp_path):
    store = FeedbackStore(f"sqlite:///{tmp_path}/feedback.db", durable=False)
    yield store
    store.close()


@pytest.fixture
def learner(store, tmp_path):
    learner = Learner(store, Snapshots(tmp_path / "models"), RowMaker(FEEDBACK))
    learner.begin(PopularityRecommender(), 0, "test")
    learner.verb = verb_of(learner.model, "event")
    return learner


def group(*items):
    return check_stored_events([{"user_id": "ann", "item_id": item} for item in items])


@contextmanager
def held_elsewhere(lock):
    """Hold a lock in another thread inside a with-block."""
    taken, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(20)
    yield
    done.set()
    thread.join()


def begin(learner, learn="event"):
    """Return the shortcut of a learner that knows how long a step takes, and the lock of turns."""
    turn = threading.RLock()
    shortcut = Shortcut(learner, Pace(learn, 8, 9.0), turn)
    shortcut.append([group("tea")])
    assert not shortcut.finish()  # nobody knows how long a step takes
    assert learner.advance() == 1
    learner.seconds = 0.0
    return shortcut, turn


def digests(learner, store, tmp_path):
    clean = replay(store, tmp_path / "models", feedback=FEEDBACK)
    return save(learner.model, tmp_path / "a"), save(clean, tmp_path / "b")


def test_the_step_is_written_with_its_events_and_then_taken(learner, store, tmp_path):
    shortcut, _ = begin(learner)
    found = shortcut.append([group("tea", "rye"), group("jam")])
    assert [one.seq for one in found] == [[2, 3], [4]]
    step = learner.steps.last()
    assert (step.number, step.after, step.until) == (3, 1, 4)
    assert (learner.seq, learner.in_doubt) == (1, True)
    assert shortcut.finish()
    assert (learner.seq, learner.step, learner.in_doubt) == (4, 3, False)
    assert learner.advance() == 0
    one, clean = digests(learner, store, tmp_path)
    assert one == clean


def test_a_step_that_was_written_and_not_taken_is_repeated(learner, store, tmp_path):
    shortcut, _ = begin(learner)
    shortcut.append([group("rye")])  # and here the process ends
    restarted = Learner(store, Snapshots(tmp_path / "models"), RowMaker(FEEDBACK))
    assert restarted.restore()
    while restarted.repeat():
        pass
    assert shortcut.finish()
    assert (restarted.seq, restarted.step) == (learner.seq, learner.step) == (2, 3)
    one, clean = digests(restarted, store, tmp_path)
    assert one == clean == save(learner.model, tmp_path / "c")


def test_a_reader_does_not_hold_up_the_next_commit(learner):
    shortcut, turn = begin(learner)
    with held_elsewhere(learner.reading()):
        shortcut.append([group("rye")])
        assert not shortcut.finish()
        with held_elsewhere(turn):  # it was given back
            pass
        shortcut.append([group("jam")])  # the step before has not been taken
        assert not shortcut.finish()
    assert (learner.seq, learner.in_doubt) == (1, True)
    assert learner.repeat() == 1
    learner.in_doubt = False
    assert learner.advance() == 1
    assert learner.seq == 3


def test_what_is_left_to_the_learner(learner, store):
    shortcut, turn = begin(learner)

    def is_left(*groups, shortcut=shortcut):
        n_steps = learner.last_number()
        shortcut.append(groups)
        is_written = learner.last_number() > n_steps
        assert shortcut.finish() == is_written
        return not is_written

    assert is_left(*(group(f"i{n}") for n in range(5)))  # others wait for the next commit
    assert is_left(group("tea"))  # events before it are not learned
    assert learner.advance() == 6
    assert is_left(group("tea"), shortcut=Shortcut(learner, Pace("chunk", 8, 9.0), turn))
    learner.advance()
    with held_elsewhere(turn):
        assert is_left(group("tea"))
    learner.advance()
    learner.seconds = 1.0
    assert is_left(group("tea"))
    learner.advance()
    assert 0.5 <= learner.seconds < 30  # it falls by half with each step that is quicker
    learner.seconds = 0.0
    assert not is_left(group("tea"))


def test_events_sent_inside_a_reading_block_are_stored(store, tmp_path):
    with Loop(PopularityRecommender(), store, tmp_path / "models", feedback=FEEDBACK) as loop:
        for n in range(3):
            loop.wait(loop.submit([{"user_id": "ann", "item_id": n}]).seq[0], 20)
        with loop.reading() as view:
            found = [loop.submit_later([{"user_id": "bob", "item_id": n}]) for n in range(3)]
            assert [one.result(20).seq for one in found] == [[4], [5], [6]]
            assert view.seq == loop.seq == 3
        assert loop.wait(6, 20)


def test_a_request_that_comes_alone_is_answered_at_once():
    threads = []

    def call(requests):
        threads.append(threading.current_thread())
        return [2 * one for one in requests]

    def call_now(request):
        if request == "wrong":
            raise ValueError(request)
        return 2 * request if request < 3 else None  # as if the model learned

    async def ask():
        batches = MicroBatcher(call, max_batch=8, max_waiting=8, call_now=call_now)
        try:
            alone = [await batches.submit(1), await batches.submit(2)]
            assert threads == []
            with pytest.raises(ValueError, match="wrong"):
                await batches.submit("wrong")
            both = await asyncio.gather(batches.submit(1), batches.submit(2))
            return alone, both, await batches.submit(3)
        finally:
            batches.close()

    assert asyncio.run(ask()) == ([2, 4], [2, 4], 6)
    assert len(threads) == 2
    assert threading.current_thread() not in threads
