"""Ranking scorers against a by-hand evaluation, and inside scikit-learn's tools."""

import math
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import PopularityRecommender, metrics
from sklearn_recft.metrics import (
    make_ranking_scorer,
    ndcg_at_k,
    recall_at_k,
    recommend_up_to,
)

METRICS = ["ndcg", "recall", "precision", "hit_rate", "mrr", "map"]


class InOrder(BaseEstimator):
    """Recommends the catalogue in the order it was met, and remembers what it was asked."""

    def fit(self, X, y=None, sample_weight=None):
        rows = np.asarray(X)
        self.catalogue_ = list(dict.fromkeys(rows[:, 1].tolist()))
        self.seen_ = {}
        for user, item in rows[:, :2].tolist():
            self.seen_.setdefault(user, set()).add(item)
        return self

    @property
    def n_items_(self):
        return len(self.catalogue_)

    def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
        self.asked = X
        lists = []
        for row in np.asarray(X):
            user = row[0] if np.ndim(row) else row
            seen = self.seen_.get(user, set()) if exclude_seen else set()
            eligible = [item for item in self.catalogue_ if item not in seen]
            if len(eligible) < n_recommendations:
                raise ValueError(f"{len(eligible)} eligible items")
            lists.append(eligible[:n_recommendations])
        return np.array(lists), np.zeros((len(lists), n_recommendations))


def random_log(seed, n=300, n_users=12, n_items=40):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.integers(0, n_users, n), rng.integers(0, n_items, n), np.arange(n)])
    return X, rng.integers(0, 6, n)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("threshold", [None, 4])
def test_equals_evaluation_by_hand(exclude_seen, threshold):
    X, y = random_log(0)
    train, test = np.arange(200), np.arange(200, 300)
    model = InOrder().fit(X[train])
    relevant, lists = [], []
    for user in range(12):
        liked = y[test] > 0 if threshold is None else y[test] >= threshold
        took = set(X[test][(X[test][:, 0] == user) & liked][:, 1].tolist())
        if took:
            relevant.append(took)
            lists.append(
                model.recommend([user], n_recommendations=7, exclude_seen=exclude_seen)[0][0]
            )
    scorer = make_ranking_scorer(
        "ndcg", k=7, relevance_threshold=threshold, exclude_seen=exclude_seen
    )
    assert scorer(model, X[test], y[test]) == pytest.approx(ndcg_at_k(relevant, lists, k=7))


def test_items_that_training_never_met_stay_in_the_denominator():
    model = InOrder().fit([["ann", "tea"], ["bob", "milk"]])
    score = make_ranking_scorer("recall", k=1, exclude_seen=False)
    assert score(model, [["ann", "tea"], ["ann", "never met"]]) == 0.5


def test_what_is_relevant():
    model = InOrder().fit([["ann", "tea"], ["ann", "milk"]])
    X = [["eve", "tea"], ["eve", "milk"], ["eve", "salt"]]
    hits = make_ranking_scorer("recall", k=2)
    assert hits(model, X) == pytest.approx(2 / 3)
    assert hits(model, X, [1, 0, 0]) == 1.0
    assert hits(model, X, [0, 0, 2]) == 0.0
    assert make_ranking_scorer("recall", relevance_threshold=4, k=2)(model, X, [5, 3, 4]) == 0.5
    assert math.isnan(hits(model, X, [0, 0, -1]))
    with pytest.raises(ValueError, match="relevance_threshold needs y"):
        make_ranking_scorer(relevance_threshold=4)(model, X)


def test_short_catalogue_gives_shorter_lists_and_other_errors_come_through():
    events = [["ann", "tea"], ["ann", "milk"], ["bob", "tea"], ["cem", "rice"], ["ann", "rice"]]
    model = InOrder().fit(events)
    X = [["bob", "milk"], ["ann", "salt"], ["cem", "tea"]]
    # bob gets milk, rice; cem gets tea, milk; ann has had everything and gets nothing.
    assert make_ranking_scorer("precision", k=3)(model, X) == pytest.approx(2 / 9)
    assert make_ranking_scorer("mrr", k=3)(model, X) == pytest.approx(2 / 3)

    class Broken(InOrder):
        def recommend(self, X, **options):
            raise ValueError("broken for another reason")

    with pytest.raises(ValueError, match="another reason"):
        make_ranking_scorer(k=3)(Broken().fit(events), X)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_query_has_the_first_time_and_context_and_never_the_item(frame):
    columns = {
        "user_id": ["ann", "bob", "ann"],
        "item_id": ["tea", "tea", "milk"],
        "timestamp": [9.0, 5.0, 7.0],
        "text": ["black", "black", "white"],
        "hour": [0.9, 0.5, 0.7],
    }
    model = InOrder().fit([["eve", "tea"]])
    make_ranking_scorer(k=1)(model, frame(columns))
    assert isinstance(model.asked, frame)
    asked = {name: list(model.asked[name]) for name in model.asked.columns}
    assert asked == {"user_id": ["ann", "bob"], "timestamp": [7.0, 5.0], "hour": [0.7, 0.5]}


def test_feedback_does_not_decide_when_a_list_is_asked_for():
    model = InOrder().fit([["eve", "tea"]])
    X = [["ann", "tea", 9.0], ["bob", "tea", 5.0], ["ann", "milk", 7.0], ["cem", "tea", 1.0]]
    make_ranking_scorer(k=1)(model, X, [1, 1, 0, 0])
    assert model.asked.tolist() == [["ann", 7.0], ["bob", 5.0]]
    # A row of weight 0 is as if it were not there.
    make_ranking_scorer(k=1)(model, X, [1, 1, 0, 0], sample_weight=[1, 1, 0, 1])
    assert model.asked.tolist() == [["ann", 9.0], ["bob", 5.0]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("answer", ["lists", "array", "lists and scores", "arrays"])
def test_anything_with_recommend_will_do(metric, answer):
    """No base class, no ids, no scores: two users, so that a pair is not taken for two arrays."""

    class Stranger:
        def recommend(self, X, *, n_recommendations, candidates, exclude_seen):
            assert candidates is None
            assert exclude_seen is True
            items = [["rice", "tea", "milk"][:n_recommendations]] * len(X)
            items = items if answer.startswith("lists") else np.array(items)
            return items if answer in ("lists", "array") else (items, np.zeros((len(X), 3)))

    X = [["ann", "tea"], ["bob", "milk"], ["bob", "salt"]]
    lists = [["rice", "tea", "milk"]] * 2
    expected = getattr(metrics, f"{metric}_at_k")([["tea"], ["milk", "salt"]], lists, k=3)
    assert make_ranking_scorer(metric, k=3)(Stranger(), X) == pytest.approx(expected)


def test_queries_of_arrays_and_of_plain_pairs():
    model = InOrder().fit([["eve", "tea"]])
    make_ranking_scorer(k=1)(model, [["ann", "tea", 9.0, 1.0], ["ann", "milk", 7.0, 2.0]])
    assert model.asked.tolist() == [["ann", 7.0, 2.0]]
    make_ranking_scorer(k=1)(model, [["ann", "tea"], ["bob", "milk"], ["ann", "milk"]])
    assert model.asked.tolist() == ["ann", "bob"]


def test_inside_a_pipeline():
    X, y = random_log(1)

    def fold_users(table):
        return np.column_stack([table[:, 0] // 2, table[:, 1:]])

    scorer = make_ranking_scorer("recall", k=5)
    pipeline = make_pipeline(FunctionTransformer(fold_users), InOrder()).fit(X[:200])
    by_hand = InOrder().fit(fold_users(X[:200]))
    expected = scorer(by_hand, fold_users(X[200:]), y[200:])
    assert expected > 0
    assert scorer(pipeline, X[200:], y[200:]) == expected
    alone = Pipeline([("model", InOrder())]).fit(X[:200])
    assert scorer(alone, X[200:], y[200:]) == scorer(InOrder().fit(X[:200]), X[200:], y[200:])


def test_weights_of_one_change_nothing_and_zero_means_absent():
    X, y = random_log(2)
    model, scorer = InOrder().fit(X[:200]), make_ranking_scorer("ndcg", k=5)
    X, y = X[200:], y[200:]
    assert scorer(model, X, y, sample_weight=np.ones(100)) == scorer(model, X, y)
    kept = np.arange(100) % 3 > 0
    weighted = scorer(model, X, y, sample_weight=kept.astype(float))
    assert weighted == pytest.approx(scorer(model, X[kept], y[kept]))


def test_a_user_weighs_the_mean_weight_of_their_relevant_rows():
    model = InOrder().fit([["eve", "tea"]])
    X = [["ann", "tea"], ["bob", "milk"], ["bob", "salt"]]
    score = make_ranking_scorer("hit_rate", k=1)(model, X, sample_weight=[1, 2, 4])
    assert score == pytest.approx(1 / (1 + 3))


@pytest.mark.parametrize("metric", METRICS)
def test_pickle_clone_and_repr(metric):
    X, y = random_log(3)
    scorer = make_ranking_scorer(metric, k=5, relevance_threshold=3, exclude_seen=False)
    model = InOrder().fit(X[:200])
    for copy in (pickle.loads(pickle.dumps(scorer)), clone(scorer, safe=False)):
        assert copy(model, X[200:], y[200:]) == scorer(model, X[200:], y[200:])
    assert eval(repr(scorer))(model, X, y) == scorer(model, X, y)


def test_in_searches_and_several_at_once():
    X, y = random_log(4)
    scoring = {name: make_ranking_scorer(name, k=5) for name in METRICS}
    cv = KFold(3, shuffle=True, random_state=0)
    results = cross_validate(PopularityRecommender(), X, y, cv=cv, scoring=scoring)
    for name in METRICS:
        assert np.all((results[f"test_{name}"] >= 0) & (results[f"test_{name}"] <= 1))
    search = GridSearchCV(
        PopularityRecommender(), {"half_life": [None, 1.0]}, cv=cv, n_jobs=2,
        scoring=make_ranking_scorer("ndcg", k=5),
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(
        [search.cv_results_[f"split{j}_test_score"][0] for j in range(3)], results["test_ndcg"]
    )


def test_metadata_routing_of_sample_weight():
    X, y = random_log(5)
    weight = np.random.default_rng(0).random(len(X))
    cv = KFold(2)
    model, scorer = InOrder(), make_ranking_scorer("recall", k=5)
    expected = [
        scorer(InOrder().fit(X[train]), X[test], y[test], sample_weight=weight[test])
        for train, test in cv.split(X)
    ]
    with config_context(enable_metadata_routing=True):
        model.set_fit_request(sample_weight=False)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(model, X, y, cv=cv, scoring=scorer, params={"sample_weight": weight})
        scorer.set_score_request(sample_weight=True)
        for scoring in (scorer, {"score": scorer}):
            results = cross_validate(
                model, X, y, cv=cv, scoring=scoring, params={"sample_weight": weight}
            )
            np.testing.assert_array_equal(results["test_score"], expected)
        renamed = pickle.loads(pickle.dumps(scorer)).set_score_request(sample_weight="w")
        results = cross_validate(model, X, y, cv=cv, scoring=renamed, params={"w": weight})
        np.testing.assert_array_equal(results["test_score"], expected)
    # Without routing, a search hands the weights of fit to the scorer.
    search = GridSearchCV(InOrder(), {}, cv=cv, scoring=make_ranking_scorer("recall", k=5))
    search.fit(X, y, sample_weight=weight)
    assert search.cv_results_["split0_test_score"][0] == expected[0]


def test_bad_arguments():
    with pytest.raises(ValueError, match="metric must be one of"):
        make_ranking_scorer("auc")
    with pytest.raises(ValueError, match="k must be at least 1"):
        make_ranking_scorer(k=0)
    model = InOrder().fit([["eve", "tea"]])
    with pytest.raises(ValueError, match="inconsistent"):
        make_ranking_scorer()(model, [["eve", "tea"]], [1, 2])
    assert recall_at_k([{"tea"}], model.recommend(["ann"], n_recommendations=1)[0]) == 1.0


def test_users_short_of_items_get_the_lists_they_get_alone():
    X = [[u, i] for u in range(9) for i in range(u)] + [[10, i] for i in range(9)]
    model, calls = PopularityRecommender().fit(X), []
    users = np.array([8, 0, 3, 99])
    alone = [
        model.recommend([u], n_recommendations=n)[0][0].tolist()
        for u, n in zip(users, [1, 5, 5, 5], strict=True)
    ]

    class Counted:
        n_items_ = model.n_items_

        def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
            calls.append(len(X))
            return model.recommend(
                X, n_recommendations=n_recommendations, exclude_seen=exclude_seen
            )

    for recommender in (model, Counted()):
        lists = recommend_up_to(recommender, users, 5, exclude_seen=True)
        assert [row.tolist() for row in lists] == alone
    assert len(calls) > 2  # halves, without padding
