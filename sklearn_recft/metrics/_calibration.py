"""Whether predicted probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_consistent_length, column_or_1d

from sklearn_recft.columns import to_numbers


def expected_calibration_error(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: str = "uniform",
    per_bin: bool = False,
) -> Any:
    """Mean distance between predicted and observed shares of positives, over bins [1]_.

    Rows are put in bins by their probability;
    ``ECE = sum_b n_b / n |mean(y_true in b) - mean(y_prob in b)|``.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Feedback, 0 or 1 (or bool).
    y_prob : array-like of shape (n_samples,)
        Predicted probability of 1.
    n_bins : int, default=10
        How many bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width between 0 and 1, or of an equal number of rows. Equal
        probabilities always share a bin, so with ties the second are equal only as far as
        possible, and may be empty.
    per_bin : bool, default=False
        Return the table of bins instead of the error.

    Returns
    -------
    score : float or Bunch
        Between 0 and 1, lower is better. The Bunch holds arrays of shape (n_bins,):
        ``lower`` and ``upper``, the edges (a bin holds the probabilities above ``lower`` up
        to and with ``upper``; the first bin holds its lower edge too), ``count``,
        ``prob_true`` (share of positives) and ``prob_pred`` (mean probability), the last
        two NaN where a bin is empty.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, `y_true` has other values than 0 and 1,
        `y_prob` is not between 0 and 1, or a parameter is out of range.

    See Also
    --------
    sklearn.calibration.calibration_curve : The points of a reliability diagram.
    sklearn.metrics.brier_score_loss : A proper score, without bins.

    Notes
    -----
    The error is that of the positive class, not that of the likelier of the two. It is
    biased upwards where bins hold few rows, and a constant probability equal to the share of
    positives has none: read it beside a score of discrimination.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper and M. Hauskrecht, "Obtaining well calibrated
       probabilities using Bayesian binning", AAAI 2015.

    Examples
    --------
    >>> from sklearn_recft.metrics import expected_calibration_error
    >>> y, prob = [0, 0, 1, 1], [0.25, 0.25, 0.75, 1.0]
    >>> expected_calibration_error(y, prob, n_bins=2)
    0.1875
    >>> expected_calibration_error(y, prob, n_bins=2, per_bin=True).prob_pred
    array([0.25 , 0.875])
    """
    truth = column_or_1d(y_true).astype(float)
    prob = to_numbers(column_or_1d(y_prob), "y_prob")
    check_consistent_length(truth, prob)
    _check(truth, prob, n_bins)
    edges = _edges(prob, n_bins, strategy)
    codes = np.searchsorted(edges[1:-1], prob)
    count = np.bincount(codes, minlength=n_bins)
    positives = np.bincount(codes, truth, minlength=n_bins)
    expected = np.bincount(codes, prob, minlength=n_bins)
    if not per_bin:
        return float(np.abs(positives - expected).sum() / len(prob))
    rows = np.where(count > 0, count, np.nan)
    return Bunch(
        lower=edges[:-1],
        upper=edges[1:],
        count=count,
        prob_true=positives / rows,
        prob_pred=expected / rows,
    )


def _check(truth: np.ndarray, prob: np.ndarray, n_bins: int) -> None:
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}.")
    if len(prob) == 0:
        raise ValueError("y_prob is empty: at least one row is required.")
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("y_true must hold 0 and 1 only; compare it with a threshold first.")
    outside = (prob < 0) | (prob > 1)
    if outside.any():
        raise ValueError(
            f"y_prob: {int(outside.sum())} of {len(prob)} rows are not between 0 and 1; give "
            "probabilities, such as predict_proba(X)[:, 1]."
        )


def _edges(prob: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Edges of the bins, ascending, shape (n_bins + 1,)."""
    if strategy == "uniform":
        return np.linspace(0.0, 1.0, n_bins + 1)
    if strategy == "quantile":
        # Counted in whole rows: a fraction of the row count that is rounded the wrong way
        # would move the rows that lie on an edge.
        last = -(-np.arange(1, n_bins + 1) * len(prob) // n_bins) - 1
        ordered = np.sort(prob)
        return np.append(ordered[0], ordered[last])
    raise ValueError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}.")
