"""Points and intervals are those of the comparison, readable without colours."""

import itertools
import sys

import numpy as np
import pytest

from sklearn_recft import PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import RecommenderComparisonDisplay
from sklearn_recft.model_selection import compare_recommenders

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def result():
    X, _ = make_interactions(50, 40, 2000, random_state=0, return_X_y=True)
    models = {"all": PopularityRecommender()}
    models |= {f"{days} days": PopularityRecommender(window=days) for days in (10, 60, 200)}
    return compare_recommenders(
        models, X, baseline="60 days", scoring=("ndcg", "mrr"), n_bootstrap=100, random_state=0
    )


def drawn(bar):
    """Point, ends and row of an error bar."""
    (left, y), (right, _) = bar.lines[2][0].get_segments()[0]
    return bar.lines[0].get_xdata()[0], left, right, y


def test_points_and_intervals_are_those_of_the_table(result):
    display = RecommenderComparisonDisplay.from_results(result, metric="mrr@10")
    rows = [row for row in result.table if row["estimator"] != "60 days"]
    for place, (row, bar) in enumerate(zip(rows, display.bars_, strict=True)):
        ends = [row[f"mrr@10_difference{end}"] for end in ("", "_low", "_high")]
        np.testing.assert_allclose(drawn(bar), [*ends, place])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["all", "10 days", "200 days"]
    assert display.ax_.get_ylim()[0] > display.ax_.get_ylim()[1]  # the first is at the top
    assert display.ax_.get_xlabel() == "mrr@10, difference to 60 days"
    assert display.figure_ is display.ax_.figure


def test_metric_is_the_first_unless_chosen(result, tmp_path):
    display = RecommenderComparisonDisplay.from_results(result)
    assert display.metric == "ndcg@10"
    display.figure_.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_hollow_where_the_interval_holds_zero():
    display = RecommenderComparisonDisplay(
        names=["better", "unclear", "worse"],
        differences=[0.2, 0.1, -0.2],
        intervals=[[0.1, 0.3], [-0.1, 0.3], [-0.3, -0.1]],
    ).plot()
    points = [bar.lines[0] for bar in display.bars_]
    hollow = [point.get_markerfacecolor() == "white" for point in points]
    assert hollow == [False, True, False]
    for one, other in itertools.combinations(points, 2):
        assert one.get_marker() != other.get_marker()
        assert one.get_color() != other.get_color()
    assert display.ax_.get_xlabel() == "Score, difference to the baseline"


def test_a_point_outside_its_interval_can_be_drawn():
    display = RecommenderComparisonDisplay(
        names=["odd"], differences=[0.5], intervals=[[0.6, 0.7]]
    ).plot()
    assert drawn(display.bars_[0])[:3] == (0.5, 0.5, 0.7)


def test_draws_on_given_axes_with_given_style(result):
    _, ax = plt.subplots()
    display = RecommenderComparisonDisplay.from_results(result, ax=ax, markersize=3)
    assert display.ax_ is ax
    assert all(bar.lines[0].get_markersize() == 3 for bar in display.bars_)


def test_nothing_to_draw(result):
    with pytest.raises(ValueError, match=r"metric must be one of.*mrr@10.*got 'rmse'"):
        RecommenderComparisonDisplay.from_results(result, metric="rmse")
    X = [["ann", "tea", 1], ["bob", "rye", 2], ["ann", "rye", 3]]
    alone = compare_recommenders(
        {"all": PopularityRecommender()}, X, cv=[([0, 1], [2])], n_bootstrap=5
    )
    with pytest.raises(ValueError, match="beside the baseline"):
        RecommenderComparisonDisplay.from_results(alone)


def test_without_matplotlib_the_error_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"RecommenderComparisonDisplay.*sklearn-recft\[plot\]"):
        RecommenderComparisonDisplay.from_results(result)
