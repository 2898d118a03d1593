"""
What a random split hides
=========================

A random split trains on what each user did *after* the test rows. This example evaluates the same
models with a split by time and with a random one. The order of the models is reversed. The log is
MovieLens 100K. Every rating is a positive. NDCG@10 ranks the whole catalogue without seen items.
:doc:`/guide/leakage` has the results on MovieLens 1M.
"""

import textwrap
import warnings

import matplotlib.pyplot as plt
from sklearn.model_selection import ShuffleSplit

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.model_selection import RandomSplitWarning, TemporalSplit, compare_recommenders

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

models = {
    "popularity": PopularityRecommender(),
    "popularity, 7 days": PopularityRecommender(window=7),
    "factorization": IncrementalMFRecommender(loss="bpr", random_state=0),
}
splits = {
    "random 90/10": ShuffleSplit(1, test_size=0.1, random_state=0),
    "last 10 % of time": TemporalSplit(1, test_size=0.1),
}

# %%
# The warning
# -----------
#
# ``compare_recommenders`` checks the split and warns.

ndcg = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", RandomSplitWarning)
    for name, cv in splits.items():
        result = compare_recommenders(
            models, X, cv=cv, scoring="ndcg", random_state=0, measure_memory=False
        )
        ndcg[name] = {row["estimator"]: row["ndcg@10"] for row in result.table}
print(len(caught), caught[0].category.__name__)
print(textwrap.fill(str(caught[0].message), 88))

# %%
# The order is reversed
# ---------------------

figure, axes = plt.subplots(1, 2, layout="constrained", figsize=(7.5, 2.6), sharey=True)
hatches = ("", "//", "..")
for ax, (name, found) in zip(axes, ndcg.items(), strict=True):
    bars = ax.barh(list(found), list(found.values()), color="#56B4E9", edgecolor="black")
    for bar, hatch in zip(bars, hatches, strict=True):
        bar.set_hatch(hatch)
    ax.bar_label(bars, fmt="%.3f", padding=3)
    ax.set(title=name, xlabel="NDCG@10")
    ax.margins(x=0.2)
axes[0].invert_yaxis()

# %%
# Do not compare the two panels with each other, because their users have different numbers of
# relevant items. Compare the order of the bars in each panel.
