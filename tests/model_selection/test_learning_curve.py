"""Quality against events seen: the same numbers as fitting and judging by hand."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.metrics import root_mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import BiasRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit, learning_curve_by_events


@pytest.fixture(scope="module")
def log():
    """Rows that are not in order of time."""
    X, y = make_interactions(30, 60, 1500, random_state=0, return_X_y=True)
    mixed = np.random.default_rng(0).permutation(1500)
    return X[mixed], y[mixed]


class Diary(PopularityRecommender):
    """Writes down which rows came by which verb."""

    written = []

    def fit(self, X, y=None, sample_weight=None):
        self.written.append(("fit", np.asarray(X), y))
        return super().fit(X, y, sample_weight)

    def partial_fit(self, X, y=None, sample_weight=None):
        self.written.append(("partial_fit", np.asarray(X), y))
        return super().partial_fit(X, y, sample_weight)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("threshold", [None, 3.5])
def test_equals_fits_and_scorers_by_hand(log, exclude_seen, threshold):
    X, y = log
    result = learning_curve_by_events(
        PopularityRecommender(), X, y, n_events=(10, 300, 1350), scoring=("recall", "rmse"), k=5,
        relevance_threshold=threshold, exclude_seen=exclude_seen,
    )  # fmt: skip
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(X)
    scorer = make_ranking_scorer(
        "recall", k=5, relevance_threshold=threshold, exclude_seen=exclude_seen
    )
    assert list(result.n_events) == [10, 300, 1350]
    for place, n in enumerate(result.n_events):
        model = PopularityRecommender().fit(X[train[:n]], y[train[:n]])
        assert result.metrics["recall@5"][place] == pytest.approx(scorer(model, X[test], y[test]))
        error = root_mean_squared_error(y[test], model.predict(X[test]))
        assert result.metrics["rmse"][place] == pytest.approx(error)
    liked = y[test] > 0 if threshold is None else y[test] >= threshold
    assert result.n_queries == len(np.unique(X[test][liked, 0]))
    assert result.estimator.n_items_ == len(np.unique(X[train, 1]))


@pytest.mark.parametrize("learn", ["partial_fit", "refit"])
def test_each_row_is_learned_in_order_of_time_and_none_of_the_test(log, learn):
    X, y = log
    Diary.written.clear()
    learning_curve_by_events(Diary(), X, y, n_events=(0.1, 0.4, 0.5), learn=learn)
    [(train, _)] = TemporalSplit(1, test_size=0.1).split(X)
    bounds = {
        "partial_fit": [("fit", 0, 135), ("partial_fit", 135, 540), ("partial_fit", 540, 675)],
        "refit": [("fit", 0, 135), ("fit", 0, 540), ("fit", 0, 675)],
    }[learn]
    for (verb, rows, values), (expected, start, stop) in zip(Diary.written, bounds, strict=True):
        assert verb == expected
        np.testing.assert_array_equal(rows, X[train[start:stop]])
        np.testing.assert_array_equal(values, y[train[start:stop]])


def test_more_events_are_better_and_the_estimator_given_is_left_alone(log):
    X, y = log
    given = IncrementalMFRecommender(n_factors=4, max_epochs=10, random_state=0)
    result = learning_curve_by_events(given, X, y, n_events=(0.02, 1.0), scoring="rmse")
    assert result.metrics["rmse"][1] < result.metrics["rmse"][0]
    assert result.learn_seconds.shape == (2,)
    assert (result.learn_seconds > 0).all()
    assert not hasattr(given, "n_items_")


def test_without_y_frames_and_pipelines(log):
    X, _ = log
    options = {"n_events": (200, 1000), "scoring": ("ndcg", "hit_rate")}
    expected = learning_curve_by_events(PopularityRecommender(), X, **options).metrics
    frame = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
    piped = make_pipeline(FunctionTransformer(), PopularityRecommender())
    found = learning_curve_by_events(piped, frame, learn="refit", **options).metrics
    assert list(found) == ["ndcg@10", "hit_rate@10"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name])


def test_anything_that_predicts_can_be_refitted(log):
    X, y = log
    result = learning_curve_by_events(
        DummyRegressor(), X, y, n_events=(1, 2), learn="refit", scoring="mae"
    )
    [(train, test)] = TemporalSplit(1, test_size=0.1).split(X)
    assert result.metrics["mae"][0] == pytest.approx(np.abs(y[test] - y[train[0]]).mean())
    assert result.n_queries == 0


def test_points_are_ascending_and_each_once(log):
    X, y = log
    result = learning_curve_by_events(
        BiasRecommender(), X, y, n_events=(1.0, 0.1, 0.1, 1e-9), scoring="rmse", test_size=500
    )
    assert result.n_events.tolist() == [1, 100, 1000]


def test_progress_bar(log, capsys):
    X, _ = log
    learning_curve_by_events(PopularityRecommender(), X, n_events=(10, 20), verbose=1)
    assert "2/2" in capsys.readouterr().err
    learning_curve_by_events(PopularityRecommender(), X, n_events=(10, 20))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_events": ()}, "n_events must be"),
        ({"n_events": (0, 10)}, "n_events must be"),
        ({"n_events": (10, 1351)}, "1350 train rows"),
        ({"n_events": (0.5, 1.5)}, "n_events must be"),
        ({"n_events": 10}, "n_events must be"),
        ({"learn": "never"}, "learn must be"),
        ({"scoring": "auc@10"}, "scoring must be among"),
        ({"scoring": "rmse", "y": None}, "rmse needs y"),
        ({"test_size": 1.0}, "test_size"),
        ({"y": [1.0]}, "inconsistent"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_learned(log, options, match):
    X, y = log
    Diary.written.clear()
    with pytest.raises(ValueError, match=match):
        learning_curve_by_events(Diary(), **{"X": X, "y": y} | options)
    assert Diary.written == []


def test_times_are_needed(log):
    with pytest.raises(ValueError, match="timestamp"):
        learning_curve_by_events(PopularityRecommender(), log[0][:, :2])
