"""Fitted models: transactions, parts, states, and random streams."""

import copy
import pickle
import threading
from dataclasses import dataclass, field
from threading import Thread

import numpy as np
import pytest

from sklearn_recft import PopularityRecommender
from sklearn_recft.history import (
    EventHistory,
    FeedbackMatrix,
    Reservoir,
    SeenItems,
    Trends,
    without,
)
from sklearn_recft.interactions import check_interactions
from sklearn_recft.models import Call, FittedModel, Net, OnlineFeatures, Part, RandomStream
from sklearn_recft.modules import (
    DecayNet,
    MatrixFactorization,
    OnlineTables,
    SequenceNet,
)
from sklearn_recft.text import TextEncoder
from sklearn_recft.vocabulary import Vocabulary

FIRST = [["a", "x"], ["b", "y"], ["a", "z"]]
LATER = [["b", "x"], ["c", "new"], ["d", "y"]]
STAGES = ["prepare", "registered", "kept", "half written", "written", "end"]


class Counts:
    """A part that is updated in place: event counts of users."""

    def __init__(self):
        self.values = np.zeros(0)

    def mark(self, users):
        known = np.unique(users[users < len(self.values)])
        return len(self.values), known, self.values[known].copy()

    def restore(self, mark):
        size, known, values = mark
        self.values = self.values[:size]
        self.values[known] = values

    def grow(self, n):
        self.values = np.concatenate([self.values, np.zeros(n - len(self.values))])

    def state(self):
        return {"values": self.values.copy()}

    def load_state(self, state):
        self.values = state["values"].copy()

    def forget(self, users):
        self.values = np.delete(self.values, users)


@dataclass(frozen=True)
class ToySettings:
    """Settings of the toy model, and the stage at which it fails."""

    unit: float = 1.0
    break_at: str | None = None
    error: BaseException = field(default_factory=lambda: RuntimeError("half way"))


class Toy(FittedModel):
    """Count events of users, and draw a number for each call."""

    kind = "Toy"
    _DERIVED = ("total",)

    def __init__(self, rows, settings):
        super().__init__(rows, settings)
        self.counts = Counts()
        self.same_counts = self.counts
        self.rng = RandomStream(np.random.default_rng(0))
        self.drawn = ()
        self.total = 0.0

    def _reach(self, stage):
        if self.settings.break_at == stage:
            raise self.settings.error

    def _pieces(self, rows, call):
        if not call.predict:
            return [rows]
        half = len(rows) // 2
        return [rows.take(part) for part in np.split(np.arange(len(rows)), [half])]

    def _prepare(self, rows, undo, call):
        self.is_prepared = True  # an attribute that was not there
        self._reach("prepare")

    def _learn(self, events, undo, call):
        if call.catalogue is not None:
            self.items.extend(call.catalogue[0])
        self._reach("registered")
        undo.keep(self.counts, events.user)
        self._reach("kept")
        before = self.counts.values.copy()
        self.counts.grow(self.n_users)
        for row, user in enumerate(events.user):
            self.counts.values[user] += self.settings.unit
            if row == 1:
                self._reach("half written")
        self._reach("written")
        self.drawn = (*self.drawn, self.rng.seed())
        self._derive()
        self._reach("end")
        known = np.append(before, 0.0)
        return known[np.minimum(events.user, len(before))]

    def _derive(self):
        self.total = float(self.counts.values.sum())

    def score(self, events):
        return np.append(self.counts.values, 0.0)[events.user]


def rows_of(X, y=None):
    return check_interactions(X, y)


def make_toy(**settings):
    toy = Toy(rows_of(FIRST), ToySettings(**settings))
    toy.learn(rows_of(FIRST), toy.settings)
    return toy


def plain(value):
    """Return a state with lists in place of arrays, to compare."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


def everything(model):
    """Return the state of a model, and its attributes outside the state."""
    attributes = {name: id(value) for name, value in vars(model).items()}
    return plain(model.state()), model.settings, model.total, attributes


# --------------------------------------------------------------------------- whole or not at all


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("predict", [False, True])
def test_a_learn_that_fails_restores_every_part(stage, error, predict):
    toy, twin = make_toy(), make_toy()
    before = everything(toy)
    catalogue = np.array(["listed", "x"], object), np.array(["", ""], object)
    call = Call(predict=predict, catalogue=catalogue)
    with pytest.raises(type(error)) as caught:
        toy.learn(rows_of(LATER), ToySettings(2.0, stage, error), call)
    assert caught.value is error
    assert everything(toy) == before
    assert toy.counts is toy.same_counts
    # As if the call had not been: the next one learns and draws the same.
    for each in (toy, twin):
        each.learn(rows_of(LATER), ToySettings(2.0), call)
    assert plain(toy.state()) == plain(twin.state())
    assert set(toy.items.ids) == {"x", "y", "z", "new", "listed"}
    assert toy.seen.items_of(1).tolist() == [0, 1]


def test_a_first_learn_that_fails_leaves_an_empty_model():
    toy = Toy(rows_of(FIRST), ToySettings())
    before = everything(toy)
    with pytest.raises(RuntimeError, match="half way"):
        toy.learn(rows_of(FIRST), ToySettings(break_at="end"))
    assert everything(toy) == before
    assert (toy.n_users, toy.n_items) == (0, 0)
    assert not hasattr(toy, "is_prepared")


def test_a_transaction_covers_any_change():
    toy = make_toy()
    before = everything(toy)

    def change_and_fail():
        with toy.transaction(rows_of(LATER)) as undo:
            undo.keep(toy.counts, np.array([0]))
            toy.counts.values[0] = 9
            toy.users.extend(["z"])
            toy.rng.seed()
            toy.drawn, toy.extra = "other", 1
            del toy.context_names
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()
    assert everything(toy) == before
    with toy.transaction(rows_of(LATER)) as undo:
        undo.keep(toy.counts, np.array([0]))
        toy.counts.values[0] = 9
    assert toy.counts.values[0] == 9


def test_a_failed_learn_releases_the_lock():
    toy, read = make_toy(), threading.Event()
    with pytest.raises(RuntimeError, match="half way"):
        toy.learn(rows_of(LATER), ToySettings(break_at="written"))

    def look():
        with toy.reading():
            read.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    assert read.wait(30)
    thread.join(30)


def test_learning_waits_for_readers():
    toy = make_toy()
    before = plain(toy.state())
    thread = threading.Thread(
        target=toy.learn, args=(rows_of(LATER), ToySettings(2.0)), daemon=True
    )
    with toy.reading():
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert plain(toy.state()) == before
    thread.join(30)
    assert toy.counts.values.tolist() == [2.0, 3.0, 2.0, 2.0]


def test_predictions_are_those_of_all_pieces_in_order():
    toy = make_toy()
    X = [["a", "x"], ["b", "x"], ["a", "x"], ["c", "x"], ["b", "x"]]
    assert toy.learn(rows_of(X), ToySettings(), Call(predict=True)).tolist() == [2, 1, 3, 0, 2]
    assert toy.settings == ToySettings(error=toy.settings.error)


# ------------------------------------------------------------------------------ what it knows


def test_events_are_coded_in_order_of_appearance():
    toy = Toy(rows_of(FIRST, [3.0, 1, 2]), ToySettings())
    assert not toy.positives_only
    toy.learn(rows_of(FIRST, [3.0, 1, 2]), ToySettings())
    assert (toy.n_users, toy.n_items) == (2, 3)
    events = toy.encode(rows_of([["b", "z"], ["nobody", "x"], ["a", "what"]], [5.0, 6, 7]))
    assert events.user.tolist() == [1, -1, 0]
    assert events.item.tolist() == [2, 0, -1]
    assert events.feedback.tolist() == [5, 6, 7]
    assert events.weight.tolist() == [1, 1, 1]
    assert events.time.tolist() == [0, 0, 0]
    assert (toy.n_users, toy.n_items) == (2, 3)
    assert toy.encode(rows_of([["a", "x", 60]])).time.tolist() == [60]
    assert toy.known_users().user_ids.tolist() == ["a", "b"]


def test_a_part_with_two_names_is_listed_once():
    toy = make_toy()
    parts = toy.parts()
    assert list(parts) == ["users", "items", "seen", "counts", "rng"]
    assert parts["counts"] is toy.counts is toy.same_counts
    state = toy.state()
    assert state["shared"] == {"same_counts": "counts"}
    assert list(state["parts"]) == list(parts)
    toy.same_counts = Counts()
    assert list(toy.parts()) == ["users", "items", "seen", "counts", "same_counts", "rng"]
    assert toy.state()["shared"] == {}


def test_a_state_is_plain_and_makes_the_same_model():
    toy = make_toy()
    state = toy.state()
    assert set(state) == {"kind", "parts", "shared", "values"}
    assert not {"settings", "_lock", "total"} & set(state["values"])
    other = Toy(rows_of(LATER), ToySettings())
    other.load_state(pickle.loads(pickle.dumps(state)))
    assert plain(other.state()) == plain(state)
    assert other.counts is other.same_counts
    assert other.total == toy.total == 3
    toy.learn(rows_of(LATER), ToySettings())
    assert plain(other.state()) == plain(state), "a state is a copy"
    other.learn(rows_of(LATER), ToySettings())
    assert plain(other.state()) == plain(toy.state())


def test_a_state_of_another_kind_raises():
    toy = make_toy()
    before = plain(toy.state())
    with pytest.raises(ValueError, match="of a 'Other', not of a 'Toy'"):
        toy.load_state({**toy.state(), "kind": "Other"})
    assert plain(toy.state()) == before


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_independent_and_learns_the_same(clone):
    toy = make_toy()
    before, twin = plain(toy.state()), clone(toy)
    assert twin.counts is twin.same_counts
    assert plain(twin.state()) == before
    with toy.reading():  # the lock is not copied: whoever holds the one does not hold the other
        thread = threading.Thread(target=twin.learn, args=(rows_of(LATER), ToySettings()))
        thread.start()
        thread.join(30)
    assert not thread.is_alive()
    assert plain(toy.state()) == before
    toy.learn(rows_of(LATER), ToySettings())
    assert plain(twin.state()) == plain(toy.state())


def test_forget_removes_users_from_every_part_except_items():
    toy = make_toy()
    toy.learn(rows_of(LATER), ToySettings())
    toy.forget(np.array([0, 2]))
    assert toy.users.ids.tolist() == ["b", "d"]
    assert toy.items.ids.tolist() == ["x", "y", "z", "new"]
    assert toy.counts.values.tolist() == [2, 1]
    assert [toy.seen.items_of(user).tolist() for user in (0, 1)] == [[0, 1], [1]]


def test_models_that_cannot_be_merged_raise():
    toy = make_toy()
    with pytest.raises(ValueError, match=r"Toy models cannot be merged.*Fit one model"):
        toy.merge(make_toy())


def test_without_returns_kept_rows_and_new_codes():
    kept, users = without(np.array([4, 0, 2, 1, 4]), np.array([0, 2, 3]))
    assert kept.tolist() == [True, False, False, True, True]
    assert users.tolist() == [1, 0, 1]


# --------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize(
    "kind",
    [
        DecayNet,
        EventHistory,
        FeedbackMatrix,
        MatrixFactorization,
        Net,
        OnlineFeatures,
        RandomStream,
        Reservoir,
        SeenItems,
        SequenceNet,
        TextEncoder,
        Trends,
        Vocabulary,
        OnlineTables,
    ],
)
def test_parts_can_be_restored_to_a_mark(kind):
    """A module inside a `Net` has no separate state: the net saves it."""
    verbs = ("mark", "restore", "state", "load_state", "forget")
    missing = {verb for verb in verbs if not callable(getattr(kind, verb, None))}
    inside_a_net = kind in (DecayNet, SequenceNet)
    assert missing == ({"state", "load_state", "forget"} if inside_a_net else set())


def test_parts_are_recognized_by_their_methods():
    assert isinstance(Counts(), Part)
    assert isinstance(Vocabulary(), Part)
    assert not isinstance(np.zeros(3), Part)
    assert not isinstance({}, Part)


# ------------------------------------------------------------------------------ random streams


def test_a_restored_stream_draws_again_what_it_drew():
    stream = RandomStream(np.random.default_rng(7))
    stream.generator.random(3)
    mark = stream.mark()
    drawn = [stream.seed(), *stream.generator.random(5), *stream.generator.integers(9, size=3)]
    again = [stream.seed(), *stream.generator.random(5)]
    assert drawn[:6] != again
    stream.restore(mark)
    assert drawn == [
        stream.seed(), *stream.generator.random(5), *stream.generator.integers(9, size=3)
    ]  # fmt: skip
    stream.restore(mark)
    stream.restore(mark)  # a mark may be used twice
    assert stream.seed() == drawn[0]


def test_a_stream_with_a_buffered_half_number_is_restored():
    """A bit generator buffers the other half of 64 bits for the next draw of 32 bits."""
    stream = RandomStream(np.random.default_rng(7))
    stream.generator.integers(2**31, dtype=np.int32)
    mark, state = stream.mark(), stream.state()
    drawn = stream.generator.integers(2**31, size=5, dtype=np.int32).tolist()
    for restore in (lambda: stream.restore(mark), lambda: stream.load_state(state)):
        restore()
        assert stream.generator.integers(2**31, size=5, dtype=np.int32).tolist() == drawn


def test_the_state_of_a_stream_makes_one_that_draws_the_same():
    stream, other = (RandomStream(np.random.default_rng(seed)) for seed in (0, 1))
    stream.seed()
    other.load_state(stream.state())
    stream.forget(np.array([0]))
    assert [stream.seed() for _ in range(3)] == [other.seed() for _ in range(3)]
    assert 0 <= stream.seed() < np.iinfo(np.int32).max


# ------------------------------------------------------------------------- pickles


class Learns(Vocabulary):
    """A part that tries to change its model while that is pickled or copied."""

    def state(self):
        self.thread = Thread(target=self.estimator.partial_fit, args=([["eve", "rice"]],))
        self.thread.start()
        self.thread.join(0.2)
        self.finished_within.append(not self.thread.is_alive())
        return super().state()


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_no_one_learns_while_a_model_is_pickled(copied):
    estimator = PopularityRecommender().fit([["ann", "tea"], ["bob", "tea"]])
    learns = estimator._model.users
    learns.__class__, learns.estimator, learns.finished_within = Learns, estimator, []
    copied(estimator)
    assert learns.finished_within == [False]
    learns.thread.join()  # nothing is held once the pickle is done
    assert estimator.n_users_ == 3
