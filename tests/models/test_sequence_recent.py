"""Lists of one user, whose states are kept from earlier lists, equal lists computed anew."""

import copy
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_recft.models import SequenceModel
from sklearn_recft.models._sequence_recent import KnownStates, StateCache
from sklearn_recft.modules import SequenceNet
from tests.models.sequence_data import LATER, N_ITEMS, make_log, make_model

USERS, MAX_HISTORY, STEPS = 2, 4, 20
SETTINGS = {
    "two layers": {},
    "three layers": {"n_layers": 3},
    "texts": {"backbone": "scratch"},
    "no times": {"query_time": False, "decay": "none"},
}


def with_texts(X):
    return X.assign(text=[f"tea no {item}" for item in X.item_id])


@pytest.fixture(scope="module", params=SETTINGS.values(), ids=SETTINGS)
def fitted(request):
    X = with_texts(make_log(5))
    if "decay" in request.param:
        X = X.drop(columns="timestamp")
    return make_model(max_history=MAX_HISTORY, learning_rate=0.05, **request.param).fit(X)


def lists(model, user, time=None, n=1):
    """Recommend to one user; several equal queries at a time are computed anew."""
    queries = pd.DataFrame({"user_id": [user] * n})
    if time is not None:
        queries["timestamp"] = time
    items, scores = model.recommend(queries, n_recommendations=5, exclude_seen=False)
    return items[0], scores[0]


def check(model, time=None):
    for user in model.user_ids_[: USERS + 1]:
        kept, anew = lists(model, user, time), lists(model, user, time, n=2)
        assert_array_equal(kept[0], anew[0])
        assert_allclose(kept[1], anew[1], rtol=0, atol=2e-6)


def make_rows(rng, hour, timed):
    """Make events of few users: many ties, and some that come late."""
    n = rng.integers(1, 4)
    X = {"user_id": rng.integers(0, USERS, n), "item_id": rng.integers(0, N_ITEMS + 2, n)}
    late = 5 * (rng.random(n) < 0.1)
    if timed:
        X["timestamp"] = LATER + 3600.0 * (hour - late)
    return with_texts(pd.DataFrame(X)).drop_duplicates(["user_id", "item_id"])


def test_kept_states_equal_states_computed_anew(fitted, monkeypatch):
    model, rng, timed = copy.deepcopy(fitted), np.random.default_rng(0), fitted._model.timed
    for step in range(STEPS):
        rows = make_rows(rng, step // 2, timed)
        if step == 6:
            model.partial_fit(rows)
        elif step == 10:
            model.forget([rows.user_id.iloc[0]])
        elif step == 14:
            with monkeypatch.context() as patch:
                patch.setattr(SequenceModel, "_is_finite", lambda *_: False)
                with pytest.raises(ValueError, match="diverged"):
                    model.partial_fit(rows)
        else:
            model.observe(rows)
        check(model, LATER + 3600.0 * (step // 2 - rng.integers(-1, 3)) if timed else None)
        assert len(model._model.recent) <= USERS + 1


@pytest.fixture
def counted(monkeypatch):
    """Count the states that are computed."""
    counts, plain = [], SequenceNet.event_states

    def event_states(self, table, item, *args, first=0):
        counts.append(item.shape[1] - first)
        return plain(self, table, item, *args, first=first)

    monkeypatch.setattr(SequenceNet, "event_states", event_states)
    return counts


def test_only_states_of_new_events_are_computed(counted):
    model, now = make_model(max_history=MAX_HISTORY).fit(make_log(5)), LATER
    for step, n_expected in enumerate([MAX_HISTORY, 1, 1, 2, 1, 1]):
        for _ in range(n_expected if step else 0):
            now += 60.0
            model.observe([[0, (step + now) % N_ITEMS, now]])
        before = len(counted)
        lists(model, 0, now)
        lists(model, 0, now + 5.0)
        assert counted[before:] == [n_expected]
    before = len(counted)
    model.observe([[1, 2, now], ["new", "new", now]])  # others' events, and a new item
    lists(model, 0, now)
    assert counted[before:] == []
    model.partial_fit([[1, 2, now]])
    assert not len(model._model.recent)
    lists(model, 0, now)
    assert counted[-1] == MAX_HISTORY


def test_nothing_is_kept_in_copies_files_views_or_of_erased_users():
    model = make_model().fit(make_log(5))
    before = model._model.state()
    lists(model, 0)
    assert len(model._model.recent) == 1
    assert_equal_states(before, model._model.state())
    assert not len(copy.deepcopy(model)._model.recent)
    model.recommend([[0]], n_recommendations=1, history=[[0, 1, LATER]])
    assert len(model._model.recent) == 1
    model.forget([5])
    assert not len(model._model.recent)


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    assert one["parts"].keys() == other["parts"].keys()
    assert one["values"].keys() == other["values"].keys()


def test_bytes_are_bounded_and_the_least_recently_used_go_first():
    entry = KnownStates(np.zeros((2, 3)), torch.zeros(1, 2, 4))
    recent = StateCache(max_bytes=2 * entry.nbytes)
    recent.put(0, entry)
    recent.put(1, entry)
    recent.put(1, entry)
    assert recent.get(0) is entry
    assert recent.n_bytes == 2 * entry.nbytes
    recent.put(2, entry)
    assert recent.get(1) is None
    assert recent.get(0) is entry
    assert recent.get(2) is entry
    assert recent.n_bytes == 2 * entry.nbytes
    recent.put(3, KnownStates(np.zeros((100, 3)), torch.zeros(1, 2, 4)))
    assert len(recent) == 0
    assert recent.n_bytes == 0


@pytest.mark.parametrize("line", range(9))
def test_an_interrupt_leaves_no_bytes_uncounted(line):
    small, large = (KnownStates(np.zeros((n, 3)), torch.zeros(1, n, 4)) for n in (2, 90))
    recent = StateCache(max_bytes=large.nbytes + 2 * small.nbytes)
    recent.put(0, small)
    recent.put(1, small)
    lines = iter(range(99))

    def interrupt(frame, event, _):
        if frame.f_code.co_name == "put" and event == "line" and next(lines) == line:
            sys.settrace(None)
            raise KeyboardInterrupt
        return interrupt

    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            recent.put(1, large)
    finally:
        sys.settrace(None)
    kept = [known.nbytes for known in map(recent.get, (0, 1)) if known is not None]
    assert sum(kept) <= recent.n_bytes
    for user in range(2, 9):
        recent.put(user, small)
    kept = [known.nbytes for known in map(recent.get, range(9)) if known is not None]
    assert sum(kept) <= recent.n_bytes <= recent.max_bytes


def test_threads_that_list_and_observe_leave_states_of_the_events():
    model = make_model(max_history=MAX_HISTORY).fit(make_log(5))

    def work(thread):
        rng = np.random.default_rng(thread)
        for step in range(10):
            model.observe([[int(rng.integers(USERS)), int(rng.integers(9)), LATER + step]])
            lists(model, int(rng.integers(USERS)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    check(model)
