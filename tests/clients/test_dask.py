"""On the processes of a local Dask cluster: searches score as here, and parts are merged."""

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.model_selection import GridSearchCV

from sklearn_recft import BiasRecommender, EASERecommender, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import TemporalSplit, compare_recommenders
from sklearn_recft.scale import fit_partitions, merge

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # those of the tool are for the tool


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(processes=True, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def log():
    return make_interactions(60, 40, 3000, random_state=0, return_X_y=True)


@pytest.mark.parametrize("estimator", [EASERecommender(), BiasRecommender()], ids=str)
def test_partitions_on_a_cluster_equal_one_fit(client, log, estimator):
    X, y = log
    rows = [np.flatnonzero(X[:, 0] % 3 == k) for k in range(3)]
    with joblib.parallel_config(backend="dask"):
        merged = fit_partitions(estimator, [(X[r], y[r]) for r in rows])
    order = np.concatenate(rows)
    whole = estimator.fit(X[order], y[order])
    assert_array_equal(merged.user_ids_, whole.user_ids_)
    assert_allclose(merged.predict(X), whole.predict(X), rtol=1e-10)


def test_models_of_delayed_fits_are_merged(client, log):
    """The same without joblib, as a graph of Dask."""
    dask = pytest.importorskip("dask")
    X, y = log
    fits = [dask.delayed(EASERecommender().fit)(X[k::2], y[k::2]) for k in range(2)]
    merged = dask.delayed(merge)(fits).compute(scheduler=client)
    order = np.r_[0 : len(X) : 2, 1 : len(X) : 2]
    assert_array_equal(merged.predict(X), EASERecommender().fit(X[order], y[order]).predict(X))


def test_a_search_on_a_cluster_scores_as_here(client, log):
    grid = {"reg": [0.05, 20.0]}
    model = IncrementalMFRecommender(n_factors=4, random_state=0)
    serial = GridSearchCV(model, grid, cv=TemporalSplit(2)).fit(*log)
    with joblib.parallel_config(backend="dask"):
        there = GridSearchCV(model, grid, cv=TemporalSplit(2)).fit(*log)
    for name in ("split0_test_score", "split1_test_score", "mean_test_score"):
        assert_array_equal(there.cv_results_[name], serial.cv_results_[name])


def test_a_comparison_on_a_cluster_has_the_values_of_one_here(client, log):
    models = {"bias": BiasRecommender(), "EASE": EASERecommender()}
    options = {"cv": TemporalSplit(2), "random_state": 0, "measure_memory": False}
    here = compare_recommenders(models, *log, **options)
    with joblib.parallel_config(backend="dask", scatter=list(log)):
        there = compare_recommenders(models, *log, **options)
    for name in models:
        assert_array_equal(there.per_user["ndcg@10"][name], here.per_user["ndcg@10"][name])
    for one, other in zip(there.table, here.table, strict=True):
        assert all(
            one[key] == other[key] for key in one if "seconds" not in key and one[key] == one[key]
        )


def test_a_failure_on_a_cluster_names_the_estimator(client, log):
    X, y = log
    models = {"fine": BiasRecommender(), "broken": IncrementalMFRecommender(n_factors=-1)}
    with (
        joblib.parallel_config(backend="dask"),
        pytest.raises(RuntimeError, match=r"'broken' failed to fit on split 0: .*n_factors"),
    ):
        compare_recommenders(models, X, y, measure_memory=False)
