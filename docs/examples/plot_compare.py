"""
Compare recommenders
====================

Is one model better than another, or was it luck?
:func:`~sklearn_recft.model_selection.compare_recommenders` fits all of them on the same rows,
asks for the same users' lists, and gives for each metric the difference to a baseline with an
interval over users. Next to quality stand coverage, seconds and memory, which a decision needs as
much.

The log is MovieLens 100K: the last 10 % of its time line judge, every rating is a positive, lists
hold the whole catalogue but what the user met before.
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
    "item neighbours": ItemKNNRecommender(),
    "EASE": EASERecommender(),
    "EASE, half-life 14": EASERecommender(reg=100.0, half_life=14),
    "ALS": ALSRecommender(random_state=0),
    "factors (BPR)": IncrementalMFRecommender(loss="bpr", random_state=0),
}
# Compiled on first use: done beforehand, so that the seconds below are those of the models.
compare_recommenders(models, X[:1000], cv=cv, measure_memory=False)
result = compare_recommenders(models, X, cv=cv, scoring=("ndcg", "recall"), random_state=0)
columns = ["ndcg@10", "recall@10", "coverage@10", "fit_seconds", "recommend_seconds"]
columns += ["peak_memory_mib", "model_size_mib"]
pd.DataFrame(result.table).set_index("estimator")[columns].round(3)

# %%
# Is it luck?
# -----------
#
# The intervals resample users, the same for both models, so what makes a user easy or hard
# cancels. An interval that does not touch 0 is a difference that other users would most likely
# show as well.

display = RecommenderComparisonDisplay.from_results(result, metric="ndcg@10")

# %%
# For whom?
# ---------
#
# The mean hides whom a model serves. ``per_user`` holds the value of each metric for every list,
# and :func:`~sklearn_recft.metrics.metric_by_group` takes means in groups. Here: users whom
# training has met, and users it has not.

[(train, _)] = cv.split(X)
group = np.where(np.isin(result.user_ids, X[train, 0]), "known", "new")
rows = {}
for name, values in result.per_user["ndcg@10"].items():
    found = metric_by_group(values, group)
    rows[name] = dict(zip(found.groups, found.means, strict=True)) | {"gap": found.gap}
print("users:", dict(zip(found.groups.tolist(), found.sizes.tolist(), strict=True)))
pd.DataFrame(rows).T.round(3)
