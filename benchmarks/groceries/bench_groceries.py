"""The week's baskets of The Complete Journey, ranked by what `recft demo` compares and by habit.

    python benchmarks/groceries/bench_groceries.py
    python benchmarks/groceries/bench_groceries.py --households 50 --seeds 0
    python benchmarks/groceries/bench_groceries.py --only habits "habits, static" --warm-up 0.5

The first three quarters of 1.47 M purchases are fitted; then week by week: a top 10 for every
household that shops, of the whole catalogue, bought before or not, then the week is learned. A JSON
line a model. "own favourites" ranks what a household has bought most often, then what is popular:
no model here, but what one has to beat where people buy the same things again.
"""

import argparse
import json

import numpy as np

from sklearn_recft import HabitRecommender, IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import load_complete_journey
from sklearn_recft.model_selection import prequential_score

SEEDS = (0, 1, 2)


class OwnFavourites(PopularityRecommender):
    """Rank by how often the household itself has bought an item, then by popularity."""

    def fit(self, X, y=None, sample_weight=None):
        self.counts_ = {}
        return self._add(X, super().fit(X))

    def partial_fit(self, X, y=None, sample_weight=None):
        return self._add(X, super().partial_fit(X))

    def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=False):
        bestsellers = self.item_ids_[np.argsort(-self.popularity_)[: 2 * n_recommendations]]
        lists = []
        for user in np.asarray(X)[:, 0]:
            own = self.counts_.get(user, {})
            best = sorted(own, key=own.get, reverse=True)[:n_recommendations]
            best += [item for item in bestsellers if item not in own]
            lists.append(best[:n_recommendations])
        return np.array(lists), np.zeros((len(lists), n_recommendations))

    def _add(self, X, model):
        for user, item in X[:, :2].tolist():
            own = self.counts_.setdefault(user, {})
            own[item] = own.get(item, 0) + 1
        return model


def contenders(seed, first):
    """Yield models; those without randomness with the first seed alone."""

    def factors(**params):
        return IncrementalMFRecommender(
            loss="bpr", max_epochs=20, n_jobs=-1, random_state=seed, **params
        )

    yield "static", factors(), "never"
    yield "incremental", factors(), "partial_fit"
    yield "incremental, half_life=28", factors(half_life=28), "partial_fit"
    habits = factors(half_life=28, habit_half_life=90)
    yield "incremental, half_life=28, habits", habits, "partial_fit"
    yield "static, half_life=28, habits", habits, "never"
    if first:
        yield "full refit", factors(), "refit"
        yield "popularity", PopularityRecommender(), "partial_fit"
        yield "popularity, window=28", PopularityRecommender(window=28), "partial_fit"
        yield "habits", HabitRecommender(), "partial_fit"
        yield "habits, static", HabitRecommender(), "never"
        yield "habits, full refit", HabitRecommender(), "refit"
        yield "own favourites", OwnFavourites(), "partial_fit"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--only", nargs="+", help="names of models")
    parser.add_argument("--warm-up", type=float, default=0.75, help="share of rows that is fitted")
    parser.add_argument("--households", type=int, help="the first so many alone")
    options = parser.parse_args(argv)
    X = load_complete_journey().data
    X = X[np.isin(X[:, 0], np.unique(X[:, 0])[: options.households])]
    X = X[np.argsort(X[:, 2], kind="stable")]
    found = {}
    for seed in options.seeds:
        for name, model, learn in contenders(seed, seed == options.seeds[0]):
            if options.only and name not in options.only:
                continue
            result = prequential_score(
                model, X, warm_up=int(options.warm_up * len(X)), period=7.0, learn=learn,
                scoring=("ndcg", "recall"), exclude_seen=False,
            )  # fmt: skip
            found.setdefault(name, []).append((*result.metrics.values(), result.learn_seconds))
    for name, runs in found.items():
        ndcg, recall, seconds = np.median(runs, axis=0).round(4).tolist()
        line = {"model": name, "ndcg@10": ndcg, "recall@10": recall, "learn_seconds": seconds}
        print(json.dumps(line | {"ndcg_spread": round(float(np.ptp(runs, axis=0)[0]), 4)}))


if __name__ == "__main__":
    main()
