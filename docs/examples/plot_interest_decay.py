"""
How long interests last
=======================

:class:`~sklearn_recft.DecayBertRecommender` lets past events fade, by a half-life that each head
of its attention learns. Does it find the right one? Here the truth is known: in two synthetic
logs, a click depends on a lasting taste and on the interest of the moment, which halves every day
in the one and every five days in the other. There are no texts to read, so ``backbone=None``.
"""

import matplotlib.pyplot as plt
from sklearn.metrics import roc_auc_score

from sklearn_recft import DecayBertRecommender
from sklearn_recft.datasets import make_interactions
from sklearn_recft.inspection import InterestDecayDisplay

logs = {
    days: make_interactions(
        300,
        500,
        100_000,
        n_days=180,
        half_life=days,
        feedback="click",
        noise=1.0,
        random_state=0,
    )
    for days in (1, 5)
}

# %%
# With decay and without
# ----------------------
#
# The first nine tenths of the time line are learned; the last tenth is followed event by event,
# each predicted and then learned. Both heads begin at three days, in both logs, and go from there
# by gradient descent. ``truth`` is the AUC of the very probabilities that the clicks were drawn
# with: nothing can do much better.


def auc_and_model(log, decay):
    """AUC on the last tenth of a log, and the model that was followed through it."""
    learned = int(0.9 * len(log.target))
    model = DecayBertRecommender(
        backbone=None,
        decay=decay,
        n_heads=2,
        max_epochs=3,
        random_state=0,
    )
    model.fit(log.data[:learned], log.target[:learned])
    probability = model.partial_fit_predict(log.data[learned:], log.target[learned:])
    return roc_auc_score(log.target[learned:], probability), model


models = {}
for days, log in logs.items():
    fading, models[days] = auc_and_model(log, "exponential")
    never, _ = auc_and_model(log, "none")
    last = slice(int(0.9 * len(log.target)), None)
    truth = roc_auc_score(log.target[last], log.expected[last])
    print(
        f"half-life {days} d: AUC {fading:.3f} with decay, {never:.3f} without, {truth:.3f} truth;"
        f" learned {', '.join(f'{h:.1f}' for h in models[days].half_lives_)} days"
    )

# %%
# The picture
# -----------
#
# Each line is a head, and its marker the half-life that the head has learned. The dashed upright
# line is the planted one.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
for ax, (days, model) in zip(axes, models.items(), strict=True):
    display = InterestDecayDisplay.from_estimator(model, max_age=30, ax=ax)
    ax.axvline(days, color="0.25", linestyle="--", zorder=1)
    ax.annotate("planted", (days, 0.96), (4, 0), textcoords="offset points", color="0.25")
    ax.set_xlim(1 / 24, 30)
    ax.set_title(f"Interests that halve in {days} {'day' if days == 1 else 'days'}")
_ = axes[1].set_ylabel("")

# %%
# Decay pays most where interests are short. A head reads a user's last 50 events, here those of
# four weeks; where interests halve every day, all but the newest few are out of date.
