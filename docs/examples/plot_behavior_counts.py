"""
From counts of behavior to ratings, with new data
=================================================

This example predicts ratings from how often a user clicked, viewed and bought. It fits a deep &
cross network to a first log and updates it with new rows. Then the meaning of the counts changes.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from sklearn_recft import IncrementalDCNRecommender

rng = np.random.default_rng(0)
COUNTS = ["clicks", "views", "purchases"]


def behavior(n, weights):
    """Return n rows of counts, their ratings, and the ratings without noise."""
    views = rng.poisson(8, n)
    clicks = rng.binomial(views, 0.4) + rng.poisson(1, n)
    purchases = rng.binomial(clicks, 0.2)
    counts = np.column_stack([clicks, views, purchases])
    centred = (np.log1p(counts) - [1.4, 2.1, 0.5]) / [0.5, 0.35, 0.5]
    rating = 3 + centred @ weights + 0.3 * centred[:, 0] * centred[:, 2]
    ids = {"user_id": rng.integers(0, 500, n), "item_id": rng.integers(0, 200, n)}
    X = pd.DataFrame({**ids, **dict(zip(COUNTS, counts.T, strict=True))})
    return X, rating + 0.4 * rng.normal(size=n), rating


first, second = np.array([0.5, -0.3, 0.8]), np.array([-0.2, 0.5, 0.0])

# %%
# Fit
# ---
# Columns of numbers need no further settings. The ids are not informative here, so
# ``use_ids=False`` excludes them.

X, y, _ = behavior(6000, first)
print(X.head(3))
model = IncrementalDCNRecommender(use_ids=False, random_state=0).fit(X, y)

# %%
# Update
# ------
# New rows go to ``partial_fit``. A copy without drift handling serves as a comparison.

new_X, new_y, _ = behavior(500, first)
model.partial_fit(new_X, new_y)
steady = copy.deepcopy(model).set_params(drift=None)
test_X, _, truth = behavior(2000, first)
print(f"RMSE {np.sqrt(np.mean((model.predict(test_X) - truth) ** 2)):.3f}, noise 0.4")

# %%
# The meaning of the counts changes
# ---------------------------------
# From here on, the same counts get other ratings. By default, the model detects that its errors on
# new rows are far above those before. It drops its stored rows, and learns the new ones fast. With
# ``drift=None``, it keeps training on stored rows that are no longer valid.

test_X, _, truth = behavior(2000, second)
errors = {"follow": [], "always rehearse": []}
for _ in range(7):
    for name, one in zip(errors, (model, steady), strict=True):
        errors[name].append(np.sqrt(np.mean((one.predict(test_X) - truth) ** 2)))
    new_X, new_y, _ = behavior(500, second)
    for one in (model, steady):
        one.partial_fit(new_X, new_y)

figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, values in errors.items():
    ax.plot(500 * np.arange(len(values)), values, marker="o", label=name)
ax.set(xlabel="rows after the change", ylabel="RMSE without noise", ylim=(0, None))
ax.legend()
plt.show()
