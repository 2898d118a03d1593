"""
How long interests last
=======================

Each attention head of :class:`~sklearn_recft.DecayBertRecommender` learns the half-life with which
past events lose weight. This example checks whether it finds a half-life that is known. In two
synthetic logs, a click depends on a lasting taste and on a current interest. This interest halves
every day in one log and every five days in the other. There are no texts, so ``backbone=None``.
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
# The earliest nine tenths of the events are fitted. In the last tenth, each event is predicted and
# then learned. In both logs the model has one attention head, which starts at a half-life of 2.4
# days. Gradient descent then learns the half-life. ``truth`` is the AUC of the probabilities from
# which the clicks were drawn: no model can be much better.


def auc_and_model(log, decay):
    """Return the AUC on the last tenth of a log, and the model."""
    n_train = int(0.9 * len(log.target))
    model = DecayBertRecommender(
        backbone=None,
        decay=decay,
        n_heads=1,
        max_epochs=3,
        random_state=0,
    )
    model.fit(log.data[:n_train], log.target[:n_train])
    probability = model.partial_fit_predict_proba(log.data[n_train:], log.target[n_train:])
    return roc_auc_score(log.target[n_train:], probability), model


models = {}
for days, log in logs.items():
    with_decay, models[days] = auc_and_model(log, "exponential")
    without, _ = auc_and_model(log, "none")
    last = slice(int(0.9 * len(log.target)), None)
    truth = roc_auc_score(log.target[last], log.expected[last])
    print(
        f"half-life {days} d: AUC {with_decay:.3f} with decay, {without:.3f} without, "
        f"{truth:.3f} truth; learned {', '.join(f'{h:.1f}' for h in models[days].half_lives_)} days"
    )

# %%
# Learned and true half-lives
# ---------------------------
#
# Each line is a head, and its marker is the learned half-life. The dashed vertical line is the
# true one.

figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
for ax, (days, model) in zip(axes, models.items(), strict=True):
    display = InterestDecayDisplay.from_estimator(model, max_age=30, ax=ax)
    ax.axvline(days, color="0.25", linestyle="--", zorder=1)
    ax.annotate("true", (days, 0.96), (4, 0), textcoords="offset points", color="0.25")
    ax.set_xlim(1 / 24, 30)
    ax.set_title(f"Interests that halve in {days} {'day' if days == 1 else 'days'}")
_ = axes[1].set_ylabel("")

# %%
# Time decay helps most where interests are short. A head reads a user's last 50 events, here those
# of four weeks. If interests halve every day, only the newest few of them still matter.
