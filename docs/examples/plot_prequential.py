"""
Keep a recommender fresh
========================

A model that was fitted once grows old: users arrive whom it does not know, and those it knows
move on. Here the same matrix factorisation meets the second half of MovieLens 100K, week after
week, in four ways: it never learns again, it is refitted before every week from all that is known
by then, it learns each week by ``partial_fit`` once the week is over, or it learns every single
rating right after it was predicted. In each of them every rating is predicted before it is
learned.
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
# Compiled on first use: done beforehand, so that the seconds below are those of learning.
prequential_score(model, X[:200], y[:200], warm_up=0.5, chunk_size=50)
prequential_score(model, X[:200], y[:200], warm_up=0.5, chunk_size=1)

# %%
# Weeks as they come
# ------------------
#
# :func:`~sklearn_recft.model_selection.prequential_score` replays the log with a clone of the
# model.

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
# With chunks of one row the loop hands the log to ``partial_fit_predict``, one compiled pass; the
# model reports every 2,000 rows.

half = len(y) // 2
follower = IncrementalMFRecommender(random_state=0)
follower.partial_fit_predict(X[:half], y[:half])
steps = iter_prequential(
    follower, X[half:], y[half:], chunk_size=1, report_every=2000, scoring=["rmse"]
)
results["event by event"] = steps = list(steps)
said = np.concatenate([step.predictions for step in steps])
seconds = sum(step.learn_seconds for step in steps)
rmse = np.sqrt(np.mean((said - y[half:]) ** 2))
print(f"event by event: RMSE {rmse:.4f}, {seconds:5.2f} s of predicting and learning")

# %%
# The picture
# -----------

display = PrequentialDisplay.from_results(results, metric="rmse")
_ = display.ax_.set(ylabel="RMSE of the week", title="Predicted before it was learned")

# %%
# Learning by chunks is as good as refitting, for a small part of the time. Following every event
# is better by far: when someone rates twenty films in ten minutes, the first five tell much about
# the other fifteen, and a model that waits for the end of the week has missed it.
