"""The benchmark of new items: what a model sees before each list, and the expectations."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.new_items import bench_new_items as bench
from benchmarks.realtime.log import Log

SPAN = (2297, 2300)


@pytest.fixture(scope="module")
def weeks():
    """Four weeks; two items come in each."""
    rng = np.random.default_rng(0)
    week = np.sort(rng.integers(2296, 2300, 200))
    item = 2 * (week - 2296) + rng.integers(0, 2, 200) - 2 * rng.integers(0, 3, 200)
    events = pd.DataFrame(
        {
            "user_id": rng.integers(0, 9, 200),
            "item_id": np.maximum(item, 0),
            "timestamp": bench.MONDAY + week * bench.WEEK + np.arange(200),
        }
    )
    titles = pd.DataFrame({"item_id": np.arange(8), "text": [f"soap {n}" for n in range(8)]})
    return bench.Weeks(Log("toy", events, titles, True))


class Notes:
    """Notes down what it learns, and lists its items, the newest first."""

    def __init__(self):
        self.items, self.last, self.without_events = [], -np.inf, set()

    def fit(self, events, items):
        self.items = items["item_id"].tolist()
        assert set(events["item_id"]) == set(self.items)
        self.partial_fit(events)

    def add_items(self, items):
        assert list(items.columns) == ["item_id", "text"]
        assert not set(items["item_id"]) & set(self.items)
        self.items += items["item_id"].tolist()
        self.without_events = set(items["item_id"])

    def partial_fit(self, events):
        assert list(events.columns) == bench.COLUMNS
        self.last = max(self.last, events["timestamp"].max())
        self.without_events -= set(events["item_id"])

    def recommend(self, queries, n_recommendations, candidates=None):
        assert (queries["timestamp"] > self.last).all()  # no event of the week is known
        assert len(self.without_events) == 2
        assert candidates is None or set(candidates) == self.without_events
        items = (self.items[::-1] + [-1] * 10)[:n_recommendations]
        return np.tile(items, (len(queries), 1)), None


def test_models_see_titles_of_new_items_and_no_event_of_the_week(weeks):
    model = Notes()
    assert bench.fitted(weeks, SPAN[0], model) >= 0
    found, _ = bench.lists_by_week(weeks, SPAN, model, 0, "partial_fit", SPAN[0])
    assert found["in_list"] == 2
    assert 0.6 < found["new"] <= 1  # the two new items are first
    assert found["new"] == pytest.approx(found["shelf"])
    later, _ = bench.lists_by_week(weeks, (SPAN[1], SPAN[1]), model, 0, "partial_fit", SPAN[0])
    assert later == {}


def test_expectations_of_random_orders(weeks, monkeypatch):
    monkeypatch.setitem(bench.PARTS, "toy", SPAN)
    found = dict(bench.references(weeks, "toy"))
    assert found["new items first, random order"]["new"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert found["whole catalogue, random order"]["all"] < 1
    anywhere = found["content, whole catalogue"]["new"]
    assert 0 < anywhere < found["content, new items first"]["new"] <= 1


@pytest.fixture(scope="module")
def mixed(weeks):
    model = bench.TitleHead()
    bench.fitted(weeks, SPAN[0], model)
    own, mixed = bench.lists_by_week(weeks, SPAN, model, 0, "partial_fit", SPAN[0], (0.0, 1e6))
    return model, own, mixed


def test_a_weight_of_the_cosine_lifts_new_items_alone(weeks, mixed, monkeypatch):
    _, own, mixed = mixed
    assert mixed[0.0] == pytest.approx(own)
    monkeypatch.setitem(bench.PARTS, "toy", SPAN)
    content = dict(bench.references(weeks, "toy"))["content, new items first"]["new"]
    # Every title has another word; a tie of cosines is broken by the model, here by the mean.
    assert mixed[1e6]["shelf"] == pytest.approx(content, abs=0.2)
    assert mixed[1e6]["in_list"] > 1.9


def test_a_new_item_has_the_factors_of_its_title(mixed):
    model, *_ = mixed
    queries = pd.DataFrame({"user_id": [0, 99]})
    lists, scores = model.recommend(queries, 8)
    known = scores > -np.inf
    assert not set(lists[0][known[0]]) & set(model.events["item_id"][model.events["user_id"] == 0])
    place = {item: row for row, item in enumerate(model.items["item_id"])}
    rows = [place[item] for item in lists[1]]
    assert np.array_equal(model.bias[rows], np.sort(model.bias)[::-1])  # an unknown user
    user = model.user[0]
    for item, score in zip(lists[0][known[0]], scores[0][known[0]], strict=True):
        row = place[item]
        expected = model.user_factors[user] @ model.factors[row] + model.bias[row]
        assert score == pytest.approx(expected, abs=1e-5)
