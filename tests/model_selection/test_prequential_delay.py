"""Lists over days and weeks while labels arrive late, against a replay in plain words."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_recft import PopularityRecommender
from sklearn_recft.model_selection import iter_prequential, prequential_score

DAY = 86_400


def replay(log, period, warm_up, label_delay, learn, k, threshold, exclude_seen):
    """Popularity, day by day: what was asked, what came back, and recall and NDCG of it.

    A log is a list of (user, item, day, y). Nothing is shared with the package: dicts, sets
    and loops.
    """
    order = sorted(range(len(log)), key=lambda row: (log[row][2], row))
    chunks = {}
    for row in order[warm_up:]:
        number = math.floor((log[row][2] - log[order[warm_up]][2]) / period)
        chunks.setdefault(number, []).append(row)
    known, steps = None, []
    for chunk in chunks.values():
        before = order[: order.index(chunk[0])]
        clock = log[chunk[0]][2]
        arrived = [r for r in before if not label_delay or log[r][2] + label_delay <= clock]
        if known is None and not arrived:
            return None
        if known is None or learn != "never":
            known = arrived
        steps.append(judge(log, chunk, known, k, threshold, exclude_seen))
    return steps


def judge(log, chunk, known, k, threshold, exclude_seen):
    catalogue, score, seen = [], {}, {}
    for row in known:
        user, item, _, y = log[row]
        if item not in catalogue:
            catalogue.append(item)
        score[item] = score.get(item, 0) + (1 if y is None else y)
        seen.setdefault(user, set()).add(item)
    wanted = {}
    for row in chunk:
        user, item, _, y = log[row]
        if y is None or (y > 0 if threshold is None else y >= threshold):
            wanted.setdefault(user, set()).add(item)
    recall, ndcg = [], []
    for user, items in wanted.items():
        ranked = sorted(catalogue, key=lambda item: (-score[item], catalogue.index(item)))
        if exclude_seen:
            ranked = [item for item in ranked if item not in seen.get(user, ())]
        gains = [1 / math.log2(place + 2) for place, i in enumerate(ranked[:k]) if i in items]
        ideal = [1 / math.log2(place + 2) for place in range(min(k, len(items)))]
        recall.append(len(gains) / len(items))
        ndcg.append(sum(gains) / sum(ideal))
    mean = [float(np.mean(values)) if values else math.nan for values in (recall, ndcg)]
    return chunk, len(wanted), *mean


events = st.tuples(
    st.integers(0, 3),  # user
    st.integers(0, 6),  # item
    st.sampled_from([0, 0.25, 1, 2, 2.5, 3, 5, 8, 13, 14, 20, 21, 22, 34]),  # day, with ties
    st.integers(0, 3),  # y
)


@settings(deadline=None)  # the first lists may have to wait for a compiler
@given(
    log=st.lists(events, min_size=3, max_size=40),
    with_y=st.booleans(),
    threshold=st.sampled_from([None, 2]),
    period=st.sampled_from([1, 2.5, 7]),
    warm_up=st.integers(1, 12),
    label_delay=st.sampled_from([0, 0.25, 1, 3, 7]),
    learn=st.sampled_from(["partial_fit", "refit", "never"]),
    k=st.integers(1, 5),
    exclude_seen=st.booleans(),
)
def test_equals_a_replay_in_plain_words(log, with_y, threshold, warm_up, **options):
    warm_up = min(warm_up, len(log) - 1)
    if not with_y:
        log, threshold = [(user, item, day, None) for user, item, day, _ in log], None
    X = np.array([(user, item, day * DAY) for user, item, day, _ in log])
    y = np.array([row[3] for row in log]) if with_y else None
    expected = replay(log, warm_up=warm_up, threshold=threshold, **options)
    steps = iter_prequential(
        PopularityRecommender(), X, y, warm_up=warm_up, scoring=("recall", "ndcg"),
        relevance_threshold=threshold, **options,
    )  # fmt: skip
    if expected is None:
        with pytest.raises(ValueError, match="label before the first chunk"):
            next(steps)
        return
    for step, (rows, n_queries, recall, ndcg) in zip(steps, expected, strict=True):
        assert step.rows.tolist() == rows
        assert step.n_queries == n_queries
        found = [step.metrics[f"{name}@{options['k']}"] for name in ("recall", "ndcg")]
        np.testing.assert_allclose(found, [recall, ndcg], atol=1e-12)


class Watched(PopularityRecommender):
    """Keeps what it has been shown, and compares it with every question."""

    def fit(self, X, y=None, sample_weight=None):
        self.shown_ = np.empty((0, 3))
        return self._watch(super().fit(X, y, sample_weight), X)

    def partial_fit(self, X, y=None, sample_weight=None):
        return self._watch(super().partial_fit(X, y, sample_weight), X)

    @staticmethod
    def _watch(self, X):
        self.shown_ = np.concatenate([self.shown_, X])
        return self

    def recommend(self, X, **options):
        self.asked_ = [*getattr(self, "asked_", []), (np.asarray(X), self.shown_)]
        return super().recommend(X, **options)


@pytest.mark.parametrize("learn", ["partial_fit", "refit"])
@pytest.mark.parametrize("label_delay", [0.5, 2, 10])
def test_no_question_meets_a_label_that_has_not_arrived(learn, label_delay):
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [rng.integers(0, 8, 500), rng.integers(0, 30, 500), rng.integers(0, 60 * DAY, 500)]
    )
    model = Watched()
    options = {"warm_up": 0.4, "period": 7, "scoring": ("recall",), "learn": learn}
    steps = list(iter_prequential(model, X, label_delay=label_delay, **options))
    assert len(steps) > 3
    starts = {step.first_timestamp for step in steps}
    assert len(model.asked_) >= len(steps)
    for queries, shown in model.asked_:
        assert queries.shape[1] == 2  # user and time, never an item
        begin = max(start for start in starts if start <= queries[:, 1].min())
        assert shown[:, 2].max() + label_delay * DAY <= begin
        # And everything that has arrived is there: nothing is forgotten or learned twice.
        assert len(shown) == np.count_nonzero(X[:, 2] + label_delay * DAY <= begin)


def test_an_item_stays_on_offer_until_its_label_arrives():
    X = pd.DataFrame(
        [
            ("bob", "tea", 0), ("bob", "tea", 0), ("cem", "milk", 0),
            ("ann", "tea", 10),  # its label arrives on day 13
            ("ann", "rice", 12),
            ("ann", "salt", 14),
        ],
        columns=["user_id", "item_id", "timestamp"],
    )  # fmt: skip
    X["timestamp"] *= DAY
    model = Watched()
    offered = []
    for _ in iter_prequential(
        model, X, warm_up=3, period=1, label_delay=3, scoring=("recall",), k=1
    ):
        items, _ = model.recommend(["ann"], n_recommendations=1)
        offered.append(items[0, 0])
    # Each step has learned what will be known as the next one begins: on days 12, 14, 14.
    assert offered == ["tea", "milk", "milk"]


def test_weeks_of_likes_sum_up_over_all_lists():
    rng = np.random.default_rng(1)
    days = np.sort(rng.uniform(0, 70, 600))
    X = np.column_stack([rng.integers(0, 9, 600), rng.integers(0, 25, 600), days * DAY])
    y = rng.integers(0, 6, 600)
    result = prequential_score(
        PopularityRecommender(), X, y, warm_up=100, period=7, label_delay=2,
        scoring=("ndcg", "rmse"), k=5, relevance_threshold=4,
    )  # fmt: skip
    first = X[100, 2]
    for step in result.steps:
        week = (X[step.rows, 2] - first) // (7 * DAY)
        assert len(set(week)) == 1
        assert step.n_queries == len(set(X[step.rows][y[step.rows] >= 4, 0]))
    lists = np.array([step.n_queries for step in result.steps])
    scores = np.array([step.metrics["ndcg@5"] for step in result.steps])
    assert result.metrics["ndcg@5"] == pytest.approx((lists * scores).sum() / lists.sum())
    late = prequential_score(
        PopularityRecommender(), X, y, warm_up=100, period=7, label_delay=0, scoring=("rmse",)
    )
    assert late.metrics["rmse"] != result.metrics["rmse"]
