"""Variational EM of a Bayesian matrix factorization: posteriors, priors and noise of a log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_recft.models._bayesian_table import GaussianTable, Grouped, Posteriors, Prior, square
from sklearn_recft.models._progress import Epochs


@dataclass(frozen=True)
class Start:
    """What a fit starts from.

    Attributes
    ----------
    factor : float
        Standard deviation of the factors of items.
    damping : float
        Weight of 0 in the first biases of items.
    user_variances, item_variances : (float, float)
        Of the bias and of a factor, in the priors.
    noise : float
        Variance of the noise.
    """

    factor: float
    damping: float
    user_variances: tuple[float, float]
    item_variances: tuple[float, float]
    noise: float


_FACTOR_VARIANCE = 0.01  # of the posteriors of items
# In units of the standard deviation of the feedback, and of an event beside zeros.
_OF_FEEDBACK = Start(0.3, 3.0, (0.2, 1.0), (0.2, 0.1), 0.7)
_OF_POSITIVES = Start(0.1, 1.0, (0.02, 0.1), (0.1, 0.1), 0.05)
# Least variances of priors and of the noise, in the same units.
_LEAST = 1e-6
# Ridge penalty of the prior means: of users by the root of their number, and of items. For users, 1
# is better than 0.1 on the validation users of MovieLens 100K, and level on those of 1M.
_USER_RIDGE, _ITEM_RIDGE = 1.0, 1.0


@dataclass(frozen=True)
class Log:
    """Events of a fit by code.

    Attributes
    ----------
    user, item : ndarray of shape (n,), int64
    target, weight : ndarray of shape (n,), float64
        Targets of mean 0 and variance 1; of positives, 1.
    user_features : ndarray of shape (n_users, n_user_features)
    item_features : ndarray of shape (n_items, n_item_features)
    negatives : float
        Weight of the zeros of each event, spread evenly over all items with events; 0 for feedback.
    """

    user: np.ndarray
    item: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    user_features: np.ndarray
    item_features: np.ndarray
    negatives: float = 0.0


class VariationalEM:
    """Fit the tables of users and items to a log.

    Each sweep computes the posteriors of all users given the moments of the items, then those of
    the items given the users, then the noise and the two priors.

    Parameters
    ----------
    users, items : GaussianTable
        Empty tables; the fit fills them.
    log : Log
    n_threads : int

    Attributes
    ----------
    noise : float
        Variance of the noise.
    loss : float
        Mean squared error of the last sweep, with the uncertainty of users and items.
    """

    def __init__(
        self, users: GaussianTable, items: GaussianTable, log: Log, n_threads: int
    ) -> None:
        self.users, self.items, self.log, self.n_threads = users, items, log, n_threads
        events = log.target, log.weight
        self._by_user = Grouped.by(log.user, log.item, *events)
        self._by_item = Grouped.by(log.item, log.user, *events)
        n_items = len(log.item_features)
        self._item_weight = np.bincount(log.item, log.weight, n_items)
        self._item_target = np.bincount(log.item, log.weight * log.target, n_items)
        self._with_events = np.flatnonzero(self._item_weight)
        self._start_values = _OF_POSITIVES if log.negatives else _OF_FEEDBACK
        self.noise = self.loss = self._start_values.noise

    def run(self, epochs: Epochs, rng: np.random.Generator) -> None:
        """Run the sweeps; then the tables hold posteriors and sums that belong together."""
        users, items, log = self.users, self.items, self.log
        users.grow(len(log.user_features))
        items.grow(len(log.item_features))
        found = self._start(rng)
        for _ in epochs:
            found = self._sweep(found)
        users.is_late[:], items.is_late[:] = False, self._item_weight == 0
        self._set_late_priors(found)
        items.solve(np.arange(len(items)), log.item_features, self.noise, self.n_threads)
        self._sum_users(items.moments)
        users.solve(np.arange(len(users)), log.user_features, self.noise, self.n_threads)

    def _start(self, rng: np.random.Generator) -> Posteriors:
        """Set the first priors, and draw the first vectors of the items."""
        d, shape, start = self.items.n_dimensions, self.items.means.shape, self._start_values
        for table, features, (bias, factor) in (
            (self.users, self.log.user_features, start.user_variances),
            (self.items, self.log.item_features, start.item_variances),
        ):
            first = np.diag(np.r_[bias, np.full(d - 1, factor)])
            table.prior = Prior.of(np.zeros((features.shape[1], d)), first)
            table.is_late[:] = False
        means = rng.normal(0.0, start.factor, shape)
        means[:, 0] = self._item_target / (self._item_weight + self._zeros + start.damping)
        row, column = np.triu_indices(d)
        covariances = np.tile(_FACTOR_VARIANCE * (row == column), (len(means), 1))
        x = means.copy()
        x[:, 0] = 1.0
        moments = np.concatenate([x[:, row] * x[:, column], x * means[:, :1]], axis=1)
        moments[:, d : len(row)] += covariances[:, d:]
        return Posteriors(means, covariances, moments)

    def _sweep(self, found: Posteriors) -> Posteriors:
        """Update users, items, noise and priors once; return the posteriors of the items."""
        users, items, log = self.users, self.items, self.log
        self._sum_users(found.moments)
        of_users = self._posteriors(users, log.user_features)
        noise = self._noise_of(of_users, found)
        self._sum_items(of_users.moments)
        of_items = self._posteriors(items, log.item_features)
        # Users and items without events say nothing of their priors.
        has_events = np.bincount(log.user, minlength=len(users)) > 0
        ridge = _USER_RIDGE * np.sqrt(has_events.sum())
        users.prior = _fitted(of_users, log.user_features, has_events.astype(float), ridge)
        has_events = self._item_weight > 0
        items.prior = _fitted(of_items, log.item_features, has_events.astype(float), _ITEM_RIDGE)
        self.noise = max(noise, _LEAST)
        return of_items

    @property
    def _zeros(self) -> float:
        """Weight of the zeros of an item with events."""
        total: float = self.log.negatives * self.log.weight.sum()
        return total / len(self._with_events)

    def _sum_users(self, moments: np.ndarray) -> None:
        """Compute the sums of users, given the moments of items."""
        users, by_user = self.users, self._by_user
        users.sums[:] = 0.0
        users.add(by_user, moments, self.n_threads)
        if self.log.negatives:
            zeros = self.log.negatives * by_user.totals
            users.add_zeros(by_user.rows, zeros, moments[self._with_events].mean(axis=0))

    def _sum_items(self, moments: np.ndarray) -> None:
        """Compute the sums of items, given the moments of users."""
        items, by_user, rows = self.items, self._by_user, self._with_events
        items.sums[:] = 0.0
        items.add(self._by_item, moments, self.n_threads)
        if self.log.negatives:
            mean = by_user.totals @ moments[by_user.rows] / by_user.totals.sum()
            items.add_zeros(rows, np.full(len(rows), self._zeros), mean)

    def _set_late_priors(self, of_items: Posteriors) -> None:
        """Set the priors of users and items without events in the log.

        Items of the log with few events are known to be unpopular, and liked less. Of an item that
        comes later, this is not known. So items of the log count by ``n / (n + m)`` with n events,
        where m is the mean of n over the events. Of positives, all items count alike: otherwise
        new items would be as popular as the most popular ones.
        """
        self.users.late_prior = self.users.prior
        if self.log.negatives:
            self.items.late_prior = self.items.prior
            return
        n = self._item_weight
        evidence = n / (n + (n @ n) / n.sum())
        self.items.late_prior = _fitted(of_items, self.log.item_features, evidence, _ITEM_RIDGE)

    def _posteriors(self, table: GaussianTable, features: np.ndarray) -> Posteriors:
        rows = np.arange(len(table))
        return table.posteriors(rows, features, self.noise, n_threads=self.n_threads)

    def _noise_of(self, of_users: Posteriors, of_items: Posteriors) -> float:
        """Return ``E[(t - b - x . w)^2]`` per weight of targets, which is the loss as well.

        It comes from the sums of the users.
        With the posterior precision ``A = A_0 + P / noise`` of a user,
        ``tr(P E[w w^T]) = noise (D + w^T A w - tr(A_0 E[w w^T]))`` and ``A w = A_0 m + h / noise``.
        """
        log, users = self.log, self.users
        d, size = users.n_dimensions, of_users.covariances.shape[1]
        bias = of_items.means[:, 0]
        error = log.weight @ log.target**2 - 2 * bias @ self._item_target
        weight = self._item_weight + self._zeros * (self._item_weight > 0)
        error += weight @ (bias**2 + of_items.covariances[:, 0])
        means = of_users.means
        precision = users.prior.precision
        prior = log.user_features @ users.prior.weights @ precision
        second = means.T @ means + square(of_users.covariances.sum(axis=0))
        error -= np.einsum("ud,ud->", users.sums[:, size:], means)
        trace = len(means) * d + np.einsum("ud,ud->", prior, means)
        error += self.noise * (trace - np.einsum("ij,ij->", precision, second))
        self.loss = float(error / ((1 + log.negatives) * log.weight.sum()))
        return self.loss


def _fitted(found: Posteriors, features: np.ndarray, evidence: np.ndarray, ridge: float) -> Prior:
    """Regress the posterior means on the features, and measure the covariance of the rest.

    ``evidence`` (n,) is the weight of each row.
    """
    weighted = features * evidence[:, None]
    gram = weighted.T @ features + ridge * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, weighted.T @ found.means)
    rest = found.means - features @ weights
    second = (rest * evidence[:, None]).T @ rest + square(evidence @ found.covariances)
    covariance = second / evidence.sum() + _LEAST * np.eye(second.shape[1])
    return Prior.of(weights, covariance)
