"""Pictures of results: what is drawn is what was measured, and lines can be told apart."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor

from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import PrequentialDisplay
from sklearn_recft.model_selection import iter_prequential, prequential_score

plt = pytest.importorskip("matplotlib.pyplot")


def step(time, **metrics):
    return SimpleNamespace(last_timestamp=time, metrics=metrics)


@pytest.fixture(scope="module")
def results():
    log = make_interactions(n_interactions=400, random_state=0)
    options = {"warm_up": 0.5, "period": 30.0, "scoring": ("mae", "rmse")}
    return {
        how: prequential_score(DummyRegressor(), log.data, log.target, learn=how, **options)
        for how in ("never", "refit")
    }


def test_lines_are_the_scores_of_the_steps(results):
    display = PrequentialDisplay.from_results(results, metric="rmse")
    assert [line.get_label() for line in display.lines_] == ["never", "refit"]
    for line, result in zip(display.lines_, results.values(), strict=True):
        np.testing.assert_array_equal(
            line.get_ydata(), [step.metrics["rmse"] for step in result.steps]
        )
        seconds = [step.last_timestamp for step in result.steps]
        np.testing.assert_array_equal(
            line.get_xdata(orig=True), np.array(seconds).astype("datetime64[s]")
        )
    assert display.ax_.get_ylabel() == "rmse"
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_legend() is None
    assert sorted(t.get_text() for t in display.ax_.texts) == ["never", "refit"]
    for line in display.lines_:
        (label,) = (t for t in display.ax_.texts if t.get_text() == line.get_label())
        assert label.get_color() == line.get_color()


def test_labels_at_the_ends_do_not_cover_each_other():
    results = {f"model {i}": [step(1.0, r=0), step(2.0, r=0.5 + i / 1000)] for i in range(3)}
    display = PrequentialDisplay.from_results(results)
    display.plot(title="All the same", from_zero=True)
    ax = display.ax_
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.x1 < ax.figure.bbox.x1 for box in boxes)
    assert (ax.get_ylim()[0], ax.get_title(loc="left")) == (0.0, "All the same")


def test_metric_is_the_first_unless_chosen(results):
    assert PrequentialDisplay.from_results(results).metric == "mae"


def test_dates_on_the_axis(results, tmp_path):
    display = PrequentialDisplay.from_results(results)
    display.figure_.savefig(tmp_path / "plot.png")
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert "Sep" in labels
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_list_of_steps_without_times():
    X = [["ann", "tea"], ["bob", "tea"], ["ann", "rye"], ["bob", "rye"]]
    steps = iter_prequential(
        DummyRegressor(), X, [1, 2, 3, 4], warm_up=2, chunk_size=1, learn="refit"
    )
    display = PrequentialDisplay.from_results({"mean": steps})
    assert display.lines_[0].get_xdata().tolist() == [1, 2]
    assert display.ax_.get_xlabel() == "Step"


def test_draws_on_given_axes_with_given_style(results):
    _, ax = plt.subplots()
    display = PrequentialDisplay.from_results(results, ax=ax, linewidth=4)
    assert display.ax_ is ax
    assert all(line.get_linewidth() == 4 for line in display.lines_)


def test_lines_differ_without_colour_and_grey_alike():
    names = [f"model {i}" for i in range(12)]
    results = {name: [step(86400.0 * d, r=d) for d in range(30)] for name in names}
    display = PrequentialDisplay.from_results(results)
    styles = [
        (line.get_linestyle(), str(line._unscaled_dash_pattern), line.get_marker())
        for line in display.lines_
    ]
    for one, other in itertools.combinations(styles, 2):
        assert one != other
    for first, second in itertools.pairwise(display.lines_[:6]):
        assert first.get_color() != second.get_color()
        assert first.get_marker() != second.get_marker()


def test_models_may_have_different_steps():
    results = {"a": [step(1.0, r=1)], "b": [step(1.0, r=1), step(2.0, r=0)]}
    display = PrequentialDisplay.from_results(results)
    assert [len(line.get_ydata()) for line in display.lines_] == [1, 2]


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({}, "at least one model"),
        ({"a": []}, "at least one step"),
        ({"a": [step(1.0, rmse=1)], "b": [step(1.0, mae=1)]}, r"'b' has no metric 'rmse'.*mae"),
    ],
)
def test_nothing_to_draw(results, message):
    with pytest.raises(ValueError, match=message):
        PrequentialDisplay.from_results(results)


def test_without_matplotlib_the_error_names_the_extra(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"sklearn-recft\[plot\]"):
        PrequentialDisplay.from_results(results)
