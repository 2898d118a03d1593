"""What the regressor and the classifier by matrix factorization share."""

from __future__ import annotations

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft.base import RecommenderMixin, unboxed
from sklearn_recft.estimators._verbs import ExplainMixin, SimilarItemsMixin
from sklearn_recft.events import Interactions
from sklearn_recft.models import (
    ADAM_DEFAULTS,
    ADAM_OPTIONS,
    AdamFactorizationModel,
    AdamFactorizationSettings,
    FactorizationSettings,
    FittedModel,
    FollowingFactorizationModel,
    SGDFactorizationModel,
    SoftmaxFactorizationModel,
    SoftmaxFactorizationSettings,
)
from sklearn_recft.modules import IdTables
from sklearn_recft.training import FineTuning, resolve_training

_USERS, _ITEMS = 0, 1


class FactorizationMixin(ExplainMixin, SimilarItemsMixin, RecommenderMixin):
    """Mixin of estimators around a factorization: settings, fitted attributes, model."""

    n_factors: int
    solver: str
    learning_rate: float | None
    reg: float | None
    max_epochs: int | None
    half_life: float | None
    replay_size: int
    drift: str | None
    training: FineTuning | None
    verbose: int
    net_params: dict[str, Any] | None

    _FIXED: ClassVar[tuple[str, ...]] = (
        "n_factors",
        "solver",
        "half_life",
        "replay_size",
        "drift",
    )
    _parameter_constraints: ClassVar[dict] = {
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions({"sgd", "adam"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "reg": [Interval(Real, 0, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "replay_size": [Interval(Integral, 0, None, closed="left")],
        "drift": [StrOptions({"follow"}), None],
        "training": [FineTuning, None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "net_params": [dict, None],
    }

    @property
    def module_(self) -> IdTables:
        """The model: its tables, with one row per id."""
        return self._fitted("module_").module

    @property
    def net_(self) -> Any:
        """The skorch net around ``module_``, with ``solver="adam"`` only."""
        model = self._fitted("net_")
        if not isinstance(model, AdamFactorizationModel):
            raise AttributeError("net_: solver='sgd' trains no net.")
        return model.net.net

    @property
    def user_factors_(self) -> np.ndarray:
        """Factors of users, shape (n_users_, n_factors), float32, read-only."""
        return self._table("user_factors_", _USERS)[0]

    @property
    def item_factors_(self) -> np.ndarray:
        """Factors of items, shape (n_items_, n_factors), float32, read-only."""
        return self._table("item_factors_", _ITEMS)[0]

    @property
    def user_biases_(self) -> np.ndarray:
        """Biases of users, shape (n_users_,), float32, read-only."""
        return self._table("user_biases_", _USERS)[1]

    @property
    def item_biases_(self) -> np.ndarray:
        """Biases of items, shape (n_items_,), float32, read-only."""
        return self._table("item_biases_", _ITEMS)[1]

    @property
    def intercept_(self) -> float:
        """Term of the score that all pairs of user and item share."""
        model = self._fitted("intercept_")
        with model.reading():
            return model.intercept

    @property
    def drift_(self) -> Bunch:
        """State of the mixture, with ``drift="follow"`` only: see the notes of the class."""
        model = self._fitted("drift_")
        if not isinstance(model, FollowingFactorizationModel):
            raise AttributeError("drift_: set drift='follow' before fit.")
        with model.reading():
            mixture = model.mixture
            return Bunch(
                fast_weight=mixture.fast_weight, n_blocks=mixture.n_blocks, losses=mixture.latest()
            )

    # ------------------------------------------------------------------ private

    def _table(self, name: str, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return read-only copies of the factors and biases of users (0) or items (1)."""
        model = self._fitted(name)
        with model.reading():
            factors, biases = model.factors(side)
        for values in (factors, biases):
            values.setflags(write=False)
        return factors, biases

    def _solver_settings(self, **by_loss: Any) -> FactorizationSettings:
        """Return the settings of the solver; ``by_loss`` are those that depend on the loss."""
        common: dict[str, Any] = {
            "n_factors": self.n_factors,
            "learning_rate": self.learning_rate,
            "reg": self.reg,
            "max_epochs": self.max_epochs,
            "half_life": self.half_life,
            "replay_size": self.replay_size,
            "drift": self.drift,
            "n_threads": self._n_threads(),
            "verbose": self.verbose,
            **by_loss,
        }
        if self.solver == "sgd":
            for name in ("training", "net_params"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: only solver='adam' reads it; solver is 'sgd'.")
            return FactorizationSettings(**common)
        if self.drift is not None:
            raise ValueError("drift='follow' needs solver='sgd'; solver is 'adam'.")
        policy = resolve_training(
            self.training,
            self.net_params,
            defaults=ADAM_DEFAULTS,
            supported=ADAM_OPTIONS,
            parameters=self._get_param_names,  # type: ignore[attr-defined]
        )
        net_params = unboxed(dict(self.net_params or {}))
        return AdamFactorizationSettings(**common, policy=policy, net_params=net_params)

    def _make_model(self, rows: Interactions) -> FittedModel:
        settings = unboxed(replace(self._settings(), seed=self._seed()))
        if isinstance(settings, AdamFactorizationSettings):
            return AdamFactorizationModel(rows, settings)
        if isinstance(settings, SoftmaxFactorizationSettings):
            return SoftmaxFactorizationModel(rows, settings)
        if settings.drift is not None:
            return FollowingFactorizationModel(rows, settings)
        return SGDFactorizationModel(rows, settings)

    def _fixed_names(self) -> tuple[str, ...]:
        if self.solver == "sgd":
            return self._FIXED
        return (*self._FIXED, "learning_rate", "reg", "training", "net_params")
