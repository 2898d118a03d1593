"""Logs and models for the tests of the sequence model."""

import numpy as np
import pandas as pd
import torch

from sklearn_recft import FineTuning, RealtimeTransformerRecommender

START, N_USERS, N_ITEMS, DAY = 1.6e9, 12, 10, 86_400
LATER = START + 10_000


def make_log(n_steps=8, n_users=N_USERS, seed=0, begin=START):
    """Make walks around a ring of items, with one step per minute and distinct times."""
    rng = np.random.default_rng(seed)
    item = (rng.integers(N_ITEMS, size=n_users) + np.cumsum(
        rng.random((n_steps, n_users)) < 0.8, axis=0)) % N_ITEMS  # fmt: skip
    return pd.DataFrame({
        "user_id": np.tile(np.arange(n_users), n_steps), "item_id": item.ravel(),
        "timestamp": begin + 60.0 * np.arange(item.size),
    })  # fmt: skip


def make_model(max_epochs=1, max_history=5, width=8, random_state=0, **given):
    """Make a model from its parameters, options of `FineTuning` and names of skorch."""
    names = RealtimeTransformerRecommender._get_param_names()
    own = {name: given.pop(name) for name in names if name in given}
    how = {name: given.pop(name) for name in FineTuning._get_param_names() if name in given}
    return RealtimeTransformerRecommender(
        max_epochs=max_epochs, max_history=max_history, random_state=random_state, width=width,
        training=FineTuning(**how), net_params=given, **own,
    )  # fmt: skip


def parameters(model):
    return {name: p.detach().clone() for name, p in model.module_.named_parameters()}


def moved(model, before):
    return {name for name, p in parameters(model).items() if not torch.equal(p, before[name])}
