"""Calibration error against loops written out, and against scikit-learn's curve."""

from bisect import bisect_left
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from sklearn_recft.metrics import expected_calibration_error

rows = st.lists(
    st.tuples(
        st.booleans(),
        st.one_of(st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.7, 1.0]), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=40,
)


def slow_bins(prob, n_bins, strategy):
    """Bin of each row: the number of inner edges below it."""
    if strategy == "uniform":
        inner = np.linspace(0, 1, n_bins + 1)[1:-1].tolist()
    else:
        ordered = sorted(prob)
        inner = []
        for j in range(1, n_bins):
            # the least probability that has at least j / n_bins of the rows at or below it
            enough = Fraction(j * len(prob), n_bins)
            inner.append(next(p for r, p in enumerate(ordered, start=1) if r >= enough))
    return [bisect_left(inner, p) for p in prob]


def slow_error(truth, prob, n_bins, strategy):
    bins = slow_bins(prob, n_bins, strategy)
    error = Fraction(0)
    for b in set(bins):
        mine = [j for j, own in enumerate(bins) if own == b]
        observed = Fraction(sum(truth[j] for j in mine), len(mine))
        expected = sum(Fraction(prob[j]) for j in mine) / len(mine)
        error += Fraction(len(mine), len(prob)) * abs(observed - expected)
    return float(error)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@given(rows=rows, n_bins=st.integers(1, 12))
def test_equals_loops(strategy, rows, n_bins):
    truth, prob = map(list, zip(*rows, strict=True))
    options = {"n_bins": n_bins, "strategy": strategy}
    error = expected_calibration_error(truth, prob, **options)
    assert isinstance(error, float)
    assert error == pytest.approx(slow_error(truth, prob, n_bins, strategy), rel=0, abs=1e-12)
    table = expected_calibration_error(truth, prob, **options, per_bin=True)
    bins = slow_bins(prob, n_bins, strategy)
    assert table.count.tolist() == [bins.count(b) for b in range(n_bins)]
    full = table.count > 0
    np.testing.assert_array_equal(np.isnan(table.prob_pred), ~full)
    gaps = np.abs(table.prob_true - table.prob_pred)[full]
    assert gaps @ table.count[full] / len(prob) == pytest.approx(error, rel=0, abs=1e-12)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_table_equals_the_curve_of_scikit_learn(strategy):
    rng = np.random.default_rng(0)
    prob = rng.random(1000) ** 2
    truth = rng.random(1000) < prob
    curve = calibration_curve(truth, prob, n_bins=10, strategy=strategy)
    table = expected_calibration_error(truth, prob, strategy=strategy, per_bin=True)
    np.testing.assert_allclose(table.prob_true, curve[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(table.prob_pred, curve[1], rtol=0, atol=1e-12)


def test_equal_mass_and_equal_width():
    prob = np.random.default_rng(1).random(120) ** 3
    table = expected_calibration_error(prob > 0.5, prob, strategy="quantile", per_bin=True)
    assert table.count.tolist() == [12] * 10
    assert table.lower[0] == prob.min()
    assert table.upper[-1] == prob.max()
    width = expected_calibration_error(prob > 0.5, prob, per_bin=True)
    np.testing.assert_allclose(width.upper - width.lower, 0.1)
    assert list(pd.DataFrame(width)) == ["lower", "upper", "count", "prob_true", "prob_pred"]


def test_calibrated_overconfident_and_tied():
    assert expected_calibration_error([1, 0, 0, 1], [0.5] * 4) == 0.0
    assert expected_calibration_error([1, 0], [0.0, 1.0]) == 1.0
    tied = expected_calibration_error([1, 0, 1], [0.4] * 3, strategy="quantile", per_bin=True)
    assert tied.count.tolist() == [3] + [0] * 9


def test_bad_arguments():
    with pytest.raises(ValueError, match="n_bins must be at least 1"):
        expected_calibration_error([1], [0.5], n_bins=0)
    with pytest.raises(ValueError, match="strategy must be 'uniform' or 'quantile', got 'mass'"):
        expected_calibration_error([1], [0.5], strategy="mass")
    with pytest.raises(ValueError, match="0 and 1 only"):
        expected_calibration_error([2, 1], [0.5, 0.5])
    with pytest.raises(ValueError, match="y_prob: 1 of 2 rows are not between 0 and 1"):
        expected_calibration_error([0, 1], [0.5, 1.5])
    with pytest.raises(ValueError, match="y_prob: 1 of 2 rows are NaN"):
        expected_calibration_error([0, 1], [0.5, np.nan])
    with pytest.raises(ValueError, match="inconsistent"):
        expected_calibration_error([0, 1], [0.5])
    with pytest.raises(ValueError, match="y_prob is empty"):
        expected_calibration_error([], [])
