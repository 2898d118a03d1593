"""
Compress a model
================

Most of the memory of a factorization are its tables of factors. This example stores them in 16 or
8 bits a number in place of 32, and compares size and lists with those of the model in full.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.compression import compress, model_bytes
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.metrics import make_ranking_scorer

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 800, 50_000, random_state=0, return_X_y=True)
X = X[np.argsort(X[:, 2], kind="stable")]
train, test = np.split(X, [int(0.9 * len(X))])
model = IncrementalMFRecommender(loss="bpr", max_epochs=10, random_state=0).fit(train)

# %%
# Compress the tables
# -------------------
#
# :func:`~sklearn_recft.compression.compress` returns a copy. The model does not change, and can go
# on learning.

models = {"float32": model}
for tables in ("float16", "bfloat16", "int8"):
    models[tables] = compress(model, tables=tables)

# %%
# Size and quality
# ----------------
#
# The overlap is the share of the ten items of a list that stay. NDCG@10 is measured on the newest
# tenth of the log.

users, ndcg = np.unique(test[:, 0]), make_ranking_scorer("ndcg", k=10)
lists = model.recommend(users)[0]
results = {}
for name, one in models.items():
    pairs = zip(lists, one.recommend(users)[0], strict=True)
    overlap = np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])
    results[name] = model_bytes(one) / 1e6, overlap, ndcg(one, test)
    size, _, quality = results[name]
    print(f"{name:>8}: {size:.2f} MB, overlap {overlap:.4f}, NDCG@10 {quality:.4f}")

# %%
# Plot both
# ---------
#
# What is left at 8 bits are mainly the pairs of users and items that were seen.

size, overlap, _ = np.array(list(results.values())).T
figure, axes = plt.subplots(ncols=2, figsize=(8, 3), sharey=True, layout="constrained")
for axis, values, label in zip(axes, (size, 100 * overlap), ("MB", "% of a list"), strict=True):
    bars = axis.barh(list(results), values, color=["0.6", "C0", "C0", "C1"])
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.set(xlabel=label)
    axis.margins(x=0.2)
axes[0].set(title="Size of the model")
axes[1].set(title="Items of the lists that stay")
axes[0].invert_yaxis()

# %%
# The lists change less than by another seed of `fit`. Measurements on MovieLens 1M, also of speed,
# are on the page :doc:`/guide/compression`.
