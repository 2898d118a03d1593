"""Lines of the decay display are the weights that the attention gives by age."""

import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_recft import (
    DecayBertRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import InterestDecayDisplay

plt = pytest.importorskip("matplotlib.pyplot")
FEW_STEPS = {"batch_size": 256}


def fitted(**params):
    X, y = make_interactions(30, 40, 300, feedback="click", random_state=0, return_X_y=True)
    model = DecayBertRecommender(None, max_epochs=1, random_state=0, net_params=FEW_STEPS, **params)
    return model.fit(X, y)


@pytest.fixture(scope="module")
def model():
    return fitted(n_heads=3)


def shown(line):
    """Ages and weights of a line, and the labels of nothing else."""
    return line.get_xdata(), line.get_ydata()


@pytest.mark.parametrize("decay", ["exponential", "log"])
def test_a_line_is_the_attention_to_one_event_as_it_ages(decay):
    model = fitted(decay=decay, n_heads=2)
    display = InterestDecayDisplay.from_estimator(model)
    # A user with one event: the odds of its attention against the null key, over those at age 0.
    seen = model.observe([["new", model.item_ids_[0], 2e9]], [1])
    for head, line in enumerate(display.lines_):
        ages, weights = shown(line)
        some = np.linspace(0, len(ages) - 1, 7).astype(int)
        asked = [["new", model.item_ids_[1], 2e9 + 86400 * age] for age in [1e-6, *ages[some]]]
        attention = seen.attend(np.array(asked, object)).attention[:, head, 0].astype(float)
        odds = attention / (1 - attention)
        np.testing.assert_allclose(odds[1:] / odds[0], weights[some], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("decay", ["exponential", "log"])
def test_half_is_left_at_the_half_life_where_the_marker_is(decay):
    half_lives = [0.02, 3.0, 400.0]
    display = InterestDecayDisplay(half_lives=half_lives, decay=decay).plot(max_age=100)
    for half_life, line in zip(half_lives[:2], display.lines_, strict=False):
        ages, weights = shown(line)
        (marked,) = line.get_markevery()
        assert (ages[marked], weights[marked]) == (half_life, pytest.approx(0.5))
        assert (np.diff(ages) > 0).all()
        assert (np.diff(weights) <= 0).all()
    assert display.lines_[2].get_markevery() == []  # beyond the oldest age
    assert display.ax_.get_xlim()[1] == 100


def test_nothing_fades_without_decay():
    display = InterestDecayDisplay.from_estimator(fitted(decay="none", n_heads=2))
    assert all((line.get_ydata() == 1).all() for line in display.lines_)
    legend = display.ax_.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["infinite"]  # once for both


def test_lines_are_the_heads_and_the_legend_ascends(model, tmp_path):
    display = InterestDecayDisplay.from_estimator(model)
    assert len(display.lines_) == model.n_heads
    np.testing.assert_array_equal(display.half_lives, model.half_lives_)
    display = InterestDecayDisplay(half_lives=[400.0, 2.0, 1 / 24, 1e9, 5 / 1440]).plot()
    labels = [line.get_label() for line in display.lines_]
    assert labels == ["1.1 years", "2 days", "1 hour", "over a century", "5 minutes"]
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == [labels[head] for head in (4, 2, 1, 0, 3)]
    display.figure_.savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_ticks_are_ages_in_days(model):
    ax = InterestDecayDisplay.from_estimator(model, max_age=400).ax_
    ticks = {
        text.get_text(): place
        for place, text in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    }
    assert (ticks["1 h"], ticks["1 d"], ticks["1 wk"]) == (1 / 24, 1, 7)
    assert ax.get_xscale() == "log"
    assert min(ticks.values()) >= ax.get_xlim()[0]


def test_what_was_fitted_is_drawn_not_what_was_set_since(model):
    before = InterestDecayDisplay.from_estimator(model).lines_[0].get_ydata()
    decay = model.decay
    try:
        after = InterestDecayDisplay.from_estimator(model.set_params(decay="none")).lines_[0]
    finally:
        model.set_params(decay=decay)
    np.testing.assert_array_equal(after.get_ydata(), before)


def test_a_pipeline_is_asked_at_its_end(model):
    pipeline = make_pipeline(FunctionTransformer(), model)
    display = InterestDecayDisplay.from_estimator(pipeline)
    np.testing.assert_array_equal(display.half_lives, model.half_lives_)


def test_draws_on_given_axes_with_given_style(model):
    _, ax = plt.subplots()
    display = InterestDecayDisplay.from_estimator(model, ax=ax, linewidth=4, max_age=30)
    assert (display.ax_, display.figure_) == (ax, ax.figure)
    assert all(line.get_linewidth() == 4 for line in display.lines_)
    assert ax.get_xlim()[1] == 30


def test_the_model_is_left_alone(model):
    before = set(vars(model)), model.half_lives_
    display = InterestDecayDisplay.from_estimator(model)
    display.half_lives[:] = 1.0
    assert set(vars(model)) == before[0]
    np.testing.assert_array_equal(model.half_lives_, before[1])


@pytest.mark.parametrize(
    "other", [PopularityRecommender(), make_pipeline(FunctionTransformer()), 3]
)
def test_an_estimator_without_half_lives(other):
    with pytest.raises(TypeError, match=r"must learn half-lives.*got \w+\."):
        InterestDecayDisplay.from_estimator(other)


def test_an_unfitted_estimator():
    with pytest.raises(NotFittedError, match="DecayBertRecommender"):
        InterestDecayDisplay.from_estimator(DecayBertRecommender())


@pytest.mark.parametrize("max_age", [0, -1.0, float("nan"), float("inf")])
def test_an_age_that_is_none(model, max_age):
    with pytest.raises(ValueError, match=r"max_age must be a positive number of days, got"):
        InterestDecayDisplay.from_estimator(model, max_age=max_age)


def test_without_matplotlib_the_error_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"InterestDecayDisplay.*sklearn-recft\[plot\]"):
        InterestDecayDisplay.from_estimator(model)


@pytest.mark.parametrize("decay", ["exponential", "log", "none"])
def test_both_attention_models_are_drawn(decay):
    X, y = make_interactions(20, 15, 300, random_state=0, return_X_y=True)
    likes = (y > np.median(y)).astype(int)
    for model, n_lines in (
        (DecayBertRecommender(backbone=None, decay=decay, n_heads=3, random_state=0,
                              net_params=FEW_STEPS), 3),
        (RealtimeTransformerRecommender(n_layers=2, n_heads=2, width=8, decay=decay, max_epochs=1,
                                        random_state=0, net_params=FEW_STEPS), 4),
    ):  # fmt: skip
        display = InterestDecayDisplay.from_estimator(model.fit(X, likes))
        assert display.decay == model.decay_ == decay
        assert len(display.lines_) == n_lines
        expected = np.isfinite(model.half_lives_).ravel()
        assert [line.get_ydata()[-1] < 1 for line in display.lines_] == expected.tolist()
