"""
Quality against half-life
=========================

This example chooses a ``half_life``, the age in days at which an event counts half. If it is too
long, lists show what was popular last year. If it is too short, they follow noise. The best value
depends on the log and on the model, so choose it like any other parameter: on events before those
that are reported.

The log is MovieLens 100K, week by week. The first half is fitted. Each week, every user with
ratings in it gets one list of the whole catalogue without seen items. Then the week is learned by
``partial_fit``. NDCG@10 is the mean over lists. Every rating is a positive.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_recft import EASERecommender, ItemKNNRecommender, PopularityRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.model_selection import prequential_score

try:
    X, _ = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, _ = make_interactions(500, 500, 50_000, drift="gradual", random_state=0, return_X_y=True)

half_lives = [1, 7, 14, 30, 120, None]  # days; None is no time decay
models = {
    "PopularityRecommender": PopularityRecommender(),
    "ItemKNNRecommender": ItemKNNRecommender(),
    "EASERecommender": EASERecommender(reg=100.0),
}

# %%
# One evaluation for each model and half-life
# -------------------------------------------
#
# The first half of the weeks chooses the half-life, the second half is reported.


def two_halves(model):
    """Return NDCG@10 over the lists of the first weeks, and over those of the last."""
    result = prequential_score(model, X, warm_up=0.5, period=7, scoring=["ndcg"])
    values, n_lists = np.array([(s.metrics["ndcg@10"], s.n_queries) for s in result.steps]).T
    middle = len(values) // 2
    return [
        np.average(values[part], weights=n_lists[part])
        for part in (slice(middle), slice(middle, None))
    ]


scores = {
    name: np.array([two_halves(model.set_params(half_life=h)) for h in half_lives])
    for name, model in models.items()
}
chosen = {name: int(found[:, 0].argmax()) for name, found in scores.items()}
for name, best in chosen.items():
    with_decay, without = scores[name][[best, -1], 1]
    print(
        f"{name:>21}: {half_lives[best]} days chosen, "
        f"NDCG@10 {with_decay:.4f} afterwards, {without:.4f} without time decay"
    )

# %%
# NDCG@10 by half-life
# --------------------
#
# The ring marks the half-life that was chosen on the first weeks.

figure, ax = plt.subplots(layout="constrained")
places = np.arange(len(half_lives))
styles = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")]
for (name, found), (colour, line, marker) in zip(scores.items(), styles, strict=True):
    reported, best = found[:, 1], chosen[name]
    ax.plot(places, reported, linestyle=line, color=colour, marker=marker, label=name)
    ax.plot(best, reported[best], "o", color=colour, markersize=15, fillstyle="none")
ax.set_xticks(places, [*half_lives[:-1], "no\ndecay"])
ax.set(xlabel="Half-life in days", ylabel="NDCG@10, last weeks")
ax.grid(visible=True, alpha=0.3)
_ = ax.legend()

# %%
# All three gain from time decay, each with its own half-life. Recent popularity is as good as the
# models that know the user. There are few lists (some dozens of users per week), so values of
# adjacent half-lives differ by chance.
