"""
Quality against half-life
=========================

How fast should a recommender forget? With ``half_life``, an event of that many days ago counts
half. Too long, and the list shows what was popular years ago; too short, and it follows noise.
The best value depends on the log, so it is chosen like any other parameter: on rows that come
before those that are reported.

The log is MovieLens 1M. The first 80 % of the time line are fitted and the next 10 % judge
(validation); then the first 90 % are fitted and the last 10 % judge (test). NDCG@10 over all
users with rows in the judging part, new ones included; every rating is a positive; the whole
catalogue but what the user met before.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_recft import PopularityRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.metrics import make_ranking_scorer
from sklearn_recft.model_selection import TemporalSplit

try:
    X, _ = fetch_movielens("1m", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

half_lives = [1, 3, 7, 14, 30, 60, 120, 365, None]  # days; None never forgets
splits = dict(zip(("validation", "test"), TemporalSplit(2, test_size=0.1).split(X), strict=True))
ndcg = make_ranking_scorer("ndcg", k=10)

# %%
# One fit for each half-life and part
# -----------------------------------

scores = {
    part: [ndcg(PopularityRecommender(half_life=h).fit(X[train]), X[judge]) for h in half_lives]
    for part, (train, judge) in splits.items()
}
best = int(np.argmax(scores["validation"]))
chosen, never = (scores["test"][i] for i in (best, -1))
print(f"half-life chosen on validation: {half_lives[best]} days")
print(f"test NDCG@10: {chosen:.4f} with it, {never:.4f} without forgetting")

# %%
# The picture
# -----------

figure, ax = plt.subplots(layout="constrained")
styles = {"validation": ("#0072B2", "-", "o"), "test": ("#D55E00", "--", "s")}
for part, (colour, line, marker) in styles.items():
    ax.plot(half_lives[:-1], scores[part][:-1], line, color=colour, marker=marker, label=part)
    ax.axhline(scores[part][-1], color=colour, linestyle=":", label=f"{part}, never forgets")
ax.set(xscale="log", xlabel="Half-life in days", ylabel="NDCG@10")
ax.set_xticks(half_lives[:-1], half_lives[:-1])
ax.minorticks_off()
ax.grid(visible=True, alpha=0.3)
_ = ax.legend()

# %%
# Three days win in both parts: by a hair in validation, the four weeks that follow the busiest
# month of the log, clearly in the test, which starts after the holidays and lasts two years. With
# months or more the list is that of all times.
