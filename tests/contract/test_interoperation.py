"""Our estimators under another library's scorers, and its estimators under ours."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import (
    TemporalSplit,
    compare_recommenders,
    iter_prequential,
    learning_curve_by_events,
)

theirs = pytest.importorskip("skrecsys.metrics", reason="skrecsys is not installed")
their_models = pytest.importorskip("skrecsys.recommendation", reason="skrecsys is not installed")

SPLIT = TemporalSplit(1, test_size=0.2)
OURS = [
    PopularityRecommender(half_life=60),
    BiasRecommender(),
    IncrementalMFRecommender(loss="bpr", n_factors=4, max_epochs=3, random_state=0),
]


@pytest.fixture(scope="module")
def log():
    """Users, items, times; no pair twice, and every user in the train rows of `SPLIT`."""
    X, _ = make_interactions(40, 120, 2000, random_state=0, return_X_y=True)
    _, first = np.unique(X[:, :2], axis=0, return_index=True)
    X = X[np.sort(first)]
    [(train, _)] = SPLIT.split(X)
    return X[np.isin(X[:, 0], X[train, 0])]


def as_guest(model):
    """Our estimator as their tools want one: another tag, and one keyword more."""

    class Guest(type(model)):
        def recommend(self, X, *, exclude_interactions=None, **options):
            assert exclude_interactions is None
            return super().recommend(X, **options)

        def __sklearn_tags__(self):
            tags = super().__sklearn_tags__()
            tags.estimator_type = "recommender"
            return tags

    return Guest(**model.get_params())


def target(model, X):
    """Stars for what predicts stars, nothing for what learns from positives."""
    return None if getattr(model, "loss", "") == "bpr" else np.ones(len(X))


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("model", OURS, ids=repr)
def test_ours_under_their_scorers_score_what_ours_say(model, exclude_seen, log):
    [(train, test)] = SPLIT.split(log)
    guest = as_guest(model).fit(log[train], target(model, log[train]))
    names = ("ndcg", "recall", "precision", "hit_rate")
    said = theirs.evaluate_recommender(
        guest, log[test], metrics=[getattr(theirs, f"{name}_at_k") for name in names],
        k=[3, 10], exclude_seen=exclude_seen,
    )  # fmt: skip
    for name in names:
        for k in (3, 10):
            ours = make_ranking_scorer(name, k=k, exclude_seen=exclude_seen)
            assert said[f"{name}@{k}"] == pytest.approx(ours(guest, log[test]))
    assert said["hit_rate@10"] > 0


@pytest.mark.parametrize("model", OURS, ids=repr)
def test_their_scorer_in_searches_over_ours(model, log):
    cv, guest = TemporalSplit(2, test_size=0.2), as_guest(model)
    scorer = theirs.make_recommender_scorer(theirs.ndcg_at_k, k=5)
    y = target(model, log)
    found = cross_val_score(guest, log, y, cv=cv, scoring=scorer, error_score="raise")
    ours = make_ranking_scorer("ndcg", k=5)
    np.testing.assert_allclose(found, cross_val_score(model, log, y, cv=cv, scoring=ours))
    search = GridSearchCV(guest, {}, cv=cv, scoring=scorer, error_score="raise").fit(log, y)
    assert search.best_score_ == pytest.approx(found.mean())


def without_times(model):
    return make_pipeline(FunctionTransformer(lambda X: X[:, :2]), model)


def test_theirs_under_our_scorer_score_what_theirs_say(log):
    [(train, test)] = SPLIT.split(log)
    model = their_models.ItemKNNRecommender().fit(log[train, :2])
    metrics = {name: getattr(theirs, f"{name}_at_k") for name in ("ndcg", "recall")}
    said = theirs.evaluate_recommender(model, log[test, :2], metrics=metrics, k=5)
    for name in metrics:
        score = make_ranking_scorer(name, k=5)(model, log[test, :2])
        assert score == pytest.approx(said[f"{name}@5"])


def test_theirs_and_ours_in_one_comparison(log):
    models = {
        "our popularity": PopularityRecommender(),
        "their popularity": without_times(their_models.MostPopularRecommender()),
        "their neighbours": without_times(their_models.ItemKNNRecommender()),
    }
    result = compare_recommenders(models, log, cv=SPLIT, users="known", random_state=0)
    [(train, test)] = SPLIT.split(log)
    for row in result.table[1:]:
        model = models[row["estimator"]][-1].fit(log[train, :2])
        said = theirs.evaluate_recommender(model, log[test, :2], metrics=theirs.ndcg_at_k)
        assert row["ndcg@10"] == pytest.approx(said["ndcg@10"])
    ours, theirs_too, _ = result.table
    assert ours["ndcg@10"] == pytest.approx(theirs_too["ndcg@10"], rel=0.1)  # but for ties


def test_theirs_in_replays_and_learning_curves(log):
    popular = their_models.MostPopularRecommender()
    options = {"warm_up": 500, "period": 30, "label_delay": 2, "scoring": ("recall",)}
    steps = list(iter_prequential(without_times(popular), log, learn="refit", **options))
    assert sum(step.metrics["recall@10"] for step in steps) > 0
    curve = learning_curve_by_events(without_times(popular), log, learn="refit")
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(log)
    said = theirs.evaluate_recommender(
        popular.fit(log[train, :2]), log[test, :2], metrics=theirs.ndcg_at_k
    )
    assert curve.metrics["ndcg@10"][-1] == pytest.approx(said["ndcg@10"])
