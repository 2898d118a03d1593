"""The net as a solver: Adam through skorch, on any device."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.estimators import _sgd
from sklearn_recft.interactions import Interactions
from sklearn_recft.parallel import n_threads

Rows = dict[str, np.ndarray]

LEARNING_RATE = {"squared_error": 0.005, "log_loss": 0.005, "bpr": 0.005}
REG = {"squared_error": 0.1, "log_loss": 0.02, "bpr": 0.03}
DEFAULTS = training.PLAIN
# The options of `FineTuning` that this estimator has.
OPTIONS = (
    "weight_decay", "warmup", "schedule", "clip", "accumulate", "bf16", "patience",
    "validation_fraction", "update_rate", "update_epochs",
)  # fmt: skip


def begin(model: Any) -> None:
    """Wrap the module in a net."""
    policy = replace(model._policy, learning_rate=model._learning_rate)
    model.net_ = training.make_net(
        vars(model).pop("_module"), training.PenalisedLoss(model.loss, model._reg), policy,
        max_epochs=model.max_epochs, verbose=model.verbose, net_params=model.net_params,
    )  # fmt: skip


def fit(model: Any, events: Interactions, rows: Rows) -> None:
    """Start every table and train on rows in the order of time."""
    arrays = model.module_.arrays()
    _, mean, _, _, _ = model._moments
    _sgd.start_all(arrays, rows, model.loss, mean, model._scale, model._rng)
    model.module_.load(arrays)
    model.net_.criterion_.reg = model._reg * model._scale
    if events.timestamps is not None:
        order = np.argsort(events.timestamps, kind="stable")
        rows = {name: column[order] for name, column in rows.items()}
    _train(model, rows)


def update(
    model: Any, undo: ExitStack, events: Interactions, rows: Rows, old: Rows,
    known: tuple[int, int], *, one_by_one: bool,
) -> np.ndarray:  # fmt: skip
    """Grow and train a few epochs on new and rehearsed rows; return predictions (n,)."""
    module, moments = model.module_, model._moments
    # Adam moves every row at every step, so all of it is kept to go back to.
    undo.callback(training.checkpoint(model.net_))
    undo.callback(module.checkpoint(*(np.arange(n) for n in known)))
    users, items = (
        np.where(rows[side] < n, rows[side], -1)
        for side, n in zip(("user", "item"), known, strict=True)
    )
    predicted = model._link(module.score(users, items, events.context))
    module.grow(model.n_users_, model.n_items_)
    arrays = module.arrays()
    _sgd.start_items(arrays, known[1], model._noise_rng)
    if model.loss != "bpr":
        _sgd.fold_in(arrays, rows, *known, module.NEWEST, loss=model.loss, scale=model._scale)
    module.load(arrays)
    moments[0] += rows["weight"].sum()
    moments[3] = min(moments[3], rows["target"].min())
    moments[4] = max(moments[4], rows["target"].max())
    both = {name: np.concatenate([old[name], rows[name]]) for name in rows} if old else rows
    _train(model, both, update=True)
    return predicted


def _train(model: Any, rows: Rows, *, update: bool = False) -> None:
    counted = rows["weight"] > 0
    if not counted.any():
        return
    rows = {name: column[counted] for name, column in rows.items()}
    trainer = training.Trainer(
        model._policy.update_epochs if update else model.max_epochs,
        int(model._rng.integers(np.iinfo(np.int32).max)), n_threads=n_threads(model.n_jobs),
        n_negatives=model.n_items_ if model.loss == "bpr" else 0, update=update,
    )  # fmt: skip
    columns = {name: rows[name] for name in ("user", "item", "context")}
    trainer.fit(model.net_, columns, np.column_stack([rows["target"], rows["weight"]]))
