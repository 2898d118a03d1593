"""Events that are observed first and learned later are stored once."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sklearn_recft import RealtimeTransformerRecommender
from sklearn_recft.events import Events
from sklearn_recft.models._sequence_log import known_again, with_defaults

NAMES = ("user", "item", "time", "feedback", "weight", "context")


def make_rows(rng, n):
    users, items = rng.integers(2, size=n), rng.integers(2, size=n)
    times = rng.integers(3, size=n).astype(float)
    weight, context = rng.random(n).astype(np.float32), rng.random((n, 1)).astype(np.float32)
    return Events(users, items, times, rng.normal(size=n), weight, context)


@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 12))
def test_stored_events_are_matched_one_by_one(seed, n_known, n_new):
    rng = np.random.default_rng(seed)
    known, new = make_rows(rng, n_known), make_rows(rng, n_new)
    known.weight[:] = 0
    before = copy.deepcopy(known)
    weight, context, kept = known.weight.copy(), known.context.copy(), []
    taken = set()
    for row in range(n_new):
        alike = [
            place
            for place in range(n_known)
            if place not in taken
            and all(
                getattr(known, name)[place] == getattr(new, name)[row]
                for name in ("user", "item", "time")
            )
        ]
        if alike:
            taken.add(alike[0])
            weight[alike[0]], context[alike[0]] = new.weight[row], new.context[row]
        else:
            kept.append(row)
    targets, rest = known_again(known, new)
    assert_array_equal(targets.weight, weight)
    assert_array_equal(targets.context, context)
    for name in NAMES:
        assert_array_equal(getattr(rest, name), getattr(new, name)[np.array(kept, int)])
        assert_array_equal(getattr(known, name), getattr(before, name))  # not written to
        if name not in ("weight", "context"):
            assert getattr(targets, name) is getattr(known, name)


def test_positive_stored_events_get_a_weight_and_the_average_context():
    stored = make_rows(np.random.default_rng(0), 9)
    found = with_defaults(stored, weight=0.5, context=np.array([3.0, 4.0]))
    assert_array_equal(found.weight, np.where(stored.feedback > 0, 0.5, 0.0))
    assert_array_equal(found.context, [[3.0, 4.0]] * 9)
    assert found.weight.dtype == found.context.dtype == np.float32
    assert found.item is stored.item


@pytest.fixture(scope="module")
def log():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "user_id": rng.integers(12, size=300), "item_id": rng.integers(15, size=300),
            "timestamp": np.sort(rng.integers(10_000, size=300)), "hour": rng.random(300),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def fitted(log):
    model = RealtimeTransformerRecommender(max_epochs=2, random_state=0, width=8)
    return model.fit(log[:200])


def answers(model, log):
    queries = pd.DataFrame({"user_id": range(14), "timestamp": 20_000.0, "hour": 0.5})
    return np.concatenate(
        [model.predict(log), model.recommend(queries, exclude_seen=False)[1].ravel()]
    )


def test_observing_first_does_not_change_training(fitted, log):
    at_once = copy.deepcopy(fitted).partial_fit(log[200:])
    followed = copy.deepcopy(fitted)
    for row in range(200, 300):
        followed.observe(log[row : row + 1])
    assert (answers(followed, log) != answers(at_once, log)).any()
    followed.partial_fit(log[200:])
    assert_array_equal(answers(followed, log), answers(at_once, log))
    assert_array_equal(followed._model.counts.n_events, at_once._model.counts.n_events)
    assert_array_equal(followed._model.counts.n_learned, at_once._model.counts.n_learned)


def test_a_repeated_event_changes_nothing(fitted, log):
    once = copy.deepcopy(fitted).observe(log[200:])
    again = copy.deepcopy(once).observe(log[150:])
    assert_array_equal(answers(again, log), answers(once, log))


def test_without_timestamps_repeated_events_are_stored_twice(log):
    X = log[["user_id", "item_id"]]
    model = RealtimeTransformerRecommender(max_epochs=1, random_state=0, width=8)
    model.fit(X[:200])
    before = model._model.counts.n_events.copy()
    model.observe(X[:10])
    assert model._model.counts.n_events.sum() == before.sum() + 10
