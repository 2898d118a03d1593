"""
A new user in five answers
==========================

This example adapts a fitted model to a new user. The model was fitted to other users. It asks the
new user five questions, one after the other, and shows after each answer what it expects of other
items, and how sure it is. Then the same is measured for all new users, beside simple baselines.

The log is MovieLens 100K, or a synthetic one if there is no copy at hand.
"""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_recft import BayesianMFRecommender, IncrementalMFRecommender
from sklearn_recft.datasets import fetch_movielens, make_interactions
from sklearn_recft.inspection import FewShotDisplay
from sklearn_recft.model_selection import few_shot_curve

try:
    X, y = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
except OSError:  # no copy at hand
    X, y = make_interactions(150, 400, 45_000, random_state=0, return_X_y=True)
X = X[:, :2]  # no times

# %%
# Five questions
# --------------
# The new user is a random one of those with more than 200 ratings, so that there is an answer to
# many questions. All other users are in ``fit``. Twenty of the new user's ratings are set aside, to
# compare with.

rng = np.random.default_rng(0)
users, counts = np.unique(X[:, 0], return_counts=True)
new_user = rng.choice(users[counts > 200])
mine = X[:, 0] == new_user
model = BayesianMFRecommender(random_state=0).fit(X[~mine], y[~mine])

known = np.flatnonzero(mine & np.isin(X[:, 1], model.item_ids_))
hidden = rng.permutation(known)[:20]
answers = {X[row, 1]: y[row] for row in known if row not in hidden}

states = [model.predict(X[hidden], return_std=True)]
for _ in range(5):
    question = model.ask([new_user], candidates=list(answers))[0, 0]
    model.adapt([[new_user, question]], [answers.pop(question)])
    states.append(model.predict(X[hidden], return_std=True))

# %%
# Each point is an item whose rating the model does not know. The bars are intervals of 90 %, before
# any answer and after five. They get a little narrower: most of their width is the noise of single
# ratings, which no answer takes away.

figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True, layout="constrained")
for ax, n in zip(axes, (0, 5), strict=True):
    rating, std = states[n]
    jitter = np.linspace(-0.2, 0.2, len(hidden))
    ax.errorbar(y[hidden] + jitter, rating, yerr=1.645 * std, fmt="o", alpha=0.7, capsize=2)
    ax.axline((3, 3), slope=1, color="0.5", linestyle="--", linewidth=1)
    ax.set_title(f"after {n} answers: mean half-width {1.645 * std.mean():.2f}")
    ax.set_xlabel("rating of the user")
axes[0].set_ylabel("predicted rating")

# %%
# All new users
# -------------
# Three in ten users are new. Each of them gives 0 to 10 ratings, and 10 other ratings are
# predicted. The lines are differences to the item mean, which knows nothing of the user.

models = {
    "bayesian": BayesianMFRecommender(random_state=0),
    "factorization": IncrementalMFRecommender(random_state=0),
}
result = few_shot_curve(models, X, y, new_users=0.3, random_state=0)
print(result)
display = FewShotDisplay.from_result(result, baseline="item mean")

# %%
# Without an answer, no model knows more than the item mean. After one, the offset of the user
# ("bias") is most of what can be known. After a few more, tastes count as well, and the posterior
# uses them best. The shaded intervals are those of the difference, over users.
