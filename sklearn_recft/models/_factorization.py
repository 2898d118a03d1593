"""Matrix factorization with incremental updates, by compiled loops or a net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import ClassVar, Protocol

import numpy as np
from scipy.special import expit

from sklearn_recft.columns import fade
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import Reservoir
from sklearn_recft.models import _factorization_ridge as ridge
from sklearn_recft.models import _factorization_sgd as sgd
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._factorization_base import FactorizationBase, FactorizationSettings
from sklearn_recft.models._factorization_sgd import Rows
from sklearn_recft.models._factorization_split import fit_epochs
from sklearn_recft.models._progress import Epochs, evenly
from sklearn_recft.models._random import RandomStream
from sklearn_recft.models._receipt import ERASED
from sklearn_recft.models._single_event import SingleEventsMixin
from sklearn_recft.modules import MatrixFactorization
from sklearn_recft.ranking import TileScorer, cosine_tiles

# Passes of `fit`, best for ratings and "bpr".
EPOCHS = 30


class Scorer(Protocol):
    """What scores by factors and biases: a `MatrixFactorization`, or a mixture of two."""

    @property
    def intercept(self) -> float:
        """Mean of the score."""

    def rows(self, side: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up factors and biases of users (side 0) or items (1); -1 is unknown."""

    def offset(self, context: np.ndarray) -> np.ndarray:
        """Compute the terms (n,) that do not depend on ids."""

    def score(self, users: np.ndarray, items: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Score rows of codes and raw context."""

    def item_vectors(self) -> np.ndarray:
        """Return the factors of all items."""

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, context: np.ndarray
    ) -> TileScorer:
        """Return a function that scores catalogue ``columns`` in tiles."""


class FactorizationModel(FactorizationBase):
    """Factors and biases of users and items; subclasses define the training.

    Attributes
    ----------
    moments : ndarray of shape (5,)
        Count, mean, sum of squared deviations, least and largest of the targets.
    latest : float
        Time of the newest event.
    reservoir : Reservoir
        Past rows to rehearse.
    replay_rng : RandomStream
    """

    def __init__(self, rows: Interactions, settings: FactorizationSettings) -> None:
        super().__init__(rows, settings)
        self.replay_rng = RandomStream(np.random.default_rng(settings.seed).spawn(3)[2])
        self.moments = np.array([0.0, 0.0, 0.0, np.inf, -np.inf])
        self.latest = -np.inf
        self.reservoir = Reservoir(settings.replay_size)

    @property
    def module(self) -> MatrixFactorization:
        """The tables: factors, a bias and a count for each id."""
        raise NotImplementedError

    @property
    def scorer(self) -> Scorer:
        """The tables that score."""
        return self.module

    @property
    def copies(self) -> tuple[MatrixFactorization, ...]:
        """All tables that learn."""
        return (self.module,)

    @property
    def scale(self) -> float:
        """Standard deviation of the targets, the unit of rates and penalties of ratings."""
        n, _, squares, _, _ = self.moments
        ratings = self.settings.loss == "squared_error"
        return float(np.sqrt(squares / n)) if squares > 0 and ratings else 1.0

    @property
    def intercept(self) -> float:
        """Mean of the score over pairs and contexts without biases and factors."""
        return self.scorer.intercept

    def factors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of the factors (n, f) and biases (n,) of users (side 0) or items (1)."""
        return self.scorer.rows(side, np.arange(self.module.n_rows[side]))

    # ------------------------------------------------------------------ learning

    def _pieces(self, rows: Interactions, call: Call) -> Iterator[Interactions]:
        """Split into single rows if each row may change every item; otherwise by weight 0."""
        if self._one_at_a_time(call):
            yield from (rows.take(np.array([row])) for row in range(len(rows)))
        else:
            yield from super()._pieces(rows, call)

    def _one_at_a_time(self, call: Call) -> bool:
        """Return whether predicting row by row needs one call per row."""
        raise NotImplementedError

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        """Register parts that a call of several pieces may change for rollback."""
        self.moments = self.moments.copy()
        if self._one_at_a_time(call):
            self._keep_all(undo)

    def _keep_all(self, undo: Transaction) -> None:
        undo.keep(self.module, np.arange(self.n_users), np.arange(self.n_items))

    def _is_learned_finite(self, events: Events) -> bool:
        """Whether the rows of the tables that the events changed are finite."""
        changed = []
        for module in self.copies:
            for name, codes in (("user_factors", events.user), ("item_factors", events.item)):
                table = module.array(name)
                changed.append(table[codes] if len(codes) < len(table) else table)
            if events.context.shape[1]:
                changed.append(module.array("context_weight"))
        with np.errstate(all="ignore"):
            return all(bool(np.isfinite(np.vdot(values, values))) for values in changed)

    def _learn_factors(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit or update the tables; return predictions without habits."""
        if call.adapt:
            self._adapt(events, undo)
            return np.empty(0)
        known = self.module.n_rows
        if known == (0, 0) and not call.predict:
            self._fit(events)
            return np.empty(0)
        rows = self._rows(events, decayed=not call.predict)
        n_old = 0 if call.predict else min(len(events), len(self.reservoir))
        old = None
        if n_old:
            old = Rows(**self.reservoir.draw(n_old, self.replay_rng.generator))
        slots = self.reservoir.slots(len(events), self.replay_rng.generator)
        undo.keep(self.reservoir, slots)
        predicted = self._update(events, rows, old, undo, call)
        self.reservoir.put(slots, rows.columns())
        return predicted

    def _adapt(self, events: Events, undo: Transaction) -> None:
        """Solve for the users of events, and for new items; other rows do not change."""
        settings = self.settings
        rows = self._rows(events, decayed=False)
        if settings.half_life is not None:  # the age does not depend on events of other users
            newest = np.full(self.n_users, -np.inf)
            np.maximum.at(newest, events.user, events.time)
            weight = rows.weight * fade(newest[events.user] - events.time, settings.half_life)
            rows = replace(rows, weight=weight.astype(np.float32))
        for module in self.copies:
            undo.keep(module, events.user, events.item)
            start = [module.rows(side, np.array([-1])) for side in (0, 1)]
            known = module.n_rows
            module.grow(self.n_users, self.n_items)
            arrays = module.arrays()
            for side, first, (factors, bias) in zip(("user", "item"), known, start, strict=True):
                arrays[f"{side}_bias"][first:] = bias
                if side == "user":  # the factors of a new item start at zero
                    arrays["user_factors"][first:] = factors
            ridge.adapt(arrays, rows, known[1], loss=settings.loss, scale=self.scale)
            module.load(arrays)

    def _rows(self, events: Events, *, decayed: bool) -> Rows:
        """Convert events to the columns of the kernels."""
        settings, weight = self.settings, events.weight
        if settings.loss == "bpr":
            weight = np.where(events.feedback > 0, weight, 0.0)
        elif decayed and settings.half_life is not None:
            weight = weight * fade(events.time.max() - events.time, settings.half_life)
        return Rows(
            events.user.astype(np.int32),
            events.item.astype(np.int32),
            events.feedback.astype(np.float32),
            weight.astype(np.float32),
            self.module.standardise(events.context),
        )

    def _fit(self, events: Events) -> None:
        """Measure the targets, initialize the tables, and run the epochs."""
        if len(self.context_names):
            self.module.learn_context_scale(events.context)
        rows = self._rows(events, decayed=True)
        target, weight = rows.target.astype(np.float64), rows.weight.astype(np.float64)
        if not weight.any():
            raise ValueError("y: no row is positive, and loss='bpr' learns from positives only.")
        mean = np.average(target, weights=weight)
        squares = weight @ (target - mean) ** 2
        self.moments[:] = weight.sum(), mean, squares, target.min(), target.max()
        self.module.grow(self.n_users, self.n_items)
        self._train(events, rows)
        slots = self.reservoir.slots(len(events), self.replay_rng.generator)
        self.reservoir.put(slots, rows.columns())

    def _train(self, events: Events, rows: Rows) -> None:
        """Initialize all tables and run the epochs of a fit."""
        raise NotImplementedError

    def _update(
        self, events: Events, rows: Rows, old: Rows | None, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Learn new rows together with rehearsed ones; return predictions before, (n,)."""
        raise NotImplementedError

    # ------------------------------------------------------------------ scoring

    def _factor_scores(self, events: Events) -> np.ndarray:
        return self.inverse_link(self.scorer.score(events.user, events.item, events.context))

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item factors."""
        return cosine_tiles(self.scorer.item_vectors(), items)

    def with_history(self, rows: Interactions) -> FactorizationModel:
        """Raise: users of these losses have factors that are learned, not computed."""
        raise ValueError(
            f"history: with loss={self.settings.loss!r}, the factors of a user must be learned. "
            "Pass the events to partial_fit, or set loss='softmax'."
        )

    def _factor_parts(
        self, events: Events
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]:
        scorer, mean = self.scorer, self.intercept
        (p, b_u), (q, b_i) = scorer.rows(0, events.user), scorer.rows(1, events.item)
        terms = {
            "mean": np.full(len(events), mean),
            "user bias": b_u.astype(np.float64),
            "item bias": b_i.astype(np.float64),
            "factors": np.einsum("nk,nk->n", p, q).astype(np.float64),
            "context": scorer.offset(events.context) - mean,
        }
        return (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)), terms

    def inverse_link(self, scores: np.ndarray) -> np.ndarray:
        """Return raw scores on the scale of ``y``."""
        loss = self.settings.loss
        if loss == "squared_error":
            return np.clip(scores, *self.moments[3:]) if self.moments[0] else scores
        return expit(scores) if loss == "log_loss" else scores

    def _factor_tiles(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        context = queries.context_as(self.context_names)
        if not self.context_names:
            context = np.empty((len(users), 0))
        elif context is None:
            # The average context is zero after standardisation.
            context = np.tile(self.module.average_context(), (len(users), 1))
        return self.scorer.tile_scorer(users, columns, context)


class SGDFactorizationModel(SingleEventsMixin, FactorizationModel):
    """A factorization trained by compiled stochastic gradient descent.

    Attributes
    ----------
    tables : MatrixFactorization
    """

    kind = "IncrementalMFRecommender"
    LEARNING_RATE, REG = sgd.LEARNING_RATE, sgd.REG
    # Whether `_update` returns scores before the link.
    _RAW: ClassVar[bool] = False

    def __init__(self, rows: Interactions, settings: FactorizationSettings) -> None:
        super().__init__(rows, settings)
        self.tables = MatrixFactorization(settings.n_factors, len(rows.context_names))

    @property
    def module(self) -> MatrixFactorization:
        """The tables."""
        return self.tables

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: users keep what they learned from these items."""
        return ERASED

    def _one_at_a_time(self, call: Call) -> bool:
        # Decaying popularity changes every item between rows.
        settings = self.settings
        return call.predict and settings.loss == "bpr" and settings.half_life is not None

    def _train(self, events: Events, rows: Rows) -> None:
        settings, arrays = self.settings, self.tables.arrays()
        rng, n_epochs = self.rng.generator, settings.max_epochs or EPOCHS
        sgd.start_all(arrays, rows, settings.loss, self.moments[1], self.scale, rng)
        if settings.loss == "bpr":
            if settings.half_life is not None:
                age = events.time.max() - events.time
                weight = rows.weight * fade(age, settings.half_life)
                arrays["item_count"][:] = np.bincount(rows.item, weight, self.n_items)
            self._count_popularity(events)
        fit_epochs(
            arrays,
            rows,
            loss=settings.loss,
            learning_rate=self.learning_rate,
            reg=self.reg,
            epochs=Epochs(n_epochs, settings.verbose, self._sample_loss(rows)),
            scale=self.scale,
            n_threads=settings.n_threads,
            rng=rng,
        )

    def _sample_loss(self, rows: Rows) -> Callable[[], float]:
        """Return a function that computes the loss on 10,000 rows."""
        sample = rows.take(evenly(len(rows.user)))
        return lambda: sgd.mean_loss(self.tables.arrays(), sample, self.settings.loss)

    def _update(
        self, events: Events, rows: Rows, old: Rows | None, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Initialize new ids, then learn the rows in one compiled pass."""
        settings, tables = self.settings, self.tables
        loss, chunk, rng = settings.loss, not call.predict, self.rng.generator
        known = tables.n_rows
        n_items = self.n_items if chunk else known[1]
        draws, before = None, None
        if self._one_at_a_time(call):  # as `score` at this time: before the popularity decays
            before = tables.score(*known_codes(rows, known), events.context)
        else:
            draws = self._keep_touched(rows, old, undo, n_items, chunk=chunk)
        tables.grow(self.n_users, self.n_items)
        arrays = tables.arrays()
        sgd.start_items(arrays, known[1], self.noise_rng.generator)
        if loss == "bpr" and settings.half_life is not None:
            self._count_popularity(events)
        if loss != "bpr" and chunk:
            ridge.fold_in(arrays, rows, *known, tables.NEWEST, loss=loss, scale=self.scale)
        predicted = sgd.stream(
            arrays,
            rows,
            self.moments,
            loss=loss,
            learning_rate=self.learning_rate,
            newest=tables.NEWEST,
            chunk=chunk,
            draws=draws,
            n_items=n_items,
            rng=rng,
            raw=self._RAW,
        )
        if old is not None:
            sgd.rehearse(
                arrays,
                old,
                loss=loss,
                learning_rate=self.learning_rate,
                reg=self.reg,
                scale=self.scale,
                rng=rng,
            )
        return predicted.astype(np.float64) if before is None else before

    def _keep_touched(
        self, rows: Rows, old: Rows | None, undo: Transaction, n_items: int, *, chunk: bool
    ) -> np.ndarray | None:
        """Register the table rows that will change for rollback; return the drawn negatives."""
        users, items, draws = [rows.user], [rows.item], None
        if old is not None:
            users, items = [*users, old.user], [*items, old.item]
        if self.settings.loss == "bpr":
            decays = self.settings.half_life is not None
            if old is not None or decays or len(rows) > sgd.FEW_ROWS:
                items.append(np.arange(len(self.tables.item_bias)))  # any item may change
            else:
                # Drawn in advance, so that only the rows that will change are saved.
                draws = sgd.draw_negatives(rows.item, n_items, self.rng.generator, chunk=chunk)
                items.append(draws.ravel())
        undo.keep(self.tables, np.concatenate(users), np.concatenate(items))
        return draws

    def _count_popularity(self, events: Events) -> None:
        """Decay the popularity of a "bpr" model to the time of the newest event."""
        arrays, half_life = self.tables.arrays(), self.settings.half_life
        if half_life is not None:
            latest = max(self.latest, float(events.time.max()))
            if np.isfinite(self.latest):
                arrays["item_count"] *= fade(latest - self.latest, half_life)
            self.latest = latest
        arrays["item_bias"][:] = np.log1p(arrays["item_count"])


def known_codes(rows: Rows, known: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of users and items, -1 where they were not ``known`` before."""
    users, items = known
    return np.where(rows.user < users, rows.user, -1), np.where(rows.item < items, rows.item, -1)
