"""On the processes of a local Ray: searches and comparisons have the values of those here."""

import os

import joblib
import pytest
from numpy.testing import assert_array_equal
from sklearn.model_selection import GridSearchCV

from sklearn_recft import BiasRecommender, EASERecommender, IncrementalMFRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.model_selection import TemporalSplit, compare_recommenders

ray = pytest.importorskip("ray", reason="ray is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # those of the tool are for the tool


@pytest.fixture(scope="module")
def _ray():
    from ray.util.joblib import register_ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    register_ray()
    yield
    ray.shutdown()


@pytest.mark.usefixtures("_ray")
def test_searches_and_comparisons():
    X, y = make_interactions(60, 40, 3000, random_state=0, return_X_y=True)
    models = {"bias": BiasRecommender(), "EASE": EASERecommender()}
    options = {"cv": TemporalSplit(2), "random_state": 0, "measure_memory": False}
    model = IncrementalMFRecommender(n_factors=4, random_state=0)

    def values():
        search = GridSearchCV(model, {"reg": [0.05, 20.0]}, cv=TemporalSplit(2)).fit(X, y)
        compared = compare_recommenders(models, X, y, **options).per_user["ndcg@10"]
        return search.cv_results_["mean_test_score"], compared["bias"], compared["EASE"]

    here = values()
    with joblib.parallel_config(backend="ray"):
        there = values()
    for one, other in zip(there, here, strict=True):
        assert_array_equal(one, other)
