"""Recommenders in the hands of scikit-learn's own tools, which know nothing of ids or time."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer, root_mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    TimeSeriesSplit,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import LeaveLastOut, TemporalSplit

MF = IncrementalMFRecommender(n_factors=4, max_epochs=20, random_state=0)
MODELS = [MF, PopularityRecommender(half_life=100), BiasRecommender()]


@pytest.fixture(scope="module")
def log():
    """Rows in order of time, with tastes that can be learned."""
    return make_interactions(40, 30, 3000, n_factors=2, noise=0.3, random_state=0, return_X_y=True)


def as_frame(X, kind):
    columns = {
        "user_id": [f"user {u}" for u in X[:, 0]],
        "item_id": [f"item {i}" for i in X[:, 1]],
        "timestamp": X[:, 2].astype("datetime64[s]").astype("datetime64[us]"),
    }
    return kind(columns)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_pipeline(model, kind, log):
    X, y = log
    pipeline = make_pipeline(FunctionTransformer(), clone(model))
    pipeline.fit(as_frame(X[:2500], kind), y[:2500])
    direct = clone(model).fit(X[:2500], y[:2500])
    assert_array_equal(pipeline.predict(as_frame(X[2500:], kind)), direct.predict(X[2500:]))
    assert pipeline.score(as_frame(X, kind), y) == direct.score(X, y)


@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("first", ["encoder", "ids"])
def test_column_transformers_keep_the_ids_wherever_they_stand(output, first, log):
    X, y = log
    frame = as_frame(X, pd.DataFrame).assign(device=np.where(X[:, 0] % 3, "phone", "laptop"))
    encode = OneHotEncoder(sparse_output=False), ["device"]
    direct = frame.drop(columns="device").assign(
        laptop=(frame["device"] == "laptop").astype(float), phone=frame["device"] == "phone"
    )
    steps = {
        "encoder": ([("onehot", *encode)], "passthrough"),
        "ids": ([("ids", "passthrough", list(frame.columns[:3])), ("onehot", *encode)], "drop"),
    }
    columns = ColumnTransformer(steps[first][0], remainder=steps[first][1])
    pipeline = make_pipeline(columns.set_output(transform=output), clone(MF))
    pipeline.fit(frame[:2500], y[:2500])
    expected = clone(MF).fit(direct[:2500], y[:2500])
    assert_array_equal(pipeline.predict(frame[2500:]), expected.predict(direct[2500:]))
    scorer = make_ranking_scorer("ndcg", k=5)
    assert scorer(pipeline, frame[2500:], y[2500:]) == scorer(expected, direct[2500:], y[2500:])


@pytest.mark.parametrize("kind", [None, pd.DataFrame, pl.DataFrame])
def test_grid_search_over_a_temporal_split(kind, log):
    X, y = log
    search = GridSearchCV(
        Pipeline([("recommender", MF)]),
        {"recommender__n_factors": [1, 4], "recommender__reg": [0.05, 20.0]},
        cv=TemporalSplit(n_splits=2),
        scoring="neg_root_mean_squared_error",
        error_score="raise",
    ).fit(X if kind is None else as_frame(X, kind), y)
    assert search.best_params_ == {"recommender__n_factors": 4, "recommender__reg": 0.05}
    assert search.best_score_ > -0.7 * y.std()
    # What each fold was scored on is what the splitter says, no row of the future learned.
    train, test = list(TemporalSplit(n_splits=2).split(X))[1]
    assert X[train, 2].max() < X[test, 2].min()
    best = clone(search.best_estimator_).fit(X[train], y[train])
    expected = -root_mean_squared_error(y[test], best.predict(X[test]))
    assert_allclose(search.cv_results_["split1_test_score"][search.best_index_], expected)


def test_halving_search_over_a_temporal_split(log):
    X, y = log
    search = HalvingGridSearchCV(
        MF, {"reg": [0.05, 5.0, 20.0]}, cv=TemporalSplit(n_splits=2), factor=3,
        resource="max_epochs", min_resources=3, max_resources=9, random_state=0,
        scoring="neg_mean_absolute_error", error_score="raise",
    ).fit(X, y)  # fmt: skip
    assert search.best_params_["reg"] == 0.05
    assert search.n_resources_ == [3, 9]


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize(
    "cv", [TimeSeriesSplit(4), KFold(4), KFold(4, shuffle=True, random_state=0), LeaveLastOut(3)]
)
def test_cross_validation_meets_unseen_ids(model, cv, log):
    X, y = log
    sparse = np.flatnonzero(np.arange(3000) % 9 == 0)  # so that ids are missing from folds
    X, y = np.r_[X[sparse], X[:2] + 1000], np.r_[y[sparse], 1.0, 5.0]
    met = cross_validate(
        model, X, y, cv=cv, scoring=["r2", "neg_mean_absolute_error"], error_score="raise"
    )
    assert np.isfinite(met["test_r2"]).all()
    assert len(met["test_r2"]) == cv.get_n_splits(X, y)
    for train, test in cv.split(X, y):
        unseen = ~np.isin(X[test, :2], X[train, :2]).all(axis=1)
        assert np.isfinite(clone(model).fit(X[train], y[train]).predict(X[test])).all()
    if not isinstance(cv, LeaveLastOut):
        assert unseen.any()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_cross_val_predict(model, log):
    X, y = log
    cv = KFold(3, shuffle=True, random_state=0)
    said = cross_val_predict(model, X, y, cv=cv)
    for train, test in cv.split(X):
        expected = clone(model).fit(X[train], y[train]).predict(X[test])
        assert_array_equal(said[test], expected)
    if model is MF:
        assert root_mean_squared_error(y, said) < 0.5 * y.std()


def test_learning_curve(log):
    X, y = log
    sizes, _, scores = learning_curve(
        MF, X, y, train_sizes=[100, 1500], cv=TemporalSplit(n_splits=2, test_size=500),
        scoring="neg_root_mean_squared_error", error_score="raise",
    )  # fmt: skip
    assert_array_equal(sizes, [100, 1500])
    assert (scores[1] > scores[0] + 0.1).all()


def test_permutation_importance(log):
    X, y = log
    X = np.column_stack([X, np.random.default_rng(0).normal(size=len(X))])
    y = y + X[:, 3]
    found = permutation_importance(clone(MF).fit(X, y), X, y, n_repeats=2, random_state=0)
    user, item, time, mood = found.importances_mean
    assert min(user, item, mood) > 0.2
    assert time == 0  # squared error without half_life knows no time


def test_voting(log):
    X, y = log
    vote = VotingRegressor([("mf", MF), ("bias", BiasRecommender())], weights=[3, 1])
    vote.fit(X[:2500], y[:2500])
    parts = [clone(m).fit(X[:2500], y[:2500]).predict(X[2500:]) for m in (MF, BiasRecommender())]
    assert_allclose(vote.predict(X[2500:]), 0.75 * parts[0] + 0.25 * parts[1])
    vote.fit(as_frame(X, pd.DataFrame), y)
    assert np.isfinite(vote.predict(as_frame(X + 50, pd.DataFrame))).all()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_two_processes(model, log):
    X, y = log
    scores = [
        cross_val_score(model, X, y, cv=TimeSeriesSplit(3), n_jobs=n_jobs, error_score="raise")
        for n_jobs in (None, 2)
    ]
    assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (MODELS[0], {"n_factors": [2, 3]}),
        (MODELS[1], {"half_life": [50, 90]}),
        (MODELS[2], {"damping": [1, 2]}),
    ],
)
def test_search_result_lives_on(model, grid, log):
    """What a search returns can be pickled, updated, asked and cloned."""
    X, y = log
    search = GridSearchCV(model, grid, cv=TemporalSplit(n_splits=2)).fit(X[:2900], y[:2900])
    loaded = pickle.loads(pickle.dumps(search))
    for found in (search, loaded):
        found.best_estimator_.partial_fit(X[2900:] + np.array([5, 5, 0]), y[2900:])
    assert_array_equal(loaded.predict(X), search.predict(X))
    items, scores = loaded.best_estimator_.recommend(["nobody", 1], n_recommendations=4)
    assert items.shape == scores.shape == (2, 4)
    assert clone(search).get_params()["estimator"].get_params() == model.get_params()


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_sample_weight_is_routed(model, log):
    X, y = log
    weight = np.where(X[:, 0] % 2, 1.0, 1e-3)
    with config_context(enable_metadata_routing=True):
        asked = clone(model).set_fit_request(sample_weight=True)
        scorer = get_scorer("r2").set_score_request(sample_weight=True)
        pipeline = Pipeline([("recommender", asked)])
        cv = TemporalSplit(n_splits=2)
        weighted, plain = (
            cross_validate(
                p,
                X,
                y,
                cv=cv,
                params=params,
                scoring=scoring,
                return_estimator=True,
                error_score="raise",
            )["estimator"]
            for p, params, scoring in (
                (pipeline, {"sample_weight": weight}, scorer),
                (Pipeline([("recommender", model)]), None, "r2"),
            )
        )
        search = GridSearchCV(pipeline, {"recommender": [asked]}, cv=cv, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
    for (train, _), w, p in zip(cv.split(X), weighted, plain, strict=True):
        direct = clone(model).fit(X[train], y[train], sample_weight=weight[train])
        assert_array_equal(w.predict(X), direct.predict(X))
        assert (w.predict(X) != p.predict(X)).any()
    direct = clone(model).fit(X, y, sample_weight=weight)
    assert_array_equal(search.predict(X), direct.predict(X))


@pytest.mark.parametrize("kind", [None, pd.DataFrame, pl.DataFrame])
def test_ranking_scorer_in_a_search(kind, log):
    X, y = log
    liked = y > 3.5
    table = X[liked] if kind is None else as_frame(X[liked], kind)
    search = GridSearchCV(
        PopularityRecommender(),
        {"half_life": [0.01, None]},
        cv=TemporalSplit(n_splits=2),
        scoring={
            "ndcg": make_ranking_scorer("ndcg", k=5),
            "recall": make_ranking_scorer("recall", k=5, exclude_seen=False),
        },
        refit="ndcg",
        error_score="raise",
    ).fit(table)
    # Popularity does not change here: a memory of minutes must lose.
    assert search.best_params_ == {"half_life": None}
    means = search.cv_results_["mean_test_recall"]
    assert means[1] > means[0] > 0
