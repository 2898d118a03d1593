"""Pictures of blends: what is drawn is what was logged."""

from types import SimpleNamespace

import numpy as np
import pytest

from sklearn_recft.inspection import HybridDisplay

plt = pytest.importorskip("matplotlib.pyplot")


def blend(times):
    """Return an estimator with a log of three chunks."""
    log = {
        "time": np.array(times),
        "n_queries": np.array([9.0, 9.0, 9.0]),
        "ndcg@10 of the blend": np.array([0.1, 0.2, 0.3]),
        "ndcg@10 of ease": np.array([0.1, 0.1, 0.2]),
        "rank of ease": np.array([0.5, 0.7, 0.8]),
        "score of ease": np.array([0.1, 0.2, 0.2]),
        "item age": np.array([0.0, -0.1, -0.2]),
    }
    return SimpleNamespace(
        weights_log_={name: column[: len(times)] for name, column in log.items()}
    )


@pytest.mark.parametrize(
    ("show", "names"),
    [
        ("rank", ["rank of ease"]),
        ("score", ["score of ease"]),
        ("item", ["item age"]),
        ("ndcg", ["ndcg@10 of the blend", "ndcg@10 of ease"]),
    ],
)
def test_lines_are_columns_of_the_log(show, names):
    estimator = blend([0.0, 86400.0, 172800.0])
    display = HybridDisplay.from_estimator(estimator, show=show)
    assert [line.get_label() for line in display.lines_] == names
    for line, name in zip(display.lines_, names, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), estimator.weights_log_[name])
    dates = np.array(estimator.weights_log_["time"]).astype("datetime64[s]")
    np.testing.assert_array_equal(display.lines_[0].get_xdata(orig=True), dates)
    assert display.ax_.get_ylabel() == ("NDCG@10" if show == "ndcg" else "Mean weight")
    plt.close(display.figure_)


def test_chunks_are_numbered_without_times():
    display = HybridDisplay.from_estimator(blend([np.nan] * 3)).plot(title="Weights")
    np.testing.assert_array_equal(display.lines_[0].get_xdata(), [1, 2, 3])
    assert display.ax_.get_xlabel() == "Chunk"
    assert display.ax_.get_title(loc="left") == "Weights"
    plt.close("all")


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="show='weights': choose 'rank'"):
        HybridDisplay.from_estimator(blend([0.0]), show="weights")
    with pytest.raises(ValueError, match="logged nothing to draw"):
        HybridDisplay.from_estimator(blend([]))
