"""Measure what erasing, unlearning and masking do, one JSON line per row.

    python benchmarks/privacy/bench_privacy.py --task membership
    python benchmarks/privacy/bench_privacy.py --task masking

membership, MovieLens 100K, ratings. A tenth of the users is to be forgotten. The attacker has the
events of all users, and asks which were in the training log by the loss of the model. Half of the
events of each of these users are in the log, the other half never are. The loss is
``(y - mu - b_i - c_u - p_u . q_i)^2``, where ``c_u`` and ``p_u`` are gone: the attacker estimates
them by the model itself, which adapts to both halves together. So a difference is due to the item
parameters alone. AUC of minus the loss, .50 is a guess; an interval by a bootstrap of users.

masking, MovieLens 1M, every rating is a positive. The last tenth of the timeline is the test.
NDCG@10 over the whole catalogue without seen items, of lists of users with test rows. Training rows
alone are masked.
"""

import argparse
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.common.report import row
from sklearn_recft import EASERecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit, unlearn
from sklearn_recft.preprocessing import mask_interactions


def membership(seeds):
    """Compare the losses of events in the log with those of other events of the same users."""
    X, y = fetch_movielens("100k", return_X_y=True)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        users = np.unique(X[:, 0])
        gone = rng.choice(users, len(users) // 10, replace=False)
        theirs = np.isin(X[:, 0], gone)
        member = theirs & (rng.random(len(X)) < 0.5)
        never = theirs & ~member
        log = ~never
        model = IncrementalMFRecommender(random_state=seed)
        fitted = model.fit(X[log], y[log])
        found = {"fitted": losses(fitted, X, y, theirs, adapt=False)}
        start = time.process_time()
        erased = fitted.forget(gone)
        of_erasing = time.process_time() - start
        found["erased"] = losses(erased, X, y, theirs)
        start = time.process_time()
        new = unlearn(model, X[log], y[log], user_ids=gone)
        of_unlearning = time.process_time() - start
        found["unlearned"] = losses(new, X, y, theirs)
        for level, loss in found.items():
            is_member = member[theirs]
            auc, low, high = interval(is_member, -loss, X[theirs, 0], rng)
            gap = np.sqrt(loss[~is_member].mean()) - np.sqrt(loss[is_member].mean())
            row(
                "membership", "ml-100k", level, seed=seed, auc=auc, interval=[low, high],
                rmse_gap=gap, n_events=int(theirs.sum()), cpu_erase=of_erasing,
                cpu_unlearn=of_unlearning,
            )  # fmt: skip


def losses(model, X, y, theirs, adapt=True):
    """Squared errors of the events of the users, who are adapted to first if they are gone."""
    if adapt:
        model = model.adapt(X[theirs], y[theirs])
    return (y[theirs] - model.predict(X[theirs])) ** 2


def interval(member, score, users, rng, n_draws=200):
    """AUC, and its 95 % interval by a bootstrap of users."""
    rows = {user: np.flatnonzero(users == user) for user in np.unique(users)}
    names, draws = list(rows), []
    for _ in range(n_draws):
        drawn = np.concatenate([rows[names[n]] for n in rng.integers(0, len(names), len(names))])
        draws.append(roc_auc_score(member[drawn], score[drawn]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return roc_auc_score(member, score), low, high


MASKS = {
    "nothing": {},
    "hour": {"time": "hour"},
    "day": {"time": "day"},
    "k=5": {"min_users_per_item": 5},
    "k=20": {"min_users_per_item": 20},
    "k=100": {"min_users_per_item": 100},
    "day, k=20": {"time": "day", "min_users_per_item": 20},
}


class WithoutOther:
    """A model whose lists leave out the item that stands for the grouped ones."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    def recommend(self, X, **options):
        """Recommend known items alone."""
        return self.model.recommend(X, exclude=[-1], **options)


def masking(seeds, masks):
    """NDCG@10 of models of masked logs, with and without "other" in the lists."""
    X, _ = fetch_movielens("1m", return_X_y=True)
    train, test = next(TemporalSplit(n_splits=1, test_size=0.1).split(X))
    scorer = make_ranking_scorer("ndcg", k=10)
    for name in masks:
        masked, report = mask_interactions(X[train], **MASKS[name])
        for model in (
            PopularityRecommender(window=30),
            EASERecommender(reg=500),
            *(IncrementalMFRecommender(loss="softmax", random_state=seed) for seed in seeds),
        ):
            start = time.process_time()
            score = float(scorer(WithoutOther(model.fit(masked)), X[test]))
            with_other = float(scorer(model, X[test]))
            row(
                "masking", "ml-1m", f"{type(model).__name__}", mask=name, ndcg=score,
                ndcg_with_other=with_other,
                seed=getattr(model, "random_state", None), rows=report.rows_changed,
                grouped=report.n_items_grouped, items=report.n_items,
                users_of_other=report.n_users_of_other, cpu_seconds=time.process_time() - start,
            )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", choices=["membership", "masking"], required=True)
    parser.add_argument("--masks", nargs="+", choices=list(MASKS), default=list(MASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    if given.task == "membership":
        membership(given.seeds)
    else:
        masking(given.seeds, given.masks)
