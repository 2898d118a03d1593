"""The types that files of skops are loaded with: enough for all that is saved, and no others."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from torch import nn

from sklearn_recft import (
    FineTuning,
    IncrementalMFRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    trusted_types,
)
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import ColdUserSplit, LeaveLastOut, TemporalSplit
from sklearn_recft.pipeline import make_recommender_pipeline
from sklearn_recft.preprocessing import ActivityFeatures, BehaviorText, PairMeans
from tests.contract.discovery import all_estimators, small
from tests.contract.helpers import as_table, make_log


@pytest.fixture(scope="module")
def skops():
    return pytest.importorskip("skops.io", reason="skops is not installed")


def reloaded(skops, thing):
    """Save and load by skops: TypeError or a list of the types if one is missing."""
    return skops.loads(skops.dumps(thing), trusted=trusted_types())


@pytest.mark.parametrize("name", all_estimators())
def test_an_unfitted_estimator(name, skops):
    estimator = small(all_estimators()[name])
    assert repr(reloaded(skops, estimator)) == repr(estimator)


def test_the_options_of_training(skops):
    estimator = RealtimeTransformerRecommender(training=FineTuning(patience=2))
    assert reloaded(skops, estimator).training.patience == 2


def test_a_pipeline(skops):
    X, y = make_log()
    pipe = make_recommender_pipeline(FunctionTransformer(), PopularityRecommender()).fit(X, y)
    twin = reloaded(skops, pipe)
    assert_array_equal(twin.predict(X), pipe.predict(X))
    found = (one.partial_fit(X, y).recommend([1, 99])[1] for one in (twin, pipe))
    assert_array_equal(*found)


@pytest.mark.parametrize(
    "cv", [TemporalSplit(2), LeaveLastOut(2), ColdUserSplit(2, random_state=0)], ids=repr
)
def test_a_search(cv, skops):
    X, y = make_log()
    scoring = make_ranking_scorer("recall", k=5)
    search = GridSearchCV(PopularityRecommender(), {"half_life": [9, None]}, cv=cv, scoring=scoring)
    search.fit(X, y)
    twin = reloaded(skops, search)
    assert_array_equal(twin.predict(X), search.predict(X))
    assert twin.score(X, y) == search.score(X, y)
    assert twin.fit(X, y).best_params_ == search.best_params_


@pytest.mark.parametrize("cv", [2, TimeSeriesSplit(2)], ids=repr)
def test_a_search_by_default(cv, skops):
    X, y = make_log()
    search = GridSearchCV(PopularityRecommender(), {"half_life": [9, None]}, cv=cv).fit(X, y)
    assert_array_equal(reloaded(skops, search).predict(X), search.predict(X))


@pytest.mark.parametrize(
    "ids",
    [
        lambda codes: [f"item {code}" for code in codes],
        lambda codes: [(int(code), "a") for code in codes],
        lambda codes: [bool(code % 2) for code in codes],
        lambda codes: [b"x%d" % code for code in codes],
        lambda codes: codes + 0.5,
        lambda codes: codes.astype("datetime64[s]"),
    ],
    ids=["strings", "tuples", "booleans", "bytes", "fractions", "times"],
)
def test_ids_of_any_type(ids, skops):
    X, _ = make_log(80)
    table = as_table(ids(X[:, 0]), ids(X[:, 1]), X[:, 2])
    model = IncrementalMFRecommender(n_factors=2, random_state=0).fit(table)
    twin = reloaded(skops, model)
    assert twin.user_ids_.tolist() == model.user_ids_.tolist()
    assert_array_equal(twin.predict(table), model.predict(table))


def test_behavior_text(skops):
    X, y = make_log(80)
    table = as_table(X[:, 0] % 2 == 1, [(int(item), "tea") for item in X[:, 1]], X[:, 2])
    later = as_table([True, False], [(1, "tea"), (99, "tea")], [2**31] * 2)
    model = BehaviorText(max_history=3).fit(table[:60], y[:60]).partial_fit(table[60:])
    for twin in (reloaded(skops, model), pickle.loads(pickle.dumps(model))):
        assert twin.transform(later).tolist() == model.transform(later).tolist()
        twin.partial_fit(later, [1, 0])
    model.partial_fit(later, [1, 0])
    later[:, 2] += 1
    assert twin.transform(later).tolist() == model.transform(later).tolist()


@pytest.mark.parametrize("ids", [int, str])
def test_features_of_a_stream(skops, ids):
    X, y = make_log(80)
    table = as_table([ids(u) for u in X[:, 0]], [ids(i) for i in X[:, 1]], X[:, 2])
    vectors = {ids(item): [1.0, item] for item in np.unique(X[:, 1])}
    liked = (np.asarray(y) >= np.median(y)).astype(float)
    for model in (ActivityFeatures(item_vectors=vectors), PairMeans()):
        model.fit(table[:60], liked[:60])
        twin = reloaded(skops, model)
        assert_array_equal(twin.transform(table), model.transform(table))
        later = twin.partial_fit_transform(table[60:], liked[60:])
        assert_array_equal(later, model.partial_fit_transform(table[60:], liked[60:]))


def test_classes_of_others_must_be_named(skops):
    estimator = RealtimeTransformerRecommender(net_params={"callbacks": [EarlyStopping()]})
    file = skops.dumps(estimator)
    with pytest.raises(TypeError, match="EarlyStopping"):
        skops.loads(file, trusted=trusted_types())
    others = ["skorch.callbacks.training.EarlyStopping", "builtins.print"]
    loaded = skops.loads(file, trusted=[*trusted_types(), *others])
    assert isinstance(loaded.net_params["callbacks"][0], EarlyStopping)


def test_no_net_is_trusted():
    """The nets of skorch unpickle what they are given."""
    names = trusted_types()
    assert names == sorted(set(names))
    of_search = (
        "sklearn.model_selection._split.",
        "sklearn.metrics._scorer._Pass",
        "sklearn.utils._metadata_requests.M",
    )
    for name in names:
        assert name.startswith(("sklearn_recft.", *of_search))
        module, _, cls = name.rpartition(".")
        found = getattr(__import__(module, fromlist=[cls]), cls)
        assert not issubclass(found, (NeuralNet, nn.Module)), name


def test_a_file_that_names_another_type_is_refused(skops):
    class Stranger:
        pass

    model = PopularityRecommender().fit(np.array([[1, 2], [3, 4]]))
    model.note = Stranger()
    with pytest.raises(TypeError, match="Stranger"):
        reloaded(skops, model)
