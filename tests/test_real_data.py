"""Quality on MovieLens 100K: floors below which something is broken."""

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit, iter_prequential, prequential_score


def test_random_split(movielens_100k):
    X, y = movielens_100k
    rows = np.random.RandomState(0).permutation(len(X))
    train, test = rows[:90_000], rows[90_000:]
    errors = {
        type(model).__name__: root_mean_squared_error(
            y[test], model.fit(X[train], y[train]).predict(X[test])
        )
        for model in (IncrementalMFRecommender(random_state=0), BiasRecommender())
    }
    assert errors["IncrementalMFRecommender"] < 0.92
    assert errors["BiasRecommender"] < 0.95
    assert errors["IncrementalMFRecommender"] < errors["BiasRecommender"] - 0.02


@pytest.mark.parametrize("seed", [0, 1])
def test_event_by_event_from_nothing(movielens_100k, seed):
    X, y = movielens_100k
    said = IncrementalMFRecommender(random_state=seed).partial_fit_predict(X, y)
    assert root_mean_squared_error(y, said) <= 0.944
    assert mean_absolute_error(y, said) <= 0.749


def test_the_replay_is_the_compiled_pass(movielens_100k):
    X, y = (part[:20_000] for part in movielens_100k)
    model = IncrementalMFRecommender(random_state=0)
    steps = iter_prequential(model, X, y, chunk_size=1, report_every=4000)
    said = np.concatenate([step.predictions for step in steps])
    at_once = IncrementalMFRecommender(random_state=0).partial_fit_predict(X, y)
    np.testing.assert_array_equal(said, at_once)


def test_learning_chunks_beats_standing_still(movielens_100k):
    X, y = movielens_100k
    errors = {
        learn: prequential_score(
            IncrementalMFRecommender(random_state=0), X, y,
            warm_up=0.5, chunk_size=2000, learn=learn, scoring=["rmse"],
        ).metrics["rmse"]
        for learn in ("never", "partial_fit")
    }  # fmt: skip
    assert errors["partial_fit"] < errors["never"] - 0.02


def test_positives_one_by_one_beat_popularity(movielens_100k):
    """Recommend, then learn, each event: Recall@10 over all items not yet met."""
    X, y = movielens_100k
    X = X[y == 5][:6800]
    models = {
        "bpr": IncrementalMFRecommender(loss="bpr", max_epochs=20, random_state=0),
        "popularity": PopularityRecommender(),
    }
    recalls = {
        name: prequential_score(
            model, X, warm_up=6000, chunk_size=1, scoring=["recall"], k=10
        ).metrics["recall@10"]
        for name, model in models.items()
    }
    assert recalls["bpr"] > recalls["popularity"] > 10 / 1682  # chance


def test_neighbours_ease_and_factors_beat_popularity(movielens_100k):
    """Trained on 90 % of the timeline, judged on who of the last 10 % was known before."""
    X, _ = movielens_100k
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(X)
    known = test[np.isin(X[test, 0], X[train, 0])]
    score = make_ranking_scorer("ndcg", k=10)
    found = {
        type(model).__name__: score(model.fit(X[train]), X[known])
        for model in (
            PopularityRecommender(),
            ItemKNNRecommender(),
            EASERecommender(),
            ALSRecommender(random_state=0),
        )
    }
    floor = found.pop("PopularityRecommender")
    assert floor > 10 / 1682
    assert min(found.values()) > 1.1 * floor, found
