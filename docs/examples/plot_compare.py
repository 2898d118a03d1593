"""
Compare recommenders
====================

Is one model better than another, or was it luck? ``compare_recommenders`` fits all of them on the
same rows, asks for the same users' lists, and gives for each metric the difference to a baseline
with an interval over users. Next to quality stand coverage, seconds and memory, which a decision
needs as much.

The log is MovieLens 100K: the last 10 % of its time line judge, every rating is a positive, lists
hold the whole catalogue but what the user met before.
"""

import numpy as np
import pandas as pd

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.model_selection import TemporalSplit, compare_recommenders

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

result = compare_recommenders(
    {
        "popularity": PopularityRecommender(),
        "popularity, 30 days": PopularityRecommender(window=30),
        "factors": IncrementalMFRecommender(loss="bpr", random_state=0),
    },
    X,
    cv=TemporalSplit(1, test_size=0.1),
    scoring=("ndcg", "recall"),
    random_state=0,
)
print(result)

# %%
# The same as a frame, a row for each estimator:

pd.DataFrame(result.table).set_index("estimator").T.round(4)

# %%
# User by user
# ------------
#
# The mean hides whom a model serves. ``per_user`` holds the value of each metric for every list:

of = result.per_user["ndcg@10"]
better = np.mean(of["factors"] > of["popularity"])
worse = np.mean(of["factors"] < of["popularity"])
print(f"factors against popularity: better for {better:.0%} of users, worse for {worse:.0%}")
