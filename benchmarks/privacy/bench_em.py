"""Can variational EM forget a user exactly? Warm and cold starts, run towards a fixed point.

Up to a tenth of the users of MovieLens 100K are removed from a `BayesianMFRecommender`; users who
were the first with an item stay, so that all models have the same items in the same order.
"erased" only
removes their rows. "warm" runs sweeps over the events of the others, from the posteriors and priors
that were fitted with all users. "cold" fits the others from random vectors, with two seeds.
Reported are differences of predictions on random pairs of known users and items, to the cold fit of
the first seed with the same number of sweeps. Prints JSON lines.

    python benchmarks/privacy/bench_em.py
"""

import argparse
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from time import process_time

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from sklearn_recft import BayesianMFRecommender
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.models import _bayesian_fit
from sklearn_recft.models._bayesian_table import Posteriors

N_PAIRS = 20_000


@contextmanager
def started_from(fitted):
    """Let the next fit start from the posteriors of the items, and the priors, of a model."""
    users, items = fitted._model.user_table, fitted._model.item_table

    def start(self, rng):
        for own, given in ((self.users, users), (self.items, items)):
            own.prior = given.prior
            own.is_late[:] = False
        self.noise = fitted._model.noise
        return Posteriors(items.means.copy(), items.covariances.copy(), items.moments.copy())

    real = _bayesian_fit.VariationalEM._start
    _bayesian_fit.VariationalEM._start = start
    try:
        yield
    finally:
        _bayesian_fit.VariationalEM._start = real


def compared(X, y, seed, n_sweeps):
    """Fit, remove users, and compare all ways to do so."""
    rng = np.random.default_rng(seed)
    users, items = np.unique(X[:, 0]), np.unique(X[:, 1])
    gone = rng.choice(users, len(users) // 10, replace=False)
    gone = np.setdiff1d(gone, X[np.unique(X[:, 1], return_index=True)[1], 0])
    left = ~np.isin(X[:, 0], gone)

    def model(seed):
        return BayesianMFRecommender(max_epochs=n_sweeps, random_state=seed)

    whole = model(seed).fit(X, y)
    cold, other = model(seed).fit(X[left], y[left]), model(seed + 1).fit(X[left], y[left])
    more = BayesianMFRecommender(max_epochs=n_sweeps + 1, random_state=seed).fit(X[left], y[left])
    assert (whole.item_ids_ == cold.item_ids_).all()
    with started_from(whole):
        warm = model(seed).fit(X[left], y[left])
    erased = model(seed).fit(X, y)
    erased.forget(gone.tolist())
    pairs = np.column_stack(
        [rng.choice(np.unique(X[left, 0]), N_PAIRS), rng.choice(items, N_PAIRS)]
    )
    wanted = cold.predict(pairs)
    found = {"erased": erased, "warm": warm, "other seed": other, "one sweep more": more}
    for name, one in found.items():
        rest = one.predict(pairs) - wanted
        report(
            seed=seed, n_sweeps=n_sweeps, n_gone=len(gone), way=name,
            rms=float(np.sqrt(np.mean(rest**2))), largest=float(np.abs(rest).max()),
        )  # fmt: skip


def report(**found):
    print(json.dumps({k: float(f"{v:.3g}") if isinstance(v, float) else v
                      for k, v in found.items()}), flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="100k")
    parser.add_argument("--sweeps", type=int, nargs="+", default=[30, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    X, y = fetch_movielens(args.dataset, return_X_y=True)
    for n_sweeps in args.sweeps:
        for seed in args.seeds:
            clock = process_time()
            compared(X[:, :2], y, seed, n_sweeps)
            report(seed=seed, n_sweeps=n_sweeps, cpu_s=process_time() - clock)


if __name__ == "__main__":
    main()
