"""
Close the loop: list, click, learn, again
=========================================

A recommender in use learns from clicks on its own lists. This example runs that loop with
simulated users, whose tastes are known. So each list has a known expected number of clicks.
On day 15, all tastes change. Four ways to learn are compared, and the log of one of them is used
to estimate the clicks of another model that no user has seen.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.base import clone

from sklearn_recft import AdaptiveRecommender, IncrementalMFRecommender
from sklearn_recft.datasets import ClickSimulator
from sklearn_recft.metrics import item_position_value

N_DAYS, TURN, N_ROUNDS, N_LISTS = 30, 15, 3, 100  # three rounds of 100 lists a day
EVENT = ["user_id", "item_id", "timestamp"]

# %%
# Users who click
# ---------------
#
# :class:`~sklearn_recft.datasets.ClickSimulator` has users with planted tastes. They examine rank
# :math:`k` with probability :math:`1 / \log_2(k + 1)` and click examined items that they like. One
# list in ten is replaced by random items: without exploration, a log says nothing about items that
# the model never shows.
#
# The first log holds 1,500 lists of random items, from the five days before the start.


def new_simulator():
    return ClickSimulator(200, 200, turn_day=TURN, exploration=0.1, random_state=0)


def first_log(simulator):
    visits = simulator.visits(1500, day=-5, n_days=5)
    rng = np.random.default_rng(0)
    every = np.tile(simulator.item_ids, (len(visits), 1))
    return simulator.show(visits, rng.permuted(every, axis=1)[:, :10])


shown = first_log(new_simulator())
print(shown.head(3))

# %%
# The loop
# --------
#
# Each round makes lists for the visitors, shows them, and learns the clicks (1) and skips (0). The
# figure shows the expected clicks of the lists, which the simulator knows.
#
# * "frozen" never learns again.
# * "nightly" is fitted anew to the whole log after each day.
# * "online" learns each round by ``partial_fit``.
# * "adaptive" is a blend of two such models, one with larger steps. Its weights learn from the
#   displayed lists, ``shown=``: the model that ranks the clicked items higher gains weight.

model = IncrementalMFRecommender(n_factors=16, reg=0.02, random_state=0)
faster = clone(model).set_params(learning_rate=0.1)
blend = AdaptiveRecommender([("small steps", model), ("large steps", faster)], random_state=0)


def run(learn):
    """Return expected clicks per list by day, those of the best lists, users and model."""
    simulator = new_simulator()
    log = [first_log(simulator)]
    fitted = clone(blend if learn == "adaptive" else model)
    fitted.fit(log[0][EVENT], log[0]["clicked"])
    clicks, best = np.zeros((2, N_DAYS))
    for day in range(N_DAYS):
        for n in range(N_ROUNDS):
            visits = simulator.visits(N_LISTS, day=day + n / N_ROUNDS, n_days=1 / N_ROUNDS)
            items, _ = fitted.recommend(visits, exclude_seen=False)
            clicks[day] += simulator.expected_clicks(visits, items).mean() / N_ROUNDS
            ideal = simulator.best_lists(visits)
            best[day] += simulator.expected_clicks(visits, ideal).mean() / N_ROUNDS
            shown = simulator.show(visits, items)
            log.append(shown)
            if learn == "online":
                fitted.partial_fit(shown[EVENT], shown["clicked"])
            elif learn == "adaptive":
                fitted.partial_fit(shown[EVENT], shown["clicked"], shown=shown)
        if learn == "nightly":
            rows = pd.concat(log)
            fitted = clone(model).fit(rows[EVENT], rows["clicked"])
    return clicks, best, simulator, fitted


results = {learn: run(learn) for learn in ("frozen", "nightly", "online", "adaptive")}
for learn, (clicks, best, *_) in results.items():
    print(
        f"{learn:>8}: {clicks[:TURN].mean():.2f} clicks per list before the turn, "
        f"{clicks[TURN:].mean():.2f} after; regret {(best - clicks).mean():.2f}"
    )

# %%
# Clicks over time
# ----------------
#
# The refit of every night uses all clicks so far, also those from before the turn, so it recovers
# slowly. With ``partial_fit``, each step replaces a part of the old tastes. Large steps are
# worse while tastes stay and better after they change. The blend is close to the better of the two
# in both halves.

_, ax = plt.subplots(figsize=(8, 4), layout="constrained")
for learn, (clicks, *_) in results.items():
    ax.plot(clicks, label=learn)
ax.plot(results["frozen"][1], color="gray", linestyle="--", label="best lists")
ax.axvline(TURN, color="gray", linewidth=0.8)
_ = ax.set(xlabel="day", ylabel="expected clicks per list", title="All tastes turn on day 15")
_ = ax.legend()

# %%
# A model that no user has seen
# -----------------------------
#
# Is another model better than the one in use? An A/B test shows it to users.
# :func:`~sklearn_recft.metrics.item_position_value` estimates its clicks from the log of the model
# in use. It needs the ``propensity`` of each shown item, which the simulator logs, and the
# probability that the item is examined in the lists of the other model. Here the frozen model is
# shown to 10,000 more visitors, and the other model is the blend. A model must not have learned the
# rows that evaluate it.

_, _, simulator, frozen = results["frozen"]
other = results["adaptive"][-1]
visits = simulator.visits(10_000, day=N_DAYS)
log = simulator.show(visits, frozen.recommend(visits, exclude_seen=False)[0])

items, _ = other.recommend(visits, exclude_seen=False)
estimate = item_position_value(
    log["clicked"], log["list_id"], log["propensity"], simulator.examined_in(items, log)
)
lower, upper = estimate.interval()
print(f"clicks per list in the log: {log['clicked'].sum() / len(visits):.2f}")
print(f"estimate of the other model: {estimate.value:.2f}, from {lower:.2f} to {upper:.2f}")
print(f"truth: {simulator.expected_clicks(visits, items).mean():.2f}")

# %%
# Only one list in ten is random, and few of these show the items of the other model. More
# exploration makes the interval narrower, and costs clicks.
