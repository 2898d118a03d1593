"""
How the last click changes the next list
========================================

:class:`~sklearn_recft.RealtimeTransformerRecommender` is told of a click by ``observe``, which
moves no weight. Does the next list know of it, and for how long? Here the truth is known. In a
synthetic log, a guest stays with the kind of the last order while a mood lasts, which halves every
six hours; otherwise the guest orders anything, the favourite kind most of all. How long the mood
lasts, and what the favourite is, the model has to find out.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from sklearn_recft import FineTuning, RealtimeTransformerRecommender

KINDS = ["tea", "coffee", "juice", "soup"]
N_GUESTS, N_ORDERS, N_OF_A_KIND = 600, 60, 10
HOUR, HALF_LIFE = 3600, 6  # seconds, hours

rng = np.random.default_rng(0)
shape = N_ORDERS, N_GUESTS
gap = 10 ** rng.uniform(-2, 2, shape)  # hours between orders: half a minute to four days
favourite = np.arange(N_GUESTS) % len(KINDS)
kind = np.where(rng.random(shape) < 0.6, favourite, rng.integers(len(KINDS), size=shape))
stays = rng.random(shape) < 0.5 ** (gap / HALF_LIFE)
for n in range(1, N_ORDERS):
    kind[n, stays[n]] = kind[n - 1, stays[n]]

guest = np.tile(np.arange(N_GUESTS), N_ORDERS)
item = N_OF_A_KIND * kind + rng.integers(N_OF_A_KIND, size=shape)
second = (HOUR * gap.cumsum(0)).astype(int)
X = np.column_stack([guest, item.ravel(), second.ravel()])

# The log is small and its law simple: larger steps than by default, and no dropout.
model = RealtimeTransformerRecommender(
    max_epochs=12, random_state=0, dropout=0.0, training=FineTuning(learning_rate=0.005)
)
model.fit(X)
print(f"{len(X)} orders, {model.net_.history[:, 'dur'][-1]:.1f} seconds an epoch")

# %%
# Four clicks
# -----------
#
# Fifty guests whose favourite is tea order two coffees, a juice and a tea, each half an hour
# after the one before. Scores are logits, so their softmax over the catalogue gives each item's
# chance to be next; a kind's share is that of its items together.


def shares(model, guests, second):
    """Mean share of each kind in what these guests are expected to order, (n_kinds,)."""
    queries = np.column_stack([guests, np.full(len(guests), second)])
    items, scores = model.recommend(queries, n_recommendations=model.n_items_, exclude_seen=False)
    chance = softmax(scores, axis=1)
    kinds = items.astype(int) // N_OF_A_KIND
    return np.array([(chance * (kinds == k)).sum(1).mean() for k in range(len(KINDS))])


tea_drinkers = np.flatnonzero(favourite == 0)[:50]
noon = int(second.max()) + 12 * HOUR
clicks = [(11, 0), (14, 1), (25, 2), (3, 3)]  # items, half-hours after noon

follower = copy.deepcopy(model)
after_click = [shares(follower, tea_drinkers, noon)]
for item_id, n in clicks:
    when = noon + n * HOUR // 2
    follower.observe([[one, item_id, when] for one in tea_drinkers])
    after_click.append(shares(follower, tea_drinkers, when + HOUR // 2))

# %%
# Hours that pass
# ---------------
#
# The same guests order one coffee and nothing more. The model is not told anything further: only
# the time of the query changes.

hours = np.geomspace(0.1, 96, 25)
follower = copy.deepcopy(model).observe([[one, 11, noon] for one in tea_drinkers])
later = np.array([shares(follower, tea_drinkers, noon + h * HOUR) for h in hours])
mood = 0.5 ** (hours / HALF_LIFE)[:, None]
truth = mood * (np.arange(4) == 1) + (1 - mood) * np.array([0.7, 0.1, 0.1, 0.1])
print(f"coffee, six hours on: {np.interp(6, hours, later[:, 1]):.2f}; drawn with: 0.55")

# %%
# The picture
# -----------
#
# Dashed lines are the shares that the log was drawn with.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
styles = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v")]
for k, (colour, marker) in enumerate(styles):
    left.plot(np.array(after_click)[:, k], color=colour, marker=marker, label=KINDS[k])
    right.plot(hours, later[:, k], color=colour, label=KINDS[k])
    right.plot(hours, truth[:, k], color=colour, linestyle="--", linewidth=1)
orders = [KINDS[item_id // N_OF_A_KIND] for item_id, _ in clicks]
left.set_xticks(range(len(orders) + 1), ["before", *orders])
left.set(xlabel="Last click, half an hour ago", ylabel="Share of the kind", ylim=(-0.02, 1.02))
left.set_title("Each click turns the list")
right.set(xscale="log", xlabel="Hours since a coffee")
right.set_xticks([0.1, 1, 6, 24, 96], ["0.1", "1", "6", "24", "96"])
right.minorticks_off()
right.set_title("Without a click, it drifts back")
for ax in (left, right):
    ax.grid(visible=True, alpha=0.3)
_ = right.legend(loc="center left")

# %%
# A coffee drives tea out at once, and the juice drives out the coffee. Nothing but time brings the
# favourite back. The lines on the right have steps, since the model is told the time that has
# passed in steps of half an octave.
