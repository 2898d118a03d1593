"""Lines of the learning curves are the numbers measured."""

import sys

import numpy as np
import pytest
from sklearn.utils import Bunch

from sklearn_recft import PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import LearningCurveDisplay
from sklearn_recft.model_selection import learning_curve_by_events

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def results():
    X, y = make_interactions(30, 40, 800, random_state=0, return_X_y=True)
    models = {"all": PopularityRecommender(), "recent": PopularityRecommender(window=60)}
    return {
        name: learning_curve_by_events(model, X, y, scoring=("ndcg", "mae"))
        for name, model in models.items()
    }


def test_lines_are_the_scores_of_the_points(results):
    display = LearningCurveDisplay.from_results(results, metric="ndcg@10")
    assert [line.get_label() for line in display.lines_] == ["all", "recent"]
    for line, result in zip(display.lines_, results.values(), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), result.n_events)
        np.testing.assert_array_equal(line.get_ydata(), result.metrics["ndcg@10"])
    assert display.ax_.get_ylabel() == "ndcg@10"
    assert display.ax_.get_xlabel() == "Events learned"
    assert [t.get_text() for t in display.ax_.get_legend().get_texts()] == ["all", "recent"]
    assert display.figure_ is display.ax_.figure


def test_metric_is_the_first_unless_chosen(results, tmp_path):
    first = next(iter(results["all"].metrics))
    display = LearningCurveDisplay.from_results(results)
    assert display.metric == first
    display.figure_.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_events_on_either_scale(results):
    assert LearningCurveDisplay.from_results(results).ax_.get_xscale() == "log"
    display = LearningCurveDisplay.from_results(results, log_scale=False)
    assert display.ax_.get_xscale() == "linear"


def test_lines_differ_without_colour(results):
    one, other = LearningCurveDisplay.from_results(results).lines_
    assert one.get_linestyle() != other.get_linestyle()
    assert one.get_marker() != other.get_marker()
    assert one.get_color() != other.get_color()


def test_draws_on_given_axes_with_given_style(results):
    _, ax = plt.subplots()
    display = LearningCurveDisplay.from_results(results, ax=ax, linewidth=4)
    assert display.ax_ is ax
    assert all(line.get_linewidth() == 4 for line in display.lines_)


def curve(**metrics):
    return Bunch(n_events=np.array([1]), metrics=metrics)


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "at least one model"),
        ({"a": curve(rmse=[1.0]), "b": curve(mae=[1.0])}, r"'b' has no metric 'rmse'.*mae"),
    ],
)
def test_nothing_to_draw(results, message):
    with pytest.raises(ValueError, match=message):
        LearningCurveDisplay.from_results(results)


def test_without_matplotlib_the_error_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"LearningCurveDisplay.*sklearn-recft\[plot\]"):
        LearningCurveDisplay.from_results(results)
