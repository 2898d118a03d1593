"""Learning through transformers, and scikit-learn's and our own tools around the pipeline."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import Memory
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import SGDRegressor
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    IncrementalMFClassifier,
    PopularityRecommender,
)
from sklearn_recft.base import recommender_tags
from sklearn_recft.lists import recommend_to_parquet
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import (
    TemporalSplit,
    compare_recommenders,
    iter_prequential,
    prequential_score,
)
from sklearn_recft.pipeline import RecommenderPipeline, make_recommender_pipeline
from tests.pipeline.data import make_log, make_pipe, mf

PLAIN = ["user_id", "item_id", "timestamp"]


class ContextScaler(BaseEstimator):
    """Divide the price by its mean so far, which `partial_fit` updates."""

    def fit(self, X, y=None, sample_weight=None):
        self.sum_, self.n_ = 0.0, 0
        return self.partial_fit(X, y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        self.sum_ = getattr(self, "sum_", 0.0) + float((weight * X["price"]).sum())
        self.n_ = getattr(self, "n_", 0) + float(weight.sum())
        return self

    def transform(self, X):
        return X.assign(price=X["price"] / (self.sum_ / self.n_))


def scaled_log():
    X, y = make_log()
    return X.drop(columns="device"), y


def answers(pipe, X):
    return np.r_[pipe.predict(X), pipe.recommend([1, 99], n_recommendations=5)[1].ravel()]


# ------------------------------------------------------------------------------- learning


def test_partial_fit_of_an_unfitted_pipeline_is_fit():
    X, y = make_log()
    fitted, learned = make_pipe().fit(X, y), make_pipe().partial_fit(X, y)
    assert_array_equal(answers(learned, X), answers(fitted, X))
    query = pd.DataFrame({"user_id": [1], "price": [3.0], "device": ["phone"]})
    found = (pipe.recommend(query, n_recommendations=3)[1] for pipe in (learned, fitted))
    assert_array_equal(*found)


def test_transformers_that_can_learn_do_so_before_they_transform():
    X, y = scaled_log()
    pipe = make_recommender_pipeline(ContextScaler(), mf()).fit(X[:300], y[:300])
    scaler, model = copy.deepcopy(pipe[0]), copy.deepcopy(pipe[1])
    pipe.partial_fit(X[300:] * [1, 1, 1, 3], y[300:])
    scaler.partial_fit(X[300:] * [1, 1, 1, 3])
    model.partial_fit(scaler.transform(X[300:] * [1, 1, 1, 3]), y[300:])
    assert pipe[0].n_ == 400
    assert_array_equal(pipe.predict(X), model.predict(scaler.transform(X)))
    assert_array_equal(
        pipe.recommend([1, 99], n_recommendations=5)[1],
        model.recommend([1, 99], n_recommendations=5)[1],
    )


def test_a_batch_is_learned_once_by_every_step():
    X, y = scaled_log()
    pipe = make_recommender_pipeline(ContextScaler(), mf()).fit(X[:300], y[:300])
    assert not pipe.has_learned("monday")
    pipe.partial_fit(X[300:], y[300:], batch_id="monday")
    assert pipe.has_learned("monday")
    expected, before = pipe[0].n_, answers(pipe, X)
    with pytest.warns(UserWarning, match="batch_id='monday' was learned before"):
        pipe.partial_fit(X[300:], y[300:], batch_id="monday")
    assert pipe[0].n_ == expected == 400
    assert pipe.has_learned("monday")
    assert_array_equal(answers(pipe, X), before)


@pytest.mark.parametrize("kept", ["FrozenEstimator", "observe", "ColumnTransformer"])
def test_other_transformers_stay_as_they_were(kept):
    X, y = scaled_log()
    if kept == "ColumnTransformer":
        scale = make_column_transformer(
            (StandardScaler(), ["price"]), remainder="passthrough", verbose_feature_names_out=False
        ).set_output(transform="pandas")
    else:
        scale = ContextScaler().fit(X[:300])
        scale = FrozenEstimator(scale) if kept == "FrozenEstimator" else scale
    model = ALSRecommender(2, random_state=0) if kept == "observe" else mf()
    pipe = make_recommender_pipeline(scale, model).fit(X[:300], y[:300])
    before = pipe[:-1].transform(X)
    verb = pipe.observe if kept == "observe" else pipe.partial_fit
    assert verb(X[300:] * [1, 1, 1, 3], y[300:]) is pipe
    pd.testing.assert_frame_equal(pipe[:-1].transform(X), before)


def test_a_prediction_depends_on_no_later_row():
    X, y = scaled_log()
    other = X.copy()
    other.loc[350:, "price"] *= 100
    said = []
    for news in (X[300:], other[300:]):
        pipe = make_recommender_pipeline(ContextScaler(), mf()).fit(X[:300], y[:300])
        expected = pipe.predict(X[300:301])
        said.append(pipe.partial_fit_predict(news, y[300:]))
        assert_allclose(said[-1][:1], expected)
        assert pipe[0].n_ == 400
    assert_array_equal(said[0][:50], said[1][:50])
    assert (said[0][50:] != said[1][50:]).any()
    unfitted = make_recommender_pipeline(ContextScaler(), mf())
    with pytest.raises(NotFittedError, match=r"'contextscaler' is not fitted.*later rows"):
        unfitted.partial_fit_predict(X, y)
    stateless = make_recommender_pipeline(FunctionTransformer(), mf())
    direct = mf().partial_fit_predict(X, y)
    assert_array_equal(stateless.partial_fit_predict(X, y), direct)


@pytest.mark.parametrize("verb", ["fit", "partial_fit", "partial_fit_predict"])
def test_a_failure_changes_no_step(verb):
    X, y = scaled_log()
    pipe = make_recommender_pipeline(ContextScaler(), mf()).fit(X, y)
    before = pickle.dumps(pipe)
    wrong = np.where(np.arange(len(y)) == 7, np.nan, y)
    with pytest.raises(ValueError, match="y: 1 of 400 rows"):
        getattr(pipe, verb)(X, wrong)
    assert pickle.dumps(pipe) == before
    unfitted = make_recommender_pipeline(ContextScaler(), mf())
    with pytest.raises(ValueError, match="y: 1 of 400 rows"):
        unfitted.partial_fit(X, wrong)
    assert not hasattr(unfitted[0], "n_")


def test_a_classifier_and_its_verbs():
    X, y = make_log()
    model = IncrementalMFClassifier(n_factors=2, max_epochs=3, random_state=0)
    pipe = make_pipe(model=model)
    pipe.partial_fit(X[:200], np.full(200, "no"), classes=["no", "yes"])
    label = np.where(y > np.median(y), "yes", "no")
    proba = pipe.partial_fit_predict_proba(X[200:], label[200:])
    assert ((proba > 0) & (proba < 1)).all()
    assert_array_equal(pipe.classes_, ["no", "yes"])
    calibrated = CalibratedClassifierCV(pipe, cv=TemporalSplit(2)).fit(X, label)
    assert calibrated.predict_proba(X).shape == (400, 2)


def test_adapt_changes_no_transformer():
    X, y = make_log()
    pipe = make_pipe().fit(X[:90], y[:90])
    scaler = copy.deepcopy(pipe[:-1])
    twin, rows = copy.deepcopy(pipe[-1]), pipe[:-1].transform(X[90:])
    weight = np.linspace(0.5, 2, len(rows))
    assert pipe.adapt(X[90:], y[90:], sample_weight=weight) is pipe
    assert_array_equal(pipe[:-1].transform(X), scaler.transform(X))
    expected = twin.adapt(rows, y[90:], sample_weight=weight).predict(rows)
    assert_array_equal(pipe.predict(X[90:]), expected)
    with pytest.raises(NotFittedError):
        make_pipe().adapt(X, y)
    assert not hasattr(make_pipe(model=PopularityRecommender()), "adapt")


def test_methods_are_those_of_the_last_step():
    pipe = make_pipe()
    missing = ("observe", "observe_predict_proba", "attend", "partial_fit_predict_proba")
    assert not any(hasattr(pipe, verb) for verb in missing)
    present = ("recommend", "partial_fit", "partial_fit_predict", "forget", "predict")
    assert all(hasattr(pipe, verb) for verb in present)
    assert not hasattr(RecommenderPipeline([("model", SGDRegressor())]), "recommend")
    assert not hasattr(pipe, "user_ids_")
    with pytest.raises(NotFittedError):
        pipe.recommend([1])
    assert recommender_tags(pipe) == recommender_tags(mf())


def test_forget():
    X, y = make_log()
    pipe = make_pipe().fit(X, y)
    assert pipe.forget(np.array([3, 4, 12345])) is pipe
    assert not np.isin([3, 4], pipe.user_ids_).any()
    assert pipe.n_users_ == 18
    assert pipe.n_items_ == len(pipe.item_ids_) == 40
    assert "3" not in repr(pipe._raw.examples["user_id"])


# --------------------------------------------------------------------- scikit-learn's tools


# A pipeline of scikit-learn keeps its fitted steps in the parameter `steps`.
STEPS_ARE_SET = {"check_estimators_overwrite_params", "check_dont_overwrite_parameters"}


def test_scikit_learn_checks_it():
    pipe = make_recommender_pipeline(FunctionTransformer(), BiasRecommender())
    results = check_estimator(pipe, on_skip=None, on_fail=None)
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed.keys() <= STEPS_ARE_SET, failed
    assert len(results) > 45


def test_clone_parameters_and_pickle():
    X, y = make_log()
    pipe = make_pipe().set_params(incrementalmfrecommender__n_factors=2).fit(X, y)
    assert pipe[-1].user_factors_.shape == (20, 2)
    loaded, again = pickle.loads(pickle.dumps(pipe)), clone(pipe)
    assert_array_equal(answers(loaded, X), answers(pipe, X))
    with pytest.raises(NotFittedError):
        again.recommend([1])
    assert_array_equal(answers(again.fit(X, y), X), answers(pipe, X))
    loaded.partial_fit(X[:9], y[:9])
    assert (answers(loaded, X) != answers(pipe, X)).any()
    assert isinstance(pipe[:-1], RecommenderPipeline)


def test_first_fit_is_in_place_and_a_later_one_is_not():
    X, y = scaled_log()
    scaler, model = ContextScaler(), mf()
    pipe = make_recommender_pipeline(scaler, model).fit(X, y)
    assert pipe[0] is scaler
    assert pipe[1] is model
    pipe.fit(X[:200], y[:200])
    assert scaler.n_ == 400
    assert pipe[0].n_ == 200


def test_a_pipeline_of_pipelines_learns_a_batch_once():
    X, y = scaled_log()
    inner = make_recommender_pipeline(ContextScaler(), mf())
    pipe = make_recommender_pipeline(FunctionTransformer(), inner)
    pipe.partial_fit(X, y, batch_id=1)
    before = answers(pipe, X)
    with pytest.warns(UserWarning, match="batch_id=1 was learned before"):
        pipe.partial_fit(X, y, batch_id=1)
    assert_array_equal(answers(pipe, X), before)


def test_a_refit_changes_all_steps_at_once():
    """A reader, in another thread, never meets old transformers and a new model."""
    X, y = make_log()
    more = X.assign(device=X["device"].where(np.arange(len(X)) % 3 > 0, "watch"))
    pipe = make_pipe().fit(X, y)
    models, states = [], []

    class Spy(type(pipe[-1])):
        def fit(self, X, y=None, sample_weight=None):
            super().fit(X, y, sample_weight)
            models.append(self)
            states.append(answers(pipe, reader))
            return self

    reader = X[:50]
    before = answers(pipe, reader)
    pipe[-1].__class__ = Spy
    pipe.fit(more, y)
    assert pipe[-1] is models[0]
    assert_array_equal(states[0], before)
    assert not np.array_equal(answers(pipe, reader), before)


def test_memory(tmp_path):
    X, y = make_log()
    pipe = make_pipe().set_params(memory=Memory(tmp_path, verbose=0)).fit(X, y)
    assert any(tmp_path.iterdir())
    assert_array_equal(answers(pipe, X), answers(make_pipe().fit(X, y), X))
    again = clone(pipe).fit(X, y).partial_fit(X[:9], y[:9])
    assert_array_equal(
        answers(again, X), answers(make_pipe().fit(X, y).partial_fit(X[:9], y[:9]), X)
    )


def test_a_search_returns_a_pipeline_that_lives_on():
    X, y = make_log()
    search = GridSearchCV(
        make_pipe(),
        {"incrementalmfrecommender__n_factors": [1, 3]},
        cv=TemporalSplit(2),
        scoring={"r2": "r2", "recall": make_ranking_scorer("recall", k=3)},
        refit="r2",
        error_score="raise",
    ).fit(X, y)
    best = search.best_estimator_
    assert best.recommend([1, 99], n_recommendations=4)[0].shape == (2, 4)
    before = best.predict(X)
    assert (best.partial_fit(X[:20], y[:20]).predict(X) != before).any()
    assert (search.cv_results_["mean_test_recall"] > 0).all()


@pytest.mark.parametrize("name", ["sample_weight", "incrementalmfrecommender__sample_weight"])
def test_sample_weight_goes_to_the_last_step(name):
    X, y = make_log()
    weight = np.where(X["user_id"] % 2, 1.0, 1e-3)
    pipe = make_pipe().fit(X[:300], y[:300], **{name: weight[:300]})
    model = mf().fit(pipe[:-1].transform(X[:300]), y[:300], sample_weight=weight[:300])
    assert_array_equal(pipe.predict(X), model.predict(pipe[:-1].transform(X)))
    pipe.partial_fit(X[300:], y[300:], **{name: weight[300:]})
    model.partial_fit(pipe[:-1].transform(X[300:]), y[300:], sample_weight=weight[300:])
    assert_array_equal(pipe.predict(X), model.predict(pipe[:-1].transform(X)))
    with pytest.raises(ValueError, match="there is no step 'gone'"):
        pipe.partial_fit(X, y, gone__sample_weight=weight)


def test_metadata_is_routed():
    X, y = scaled_log()
    weight = np.where(X["user_id"] % 2, 1.0, 0.25)
    with config_context(enable_metadata_routing=True):
        model = mf().set_fit_request(sample_weight=True)
        model.set_partial_fit_request(sample_weight=True)
        scaler = ContextScaler().set_fit_request(sample_weight=True)
        pipe = make_recommender_pipeline(scaler.set_partial_fit_request(sample_weight=True), model)
        pipe.fit(X[:300], y[:300], sample_weight=weight[:300])
        assert pipe[0].n_ == weight[:300].sum()
        pipe.partial_fit(X[300:], y[300:], sample_weight=weight[300:])
        assert pipe[0].n_ == pytest.approx(weight.sum())
        first = clone(pipe).partial_fit(X[:300], y[:300], sample_weight=weight[:300])
        assert first[0].n_ == weight[:300].sum()
        plain = clone(pipe)
        plain[0].set_partial_fit_request(sample_weight=False)
        plain.fit(X[:300], y[:300], sample_weight=weight[:300])
        plain.partial_fit_predict(X[300:], y[300:], sample_weight=weight[300:])
        assert plain[0].n_ == weight[:300].sum() + 100
        scores = cross_validate(
            clone(pipe), X, y, cv=TemporalSplit(2), params={"sample_weight": weight},
            scoring=make_ranking_scorer("recall").set_score_request(sample_weight=True),
            error_score="raise",
        )  # fmt: skip
    assert np.isfinite(scores["test_score"]).all()


# -------------------------------------------------------------------------------- our tools


def test_prequential_evaluations_take_it():
    X, y = make_log()
    options = {"warm_up": 200, "chunk_size": 50, "scoring": ("rmse", "recall"), "k": 3}
    result = prequential_score(make_pipe(), X, y, **options)
    model, predictions = make_pipe().fit(X[:200], y[:200]), []
    for start in range(200, 400, 50):
        rows = slice(start, start + 50)
        predictions.append(model.predict(X[rows]))
        model.partial_fit(X[rows], y[rows])
    rmse = np.sqrt(np.mean((np.concatenate(predictions) - y[200:]) ** 2))
    assert result.metrics["rmse"] == pytest.approx(rmse)
    assert 0 < result.metrics["recall@3"] < 1
    assert_array_equal(answers(result.estimator, X), answers(model, X))
    # One compiled pass, from a fitted pipeline whose ids are known.
    steps = list(iter_prequential(model, X[:100], y[:100], chunk_size=1))
    assert sum(step.n_unknown_users for step in steps) == 0


def test_comparisons_and_files_take_it(tmp_path):
    X, y = make_log()
    models = {"pipe": make_pipe(), "popular": make_pipe(model=PopularityRecommender())}
    result = compare_recommenders(models, X, y, random_state=0, n_bootstrap=10, k=3)
    assert [row["estimator"] for row in result.table] == ["pipe", "popular"]
    pipe = make_pipe().fit(X, y)
    path = tmp_path / "lists.parquet"
    assert recommend_to_parquet(path, pipe, pipe.user_ids_, n_recommendations=2) == 40
    expected = pipe.recommend(pipe.user_ids_, n_recommendations=2, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_dtype=False)
    queries = X.drop_duplicates("user_id").drop(columns="item_id")
    assert recommend_to_parquet(path, pipe, queries, n_recommendations=2, batch_size=7) == 40
    expected = pipe.recommend(queries, n_recommendations=2, as_frame=True)
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected, check_dtype=False)


def test_a_recommender_of_another_library():
    class Fixed(BaseEstimator):
        def fit(self, X, y=None):
            self.n_features_in_ = X.shape[1]
            return self

        def predict(self, X):
            return np.zeros(len(X))

        def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
            return np.tile(np.arange(n_recommendations), (len(X), 1))

        def explain(self, X):
            return X["item_id"].tolist()

        def similar_items(self, item_ids, n_items=10, *, on_missing="raise"):
            return item_ids, n_items, on_missing

    X, _ = make_log()
    shift = FunctionTransformer(lambda X: X.assign(item_id=X["item_id"] + 100))
    pipe = make_recommender_pipeline(shift, Fixed()).fit(X[PLAIN])
    assert_array_equal(pipe.recommend([1, 2], n_recommendations=2), [[0, 1], [0, 1]])
    assert pipe.explain(X[PLAIN][:3]) == (X["item_id"][:3] + 100).tolist()
    assert pipe.similar_items([5], 2, on_missing="pad") == ([5], 2, "pad")
    assert not any(hasattr(pipe, verb) for verb in ("partial_fit", "forget", "observe"))
    assert make_ranking_scorer("recall", k=40)(pipe, X[PLAIN].assign(item_id=-98)) == 1
