"""Result of a comparison of recommenders: intervals over users, a table, a text."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch

# Endings of the names of a metric's columns in the table.
ENDS = ("", "_difference", "_difference_low", "_difference_high")

# Number of draws at once while resampling; bounds memory to tens of MiB.
_DRAWS = 2**22


class RecommenderComparison(Bunch):
    """Result of :func:`compare_recommenders`; ``print`` shows it as a table.

    See :func:`compare_recommenders` for its attributes.
    """

    def __str__(self) -> str:
        others = [
            name for name in self.table[0] if not name.startswith(("estimator", *self.metrics))
        ]
        header = ["estimator"]
        for metric in self.metrics:
            header += [metric, "difference"]
        rows = [[*header, *others]]
        for row in self.table:
            cells = [row["estimator"]]
            for metric in self.metrics:
                cells += [f"{row[metric]:.4f}", self._difference(row, metric)]
            rows.append(cells + [_short(row[name]) for name in others])
        footer = (
            f"{self.n_queries} lists for {self.n_users} users in {self.n_splits} split(s); "
            f"differences to {self.baseline}, [{self.confidence_level:.0%} interval over users]"
        )
        return "\n".join([*aligned(rows), footer])

    def _difference(self, row: dict[str, Any], metric: str) -> str:
        """Return the difference to the baseline with its interval; empty for the baseline."""
        if row["estimator"] == self.baseline:
            return ""
        difference, low, high = (row[metric + end] for end in ENDS[1:])
        return f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"


def differences(
    values: np.ndarray,
    baseline: int,
    users: np.ndarray,
    n_bootstrap: int,
    confidence_level: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Compare the metrics of several estimators with those of the baseline, list by list.

    Parameters
    ----------
    values : ndarray of shape (n_queries, n_metrics, n_estimators)
        Value of each list.
    baseline : int
        Place of the baseline among the estimators.
    users : ndarray of shape (n_queries,), int
    n_bootstrap, confidence_level, rng
        As in :func:`resampled_means`; the intervals are percentiles.

    Returns
    -------
    compared : ndarray of shape (n_metrics, n_estimators, 4)
        Mean, its difference to that of the baseline, and the ends of the difference's interval.
    """
    difference = values - values[:, :, [baseline]]
    columns = difference.reshape(len(values), -1)
    means = resampled_means(columns, users, n_bootstrap, rng)
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0).reshape(2, *values.shape[1:])
    return np.stack([values.mean(axis=0), difference.mean(axis=0), low, high], axis=-1)


def resampled_means(
    values: np.ndarray, users: np.ndarray, n_bootstrap: int, rng: np.random.Generator
) -> np.ndarray:
    """Compute bootstrap means of the columns of ``values``: users are drawn with replacement.

    Each drawn user counts with all of the user's rows. All columns share the draws, so they are
    compared on the same users.

    Parameters
    ----------
    values : ndarray of shape (n_queries, n_columns)
    users : ndarray of shape (n_queries,), int
        Code of the user of each row, 0 … n_users - 1, each of them at least once.
    n_bootstrap : int
    rng : Generator

    Returns
    -------
    means : ndarray of shape (n_bootstrap, n_columns)
    """
    n_users = int(users.max()) + 1
    counts = np.bincount(users).astype(float)
    sums = np.stack([np.bincount(users, column) for column in values.T], axis=1)
    means = np.empty((n_bootstrap, values.shape[1]))
    block = max(1, _DRAWS // n_users)
    for start in range(0, n_bootstrap, block):
        size = min(block, n_bootstrap - start)
        drawn = rng.integers(n_users, size=(size, n_users))
        drawn += n_users * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n_users).reshape(size, n_users)
        times = times.astype(float)  # (size, n_users): how often each user was drawn
        means[start : start + size] = times @ sums / (times @ counts)[:, None]
    return means


def _short(value: float) -> str:
    """Format a number with at least three digits; a dash for NaN."""
    if np.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Return lines of text in columns, the first aligned left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
