"""Matrix factorization trained by a skorch net, on any device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models import _factorization_ridge as ridge
from sklearn_recft.models import _factorization_sgd as sgd
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._factorization import EPOCHS, FactorizationModel
from sklearn_recft.models._factorization_base import FactorizationSettings
from sklearn_recft.models._factorization_sgd import Rows
from sklearn_recft.models._net import Net
from sklearn_recft.modules import MatrixFactorization

ADAM_DEFAULTS = training.PLAIN
# The options of `FineTuning` that the net has.
ADAM_OPTIONS = (
    "weight_decay",
    "warmup",
    "schedule",
    "clip",
    "accumulate",
    "bf16",
    "patience",
    "validation_fraction",
    "update_rate",
    "update_epochs",
)


@dataclass(frozen=True)
class AdamFactorizationSettings(FactorizationSettings):
    """Settings of a factorization, and how its net is trained."""

    policy: training.Policy = ADAM_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)


class AdamFactorizationModel(FactorizationModel):
    """A factorization trained by Adam.

    Attributes
    ----------
    net : Net
    penalty : float
        L2 penalty in units of the targets of the fit.
    """

    kind = "IncrementalMFRecommender (adam)"
    settings: AdamFactorizationSettings
    LEARNING_RATE = dict.fromkeys(("squared_error", "log_loss", "bpr"), 0.005)
    REG = {"squared_error": 0.1, "log_loss": 0.02, "bpr": 0.03}

    def __init__(self, rows: Interactions, settings: AdamFactorizationSettings) -> None:
        super().__init__(rows, settings)
        net = training.make_net(
            MatrixFactorization(settings.n_factors, len(rows.context_names)),
            training.PenalisedLoss(settings.loss, self.reg),
            replace(settings.policy, learning_rate=self.learning_rate),
            max_epochs=settings.max_epochs or EPOCHS,
            verbose=settings.verbose,
            net_params=settings.net_params,
        )
        self.net = Net(net)
        self.penalty = self.reg

    @property
    def module(self) -> MatrixFactorization:
        """The tables."""
        return self.net.module

    def _one_at_a_time(self, call: Call) -> bool:
        return call.predict  # Adam changes every row in every step

    def _keep_all(self, undo: Transaction) -> None:
        undo.keep(self.net)
        super()._keep_all(undo)

    def _train(self, events: Events, rows: Rows) -> None:
        """Train on rows in time order."""
        arrays, settings = self.module.arrays(), self.settings
        rng = self.rng.generator
        sgd.start_all(arrays, rows, settings.loss, self.moments[1], self.scale, rng)
        self.module.load(arrays)
        self.penalty = self.reg * self.scale
        if self.timed:
            rows = rows.take(np.argsort(events.time, kind="stable"))
        self._run(rows, settings.max_epochs or EPOCHS)

    def _update(
        self, events: Events, rows: Rows, old: Rows | None, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Train for a few epochs on new and rehearsed rows."""
        settings, module = self.settings, self.module
        known = len(module.user_bias), len(module.item_bias)
        if not self._one_at_a_time(call):
            self._keep_all(undo)
        users, items = (
            np.where(codes < n, codes, -1)
            for codes, n in zip((rows.user, rows.item), known, strict=True)
        )
        predicted = self.inverse_link(module.score(users, items, events.context))
        module.grow(self.n_users, self.n_items)
        arrays = module.arrays()
        sgd.start_items(arrays, known[1], self.noise_rng.generator)
        if settings.loss != "bpr":
            loss, scale = settings.loss, self.scale
            ridge.fold_in(arrays, rows, *known, module.NEWEST, loss=loss, scale=scale)
        module.load(arrays)
        self.moments[0] += rows.weight.sum()
        self.moments[3] = min(self.moments[3], rows.target.min())
        self.moments[4] = max(self.moments[4], rows.target.max())
        self._run(rows if old is None else old.joined(rows), settings.policy.update_epochs, True)
        return predicted

    def _run(self, rows: Rows, epochs: int, update: bool = False) -> None:
        """Train on the rows with positive weight."""
        counted = rows.weight > 0
        if not counted.any():
            return
        rows, settings = rows.take(counted), self.settings
        self.net.net.criterion_.reg = self.penalty
        trainer = training.Trainer(
            epochs,
            self.rng.seed(),
            n_threads=settings.n_threads,
            n_negatives=self.n_items if settings.loss == "bpr" else 0,
            update=update,
        )
        columns = {"user": rows.user, "item": rows.item, "context": rows.context}
        trainer.fit(self.net.net, columns, np.column_stack([rows.target, rows.weight]))
