"""One event a call equals one row a call, to the last bit."""

import copy
import pickle
import sys
import threading

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import (
    BiasRecommender,
    HabitRecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    PopularityRecommender,
    load,
    save,
)
from sklearn_recft.event_stream import EventStream
from sklearn_recft.models import FittedModel
from sklearn_recft.parallel import SharedLock
from sklearn_recft.pipeline import RecommenderPipeline
from tests.contract.helpers import assert_same

N_EVENTS = 400
MF = {"n_factors": 5, "max_epochs": 2, "random_state": 0}
CONFIGURATIONS = {
    "ratings": (IncrementalMFRecommender(**MF), 3),
    "ratings without times": (IncrementalMFRecommender(**MF), 2),
    "decay": (IncrementalMFRecommender(**MF, half_life=10.0), 3),
    "64 factors": (IncrementalMFRecommender(max_epochs=1, random_state=0), 3),
    "shares": (IncrementalMFRecommender(**MF, loss="log_loss"), 3),
    "labels": (IncrementalMFClassifier(**MF), 3),
    "stored rows": (IncrementalMFRecommender(**MF, replay_size=20), 3),
    "bpr": (IncrementalMFRecommender(**MF, loss="bpr"), 3),
    "follow": (IncrementalMFRecommender(**MF, drift="follow"), 3),
    "bpr that decays": (IncrementalMFRecommender(**MF, loss="bpr", half_life=9.0), 3),
    "softmax": (IncrementalMFRecommender(**MF, loss="softmax", habit_half_life=9.0), 3),
    "popularity": (PopularityRecommender(), 2),
    "popularity that decays": (PopularityRecommender(half_life=5.0), 3),
    "popularity of a window": (PopularityRecommender(window=900.0), 3),
    "means": (BiasRecommender(), 3),
    "habits": (HabitRecommender(), 3),
    "habits without times": (HabitRecommender(), 2),
}
# Those whose single events are learned by steps that can be undone, and not by one kernel.
IN_STEPS = ("stored rows", "bpr", *list(CONFIGURATIONS)[8:])


def make_events(name, n=N_EVENTS, as_text=False):
    rng = np.random.default_rng(1)
    users = np.minimum(rng.geometric(0.05, n), 1 + np.arange(n) // 5)
    items = np.minimum(rng.geometric(0.04, n), 1 + np.arange(n) // 4)
    y = rng.integers(1, 6, n).astype(float)
    if name == "labels":
        y = (y > 3).astype(int)
    elif name == "shares":
        y /= 5
    ids = (lambda code: f"id {code}") if as_text else int
    times = np.sort(rng.integers(1_600_000_000, 1_700_000_000, n)).tolist()
    return [
        (ids(u), ids(i), r, t) for u, i, r, t in zip(users, items, y.tolist(), times, strict=True)
    ]


def table(events, width):
    X = np.empty((len(events), width), object)
    for row, (user, item, _, time) in enumerate(events):
        X[row] = [user, item, time][:width]
    return X, np.array([y for _, _, y, _ in events])


def pair(name, as_text=False):
    estimator, width = CONFIGURATIONS[name]
    events = make_events(name, as_text=as_text)
    model = copy.deepcopy(estimator).fit(*table(events[:100], width))
    return model, copy.deepcopy(model), events[100:], width


def assert_equal(model, other):
    assert_same(model._model.state(), other._model.state(), "model")
    assert model._model.settings == other._model.settings


def verbs_of(model):
    classifies = hasattr(model, "predict_proba")
    predict = (
        (lambda X: model.predict_proba(X)[0, 1]) if classifies else (lambda X: model.predict(X)[0])
    )
    if not hasattr(model, "partial_fit_predict" + "_proba" * classifies):
        return predict, lambda X, y: (predict(X), model.partial_fit(X, y))[0]
    learns = model.partial_fit_predict_proba if classifies else model.partial_fit_predict
    return predict, lambda X, y: learns(X, y)[0]


@pytest.mark.parametrize(
    ("name", "as_text"), [*((name, False) for name in CONFIGURATIONS), ("ratings", True)]
)
def test_events_equal_rows_to_the_bit(name, as_text):
    model, other, events, width = pair(name, as_text)
    stream, rng = model.stream(), np.random.default_rng(0)
    predict, learn = verbs_of(other)
    for event in events:
        user, item, y, time = event
        X, feedback = table([event], width)
        given = {"timestamp": time} if width == 3 else {}
        assert stream.predict_one(user, item, **given) == predict(X)
        if rng.random() < 0.5:
            stream.learn_one(user, item, y, **given)
            other.partial_fit(X, feedback)
        else:
            assert stream.predict_learn_one(user, item, y, **given) == learn(X, feedback)
        if rng.random() < 0.02:  # the ordinary methods, in between
            for one in (model, other):
                one.partial_fit(X, feedback)
    assert_equal(model, other)
    for user in (events[0][0], events[-1][0], "id 0" if as_text else 10**6):  # one is unknown
        for exclude in (True, False):
            found = stream.recommend_one(user, 3, exclude_seen=exclude)
            expected = other.recommend([user], n_recommendations=3, exclude_seen=exclude)
            for one, row in zip(found, expected, strict=True):
                assert one.dtype == row.dtype
                assert one.tolist() == row[0].tolist()
    assert stream.recommend_one(user, 3, timestamp=1_700_000_000)[0].shape == (3,)
    with pytest.raises(ValueError, match="eligible items"):
        stream.recommend_one(events[0][0], model.n_items_)


@pytest.mark.parametrize("name", IN_STEPS)
def test_an_event_that_is_interrupted_is_undone_and_no_table_is_made(name, monkeypatch):
    model, other, events, width = pair(name)
    (user, item, y, time), stream = events[0], model.stream()
    given = {"timestamp": time} if width == 3 else {}
    for target in (y, 2.0):  # memory is allocated
        stream.learn_one(user, item, target, **given)
        other.partial_fit(table([(user, item, target, time)], width)[0], [target])
    before = pickle.dumps(model)

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SharedLock, "count_writing", interrupt)
        patch.setattr(FittedModel, "learn", interrupt)
        patch.setattr(type(model), "partial_fit", interrupt)
        for verb in (stream.learn_one, stream.predict_learn_one):
            with pytest.raises(KeyboardInterrupt):
                verb(user, item, 3.0, **given)
    assert pickle.dumps(model) == before
    stream.learn_one(user, item, 3.0, **given)
    other.partial_fit(table([(user, item, 3.0, time)], width)[0], [3.0])
    assert_equal(model, other)


def test_an_event_that_cannot_be_added_in_place_counts_once():
    for name in ("popularity", "habits"):
        model, other, events, width = pair(name)
        user, item, y, time = events[0]
        given = {"timestamp": time} if width == 3 else {}
        for one in (model, other):
            one.partial_fit(table(events[:1], width)[0], [y])
        model._model.weight.setflags(write=False)
        model.stream().learn_one(user, item, y, **given)
        other.partial_fit(table([(user, item, y, time)], width)[0], [y])
        assert_equal(model, other)


def test_a_state_has_copies_of_what_events_change():
    for name in ("popularity", "means"):
        model, _, events, _ = pair(name)
        model.stream().learn_one(*events[0][:3])
        state, counts = model._model.state(), getattr(model, "popularity_", None)
        kept = copy.deepcopy((state, counts))
        model.stream().learn_one(*events[0][:3])
        assert_same([state], [kept[0]], "state")
        np.testing.assert_array_equal(counts, kept[1])


def test_positives_without_feedback():
    events = make_events("ratings")
    X, _ = table(events, 2)
    model = IncrementalMFClassifier(**MF).fit(X[:100])
    other, stream = copy.deepcopy(model), model.stream()
    for user, item, _, _ in events[100:200]:
        stream.learn_one(user, item)
        other.partial_fit([[user, item]])
    assert_equal(model, other)


@pytest.mark.parametrize("name", ["ratings", "shares", "labels"])
def test_numbers_of_numpy_are_those_of_python(name):
    model, other, events, _ = pair(name)
    streams = model.stream(), other.stream()
    for user, item, y, time in [*events[:5], (501, 500, events[0][2], 7), (502, 501, 1, 8)]:
        boxed = np.int32(user), np.int64(item), np.asarray(y)[()], np.int64(time)
        assert streams[0].predict_one(*boxed[:2], boxed[3]) == streams[1].predict_one(user, item)
        assert streams[0].predict_learn_one(*boxed) == streams[1].predict_learn_one(
            user, item, y, time
        )
    found, expected = (
        one.recommend_one(kind(501), 3) for one, kind in zip(streams, (np.uint16, int), strict=True)
    )
    assert found[0].tolist() == expected[0].tolist()
    assert_equal(model, other)


@pytest.mark.parametrize("verb", ["learn_one", "predict_learn_one"])
def test_new_ids_take_the_spare_rows_of_the_tables(monkeypatch, verb):
    model, other, events, _ = pair("ratings")
    calls, learn = [], type(model._model).learn
    monkeypatch.setattr(
        type(model._model), "learn", lambda *args, **given: calls.append(1) or learn(*args, **given)
    )
    stream = model.stream()
    for new in range(1000, 1200):
        getattr(stream, verb)(new if new % 3 else events[0][0], new if new % 5 else 1, 3.5)
    assert len(calls) <= 16  # when a table grows by half, or the log of seen items
    for new in range(1000, 1200):
        ids = [[new if new % 3 else events[0][0], new if new % 5 else 1, 0]]
        (other.partial_fit if verb == "learn_one" else other.partial_fit_predict)(ids, [3.5])
    assert_equal(model, other)


def test_a_new_id_whose_rows_would_be_too_large_is_learned_as_a_row_is():
    model, other, _, _ = pair("ratings")
    stream = model.stream()
    for one in (stream.learn_one, lambda u, i, y, t: other.partial_fit([[u, i, t]], [y])):
        one(1000, 1000, 3.0, 1_700_000_000)
        one(1001, 1, 9e17, 1_700_000_000)
        one(2, 1001, 9e17, 1_700_000_000)
    assert_equal(model, other)


def test_events_of_known_ids_make_no_call(monkeypatch):
    model, _, events, _ = pair("ratings")
    stream, (user, item, y, time) = model.stream(), events[0]
    stream.predict_learn_one(user, item, y, time)

    def fail(*_, **__):
        raise AssertionError("called")

    for name in ("partial_fit", "partial_fit_predict", "predict", "recommend"):
        monkeypatch.setattr(type(model), name, fail)
    monkeypatch.setattr(type(model._model), "learn", fail)
    assert np.isfinite(stream.predict_one(user, item))
    stream.learn_one(user, item, y, time)
    stream.predict_learn_one(user, item, 3, time)
    stream.learn_one(user, item, np.float64(3), time)
    stream.learn_one(np.int64(user), np.int32(item), np.float32(3), np.float64(time))
    assert np.isfinite(stream.predict_one(np.int64(user), 10**6))
    assert len(stream.recommend_one(np.int64(user), 3)[0]) == 3


WRONG = [
    (None, 2, 3.0, 5), (float("nan"), 2, 3.0, 5), ([1], 2, 3.0, 5), (1, {}, 3.0, 5),
    (1, 2, float("nan"), 5), (1, 2, np.inf, 5), (1, 2, "good", 5), (1, 2, None, 5),
    (1, 2, 3.0, float("nan")), (1, 2, 3.0, 1e13), (1, 2, 3.0, True), (1, 2, 3.0, "soon"),
    (1, 2, 1e39, 5),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("event", WRONG)
def test_a_wrong_event_is_refused_as_a_row_is_and_changes_nothing(event):
    model, other, events, width = pair("ratings")
    stream = model.stream()
    stream.learn_one(*events[0])
    user, item, y, time = event
    before = pickle.dumps(model)
    with pytest.raises((TypeError, ValueError)) as found:
        stream.learn_one(user, item, y, time)
    X = np.empty((1, width), object)
    X[0] = np.fromiter([user, item, time], object, 3)
    with pytest.raises((TypeError, ValueError)) as expected:
        other.partial_fit(X, None if y is None else [y])
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))
    with pytest.raises(type(found.value)):
        stream.predict_learn_one(user, item, y, time)
    assert pickle.dumps(model) == before


@pytest.mark.filterwarnings("ignore:user_id. none of 1 rows")
@pytest.mark.parametrize("user", [True, 3.0, np.int64(3), np.str_("a"), 2**70, ("a", 1)])
def test_unusual_ids_are_those_of_a_table(user):
    model, other, _, _ = pair("bpr")
    model.stream().learn_one(user, 2, 3.0, 1_700_000_000)
    X = np.empty((1, 3), object)
    X[0] = np.fromiter([user, 2, 1_700_000_000], object, 3)
    other.partial_fit(X, [3.0])
    assert_equal(model, other)


def test_ids_of_another_type_are_warned_of():
    model, _, _, _ = pair("ratings")
    with pytest.warns(UserWarning, match="user_id: none of 1 rows is known"):
        model.stream().learn_one("7", 2, 3.0, 1_700_000_000)


def test_parameters_are_checked_when_they_change():
    model, other, events, width = pair("ratings")
    stream = model.stream()
    for rate in (None, 0.01, 0.1):
        for event in events[:20]:
            model.set_params(learning_rate=rate)
            other.set_params(learning_rate=rate)
            stream.learn_one(*event)
            other.partial_fit(*table([event], width))
    assert_equal(model, other)
    model.set_params(n_factors=7)
    with pytest.raises(ValueError, match="n_factors=7 was set after fit"):
        stream.learn_one(*events[0])
    model.set_params(n_factors=5, learning_rate=-1)
    with pytest.raises(ValueError, match="learning_rate"):
        stream.learn_one(*events[0])


def test_a_time_is_needed_where_a_row_needs_one():
    model, _, events, _ = pair("decay")
    stream = model.stream()
    stream.learn_one(*events[0])
    with pytest.raises(ValueError, match="half_life needs the column `timestamp`"):
        stream.learn_one(*events[0][:3])


def test_a_stream_follows_fit_and_forget_and_copies_go_their_own_way(tmp_path):
    model, other, events, width = pair("ratings")
    stream = model.stream()
    for one in (model, other):
        one.forget([events[0][0]])
    save(model, tmp_path / "model")
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), load(tmp_path / "model")]
    streams = [stream, *(one.stream() for one in copies)]
    before = pickle.dumps(copies[0])
    for event in events[:60]:
        stream.learn_one(*event)
        other.partial_fit(*table([event], width))
    assert_equal(model, other)
    assert pickle.dumps(copies[0]) == before
    for event in events[:60]:
        for one in streams[1:]:
            one.learn_one(*event)
    for one in copies:
        assert_equal(one, model)
    model.fit(*table(events[:50], width))
    other.fit(*table(events[:50], width))
    stream.learn_one(*events[50])
    other.partial_fit(*table(events[50:51], width))
    assert_equal(model, other)
    assert pickle.loads(pickle.dumps(stream)).predict_one(1, 2) == stream.predict_one(1, 2)


def test_a_state_that_was_taken_does_not_change():
    model, _, events, _ = pair("ratings")
    stream = model.stream()
    stream.learn_one(*events[0])
    state = model._model.state()
    kept = copy.deepcopy(state)
    stream.learn_one(*events[0])
    assert_same(state, kept, "state")


def test_an_unfitted_recommender_starts_with_the_first_event():
    events = make_events("ratings", 300)
    model, other = IncrementalMFRecommender(**MF), IncrementalMFRecommender(**MF)
    stream = model.stream()
    with pytest.raises(NotFittedError):
        stream.predict_one(1, 2)
    with pytest.raises(ValueError, match="call fit or partial_fit on a table"):
        stream.learn_one(1, 2, 3.0, hour=4)
    found = [stream.predict_learn_one(*event) for event in events]
    assert found == other.partial_fit_predict(*table(events, 3)).tolist()
    assert_same(model._model.state(), other._model.state(), "model")


def test_context_comes_by_name():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 9, (80, 2)), np.arange(80), rng.integers(0, 24, 80)])
    y = rng.integers(1, 6, 80).astype(float)
    model = IncrementalMFRecommender(**MF).fit(X, y)
    other = copy.deepcopy(model)
    model.stream().learn_one(1, 2, 3.0, 90, x3=7)
    other.partial_fit([[1, 2, 90, 7]], [3.0])
    assert_equal(model, other)
    with pytest.raises(ValueError, match=r"Context columns missing: \['x3'\]"):
        model.stream().learn_one(1, 2, 3.0, 90)
    for call in (model.stream().predict_one, model.stream().learn_one):
        with pytest.raises(ValueError, match=r"\['item_id'\] are given twice"):
            call(1, 2, timestamp=90, x3=7, item_id=5)
    assert_equal(model, other)


@pytest.mark.parametrize(
    ("ids", "verb", "step"),
    [((), "learn_one", 1), ((901, 901), "learn_one", 3), ((2, 901), "predict_learn_one", 3)],
)
def test_an_interrupt_leaves_the_old_or_the_new_model(ids, verb, step):
    model, _, events, _ = pair("ratings")
    event = (*ids, 2.0, 1_700_000_000) if ids else events[0]
    model.stream().learn_one(*events[0])
    before, seen = pickle.dumps(model), set()

    def with_room():
        trial = pickle.loads(before)
        stream = trial.stream()
        stream.learn_one(900, 900, 3.0, 1_700_000_000)
        stream._prepare()
        return trial, stream

    old = _as_bytes(with_room()[0])
    twin, stream = with_room()
    getattr(stream, verb)(*event)
    new = _as_bytes(twin)
    for place in range(0, 400, step):
        trial, stream = with_room()
        interrupted = _interrupted(lambda s=stream: getattr(s, verb)(*event), place)
        state = _as_bytes(trial)
        assert state in (old, new) if interrupted else state == new
        seen.add(state)
        stream.learn_one(*event)  # nothing is locked
        if not interrupted:
            break
    assert 10 < place < 390
    assert seen == {old, new}


def _as_bytes(model):
    return pickle.dumps(pickle.loads(pickle.dumps(model._model)))


def _interrupted(call, place):
    count = iter(range(10_000))

    def trace(frame, event, _):
        if "sklearn_recft" not in frame.f_code.co_filename:
            return None
        if event == "line" and next(count) == place:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def test_threads_learn_every_event():
    model, _, events, _ = pair("ratings")
    n_before = model._model.moments[0]

    def learn(stream):
        for event in events[:150]:
            stream.learn_one(*event)
            stream.predict_one(*event[:2])

    def read():
        for _ in range(40):
            model.recommend([1], n_recommendations=3)

    shared = model.stream()
    calls = [lambda: learn(shared), lambda: learn(shared), lambda: learn(model.stream()), read]
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model._model.moments[0] == n_before + 450
    assert np.isfinite(model.user_factors_).all()


def test_a_pipeline_has_the_stream_of_its_last_step_if_nothing_transforms():
    events = make_events("ratings", 60)
    recommender = PopularityRecommender()
    pipe = RecommenderPipeline([("rows", "passthrough"), ("list", recommender)])
    pipe.fit(table(events, 3)[0])
    pipe.stream().learn_one(1, 2, timestamp=events[-1][3])
    recommender.fit(table([*events, (1, 2, None, events[-1][3])], 3)[0])
    found = pipe.recommend([999], n_recommendations=5)
    assert found[1].tolist() == recommender.recommend([999], n_recommendations=5)[1].tolist()
    pipe.set_params(rows=FunctionTransformer())
    with pytest.raises(ValueError, match=r"the steps \['rows'\] read tables"):
        pipe.stream()


def test_any_recommender_has_a_stream():
    model = PopularityRecommender().fit(table(make_events("ratings", 60), 3)[0])
    other, stream = copy.deepcopy(model), model.stream()
    assert isinstance(stream, EventStream)
    row = [[1, 2, 1_700_000_000]]
    assert stream.predict_learn_one(*row[0][:2], timestamp=row[0][2]) == other.predict(row)[0]
    assert_equal(model, other.partial_fit(row))
