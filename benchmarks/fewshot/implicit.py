"""Bayesian factorization of positives in closed form: a trial in numpy, not in the package.

The score of a pair is ``b_i + [1, q_i] . w_u``, with priors ``w_u ~ N(m, S)`` and ``[b_i, q_i] ~
N(g, L)``. An event is a target of 1 with weight 1, and `negatives` targets of 0 spread evenly over
the catalogue. So an event adds to the user's sums what one item and the mean item say: the sums do
not depend on the order of events, and a new user needs one small system. Priors, noise, means and
covariances are learned by variational EM, as in `BayesianMFRecommender`.
"""

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

_DRAWN = 0.1  # scale of the first vectors
_ROWS = 512  # new users at once


class BayesianPositives:
    """Fit to events; `recommend` lists for users whose events are given."""

    def __init__(
        self, n_factors: int = 16, epochs: int = 8, negatives: float = 10, random_state: int = 0
    ) -> None:
        self.n_factors, self.epochs = n_factors, epochs
        self.negatives, self.random_state = negatives, random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {
            "n_factors": self.n_factors,
            "epochs": self.epochs,
            "negatives": self.negatives,
            "random_state": self.random_state,
        }

    def set_params(self, **params: Any) -> "BayesianPositives":
        vars(self).update(params)
        return self

    def fit(self, events: pd.DataFrame) -> "BayesianPositives":
        """Learn from distinct pairs of user and item."""
        self.item_ids, item = np.unique(events["item_id"].to_numpy(), return_inverse=True)
        user = np.unique(events["user_id"].to_numpy(), return_inverse=True)[1]
        A = _counts(user, item, (user.max() + 1, len(self.item_ids)))
        n_users, n_items = A.shape
        d = self.n_factors + 1
        weight, taken = np.asarray(A.sum(axis=1)).ravel(), np.asarray(A.sum(axis=0)).ravel()
        zeros = self.negatives * weight  # of each user, over the whole catalogue
        rng = np.random.default_rng(self.random_state)
        means = np.zeros((n_items, d))
        means[:, 0] = taken / (taken + zeros.sum() / n_items + 1)
        means[:, 1:] = rng.normal(0, _DRAWN, (n_items, d - 1))
        self._set_items(means, np.tile(0.01 * np.eye(d), (n_items, 1, 1)))
        self.prior = np.zeros(d), np.diag(np.r_[0.02, np.full(d - 1, 0.1)])
        of_items = np.r_[means[:, 0].mean(), np.zeros(d - 1)], 0.1 * np.eye(d)
        self.noise = 0.05
        for _ in range(self.epochs):
            P, h = self._sums(A, zeros)
            w, S = self._users(P, h)
            self._set_noise(A, zeros, (P, h), (w, S))
            x, c = w.copy(), w[:, :1]
            x[:, 0] = 1
            rest = x * c
            rest[:, 1:] += S[:, 0, 1:]
            xx = x[:, :, None] * x[:, None, :]
            xx[:, 1:, 1:] += S[:, 1:, 1:]
            low = np.linalg.inv(of_items[1])
            Q = (A.T @ xx.reshape(n_users, -1)).reshape(n_items, d, d)
            Q = low + (Q + np.einsum("u,uij->ij", zeros, xx) / n_items) / self.noise
            g = low @ of_items[0] + (A.T @ (x - rest) - zeros @ rest / n_items) / self.noise
            covariances = np.linalg.inv(Q)
            self._set_items(np.einsum("nij,nj->ni", covariances, g), covariances)
            self.prior = _moments(w, S)
            of_items = _moments(self.means, covariances)
        return self

    def recommend(
        self,
        queries: pd.DataFrame,
        *,
        n_recommendations: int,
        history: pd.DataFrame,
        **options: Any,
    ) -> tuple[list[np.ndarray], None]:
        """Return the items with the largest expected scores; ``options`` as in the package."""
        users = queries["user_id"].to_numpy()
        A = self._table(users, history)
        banned = self._table(users, options["exclude"]) if "exclude" in options else None
        lists: list[np.ndarray] = []
        for start in range(0, len(users), _ROWS):
            part = A[start : start + _ROWS]
            weight = self.negatives * np.asarray(part.sum(axis=1)).ravel()
            w, _ = self._users(*self._sums(part, weight))
            scores = self.means[:, 0] + w @ self.x.T
            if banned is not None:
                scores[banned[start : start + _ROWS].nonzero()] = -np.inf
            top = np.argsort(-scores, axis=1, kind="stable")[:, :n_recommendations]
            lists += list(self.item_ids[top])
        return lists, None

    def _table(self, users: np.ndarray, events: pd.DataFrame) -> sp.csr_matrix:
        """Count the events of users with known items."""
        item = pd.Index(self.item_ids).get_indexer(events["item_id"])
        user = pd.Index(users).get_indexer(events["user_id"])
        known = (item >= 0) & (user >= 0)
        return _counts(user[known], item[known], (len(users), len(self.item_ids)))

    def _set_items(self, means: np.ndarray, covariances: np.ndarray) -> None:
        """Set posteriors of items, and what events add: E[x x^T] and E[x b]."""
        self.means, self.covariances, self.x = means, covariances, means.copy()
        self.x[:, 0] = 1
        self.xx = self.x[:, :, None] * self.x[:, None, :]
        self.xx[:, 1:, 1:] += covariances[:, 1:, 1:]
        self.xb = self.x * means[:, :1]
        self.xb[:, 1:] += covariances[:, 0, 1:]

    def _sums(self, A: sp.csr_matrix, zeros: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, d = self.means.shape
        P = (A @ self.xx.reshape(n, -1)).reshape(-1, d, d)
        P += zeros[:, None, None] * self.xx.mean(axis=0)
        return P, A @ (self.x - self.xb) - zeros[:, None] * self.xb.mean(axis=0)

    def _users(self, P: np.ndarray, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, covariance = self.prior
        precision = np.linalg.inv(covariance)
        S = np.linalg.inv(precision + P / self.noise)
        return np.einsum("uij,uj->ui", S, precision @ mean + h / self.noise), S

    def _set_noise(self, A: sp.csr_matrix, zeros: np.ndarray, sums: Any, users: Any) -> None:
        """Set the expected squared error of an event or a zero."""
        (P, h), (w, S) = sums, users
        taken, n = np.asarray(A.sum(axis=0)).ravel(), len(self.means)
        bias, square = self.means[:, 0], self.means[:, 0] ** 2 + self.covariances[:, 0, 0]
        error = taken.sum() - 2 * taken @ bias + (taken + zeros.sum() / n) @ square
        error += np.einsum("uij,uij->", P, w[:, :, None] * w[:, None, :] + S) - 2 * (h * w).sum()
        self.noise = error / (taken.sum() + zeros.sum())


def _counts(user: np.ndarray, item: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    """Return a matrix with 1 at each distinct pair."""
    table = sp.csr_matrix((np.ones(len(user)), (user, item)), shape)
    table.data[:] = 1
    return table


def _moments(means: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of a prior, given the posteriors."""
    mean = means.mean(axis=0)
    rest = means - mean
    covariance = (rest.T @ rest + covariances.sum(axis=0)) / len(means)
    return mean, covariance + 1e-8 * np.eye(len(mean))
