"""
Quality by number of events
===========================

This example shows how much history a model needs. Each model learns the same log in the order of
time. It is evaluated several times on the same rows, the latest 10 % of the log, which come
after all training rows. The log is MovieLens 100K. Every rating is a positive. Lists rank the
whole catalogue without seen items.

With fewer events, a model knows less and its events are older.
"""

from sklearn_recft import IncrementalMFRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.inspection import LearningCurveDisplay
from sklearn_recft.model_selection import learning_curve_by_events

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

# Name, model, and how it learns from one point to the next.
contenders = [
    ("popularity", PopularityRecommender(), "partial_fit"),
    ("popularity, half-life 3 days", PopularityRecommender(half_life=3), "partial_fit"),
    (
        "factorization, partial_fit",
        IncrementalMFRecommender(loss="bpr", random_state=0),
        "partial_fit",
    ),
    ("factorization, refitted", IncrementalMFRecommender(loss="bpr", random_state=0), "refit"),
]
n_events = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # fractions of the rows before the test
results = {
    name: learning_curve_by_events(model, X, n_events=n_events, learn=learn)
    for name, model, learn in contenders
}

# %%
# The learning curves
# -------------------

display = LearningCurveDisplay.from_results(results, metric="ndcg@10")

# %%
# Popularity needs few events, and time decay helps once there are enough. The factorization needs
# some ten thousand events. The steps between points are large, up to 27,000 events in one
# ``partial_fit``, which passes over them once with small steps. Then a refit is better.
# :ref:`sphx_glr_auto_examples_plot_prequential.py` has steps of a week and of a single event.
