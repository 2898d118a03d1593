"""
Compare recommenders
====================

This example compares seven models on one temporal split.
:func:`~sklearn_recft.model_selection.compare_recommenders` fits all of them on the same rows and
queries the same users. It returns each metric, the difference to a baseline with an interval over
users, coverage, seconds and memory.

The log is MovieLens 100K. The latest 10 % of the ratings are the test rows. Every rating is a
positive. Lists rank the whole catalogue without seen items.
"""

import numpy as np
import pandas as pd

from sklearn_recft import (
    ALSRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.inspection import RecommenderComparisonDisplay
from sklearn_recft.metrics import metric_by_group
from sklearn_recft.model_selection import TemporalSplit, compare_recommenders

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

cv = TemporalSplit(1, test_size=0.1)
models = {
    "popularity": PopularityRecommender(),
    "popularity, half-life 7": PopularityRecommender(half_life=7),
    "item neighbors": ItemKNNRecommender(),
    "EASE": EASERecommender(),
    "EASE, half-life 14": EASERecommender(reg=100.0, half_life=14),
    "ALS": ALSRecommender(random_state=0),
    "factorization (BPR)": IncrementalMFRecommender(loss="bpr", random_state=0),
}
# Loops are compiled on first use. Compile them now, so that the seconds below do not include it.
compare_recommenders(models, X[:1000], cv=cv, measure_memory=False)
result = compare_recommenders(models, X, cv=cv, scoring=("ndcg", "recall"), random_state=0)
columns = ["ndcg@10", "recall@10", "coverage@10", "fit_seconds", "recommend_seconds"]
columns += ["peak_memory_mib", "model_size_mib"]
pd.DataFrame(result.table).set_index("estimator")[columns].round(3)

# %%
# Is the difference due to chance?
# --------------------------------
#
# The intervals resample users, the same ones for both models, so the difficulty of a user
# cancels. If an interval does not include 0, other users would most likely show the difference
# too.

display = RecommenderComparisonDisplay.from_results(result, metric="ndcg@10")

# %%
# Known and unknown users
# -----------------------
#
# A mean hides differences between users. ``per_user`` holds the value of each metric for every
# list, and :func:`~sklearn_recft.metrics.metric_by_group` returns means by group. Here the groups
# are users with and without rows in training.

[(train, _)] = cv.split(X)
group = np.where(np.isin(result.user_ids, X[train, 0]), "known", "new")
rows = {}
for name, values in result.per_user["ndcg@10"].items():
    found = metric_by_group(values, group)
    rows[name] = dict(zip(found.groups, found.means, strict=True)) | {"gap": found.gap}
print("users:", dict(zip(found.groups.tolist(), found.sizes.tolist(), strict=True)))
pd.DataFrame(rows).T.round(3)
