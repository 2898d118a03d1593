"""Variational EM of a logistic matrix factorization: a quadratic bound for each label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.models._bayesian_fit import Log, Start, VariationalEM
from sklearn_recft.models._bayesian_table import GaussianTable, Posteriors
from sklearn_recft.parallel import in_threads

_OF_LABELS = Start(0.5, 12.0, (1.0, 10.0), (1.0, 0.3), 1.0)
_STEEPEST = 0.25  # curvature of the log loss at log-odds of 0


def curvature(mean_squares: np.ndarray) -> np.ndarray:
    """Return the curvature of the bound of the log loss of each label, (n,).

    For log-odds f and any xi, the log loss of a label y of 0 or 1 is at most ``c f^2 / 2 -
    (y - 1/2) f`` plus a constant, with the curvature ``c = tanh(xi / 2) / (2 xi)``. This is the
    squared error of the target ``(y - 1/2) / c`` with the weight c. The bound is tightest for
    ``xi^2 = E[f^2]``.
    """
    xi = np.sqrt(np.maximum(mean_squares, 1e-12))
    curves: np.ndarray = np.tanh(xi / 2) / (2 * xi)
    return curves


def log_odds_moments(
    users: np.ndarray,
    items: np.ndarray,
    of_users: Posteriors,
    of_items: Posteriors,
    center: float,
    n_threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the mean square of ``center + c_u + b_i + p_u . q_i`` of pairs, (n,).

    ``users`` and ``items`` are rows of the posteriors.
    """
    found = np.empty((len(users), 2))
    pairs = users.astype(np.int64), items.astype(np.int64)
    left = of_users.means, of_users.covariances
    right = of_items.means, of_items.covariances, of_items.moments

    def step(first: int, last: int) -> None:
        kernels.score_moments(first, last, *pairs, *left, *right, found)

    in_threads(step, np.ones(len(users)), n_threads)
    means, squares = found[:, 0], found[:, 1]
    return center + means, center**2 + 2 * center * means + squares


class LogisticEM(VariationalEM):
    """Fit the tables of users and items to labels of 0 and 1, by the bound of Jaakkola and Jordan.

    Each sweep computes the bound of every label anew, from the posteriors of its user and item.

    Parameters
    ----------
    users, items : GaussianTable
        Empty tables; the fit fills them.
    log : Log
        Its targets are the labels.
    center : float
        Log-odds of a positive label, over all rows.
    n_threads : int

    Attributes
    ----------
    loss : float
        Bound of the mean log loss of the labels in the last sweep.
    """

    def __init__(
        self, users: GaussianTable, items: GaussianTable, log: Log, center: float, n_threads: int
    ) -> None:
        super().__init__(users, items, log, n_threads)
        self.center = center
        self._start_values = _OF_LABELS
        self.noise, self.loss = 1.0, float(np.log(2))
        rest = log.target - np.average(log.target, weights=log.weight)
        n_items = len(log.item_features)
        self._item_target = np.bincount(log.item, log.weight * rest / _STEEPEST, n_items)
        self._order_by_user = np.argsort(log.user, kind="stable")
        self._order_by_item = np.argsort(log.item, kind="stable")
        self._set_bounds(np.full(len(log.user), center**2 + 1.0))

    def _set_bounds(self, mean_squares: np.ndarray) -> None:
        """Replace targets and weights of all events by those of their bounds."""
        curves = curvature(mean_squares)
        targets = (self.log.target - 0.5) / curves - self.center
        weights = self.log.weight * curves
        by_user, by_item = self._order_by_user, self._order_by_item
        self._by_user = replace(self._by_user, targets=targets[by_user], weights=weights[by_user])
        self._by_item = replace(self._by_item, targets=targets[by_item], weights=weights[by_item])

    def _noise_of(self, of_users: Posteriors, of_items: Posteriors) -> float:
        """Tighten the bounds; the weights of events include the variance, so the noise is 1."""
        log = self.log
        means, squares = log_odds_moments(
            log.user, log.item, of_users, of_items, self.center, self.n_threads
        )
        self._set_bounds(squares)
        xi = np.sqrt(squares)
        losses = np.log1p(np.exp(-xi)) + xi / 2 - (log.target - 0.5) * means
        self.loss = float(np.average(losses, weights=log.weight))
        return 1.0
