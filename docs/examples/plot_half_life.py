"""
Quality against half-life
=========================

How fast should a recommender forget? With ``half_life``, an event of that many days ago counts
half. Too long, and the list shows what was liked last year; too short, and it follows noise. The
best value depends on the log and on the model, so it is chosen like any other parameter: on
events that come before those that are reported.

The log is MovieLens 100K, replayed week after week. The first half of it is fitted; then each
week every user with ratings in it gets one list of the whole catalogue but what they met before,
NDCG@10 is the mean over these lists, and then the week is learned by ``partial_fit``. Every
rating is a positive.
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

half_lives = [1, 3, 7, 14, 30, 60, 120, None]  # days; None never forgets
models = {
    "PopularityRecommender": PopularityRecommender(),
    "ItemKNNRecommender": ItemKNNRecommender(),
    "EASERecommender": EASERecommender(reg=100.0),
}

# %%
# One replay for each model and half-life
# ---------------------------------------
#
# The weeks before the middle of the replay choose, the weeks after it are reported.


def two_halves(model):
    """NDCG@10 over the lists of the first weeks, and over those of the last."""
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
    fading, never = scores[name][[best, -1], 1]
    print(
        f"{name:>21}: {half_lives[best]} days chosen, "
        f"NDCG@10 {fading:.4f} afterwards, {never:.4f} without forgetting"
    )

# %%
# The picture
# -----------
#
# The ring marks the half-life that the first weeks chose.

figure, ax = plt.subplots(layout="constrained")
places = np.arange(len(half_lives))
styles = [("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", "-.", "^")]
for (name, found), (colour, line, marker) in zip(scores.items(), styles, strict=True):
    reported, best = found[:, 1], chosen[name]
    ax.plot(places, reported, linestyle=line, color=colour, marker=marker, label=name)
    ax.plot(best, reported[best], "o", color=colour, markersize=15, fillstyle="none")
ax.set_xticks(places, [*half_lives[:-1], "never\nforgets"])
ax.set(xlabel="Half-life in days", ylabel="NDCG@10, last weeks")
ax.grid(visible=True, alpha=0.3)
_ = ax.legend()

# %%
# All three gain from forgetting, each at a pace of its own, and what is popular this week is a
# match for the models that know the user. The lists are few (some dozens of users a week), so
# values of neighbouring half-lives differ by chance.
