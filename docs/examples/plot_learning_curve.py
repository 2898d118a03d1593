"""
Quality against events seen
===========================

How much history does a model need before it is worth having? Each model learns the same log in
order of time and is judged, again and again, on the same rows: the last 10 % of the time line,
which lie after everything it ever learns. The log is MovieLens 100K, every rating is a positive,
and lists hold the whole catalogue but what the user met before.

With fewer events a model knows less, and what it knows is older.
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
    ("factors, partial_fit", IncrementalMFRecommender(loss="bpr", random_state=0), "partial_fit"),
    ("factors, refitted", IncrementalMFRecommender(loss="bpr", random_state=0), "refit"),
]
n_events = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)  # fractions of what lies before the test
results = {
    name: learning_curve_by_events(model, X, n_events=n_events, learn=learn)
    for name, model, learn in contenders
}

# %%
# The picture
# -----------

display = LearningCurveDisplay.from_results(results, metric="ndcg@10")

# %%
# What is popular is learned from little, and forgetting pays once there is enough to forget.
# Factors need some ten thousand events. The steps from point to point are long here, up to 27,000
# events in one ``partial_fit``, which goes over them once and slowly: refitting is better then.
# :ref:`sphx_glr_auto_examples_plot_prequential.py` shows steps of a week and of a single event.
