"""Variational EM of a logistic matrix factorization: a Gaussian in place of each label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.special import expit

from sklearn_recft import kernels
from sklearn_recft.models._bayesian_fit import Log, Start, VariationalEM
from sklearn_recft.models._bayesian_table import GaussianTable, Posteriors, triangle
from sklearn_recft.parallel import in_threads

_OF_LABELS = Start(0.5, 12.0, (1.0, 10.0), (1.0, 0.3), 1.0)
_STEEPEST = 0.25  # curvature of the log loss at log-odds of 0
_RATE = 0.5  # of the steps to the Gaussian of a label
_LEAST_CURVATURE = 1e-3


def moderated(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the log-odds of the expected probability, for log-odds of this mean and variance.

    It is MacKay's approximation, ``mean / sqrt(1 + pi variance / 8)``.
    """
    log_odds: np.ndarray = means / np.sqrt(1 + np.pi / 8 * np.maximum(variances, 0))
    return log_odds


def expected_slope(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected probability and the expected curvature of the log loss, (n,)."""
    scale = moderated(np.ones(len(means)), variances)
    probability = expit(scale * means)
    curves = scale * probability * (1 - probability)
    return probability, np.maximum(curves, _LEAST_CURVATURE)


def bound_curvature(mean_squares: np.ndarray) -> np.ndarray:
    """Return the curvature of the quadratic bound of the log loss of each label, (n,).

    For log-odds f and any xi, the log loss is at most a parabola of the curvature ``tanh(xi / 2) /
    (2 xi)``, which touches it at xi (Jaakkola and Jordan). It is tightest for ``xi^2 = E[f^2]``.
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
    """Return the mean and the variance of ``center + c_u + b_i + p_u . q_i`` of pairs, (n,).

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
    return center + means, np.maximum(squares - means**2, 0.0)


def mean_log_odds(labels: np.ndarray, weights: np.ndarray) -> float:
    """Return the log-odds of a positive label, with half a row added to each class."""
    positive, total = float(weights @ labels), float(weights.sum())
    return float(np.log((positive + 0.5) / (total - positive + 0.5)))


def first_slopes(
    users: GaussianTable, items: GaussianTable, codes: np.ndarray, center: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean log-odds, probability and curvature of items (codes) for a new user, (n,)."""
    distinct, places = np.unique(codes, return_inverse=True)
    covariance = triangle(users.late_prior.covariance)[None]
    nobody = Posteriors(users.unknown[None], covariance, np.empty((0, 0)))
    of_items = Posteriors(items.means, items.covariances, items.moments)
    first = np.zeros(len(distinct), np.int64)
    means, variances = log_odds_moments(first, distinct, nobody, of_items, center)
    probability, curves = expected_slope(means, variances)
    curves = np.sqrt(curves * bound_curvature(means**2 + variances))
    return means[places], probability[places], curves[places]


class LogisticEM(VariationalEM):
    """Fit the tables of users and items to labels of 0 and 1.

    Each sweep replaces a label y by a squared error, with the slope and the curvature that the log
    loss is expected to have: with the mean m and the variance of its log-odds, and the expected
    probability p and curvature c, it has the target ``m + (y - p) / c`` and the weight c. These are
    damped steps of the natural gradient (Khan and Lin).

    Parameters
    ----------
    users, items : GaussianTable
        Empty tables; the fit fills them.
    log : Log
        Its targets are the labels.
    n_threads : int
    center : float
        Log-odds of a positive label, over all rows.

    Attributes
    ----------
    loss : float
        Mean log loss of the expected probabilities in the last sweep.
    """

    def __init__(
        self, users: GaussianTable, items: GaussianTable, log: Log, n_threads: int, center: float
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
        probability, curves = expected_slope(np.array([center]), np.ones(1))
        self._weights = np.full(len(log.user), curves[0])
        self._vectors = center * self._weights + log.target - probability
        self._set_events()

    def _set_events(self) -> None:
        """Set the targets and weights of all events to those of the Gaussians of their labels."""
        targets = self._vectors / self._weights - self.center
        weights = self.log.weight * self._weights
        by_user, by_item = self._order_by_user, self._order_by_item
        self._by_user = replace(self._by_user, targets=targets[by_user], weights=weights[by_user])
        self._by_item = replace(self._by_item, targets=targets[by_item], weights=weights[by_item])

    def _noise_of(self, of_users: Posteriors, of_items: Posteriors) -> float:
        """Update the Gaussians of labels; their weights include the variance, so return 1."""
        log = self.log
        means, variances = log_odds_moments(
            log.user, log.item, of_users, of_items, self.center, self.n_threads
        )
        probability, curves = expected_slope(means, variances)
        vectors = curves * means + log.target - probability
        self._weights += _RATE * (curves - self._weights)
        self._vectors += _RATE * (vectors - self._vectors)
        self._set_events()
        log_odds = moderated(means, variances)
        losses = np.logaddexp(0.0, log_odds) - log.target * log_odds
        self.loss = float(np.average(losses, weights=log.weight))
        return 1.0
