"""Measure what user-level differential privacy costs a factorization, one JSON line per row.

    python benchmarks/privacy/bench_differential_privacy.py

MovieLens 1M, a random 90/10 split by seed, RMSE on the test rows. The model is
``mu + b_i + c_u + p_u . q_i``. Only the item parameters and the mean are released: ``c_u`` and
``p_u`` are ridge solutions from the released items and the user's own ratings, so they may stay
with the user. The items are ridge solutions from sums over users. The contribution of a user to all
sums of a round is one vector. It is scaled to a norm of at most ``clip``, and Gaussian noise of
deviation ``noise * clip`` is added to the sums. So one round is a Gaussian mechanism at the level
of users, and rounds compose by Gaussian differential privacy (Dong, Roth & Su, 2022): the noise
for epsilon and delta is exact (Balle & Wang, 2018). The counts of events of items are released in
the same way, as part of the first round. Options are chosen on 10 % of the training rows.
"""

import argparse
import itertools
import time

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import csr_array
from scipy.stats import norm

from benchmarks.common.report import row
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.vocabulary import Vocabulary

DELTA = 1e-5
LOWEST, HIGHEST, MIDDLE = 1.0, 5.0, 3.0
LONGEST = 2.0  # norm that vectors of users are cut to: a constant, as data would leak


def delta_of(mu, epsilon):
    """Return the delta of a Gaussian mechanism with sensitivity / deviation = mu."""
    tail = norm.logcdf(-epsilon / mu - mu / 2) + epsilon
    return norm.cdf(-epsilon / mu + mu / 2) - np.exp(tail)


def mu_of(epsilon, delta=DELTA):
    """Return the largest sensitivity / deviation that is (epsilon, delta) private."""
    return brentq(lambda mu: delta_of(mu, epsilon) - delta, 1e-4, 100.0)


def rounds_of(epsilon, n_rounds):
    """Return deviation / sensitivity of each of ``n_rounds`` rounds of equal noise."""
    return 0.0 if np.isinf(epsilon) else np.sqrt(n_rounds) / mu_of(epsilon)


class PrivateFactorization:
    """Alternating ridge regression with noise on the sums of the items."""

    def __init__(self, n_factors, n_rounds, epsilon, clip, reg_user, reg_item, seed):
        self.n_factors, self.n_rounds, self.clip = n_factors, n_rounds, clip
        self.reg_user, self.reg_item = reg_user, reg_item
        self.noise = rounds_of(epsilon, n_rounds + 1)  # the first round: biases of items
        self.rng = np.random.default_rng(seed)

    def fit(self, users, items, y, shape):
        """Fit items; ``shape`` is public."""
        self.shape = shape
        ones = csr_array((np.ones(len(y)), (users, items)), shape)
        ones.sum_duplicates()
        rest = csr_array((np.clip(y, LOWEST, HIGHEST) - MIDDLE, (users, items)), shape)
        self.items = np.zeros((shape[1], 1 + self.n_factors))  # [b_i, q_i]
        self.mean = MIDDLE
        counts, sums = self._released(ones, rest, np.ones((shape[0], 1)))
        counts, sums = np.maximum(counts[:, 0], 0.0), sums[:, 0]
        self.mean = MIDDLE + sums.sum() / max(counts.sum(), 1.0)
        rest = csr_array((y - self.mean, (users, items)), shape)
        self.items[:, 0] = (sums - counts * (self.mean - MIDDLE)) / (counts + self.reg_item)
        scale = 1 / np.sqrt(max(self.n_factors, 1))
        self.items[:, 1:] = self.rng.normal(0, scale, (shape[1], self.n_factors))
        for _ in range(self.n_rounds):
            bias, factors = self.solve_users(ones, rest)
            vectors = np.column_stack([np.ones(shape[0]), factors])
            left = rest.copy()
            left.data = rest.data - np.repeat(bias, np.diff(rest.indptr))
            square, linear = self._released(ones, left, vectors)
            self.items = self._solved(square, linear, self.reg_item * self._prior())
        self.user_bias, self.user_factors = self.solve_users(ones, rest)
        return self

    def _prior(self):
        penalty = np.ones(1 + self.n_factors)
        return np.diag(penalty)

    def _released(self, ones, rest, vectors):
        """Return noisy sums over users of ``x x^T`` (triangle) and ``r x`` for each item."""
        n = vectors.shape[1]
        upper = np.triu_indices(n)
        norms = np.linalg.norm(vectors, axis=1)
        vectors = vectors / np.maximum(norms / LONGEST, 1.0)[:, None]
        outer = vectors[:, upper[0]] * vectors[:, upper[1]]
        n_own = np.diff(ones.indptr)
        squares = np.asarray((rest * rest).sum(axis=1)).ravel()
        size = np.sqrt(n_own * (outer**2).sum(1) + squares * (vectors**2).sum(1))
        share = np.minimum(1.0, self.clip / np.maximum(size, 1e-12))[:, None]
        square, linear = ones.T @ (outer * share), rest.T @ (vectors * share)
        deviation = self.noise * self.clip
        if deviation:
            square = square + self.rng.normal(0, deviation, square.shape)
            linear = linear + self.rng.normal(0, deviation, linear.shape)
        return square, linear

    def _solved(self, triangles, linear, penalty):
        n = linear.shape[1]
        matrix = np.zeros((len(linear), n, n))
        upper = np.triu_indices(n)
        matrix[:, upper[0], upper[1]] = matrix[:, upper[1], upper[0]] = triangles
        values, basis = np.linalg.eigh(matrix)
        matrix = (basis * np.maximum(values, 0.0)[:, None, :]) @ basis.transpose(0, 2, 1)
        return np.linalg.solve(matrix + penalty, linear[..., None])[..., 0]

    def solve_users(self, ones, rest):
        """Return ``c_u`` and ``p_u`` of all users, given the items."""
        x = np.column_stack([np.ones(self.shape[1]), self.items[:, 1:]])
        upper = np.triu_indices(x.shape[1])
        left = rest.copy()
        left.data = rest.data - self.items[rest.indices, 0]
        penalty = np.eye(x.shape[1]) * self.reg_user
        found = self._solved(ones @ (x[:, upper[0]] * x[:, upper[1]]), left @ x, penalty)
        return found[:, 0], found[:, 1:]

    def predict(self, users, items):
        """Return predictions within the scale of stars."""
        dots = np.einsum("nk,nk->n", self.user_factors[users], self.items[items, 1:])
        scores = self.mean + self.items[items, 0] + self.user_bias[users] + dots
        return np.clip(scores, LOWEST, HIGHEST)


PRIVATE = {
    "n_factors": (0, 2, 4),
    "n_rounds": (1, 2),
    "clip": (10.0, 20.0),
    "reg_user": (5.0,),
    "reg_item": (10.0, 30.0, 100.0),
}
PUBLIC = {
    "n_factors": (0, 2, 4, 8),
    "n_rounds": (4,),
    "clip": (1000.0,),
    "reg_user": (5.0,),
    "reg_item": (3.0, 10.0),
}


def rmse(model, log, train, test, shape):
    """Fit on rows and return the RMSE on others."""
    users, items, y = log
    model.fit(users[train], items[train], y[train], shape)
    return float(np.sqrt(np.mean((y[test] - model.predict(users[test], items[test])) ** 2)))


def main():
    """Choose options for each epsilon on validation rows, then report the test RMSE."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epsilon", type=float, nargs="+", default=[8, np.inf, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    X, y = fetch_movielens("1m", return_X_y=True)
    X = np.asarray(X)
    users = Vocabulary().extend(X[:, 0].astype(np.int64))
    items = Vocabulary().extend(X[:, 1].astype(np.int64))
    log, shape = (users, items, np.asarray(y, float)), (users.max() + 1, items.max() + 1)
    order = np.random.default_rng(0).permutation(len(y))
    cut = len(y) // 10
    test, train = order[:cut], order[cut:]
    valid, part = train[:cut], train[cut:]
    for epsilon in options.epsilon:
        grid, found, start = PUBLIC if np.isinf(epsilon) else PRIVATE, [], time.process_time()
        for values in itertools.product(*grid.values()):
            given = dict(zip(grid, values, strict=True))
            if given["n_factors"] == 0 and given["n_rounds"] > min(grid["n_rounds"]):
                continue
            model = PrivateFactorization(**given, epsilon=epsilon, seed=0)
            found.append((rmse(model, log, part, valid, shape), given))
        for n_factors in grid["n_factors"]:
            runs = [run for run in found if run[1]["n_factors"] == n_factors]
            loss, best = min(runs, key=lambda run: run[0])
            models = [PrivateFactorization(**best, epsilon=epsilon, seed=s) for s in options.seeds]
            tests = [rmse(model, log, train, test, shape) for model in models]
            row(
                "differential privacy", "ml-1m", f"factors={n_factors}", epsilon=epsilon,
                options=best, validation=loss, rmse=float(np.median(tests)), of_seeds=tests,
                cpu_seconds=time.process_time() - start,
            )  # fmt: skip


if __name__ == "__main__":
    main()
