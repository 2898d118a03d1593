"""
How the last click changes the next list
========================================

``observe`` adds a click to the history of :class:`~sklearn_recft.RealtimeTransformerRecommender`
without changing a weight. This example shows how the click changes the next list, and for how
long. The truth is known: in a synthetic log, a guest stays with the kind of the last order while a
current interest lasts, with a half-life of six hours. Otherwise the guest orders any kind, most
often the favorite. The model learns the half-life and the favorites from the log.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from sklearn_recft import FineTuning, RealtimeTransformerRecommender

KINDS = ["tea", "coffee", "juice", "soup"]
N_GUESTS, N_ORDERS, N_OF_A_KIND = 300, 60, 10
HOUR, HALF_LIFE = 3600, 6  # seconds, hours

rng = np.random.default_rng(0)
shape = N_ORDERS, N_GUESTS
gap = 10 ** rng.uniform(-2, 2, shape)  # hours between orders: half a minute to four days
favorite = np.arange(N_GUESTS) % len(KINDS)
kind = np.where(rng.random(shape) < 0.6, favorite, rng.integers(len(KINDS), size=shape))
stays = rng.random(shape) < 0.5 ** (gap / HALF_LIFE)
for n in range(1, N_ORDERS):
    kind[n, stays[n]] = kind[n - 1, stays[n]]

guest = np.tile(np.arange(N_GUESTS), N_ORDERS)
item = N_OF_A_KIND * kind + rng.integers(N_OF_A_KIND, size=shape)
second = (HOUR * gap.cumsum(0)).astype(int)
X = np.column_stack([guest, item.ravel(), second.ravel()])

# The log is small and simple: a larger learning rate than the default, and no dropout.
model = RealtimeTransformerRecommender(
    max_epochs=12, random_state=0, dropout=0.0, training=FineTuning(learning_rate=0.005)
)
model.fit(X)
print(f"{len(X)} orders, {model.net_.history[:, 'dur'][-1]:.1f} seconds an epoch")

# %%
# Four clicks
# -----------
#
# Fifty guests whose favorite is tea order two coffees, a juice and a tea, half an hour apart.
# Scores are logits, so their softmax over the catalogue is the probability of each item to be
# next. The share of a kind is the sum over its items.


def shares(model, guests, second):
    """Return the mean probability of each kind for these guests, shape (n_kinds,)."""
    queries = np.column_stack([guests, np.full(len(guests), second)])
    items, scores = model.recommend(queries, n_recommendations=model.n_items_, exclude_seen=False)
    chance = softmax(scores, axis=1)
    kinds = items.astype(int) // N_OF_A_KIND
    return np.array([(chance * (kinds == k)).sum(1).mean() for k in range(len(KINDS))])


tea_drinkers = np.flatnonzero(favorite == 0)[:50]
noon = int(second.max()) + 12 * HOUR
clicks = [(11, 0), (14, 1), (25, 2), (3, 3)]  # items, half-hours after noon

observer = copy.deepcopy(model)
after_click = [shares(observer, tea_drinkers, noon)]
for item_id, n in clicks:
    when = noon + n * HOUR // 2
    observer.observe([[one, item_id, when] for one in tea_drinkers])
    after_click.append(shares(observer, tea_drinkers, when + HOUR // 2))

# %%
# Time after a click
# ------------------
#
# The same guests order one coffee and nothing more. Only the time of the query changes.

hours = np.geomspace(0.1, 96, 25)
observer = copy.deepcopy(model).observe([[one, 11, noon] for one in tea_drinkers])
later = np.array([shares(observer, tea_drinkers, noon + h * HOUR) for h in hours])
interest = 0.5 ** (hours / HALF_LIFE)[:, None]
truth = interest * (np.arange(4) == 1) + (1 - interest) * np.array([0.7, 0.1, 0.1, 0.1])
print(f"coffee after six hours: {np.interp(6, hours, later[:, 1]):.2f}; true share: 0.55")

# %%
# Shares by click and by time
# ---------------------------
#
# Dashed lines are the true shares of the synthetic log.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
styles = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v")]
for k, (colour, marker) in enumerate(styles):
    left.plot(np.array(after_click)[:, k], color=colour, marker=marker, label=KINDS[k])
    right.plot(hours, later[:, k], color=colour, label=KINDS[k])
    right.plot(hours, truth[:, k], color=colour, linestyle="--", linewidth=1)
orders = [KINDS[item_id // N_OF_A_KIND] for item_id, _ in clicks]
left.set_xticks(range(len(orders) + 1), ["before", *orders])
left.set(xlabel="Last click, half an hour ago", ylabel="Share of the kind", ylim=(-0.02, 1.02))
left.set_title("Each click changes the list")
right.set(xscale="log", xlabel="Hours since a coffee")
right.set_xticks([0.1, 1, 6, 24, 96], ["0.1", "1", "6", "24", "96"])
right.minorticks_off()
right.set_title("Without a click, time changes it back")
for ax in (left, right):
    ax.grid(visible=True, alpha=0.3)
_ = right.legend(loc="center left")

# %%
# A coffee replaces tea at once, and the juice replaces the coffee. Time alone brings the favorite
# back. The lines on the right have steps, because the model encodes the time since the last event
# in steps of half an octave.
