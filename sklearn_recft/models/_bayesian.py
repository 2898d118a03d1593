"""Bayesian matrix factorization: users and items have a mean and a covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.interactions import Events, Interactions
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._bayesian_fit import Log, VariationalEM
from sklearn_recft.models._bayesian_table import GaussianTable, Grouped
from sklearn_recft.models._progress import Epochs
from sklearn_recft.parallel import blas_threads
from sklearn_recft.ranking import TileScorer, cosine_tiles, dot_tiles

_ROUNDS = 2  # in which users and new items are solved for, one side after the other


@dataclass(frozen=True)
class BayesianMFSettings:
    """Settings of `BayesianMFModel`: as the parameters of the estimator."""

    n_factors: int = 12
    max_epochs: int = 30
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None


class BayesianMFModel(FittedModel):
    """Gaussian posteriors of users and items.

    Attributes
    ----------
    user_table, item_table : GaussianTable
        Posteriors of ``w_u = [c_u, p_u]`` and of ``[b_i, q_i]``, in units of ``scale``.
    user_side, item_side : part with ``matrix(codes)``, or None
        Features of users and of items; None is the constant 1.
    center, scale : float
        Mean and standard deviation of the feedback in `fit`.
    noise : float
        Variance of the noise in units of ``scale``; 0 before `fit`.
    """

    kind = "BayesianMFRecommender"
    settings: BayesianMFSettings

    def __init__(self, rows: Interactions, settings: BayesianMFSettings) -> None:
        super().__init__(rows, settings)
        self.user_table = GaussianTable(settings.n_factors, of_users=True)
        self.item_table = GaussianTable(settings.n_factors, of_users=False)
        self.user_side: Any = None
        self.item_side: Any = None
        self.center, self.scale, self.noise = 0.0, 1.0, 0.0

    def user_features(self, codes: np.ndarray) -> np.ndarray:
        """Return the features (n, n_features) of users; the first is the constant 1."""
        return _constant(codes) if self.user_side is None else self.user_side.matrix(codes)

    def item_features(self, codes: np.ndarray) -> np.ndarray:
        """Return the features (n, n_features) of items; the first is the constant 1."""
        return _constant(codes) if self.item_side is None else self.item_side.matrix(codes)

    # ------------------------------------------------------------------ learning

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events; add later ones to the posteriors."""
        if self.noise:
            self._update(events, undo, call)
        else:
            self._fit(events)
        return np.empty(0)

    def _fit(self, events: Events) -> None:
        """Fit the priors, the noise and all posteriors."""
        self.center = float(np.average(events.feedback, weights=events.weight))
        spread = np.average((events.feedback - self.center) ** 2, weights=events.weight)
        self.scale = float(np.sqrt(spread)) or 1.0
        log = Log(
            events.user,
            events.item,
            self._targets(events),
            events.weight.astype(np.float64),
            self.user_features(np.arange(self.n_users)),
            self.item_features(np.arange(self.n_items)),
        )
        settings = self.settings
        fit = VariationalEM(self.user_table, self.item_table, log, settings.n_threads)
        epochs = Epochs(settings.max_epochs, settings.verbose, lambda: fit.loss)
        with blas_threads(1):
            fit.run(epochs, np.random.default_rng(settings.seed))
        self.noise = fit.noise

    def _update(self, events: Events, undo: Transaction, call: Call) -> None:
        """Add events to the posteriors of users; then to those of items, as the call allows."""
        undo.keep(self.user_table, events.user)
        undo.keep(self.item_table, events.item)
        self._grow()
        targets, weights = self._targets(events), events.weight.astype(np.float64)
        new = self.item_table.sums[events.item, 0] == 0
        if not (call.weights and new.any()):
            new = np.zeros(len(events), bool)
        known = ~new
        if known.any():
            given = events.user[known], events.item[known], targets[known], weights[known]
            self._add_to_users(Grouped.by(*given))
        if new.any():
            self._learn_items(events.take(new), targets[new], weights[new])
        if call.weights and not call.adapt:
            self._add_to_items(events, targets, weights, np.unique(events.item[new]))
        self._solve_users(np.unique(events.user))

    def _grow(self) -> None:
        """Add rows for new users and items, at their priors."""
        for table, n, features in (
            (self.user_table, self.n_users, self.user_features),
            (self.item_table, self.n_items, self.item_features),
        ):
            rows = np.arange(len(table), n)
            if len(rows):
                table.grow(n)
                table.solve(rows, features(rows), self.noise, self.settings.n_threads)

    def _add_to_users(self, events: Grouped) -> None:
        self.user_table.add(events, self.item_table.moments, self.settings.n_threads)

    def _solve_users(self, rows: np.ndarray) -> None:
        features, n_threads = self.user_features(rows), self.settings.n_threads
        self.user_table.solve(rows, features, self.noise, n_threads)

    def _learn_items(self, events: Events, targets: np.ndarray, weights: np.ndarray) -> None:
        """Solve for items without events before, and for the users of these events, in turns."""
        by_user = Grouped.by(events.user, events.item, targets, weights)
        users, table = by_user.rows, self.user_table
        before = table.sums[users].copy()
        items = np.unique(events.item)
        for _ in range(_ROUNDS):
            self._add_to_users(by_user)
            self._add_to_items(events, targets, weights, items)
            table.sums[users] = before
        self._add_to_users(by_user)

    def _add_to_items(
        self, events: Events, targets: np.ndarray, weights: np.ndarray, anew: np.ndarray
    ) -> None:
        """Add events to the sums of their items, given the users; those of ``anew`` start at 0."""
        users, places = np.unique(events.user, return_inverse=True)
        by_item = Grouped.by(events.item, places, targets, weights)
        n_threads = self.settings.n_threads
        found = self.user_table.posteriors(
            users, self.user_features(users), self.noise, n_threads=n_threads
        )
        self.item_table.sums[anew] = 0.0
        self.item_table.add(by_item, found.moments, n_threads)
        rows = by_item.rows
        self.item_table.solve(rows, self.item_features(rows), self.noise, n_threads)

    def _targets(self, events: Events) -> np.ndarray:
        targets: np.ndarray = (events.feedback - self.center) / self.scale
        return targets

    def _is_finite(self, events: Events) -> bool:
        """Whether the posteriors of the users and items of the events are finite."""
        tables = (self.user_table, events.user), (self.item_table, events.item)
        return all(bool(np.isfinite(table.means[codes]).all()) for table, codes in tables)

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Return ``mu + b_i + c_u + p_u . q_i`` of rows."""
        user = self.user_table.means_of(events.user)
        item = self.item_table.means_of(events.item)
        dots = np.einsum("nk,nk->n", user[:, 1:], item[:, 1:])
        scores: np.ndarray = self.center + self.scale * (user[:, 0] + item[:, 0] + dots)
        return scores

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes ``mu + b_i + c_u + p_u . q_i``."""
        user = self.scale * self.user_table.means_of(users)
        item = self.item_table.means_of(columns)
        return dot_tiles(
            np.ascontiguousarray(user[:, 1:], np.float32),
            np.ascontiguousarray(item[:, 1:], np.float32),
            (self.scale * item[:, 0]).astype(np.float32),
            (self.center + user[:, 0]).astype(np.float32),
        )

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of the means of item vectors."""
        return cosine_tiles(self.item_table.means[:, 1:].astype(np.float32), items)

    def merge(self, other: FittedModel) -> None:
        """Raise: sums of two fits belong to different vectors."""
        raise ValueError(
            f"{self.kind} models cannot be merged: the sums of each user belong to the item "
            "vectors of one fit. Fit one model on all events."
        )


def _constant(codes: np.ndarray) -> np.ndarray:
    return np.ones((len(codes), 1))
