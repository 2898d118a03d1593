"""
Keep a recommender fresh
========================

A fitted model gets worse with time: new users arrive, and known users change. This example
evaluates four ways to update a matrix factorization on the second half of MovieLens 100K, week by
week. It is never updated; it is refitted before every week; it learns each week by
``partial_fit`` when the week is over; or it learns every rating right after predicting it. In all
four, every rating is predicted before it is learned.
"""

import numpy as np

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.inspection import PrequentialDisplay
from sklearn_recft.model_selection import iter_prequential, prequential_score

try:
    X, y = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, y = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)
order = np.argsort(X[:, 2], kind="stable")  # rows of the same second stay in their order
X, y = X[order], y[order]
model = IncrementalMFRecommender(random_state=0)
# Loops are compiled on first use. Compile them now, so that the seconds below do not include it.
prequential_score(model, X[:200], y[:200], warm_up=0.5, chunk_size=50)
prequential_score(model, X[:200], y[:200], warm_up=0.5, chunk_size=1)

# %%
# Week by week
# ------------
#
# :func:`~sklearn_recft.model_selection.prequential_score` evaluates a clone of the model in the
# order of time.

ways = {"never learned": "never", "refitted": "refit", "partial_fit": "partial_fit"}
results = {
    name: prequential_score(model, X, y, warm_up=0.5, period=7, learn=learn, scoring=["rmse"])
    for name, learn in ways.items()
}
for name, result in results.items():
    print(
        f"{name:>14}: RMSE {result.metrics['rmse']:.4f}, {result.learn_seconds:5.2f} s of learning"
    )

# %%
# Event by event
# --------------
#
# With chunks of one row, the whole log goes to ``partial_fit_predict``, which is one compiled pass.
# The score is reported every 2,000 rows.

half = len(y) // 2
online = IncrementalMFRecommender(random_state=0)
online.partial_fit_predict(X[:half], y[:half])
steps = iter_prequential(
    online, X[half:], y[half:], chunk_size=1, report_every=2000, scoring=["rmse"]
)
results["event by event"] = steps = list(steps)
y_pred = np.concatenate([step.predictions for step in steps])
seconds = sum(step.learn_seconds for step in steps)
rmse = np.sqrt(np.mean((y_pred - y[half:]) ** 2))
print(f"event by event: RMSE {rmse:.4f}, {seconds:5.2f} s of predicting and learning")

# %%
# RMSE over time
# --------------

display = PrequentialDisplay.from_results(results, metric="rmse")
_ = display.ax_.set(ylabel="RMSE of the week", title="Predicted before it was learned")

# %%
# ``partial_fit`` by chunks is as good as a refit, in a small part of the time. Learning every event
# is much better: when a user rates twenty films in ten minutes, the first five say much about the
# other fifteen. A model that is updated at the end of the week cannot use them.
