"""Recommenders compared: numbers against the scorers, intervals against a plain bootstrap."""

import math
import pickle
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.metrics import make_ranking_scorer, ndcg_at_k
from sklearn_recft.model_selection import (
    RandomSplitWarning,
    TemporalSplit,
    compare_recommenders,
)
from sklearn_recft.model_selection._comparison import resampled_means

QUICK = {"n_bootstrap": 50, "random_state": 0}
METRICS = ("ndcg", "recall", "hit_rate", "precision", "mrr", "map")


class Fixed(BaseEstimator):
    """Recommends the same items to everyone, and writes down what it was given to learn."""

    learned = []

    def __init__(self, items=("tea", "milk", "rice")):
        self.items = items

    def fit(self, X, y=None):
        self.learned.append((X, y))
        self.fitted_ = True
        return self

    def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
        items = np.array(self.items[:n_recommendations], dtype=object)
        return np.tile(items, (len(X), 1)), np.zeros((len(X), len(items)))


class Heavy(Fixed):
    """The same, with 8 MiB that do not outlive `fit` and 2 MiB that do."""

    def fit(self, X, y=None):
        passing = np.ones(2**20)
        self.kept_ = passing[: 2**18].copy()
        return super().fit(X, y)


@pytest.fixture(scope="module")
def log():
    return make_interactions(60, 80, 3000, random_state=0, return_X_y=True)


def test_fits_at_once_have_the_values_of_one_after_the_other():
    X, y = make_interactions(n_interactions=600, random_state=0, return_X_y=True)
    models = {"popular": PopularityRecommender(), "recent": PopularityRecommender(window=60)}
    with joblib.parallel_config("threading", n_jobs=2):
        together = compare_recommenders(models, X, y, cv=TemporalSplit(2), **QUICK)
    alone = compare_recommenders(models, X, y, cv=TemporalSplit(2), **QUICK)
    for name in models:
        assert_array_equal(together.per_user["ndcg@10"][name], alone.per_user["ndcg@10"][name])


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("threshold", [None, 3.5])
def test_means_are_those_of_the_scorers(log, exclude_seen, threshold):
    X, y = log
    models = {
        "popular": PopularityRecommender(),
        "factors": IncrementalMFRecommender(n_factors=4, max_epochs=3, random_state=0),
    }
    result = compare_recommenders(
        models, X, y, scoring=METRICS, k=5, relevance_threshold=threshold,
        exclude_seen=exclude_seen, **QUICK,
    )  # fmt: skip
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(X)
    for row in result.table:
        model = clone(models[row["estimator"]]).fit(X[train], y[train])
        for metric in METRICS:
            scorer = make_ranking_scorer(
                metric, k=5, relevance_threshold=threshold, exclude_seen=exclude_seen
            )
            assert row[f"{metric}@5"] == pytest.approx(scorer(model, X[test], y[test]))
            vector = result.per_user[f"{metric}@5"][row["estimator"]]
            assert row[f"{metric}@5"] == pytest.approx(vector.mean())
    liked = y[test] > 0 if threshold is None else y[test] >= threshold
    assert result.user_ids.tolist() == list(dict.fromkeys(X[test][liked][:, 0].tolist()))


def test_a_vector_holds_the_value_of_each_user(log):
    X, _ = log
    model = PopularityRecommender(window=100)
    result = compare_recommenders({"recent": model}, X, **QUICK)
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(X)
    model = clone(model).fit(X[train])
    for user, value in zip(result.user_ids, result.per_user["ndcg@10"]["recent"], strict=True):
        taken = X[test][X[test][:, 0] == user, 1].tolist()
        assert value == pytest.approx(ndcg_at_k([taken], model.recommend([user])[0]))


def test_nothing_of_the_test_rows_reaches_a_fit():
    X = [[user, item, float(5 * i + j)] for i, user in enumerate("abcd") for j, item in
         enumerate(["tea", "milk", "rice", "salt"])]  # fmt: skip
    y = list(range(16))
    splits = [([0, 4, 8], [1, 5, 9]), ([0, 1, 4, 5, 8, 9, 12], [2, 6, 10, 13])]
    Fixed.learned.clear()
    compare_recommenders(
        {"one": Fixed(), "two": Fixed()}, X, y, cv=splits, k=2, users="known", **QUICK
    )
    # Each estimator, each split, and once more on the last split for its memory.
    assert [len(X_train) for X_train, _ in Fixed.learned] == [3, 3, 7, 7, 7, 7]
    for X_train, y_train in Fixed.learned:
        train = splits[0 if len(X_train) == 3 else 1][0]
        assert X_train == [X[row] for row in train]
        assert y_train.tolist() == [y[row] for row in train]


def test_estimators_given_are_left_alone(log):
    X, _ = log
    given = Fixed()
    compare_recommenders({"fixed": given}, X, k=3, **QUICK)
    assert not hasattr(given, "fitted_")


def test_known_users_only_and_unknown_items_in_the_denominator():
    X = [["ann", "tea"], ["bob", "milk"], ["ann", "milk"], ["ann", "new"], ["eve", "tea"]]
    cv = [([0, 1], [2, 3, 4])]
    options = {"cv": cv, "scoring": "recall", "k": 3, "exclude_seen": False, **QUICK}
    everyone = compare_recommenders({"fixed": Fixed()}, X, **options)
    assert everyone.user_ids.tolist() == ["ann", "eve"]
    assert everyone.per_user["recall@3"]["fixed"].tolist() == [0.5, 1.0]
    known = compare_recommenders({"fixed": Fixed()}, X, users="known", **options)
    assert known.user_ids.tolist() == ["ann"]
    assert known.table[0]["recall@3"] == 0.5
    with pytest.raises(ValueError, match="of a user with train rows"):
        compare_recommenders(
            {"fixed": Fixed()}, X, users="known", **options | {"cv": [([0, 1], [4])]}
        )


def test_coverage_is_a_share_of_what_was_trained_on():
    X = [["ann", "tea"], ["bob", "milk"], ["cem", "rice"], ["cem", "salt"], ["ann", "oil"]]
    result = compare_recommenders(
        {"one": Fixed(["tea"]), "three": Fixed()}, X, cv=[([0, 1, 2, 3], [4])], **QUICK
    )
    assert [row["coverage@10"] for row in result.table] == [1 / 4, 3 / 4]


def test_resampling_equals_a_plain_bootstrap():
    """The same draws, written out: each user drawn brings all rows, for both columns alike."""
    rng = np.random.default_rng(0)
    values, users = rng.random((9, 2)), np.array([0, 1, 2, 0, 3, 3, 3, 1, 4])
    means = resampled_means(values, users, 20, np.random.default_rng(1))
    drawn = np.random.default_rng(1).integers(5, size=(20, 5))
    for mean, sample in zip(means, drawn, strict=True):
        rows = np.concatenate([np.flatnonzero(users == user) for user in sample])
        np.testing.assert_allclose(mean, values[rows].mean(axis=0))


def test_resampling_in_blocks_draws_the_same(monkeypatch):
    values, users = np.random.default_rng(0).random((6, 2)), np.array([0, 1, 2, 0, 3, 1])
    whole = resampled_means(values, users, 11, np.random.default_rng(1))
    monkeypatch.setitem(resampled_means.__globals__, "_DRAWS", 8)
    blocks = resampled_means(values, users, 11, np.random.default_rng(1))
    np.testing.assert_allclose(blocks, whole)


def test_intervals_are_paired_and_hold_what_they_should():
    """Two models of equal skill but very uneven users: pairing makes the interval narrow."""
    n = 400
    X = np.array([[user, user % 2] for user in range(n)] * 2)
    cv = [(np.arange(n), np.arange(n, 2 * n))]
    models = {"odd": Fixed([1]), "both": Fixed([0, 1]), "even": Fixed([0])}
    result = compare_recommenders(
        models, X, cv=cv, scoring="recall", k=2, exclude_seen=False, random_state=0
    )
    odd, both, even = result.table
    # `both` finds what `odd` does and the other half too: a difference of 0.5, of which the
    # standard error over users is 0.5 / sqrt(n), and 1 / sqrt(n) between `odd` and `even`.
    width = both["recall@2_difference_high"] - both["recall@2_difference_low"]
    assert both["recall@2_difference"] == 0.5
    assert width == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(n), rel=0.1)
    width = even["recall@2_difference_high"] - even["recall@2_difference_low"]
    assert even["recall@2_difference"] == 0.0
    assert width == pytest.approx(2 * 1.96 / math.sqrt(n), rel=0.1)
    for end in ("", "_low", "_high"):
        assert odd[f"recall@2_difference{end}"] == 0.0


def test_users_of_several_splits_are_one_user_each():
    """Lists of the same user are not independent: more splits of the same do not narrow."""
    n = 200
    X = np.array([[user, user % 2] for user in range(n)] * 4)
    train, rest = np.arange(n), np.arange(n, 4 * n)
    options = {"scoring": "recall", "k": 1, "exclude_seen": False, "random_state": 0}
    models = {"odd": Fixed([1]), "even": Fixed([0])}
    one = compare_recommenders(models, X, cv=[(train, rest[:n])], **options)
    splits = [(train, rest[j : j + n]) for j in range(0, 3 * n, n)]
    three = compare_recommenders(models, X, cv=splits, **options)
    assert (three.n_queries, three.n_users, three.n_splits) == (3 * n, n, 3)
    np.testing.assert_array_equal(three.split_index, np.repeat([0, 1, 2], n))
    for end in ("low", "high"):
        name = f"recall@1_difference_{end}"
        assert three.table[1][name] == pytest.approx(one.table[1][name])


def test_baseline_is_the_first_unless_named(log):
    X, _ = log
    models = {"a": PopularityRecommender(), "b": PopularityRecommender(window=30)}
    first = compare_recommenders(models, X, **QUICK)
    assert first.baseline == "a"
    last = compare_recommenders(models, X, baseline="b", **QUICK)
    assert last.table[1]["ndcg@10_difference"] == 0.0
    assert last.table[0]["ndcg@10_difference"] == -first.table[1]["ndcg@10_difference"] != 0.0


def test_same_seed_same_table(log):
    X, _ = log
    models = {"a": PopularityRecommender(), "b": PopularityRecommender(window=30)}

    def quality(seed):
        result = compare_recommenders(models, X, random_state=seed, measure_memory=False)
        return [{k: v for k, v in row.items() if "@" in k} for row in result.table]

    assert quality(0) == quality(0)
    assert quality(0) != quality(1)


def test_seconds_memory_and_size():
    X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"]]
    options = {"cv": [([0, 1], [2])], "k": 3, **QUICK}
    light, heavy = compare_recommenders({"light": Fixed(), "heavy": Heavy()}, X, **options).table
    assert heavy["peak_memory_mib"] == pytest.approx(10, abs=0.2)
    assert heavy["model_size_mib"] == pytest.approx(2, abs=0.1)
    assert light["peak_memory_mib"] < 0.2
    assert light["model_size_mib"] < 0.1
    for row in (light, heavy):
        assert 0 <= row["fit_seconds"] < 60
        assert 0 <= row["recommend_seconds"] < 60
    without = compare_recommenders({"heavy": Heavy()}, X, measure_memory=False, **options)
    assert math.isnan(without.table[0]["peak_memory_mib"])


def test_a_trace_of_memory_that_is_running_goes_on():
    tracemalloc.start()
    try:
        before = np.ones(2**20)  # was there before the fit, so not its own
        X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"]]
        result = compare_recommenders({"heavy": Heavy()}, X, cv=[([0, 1], [2])], k=3, **QUICK)
        assert result.table[0]["peak_memory_mib"] == pytest.approx(10, abs=0.2)
        assert tracemalloc.is_tracing()
        assert len(before)
    finally:
        tracemalloc.stop()


def test_a_model_that_cannot_be_pickled_has_no_size():
    class Local(Fixed):
        pass

    X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"]]
    result = compare_recommenders({"a": Local()}, X, cv=[([0, 1], [2])], **QUICK)
    assert math.isnan(result.table[0]["model_size_mib"])
    assert result.table[0]["recall@10"] == 1.0


def test_anything_with_fit_and_recommend():
    class Stranger:
        def fit(self, X, y=None):
            self.fitted = True

        def recommend(self, X, *, n_recommendations, candidates, exclude_seen):
            return [["milk", "tea"][:n_recommendations]] * len(X)

    X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"], ["bob", "tea"]]
    given = Stranger()
    result = compare_recommenders({"s": given}, X, cv=[([0, 1], [2, 3])], **QUICK)
    assert result.per_user["recall@10"]["s"].tolist() == [0.0, 1.0]
    assert not hasattr(given, "fitted")


def test_pipelines_and_frames(log):
    X, _ = log
    frame = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
    renamed = FunctionTransformer(lambda table: table.assign(item_id=-table["item_id"]))
    models = {
        "plain": PopularityRecommender(),
        "piped": make_pipeline(renamed, PopularityRecommender()),
    }
    result = compare_recommenders(models, frame, measure_memory=False, **QUICK)
    for metric, vectors in result.per_user.items():
        np.testing.assert_array_equal(vectors["plain"], vectors["piped"], err_msg=metric)
    plain, piped = (row["coverage@10"] for row in result.table)
    assert plain == piped > 0
    merging = FunctionTransformer(lambda table: table.assign(user_id=table["user_id"] // 2))
    with pytest.raises(RuntimeError, match=r"'piped' failed to recommend on split 0.*merge"):
        compare_recommenders({"piped": make_pipeline(merging, PopularityRecommender())}, frame)


def test_a_failing_estimator_is_named():
    class Broken(Fixed):
        def fit(self, X, y=None):
            raise ZeroDivisionError("by nothing")

    X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"]]
    with pytest.raises(RuntimeError, match="'bad' failed to fit on split 0: by nothing") as caught:
        compare_recommenders({"good": Fixed(), "bad": Broken()}, X, cv=[([0, 1], [2])])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_random_split_is_warned_of_and_others_are_not(log):
    X, _ = log
    models = {"popular": PopularityRecommender()}
    cv = KFold(2, shuffle=True, random_state=0)
    with pytest.warns(RandomSplitWarning, match="TemporalSplit") as caught:
        compare_recommenders(models, X, cv=cv, **QUICK)
    assert caught[0].filename == __file__
    compare_recommenders(models, X[:, :2], cv=cv, **QUICK)  # no times, nothing to warn of
    compare_recommenders(models, X, cv=TemporalSplit(2, test_size=0.1), **QUICK)


def test_as_text_as_frame_and_pickled(log):
    X, _ = log
    models = {"popular": PopularityRecommender(), "recent": PopularityRecommender(window=60)}
    result = compare_recommenders(models, X, scoring=("ndcg", "mrr"), **QUICK)
    header, popular, recent, foot = str(result).splitlines()
    assert header.split() == [
        "estimator", "ndcg@10", "difference", "mrr@10", "difference", "coverage@10",
        "fit_seconds", "recommend_seconds", "peak_memory_mib", "model_size_mib",
    ]  # fmt: skip
    assert popular.split()[1] == f"{result.table[0]['ndcg@10']:.4f}"
    assert f"{result.table[1]['ndcg@10_difference']:+.4f} [" in recent
    assert len(header) == len(popular) == len(recent)
    assert f"{result.n_queries} lists" in foot
    assert "popular" in foot
    frame = pd.DataFrame(result.table).set_index("estimator")
    assert frame.loc["recent", "mrr@10"] == result.table[1]["mrr@10"]
    assert frame.dtypes.eq(float).all()
    again = pickle.loads(pickle.dumps(result))
    assert str(again) == str(result)


def test_progress_bar(log, capsys):
    X, _ = log
    compare_recommenders({"popular": PopularityRecommender()}, X, verbose=1, **QUICK)
    assert "1/1" in capsys.readouterr().err
    compare_recommenders({"popular": PopularityRecommender()}, X, **QUICK)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"estimators": {}}, ValueError, "at least one"),
        ({"estimators": [Fixed()]}, ValueError, "dict"),
        ({"estimators": {"a": FunctionTransformer()}}, TypeError, "'a'.*no `recommend`"),
        ({"estimators": {"a": make_pipeline(FunctionTransformer())}}, TypeError, "`recommend`"),
        ({"baseline": "b"}, ValueError, "baseline must be one of"),
        ({"scoring": ("auc",)}, ValueError, "scoring must be among"),
        ({"scoring": ()}, ValueError, "scoring must be among"),
        ({"k": 0}, ValueError, "k == 0"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap"),
        ({"confidence_level": 1}, ValueError, "confidence_level"),
        ({"n_jobs": "2"}, TypeError, "n_jobs must be an instance of int, not str"),
        ({"n_jobs": 1.5}, TypeError, "n_jobs must be an instance of int, not float"),
        ({"n_jobs": 0}, ValueError, "n_jobs == 0"),
        ({"users": "some"}, ValueError, "users must be"),
        ({"relevance_threshold": 9, "y": [1, 1, 1]}, ValueError, "no test row is relevant"),
        ({"cv": [([0, 1], [1, 2])]}, ValueError, "both trained on and tested on"),
        ({"cv": None}, ValueError, "timestamp"),
        ({"y": [1, 2]}, ValueError, "inconsistent"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_learned(options, error, match):
    X = [["ann", "tea"], ["bob", "milk"], ["ann", "rice"]]
    given = {"estimators": {"a": Fixed()}, "X": X, "cv": [([0, 1], [2])]} | options
    Fixed.learned.clear()
    with pytest.raises(error, match=match):
        compare_recommenders(**given)
    assert Fixed.learned == []
