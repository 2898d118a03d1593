"""Few-shot evaluation: which rows are learned and predicted, and the numbers by hand."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyRegressor
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    IncrementalMFClassifier,
    IncrementalMFRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import ColdUserSplit, few_shot_curve
from sklearn_recft.pipeline import make_recommender_pipeline

SHOTS = (0, 2, 5)


@pytest.fixture(scope="module")
def log():
    """Rows that are not in order of time; the third column is the time, each one once."""
    X, y = make_interactions(40, 25, 1200, random_state=0, return_X_y=True)
    X[:, 2] = np.arange(1200)
    mixed = np.random.default_rng(0).permutation(1200)
    return X[mixed], y[mixed]


class Diary(BaseEstimator):
    """Writes down the rows that it gets; predicts a number with a standard deviation of 1."""

    written = []

    def __init__(self, value=3.0):
        self.value = value

    def fit(self, X, y):
        self.written.append(("fit", X, y))
        self.adapted_ = 0
        return self

    def adapt(self, X, y):
        assert not self.adapted_, "a copy of the fitted estimator adapts once"
        self.adapted_ = len(X)
        self.written.append(("adapt", X, y))
        return self

    def predict(self, X, return_std=False):
        self.written.append(("predict", X, None))
        value = np.full(len(X), self.value)
        return (value, np.ones(len(X))) if return_std else value


def calls(**options):
    """Return what a diary wrote in one evaluation: (verb, rows, feedback)."""
    Diary.written = []
    few_shot_curve(Diary(), **{"shots": SHOTS, "n_query": 6, **options})
    return Diary.written


@pytest.mark.parametrize("order", ["random", "time"])
def test_rows_of_old_and_new_users(log, order):
    X, y = log
    (first, old, _), *rest = calls(X=X, y=y, order=order, random_state=0)
    assert first == "fit"
    assert [verb for verb, _, _ in rest] == ["predict", "adapt", "predict", "adapt", "predict"]
    support, queries = [rest[1][1], rest[3][1]], [rest[place][1] for place in (0, 2, 4)]
    new = np.unique(queries[0][:, 0])
    assert len(new) == round(0.1 * 40)
    assert len(old) == (~np.isin(X[:, 0], new)).sum()
    assert not np.isin(old[:, 0], new).any()
    for query in queries:  # the same ones for every number of shots
        np.testing.assert_array_equal(query, queries[0])
    for n, rows in zip(SHOTS[1:], support, strict=True):
        np.testing.assert_array_equal(np.unique(rows[:, 0], return_counts=True)[1], [n] * len(new))
        assert not np.isin(rows[:, 2], queries[0][:, 2]).any()  # times name the rows
    assert np.isin(support[0][:, 2], support[1][:, 2]).all()
    for user in new if order == "time" else ():
        mine = np.sort(X[X[:, 0] == user, 2])
        np.testing.assert_array_equal(np.sort(support[1][support[1][:, 0] == user, 2]), mine[:5])
        np.testing.assert_array_equal(queries[0][queries[0][:, 0] == user, 2], mine[5:11])


def test_feedback_of_query_rows_reaches_no_estimator(log):
    X, y = log
    written = calls(X=X, y=y, order="time", random_state=0)
    query = np.isin(X[:, 2], written[1][1][:, 2])
    other = calls(X=X, y=np.where(query, 6 - y, y), order="time", random_state=0)
    for (verb, rows, feedback), (_, its_rows, its) in zip(written, other, strict=True):
        np.testing.assert_array_equal(rows, its_rows)
        if verb != "predict":
            np.testing.assert_array_equal(feedback, its)
    known = np.concatenate([rows[:, 2] for verb, rows, _ in written if verb != "predict"])
    assert not np.isin(X[query, 2], known).any()


def test_equals_an_evaluation_by_hand(log):
    X, y = log
    model = IncrementalMFRecommender(n_factors=4, max_epochs=5, random_state=0)
    result = few_shot_curve(
        {"adapts": model, "learns": BiasRecommender()}, X, y, shots=SHOTS, n_query=6, order="time",
        random_state=0,
    )  # fmt: skip
    assert result.estimators == ["item mean", "bias", "ridge", "adapts", "learns"]
    users = [np.flatnonzero(X[:, 0] == user) for user in result.user_ids]
    users = [rows[np.argsort(X[rows, 2])] for rows in users]
    query = np.concatenate([rows[5:11] for rows in users])
    old = ~np.isin(X[:, 0], result.user_ids)
    bias = BiasRecommender().fit(X[old], y[old])
    for place, n in enumerate(SHOTS):
        support = np.concatenate([rows[:n] for rows in users]).astype(int)
        for name, fitted, verb in (
            ("adapts", copy.deepcopy(model).fit(X[old], y[old]), "adapt"),
            ("learns", copy.deepcopy(bias), "partial_fit"),
        ):
            if n:
                getattr(fitted, verb)(X[support], y[support])
            errors = ((fitted.predict(X[query]) - y[query]) ** 2).reshape(-1, 6).mean(1)
            np.testing.assert_allclose(result.per_user["mse"][name][place], errors)
            assert result.means["rmse"][name][place] == pytest.approx(np.sqrt(errors.mean()))


def test_baselines_by_hand(log):
    X, y = log
    result = few_shot_curve(BiasRecommender(), X, y, shots=SHOTS, n_query=6, order="time",
                            random_state=0)  # fmt: skip
    old = ~np.isin(X[:, 0], result.user_ids)
    mean = y[old].mean()
    item_mean = np.array([
        mean + (y[old & (X[:, 1] == item)] - mean).sum() / (5 + (old & (X[:, 1] == item)).sum())
        for item in range(X[:, 1].max() + 1)
    ])  # fmt: skip
    for j, user in enumerate(result.user_ids):
        rows = np.flatnonzero(X[:, 0] == user)
        rows = rows[np.argsort(X[rows, 2])]
        query, rest = rows[5:11], y - item_mean[X[:, 1]]
        for place, n in enumerate(SHOTS):
            offset = rest[rows[:n]].sum() / (n + 5)
            for name, off in (("item mean", 0), ("bias", offset)):
                error = np.mean((rest[query] - off) ** 2)
                assert result.per_user["mse"][name][place, j] == pytest.approx(error)
    ridge = result.means["rmse"]["ridge"]
    assert ridge[2] < ridge[0]


def test_differences_are_paired_and_have_intervals(log):
    result = few_shot_curve(BiasRecommender(), *log, shots=SHOTS, n_query=6, new_users=0.5,
                            random_state=0)  # fmt: skip
    for metric in ("rmse", "ndcg@5"):
        means = result.means[metric]
        for name in result.estimators:
            for baseline in result.baselines:
                found = result.differences[metric][name][baseline]
                np.testing.assert_allclose(found[:, 0], means[name] - means[baseline])
                assert (found[:, 1] <= found[:, 0] + 1e-12).all()
                assert (found[:, 0] <= found[:, 2] + 1e-12).all()
            np.testing.assert_array_equal(result.differences[metric]["bias"]["bias"], 0)
    low, high = result.differences["rmse"]["ridge"]["item mean"][2, 1:]
    assert low < high < 0  # after five shots, on twenty users
    frame = pd.DataFrame(result.table)
    assert len(frame) == 4 * len(SHOTS)
    row = frame[(frame["estimator"] == "ridge") & (frame["shots"] == 5)].iloc[0]
    assert row["rmse - item mean_high"] == high
    assert row["adapt_seconds"] > 0
    assert "ridge" in str(result)
    assert "20 new users in 1 split(s), 6 query rows each, order: random" in str(result)


def test_coverage_of_intervals(log):
    X, y = log
    result = few_shot_curve({"diary": Diary(3.0)}, X, y, shots=SHOTS, n_query=6, random_state=0,
                            order="time")  # fmt: skip
    query = np.concatenate([
        y[rows[np.argsort(X[rows, 2])][5:11]]
        for rows in (np.flatnonzero(X[:, 0] == user) for user in result.user_ids)
    ])  # fmt: skip
    expected = np.mean(np.abs(query - 3.0) <= 1.6449)
    np.testing.assert_allclose(result.coverage["diary"], expected)
    assert 0 < expected < 1
    assert np.isnan(result.coverage["ridge"]).all()


def test_a_splitter_divides_the_users(log):
    X, y = log
    splitter = ColdUserSplit(3, random_state=0)
    result = few_shot_curve(BiasRecommender(), X, y, shots=SHOTS, n_query=6, new_users=splitter,
                            random_state=0)  # fmt: skip
    assert result.n_splits == 3
    np.testing.assert_array_equal(np.sort(result.user_ids), np.arange(40))
    with pytest.raises(ValueError, match="split 0 trains on rows of 14 of its test users"):
        few_shot_curve(BiasRecommender(), X, y, new_users=ColdUserSplit(3, n_support=1))


def test_rows_of_a_split_are_a_mask_or_distinct(log):
    """A row that is given twice is not both learned and predicted."""
    X, y = log
    is_new = X[:, 0] < 10
    rows = np.flatnonzero(~is_new), np.flatnonzero(is_new)
    expected, *others = (
        few_shot_curve(BiasRecommender(), X, y, shots=SHOTS, n_query=6, new_users=[split],
                       random_state=0)
        for split in (rows, (~is_new, is_new), (rows[0], np.repeat(rows[1], 2)))
    )  # fmt: skip
    assert sorted(expected.user_ids) == list(range(10))
    for other in others:
        np.testing.assert_array_equal(other.user_ids, expected.user_ids)
        np.testing.assert_array_equal(
            other.means["rmse"]["BiasRecommender"], expected.means["rmse"]["BiasRecommender"]
        )


def test_predictions_that_only_order_items_have_no_rmse(log):
    X, y = log
    model = ALSRecommender(n_factors=4, random_state=0)
    result = few_shot_curve(model, X, y, shots=SHOTS, n_query=6, random_state=0)
    assert np.isnan(result.means["rmse"]["ALSRecommender"]).all()
    assert np.isfinite(result.means["ndcg@5"]["ALSRecommender"]).all()
    assert np.isfinite(result.differences["ndcg@5"]["ALSRecommender"]["ridge"]).all()


def test_classifiers_and_pipelines(log):
    X, y = log
    frame = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
    liked = (y >= 4).astype(int)
    model = IncrementalMFClassifier(n_factors=4, max_epochs=5, random_state=0)
    pipe = make_recommender_pipeline(FunctionTransformer(), model)
    result = few_shot_curve({"plain": model, "pipe": pipe}, frame, liked, shots=SHOTS, n_query=6,
                            relevance="graded", random_state=0)  # fmt: skip
    assert result.means["rmse"]["plain"].max() < 1
    for metric in result.metrics:
        np.testing.assert_array_equal(result.means[metric]["plain"], result.means[metric]["pipe"])


def test_a_seed_repeats_all_draws(log):
    first, again, other = (
        few_shot_curve(BiasRecommender(), *log, shots=SHOTS, n_query=6, random_state=seed)
        for seed in (0, 0, 1)
    )
    first.adapt_seconds = again.adapt_seconds = None
    assert first.differences["rmse"]["ridge"]["bias"].tolist() == (
        again.differences["rmse"]["ridge"]["bias"].tolist()
    )
    assert first.user_ids.tolist() == again.user_ids.tolist() != other.user_ids.tolist()


def test_without_a_seed_the_global_one_is_not_used(log):
    np.random.seed(0)  # noqa: NPY002
    few_shot_curve(BiasRecommender(), *log, shots=SHOTS, n_query=6, n_bootstrap=2)
    list(ColdUserSplit(3).split(log[0]))
    make_interactions(5, 5, 50)
    assert np.random.random_sample() == pytest.approx(0.5488135)  # noqa: NPY002


class Broken(Diary):
    def adapt(self, X, y):
        raise KeyError("no")


BAD = {
    "shots must be integers": {"shots": (0.5,)},
    "n_query == 0": {"n_query": 0},
    "order must be": {"order": "late"},
    "new_users == 1.5": {"new_users": 1.5},
    "users have 1010 rows": {"shots": (0, 1000), "n_query": 10},
    "k=5 of n_query=5": {"n_query": 5},
    "relevance must be": {"relevance": "good"},
    "rescale y to grades": {"relevance": "graded", "y": -1},
    "y: feedback is needed": {"y": None},
    "confidence_level == 1": {"confidence_level": 1},
    "other names than those of the baselines": {"estimator": {"bias": BiasRecommender()}},
    "a dict of str": {"estimator": {1: BiasRecommender()}},
    "no split is given": {"new_users": []},
    "split 0 is no pair of .* from 0 to 1199": {"new_users": [([0, 1], [2000])]},
    "split 0 is no pair": {"new_users": [([0, 1], [])]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_before_any_fit(log, message):
    X, y = log
    Diary.written = []
    options = {"estimator": Diary(), "shots": SHOTS, "n_query": 6, **BAD[message]}
    y = y * options.pop("y") if options.get("y", 0) else options.pop("y", y)
    with pytest.raises(ValueError, match=message):
        few_shot_curve(options.pop("estimator"), X, y, **options)
    assert Diary.written == []


def test_estimators_that_cannot_adapt_are_refused(log):
    with pytest.raises(TypeError, match="has no `adapt` or `partial_fit`"):
        few_shot_curve(DummyRegressor(), *log)
    with pytest.raises(TypeError, match=r"Broken is a class; pass Broken\(\)"):
        few_shot_curve(Broken, *log)
    with pytest.raises(RuntimeError, match="'broken' failed to adapt: 'no'"):
        few_shot_curve({"broken": Broken()}, *log, shots=SHOTS, n_query=6)


def test_zero_shots_alone(log):
    result = few_shot_curve(PopularityRecommender(), *log, shots=(0,), n_query=6)
    assert result.shots.tolist() == [0]
    assert result.means["rmse"]["bias"] == result.means["rmse"]["item mean"]
