"""Lines of the few-shot display are the numbers measured."""

import sys

import numpy as np
import pytest

from sklearn_recft import BiasRecommender, PopularityRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import FewShotDisplay
from sklearn_recft.model_selection import few_shot_curve

plt = pytest.importorskip("matplotlib.pyplot")

OPTIONS = {"shots": (0, 3), "n_query": 6, "random_state": 0}


@pytest.fixture(scope="module")
def log():
    return make_interactions(40, 25, 1000, random_state=0, return_X_y=True)


@pytest.fixture(scope="module")
def result(log):
    models = {"biased": BiasRecommender(), "popular": PopularityRecommender()}
    return few_shot_curve(models, *log, **OPTIONS)


def test_lines_are_the_means(result, tmp_path):
    display = FewShotDisplay.from_result(result, metric="ndcg@5")
    labels = ["item mean", "bias", "ridge", "biased", "popular"]
    assert [line.get_label() for line in display.lines_] == labels
    for line, name in zip(display.lines_, labels, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [0, 3])
        np.testing.assert_array_equal(line.get_ydata(), result.means["ndcg@5"][name])
        assert (line.get_color() == "0.55") == (name in result.baselines)
    assert display.ax_.get_ylabel() == "ndcg@5"
    assert display.ax_.get_xlabel() == "Events of the new user"
    display.figure_.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert FewShotDisplay.from_result(result).metric == "rmse"


def test_differences_have_intervals(result):
    display = FewShotDisplay.from_result(result, baseline="bias")
    assert display.lines_[0].get_label() == "item mean"
    assert "bias" not in display.scores
    found = result.differences["rmse"]["biased"]["bias"]
    np.testing.assert_array_equal(display.lines_[2].get_ydata(), found[:, 0])
    bands = display.ax_.collections
    assert len(bands) == 2  # of the models, not of the baselines
    ends = bands[0].get_paths()[0].vertices[:, 1]
    assert ends.min() == found[:, 1].min()
    assert ends.max() == found[:, 2].max()
    assert display.ax_.get_ylabel() == "rmse, difference to bias"


def test_from_estimator_evaluates(log, result):
    ax = plt.subplots()[1]
    model = {"biased": BiasRecommender()}
    display = FewShotDisplay.from_estimator(model, *log, metric="rmse", ax=ax, **OPTIONS)
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.scores["biased"], result.means["rmse"]["biased"])


def test_what_is_missing_is_named(result, monkeypatch):
    with pytest.raises(ValueError, match=r"metric must be one of \['rmse', 'ndcg@5'\]"):
        FewShotDisplay.from_result(result, metric="mae")
    with pytest.raises(ValueError, match="baseline must be one of"):
        FewShotDisplay.from_result(result, baseline="popular")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"sklearn-recft\[plot\]"):
        FewShotDisplay.from_result(result)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")
