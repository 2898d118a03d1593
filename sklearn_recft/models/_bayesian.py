"""Bayesian matrix factorization: users and items have a mean and a covariance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from sklearn_recft.events import Events, Interactions
from sklearn_recft.features import FeatureColumn
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._bayesian_features import BayesianFeaturesModel
from sklearn_recft.models._bayesian_fit import Log, VariationalEM
from sklearn_recft.models._bayesian_labels import LogisticEM, first_slopes, mean_log_odds
from sklearn_recft.models._bayesian_table import GaussianTable, Grouped, triangle
from sklearn_recft.models._bayesian_uncertainty import (
    Gaussians,
    bonus_tiles,
    moderated_tiles,
    most_telling,
    probabilities,
    score_tiles,
    variances,
)
from sklearn_recft.models._progress import Epochs
from sklearn_recft.names import ITEM, USER
from sklearn_recft.parallel import blas_threads
from sklearn_recft.ranking import TileScorer, cosine_tiles

NO_FEATURES: Mapping[str, FeatureColumn] = {}
_ROUNDING = 1e-14  # relative errors that the mean of equal numbers may have
_ROWS_AT_ONCE = 16_384  # of labels that are predicted: bounds memory
_ROUNDS = 2  # in which users and new items are solved for, one side after the other


@dataclass(frozen=True)
class BayesianMFSettings:
    """Settings of `BayesianMFModel`: as the parameters of the estimator."""

    n_factors: int = 12
    max_epochs: int = 30
    loss: str = "squared_error"
    negatives: float = 10.0
    backbone: str | None = None
    text_components: int = 32
    half_life: float | None = None
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None


class BayesianMFModel(BayesianFeaturesModel):
    """Gaussian posteriors of users and items.

    Attributes
    ----------
    user_table, item_table : GaussianTable
        Posteriors of ``w_u = [c_u, p_u]`` and of ``[b_i, q_i]``, in units of ``scale``.
    user_side, item_side : SideFeatures
        Features of users and of items.
    center, scale : float
        Mean and standard deviation of the feedback in `fit`; 0 and 1 with ``loss="implicit"``.
        With ``loss="log_loss"``, the log-odds of a positive label, and 1.
    noise : float
        Variance of the noise in units of ``scale``; 0 before `fit`. With ``loss="log_loss"``, 1:
        the weights of labels include their variance.
    mean_moments : ndarray of shape (K,), float64
        With ``loss="implicit"``, mean of the moments of the items with events in `fit`, as they
        were after it: what the zeros of an event add to its user.
    """

    kind = "BayesianMFRecommender"
    _HAS_RATE = False
    settings: BayesianMFSettings
    # Of a view by `exploring`: returns a `TileScorer` for users and columns.
    exploration: Callable[[np.ndarray, np.ndarray, Interactions], TileScorer] | None = None

    def __init__(self, rows: Interactions, settings: BayesianMFSettings) -> None:
        super().__init__(rows, settings)
        self.center, self.scale, self.noise = 0.0, 1.0, 0.0
        self.mean_moments = np.empty(0)

    @property
    def negatives(self) -> float:
        """Weight of the zeros of each event; 0 for feedback."""
        return self.settings.negatives if self.settings.loss == "implicit" else 0.0

    @property
    def of_labels(self) -> bool:
        """Whether feedback is labels of 0 and 1, and scores are log-odds."""
        return self.settings.loss == "log_loss"

    # ------------------------------------------------------------------ learning

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events; add later ones to the posteriors."""
        if self.noise:
            self._update(events, undo, call)
        else:
            self._fit(self._prepared(events))
        return np.empty(0)

    def _prepared(self, events: Events) -> Events:
        """Return the events to learn, with decayed weights, and add rows for new users."""
        self.user_table.grow(self.n_users)
        if self.negatives:
            events = events.take(np.flatnonzero(events.feedback > 0))
        return self._decayed(events)

    def _fit(self, events: Events) -> None:
        """Fit the priors, the noise and all posteriors."""
        if self.of_labels:
            self.center = mean_log_odds(events.feedback, events.weight)
        elif not self.negatives:
            self.center = float(np.average(events.feedback, weights=events.weight))
            self.scale = _spread(events.feedback - self.center, events)
        elif not len(events):
            raise ValueError("y: no row is positive, and loss='implicit' learns positives only.")
        log = Log(
            events.user,
            events.item,
            events.feedback if self.of_labels else self._targets(events),
            events.weight.astype(np.float64),
            self.user_features(np.arange(self.n_users)),
            self.item_features(np.arange(self.n_items)),
            self.negatives,
        )
        settings = self.settings
        given = self.user_table, self.item_table, log, settings.n_threads
        fit = LogisticEM(*given, self.center) if self.of_labels else VariationalEM(*given)
        epochs = Epochs(settings.max_epochs, settings.verbose, lambda: fit.loss)
        with blas_threads(1):
            fit.run(epochs, np.random.default_rng(settings.seed))
        self.noise = fit.noise
        if self.negatives:
            table = self.item_table
            self.mean_moments = table.moments[~table.is_late].mean(axis=0)
        nobody = np.array([-1])
        for table, features in (
            (self.user_table, self.user_features),
            (self.item_table, self.item_features),
        ):
            table.unknown = (features(nobody) @ table.late_prior.weights)[0]

    def _update(self, rows: Events, undo: Transaction, call: Call) -> None:
        """Add events to the posteriors of users; then to those of items, as the call allows."""
        moves_items = call.weights and not call.adapt
        undo.keep(self.user_table, rows.user)
        self._keep_items(rows, undo, call)
        first_new = len(self.user_table)
        events = self._prepared(rows)
        new = self._has_no_events(events.item) if call.weights else np.full(len(events), False)
        self._grow()
        if self.of_labels:
            events = self._linearized(events)
        if not new.all():
            self._add_to_users(self._by_user(events.take(~new)))
        anew = np.unique(events.item[new])
        if len(anew):
            self._learn_items(events, new)
        if moves_items and len(events):
            self._add_to_items(events, anew)
        # New users may have a profile, and no events.
        self._solve_users(np.union1d(rows.user, np.arange(first_new, self.n_users)))

    def _linearized(self, events: Events) -> Events:
        """Return events with targets and weights in place of labels, as in `LogisticEM`.

        The slope is that for a user without events. It depends on the item alone, so sums do not
        depend on the order of events, nor on the calls that they came in. One step has to do, so
        the curvature is the geometric mean of the expected one and that of the bound: a step of
        the former alone may be too long.
        """
        means, probability, curves = self._slopes(events.item)
        targets = means + (events.feedback - probability) / curves
        return replace(events, feedback=targets, weight=events.weight * curves)

    def _slopes(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return first_slopes(self.user_table, self.item_table, items, self.center)

    def _keep_items(self, rows: Events, undo: Transaction, call: Call) -> None:
        """Keep the items that a call may change: with zeros, `partial_fit` changes all."""
        codes = rows.item
        if call.adapt or not call.weights:
            codes = codes[self._has_no_events(codes)] if call.weights else codes[:0]
        elif self.negatives:
            codes = np.arange(self.n_items)
        undo.keep(self.item_table, codes)

    def _grow(self) -> None:
        """Add rows for new users and items, these at their prior; users are solved for later."""
        self.user_table.grow(self.n_users)
        rows = np.arange(len(self.item_table), self.n_items)
        if len(rows):
            self.item_table.grow(self.n_items)
            features = self.item_features(rows)
            self.item_table.solve(rows, features, self.noise, self.settings.n_threads)

    def _has_no_events(self, items: np.ndarray) -> np.ndarray:
        """Return whether each of the items (codes) has learned from no event yet, (n,) bool."""
        found = items >= len(self.item_table)
        found[~found] = self.item_table.sums[items[~found], 0] == 0
        return found

    def _decayed(self, events: Events) -> Events:
        """Decay the sums of users, and the weights of their events, to the same time."""
        half_life = self.settings.half_life
        if half_life is None:
            return events
        shares = self.user_table.decay(events.user, events.time, half_life)
        return replace(events, weight=events.weight * shares)

    def _by_user(self, events: Events) -> Grouped:
        weights = events.weight.astype(np.float64)
        return Grouped.by(events.user, events.item, self._targets(events), weights)

    def _add_to_users(self, events: Grouped) -> None:
        table = self.user_table
        table.add(events, self.item_table.moments, self.settings.n_threads)
        if self.negatives:
            table.add_zeros(events.rows, self.negatives * events.totals, self.mean_moments)

    def _solve_users(self, rows: np.ndarray) -> None:
        features, n_threads = self.user_features(rows), self.settings.n_threads
        self.user_table.solve(rows, features, self.noise, n_threads)

    def _learn_items(self, events: Events, new: np.ndarray) -> None:
        """Solve for items without events before, and for the users of these events, in turns."""
        of_new = events.take(new)
        by_user = self._by_user(of_new)
        users, table = by_user.rows, self.user_table
        before = table.sums[users].copy()
        items = np.unique(of_new.item)
        for _ in range(_ROUNDS):
            self._add_to_users(by_user)
            self._add_to_items(events if self.negatives else of_new, items, only=True)
            table.sums[users] = before
        self._add_to_users(by_user)

    def _add_to_items(self, events: Events, anew: np.ndarray, only: bool = False) -> None:
        """Add events to the sums of their items, given the users; those of ``anew`` start at 0.

        With ``only``, no other items are updated. Zeros belong to all items that have events.
        """
        users, places = np.unique(events.user, return_inverse=True)
        weights, n_threads = events.weight.astype(np.float64), self.settings.n_threads
        found = self.user_table.posteriors(
            users, self.user_features(users), self.noise, n_threads=n_threads
        )
        own = np.isin(events.item, anew) if only else np.full(len(events), True)
        targets = self._targets(events)
        by_item = Grouped.by(events.item[own], places[own], targets[own], weights[own])
        table, rows = self.item_table, by_item.rows
        table.sums[anew] = 0.0
        table.add(by_item, found.moments, n_threads)
        if self.negatives:
            rows = rows if only else np.flatnonzero(table.sums[:, 0])
            zeros = self.negatives / (~table.is_late).sum()
            total = np.einsum("u,uk->k", np.bincount(places, weights), found.moments)
            table.add_zeros(rows, np.full(len(rows), zeros), total)
        table.solve(rows, self.item_features(rows), self.noise, n_threads)

    def _targets(self, events: Events) -> np.ndarray:
        if self.negatives:
            return np.ones(len(events))
        targets: np.ndarray = (events.feedback - self.center) / self.scale
        return targets

    def _is_finite(self, events: Events) -> bool:
        """Whether the posteriors of the users and items of the events are finite."""
        tables = (self.user_table, events.user), (self.item_table, events.item)
        return all(bool(np.isfinite(table.means[codes]).all()) for table, codes in tables)

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Return ``mu + b_i + c_u + p_u . q_i`` of rows; of labels, the expected probability."""
        if self.of_labels:
            every = np.arange(len(events))
            blocks = np.split(every, every[_ROWS_AT_ONCE::_ROWS_AT_ONCE])
            return np.concatenate([self._probability(events.take(block)) for block in blocks])
        user, item = self.user_table.means_of(events.user), self.item_table.means_of(events.item)
        user = self.set_priors(user, USER, events.user, events.features)
        item = self.set_priors(item, ITEM, events.item, events.features)
        dots = np.einsum("nk,nk->n", user[:, 1:], item[:, 1:])
        scores: np.ndarray = self.center + self.scale * (user[:, 0] + item[:, 0] + dots)
        return scores

    def _probability(self, events: Events) -> np.ndarray:
        users = self.of_users(events.user, events.features)
        return probabilities(users, self.of_items(events.item, events.features), self.center)

    def inverse_link(self, scores: np.ndarray) -> np.ndarray:
        """Map log-odds of labels to probabilities."""
        return expit(scores) if self.of_labels else scores

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes ``mu + b_i + c_u + p_u . q_i``, or `moderated` log-odds."""
        if self.exploration is not None:
            return self.exploration(users, columns, queries)
        if self.of_labels:
            asked = self.of_users(users, queries.features)
            return moderated_tiles(asked, self.of_items(columns), self.center)
        user = self.user_table.means_of(users)
        user = self.set_priors(user, USER, users, queries.features)
        return score_tiles(user, self.item_table.means_of(columns), self.center, self.scale)

    def deviation(self, events: Events) -> np.ndarray:
        """Return the standard deviation of the feedback of rows, (n,).

        It includes the noise. With ``loss="implicit"``, it is that of the score, without noise;
        of labels, that of the log-odds.
        """
        features = events.features
        users, items = self.of_users(events.user, features), self.of_items(events.item, features)
        noise = 0.0 if self.negatives or self.of_labels else self.noise
        deviations: np.ndarray = self.scale * np.sqrt(variances(users, items) + noise)
        return deviations

    def of_users(
        self, codes: np.ndarray, features: Mapping[str, FeatureColumn] = NO_FEATURES
    ) -> Gaussians:
        """Return the posteriors of users, and the prior for -1."""
        known, places = np.unique(codes, return_inverse=True)
        known = known[known >= 0]
        found = self.user_table.posteriors(known, self.user_features(known), self.noise)
        users = self._with_prior(self.user_table, found.means, found.covariances, places)
        self.set_priors(users.means, USER, codes, features)
        return users

    def of_items(
        self, codes: np.ndarray, features: Mapping[str, FeatureColumn] = NO_FEATURES
    ) -> Gaussians:
        """Return the posteriors of items, and the prior for -1."""
        known, places = np.unique(codes, return_inverse=True)
        known, table = known[known >= 0], self.item_table
        items = self._with_prior(table, table.means[known], table.covariances[known], places)
        self.set_priors(items.means, ITEM, codes, features)
        return items

    @staticmethod
    def _with_prior(
        table: GaussianTable, means: np.ndarray, covariances: np.ndarray, places: np.ndarray
    ) -> Gaussians:
        """Return the rows at ``places``, of which the first is the prior if one is too many."""
        if len(means) <= places.max(initial=-1):
            means = np.concatenate([table.unknown[None], means])
            covariances = np.concatenate([triangle(table.late_prior.covariance)[None], covariances])
        return Gaussians(means[places], covariances[places])

    def exploring(self, share: float | None, rng: np.random.Generator) -> BayesianMFModel:
        """Return a view that ranks by the mean plus ``share`` deviations, or (None) by draws."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        if share is None:
            items = self.of_items(np.arange(self.n_items)).draw(rng)
            view.exploration = lambda users, columns, queries: score_tiles(
                self.of_users(users, queries.features).draw(rng),
                items[columns],
                self.center,
                self.scale,
            )
        else:
            view.exploration = lambda users, columns, queries: bonus_tiles(
                self.of_users(users, queries.features),
                self.of_items(columns),
                share,
                self.center,
                self.scale,
            )
        return view

    def most_telling(
        self, users: np.ndarray, queries: Interactions, allowed: np.ndarray, n_items: int
    ) -> np.ndarray:
        """Return the codes of the items to ask users (codes) about (see `most_telling`)."""
        asked = self.of_users(users, queries.features)
        items = self.of_items(np.arange(self.n_items))
        noise = np.full(self.n_items, self.noise)
        if self.of_labels:
            noise /= self._slopes(np.arange(self.n_items))[2]
        with blas_threads(self.settings.n_threads):
            return most_telling(asked, items, noise, allowed, n_items)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of the means of item vectors."""
        return cosine_tiles(self.item_table.means[:, 1:].astype(np.float32), items)

    def merge(self, *others: FittedModel) -> None:
        """Raise: sums of two fits belong to different vectors."""
        raise ValueError(
            f"{self.kind} models cannot be merged: the sums of each user belong to the item "
            "vectors of one fit. Fit one model on all events."
        )


def _spread(rest: np.ndarray, events: Events) -> float:
    """Return the root mean square of ``rest`` (n,), or the size of feedback that is constant."""
    largest, size = float(np.abs(rest).max()), float(np.abs(events.feedback).max())
    if largest <= _ROUNDING * size:
        return size or 1.0
    squares = (rest / largest) ** 2  # of numbers whose own squares may overflow or vanish
    return largest * float(np.sqrt(np.average(squares, weights=events.weight)))
