"""A factorization of positives by sampled softmax: users are sums over their last events."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._factorization_base import FactorizationBase, FactorizationSettings
from sklearn_recft.models._factorization_sgd import Arrays
from sklearn_recft.models._habit_term import HabitTerm
from sklearn_recft.models._progress import Epochs
from sklearn_recft.models._softmax_lists import Listing
from sklearn_recft.models._softmax_log import BLOCK, Block, SoftmaxLog, positives, rows_of
from sklearn_recft.modules import HistoryFactorization
from sklearn_recft.ranking import TileScorer, cosine_tiles

# Best on validation parts of Amazon Beauty, MovieLens 1M and Online Retail (`benchmarks`).
_LEARNING_RATE = 0.1
_LAST_RATE = 0.2  # of `fit`, as a share of the first; updates use the same
_REG_BAG, _REG_NEXT = 0.2, 0.1
_POPULARITY_BAG, _POPULARITY_NEXT = 1.0, 0.5
_N_ONLINE_NEGATIVES = 32
# Epochs: about so many steps in all, within bounds.
_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 3_000_000, 2, 8
_INIT, _INIT_NEW = 0.05, 0.03
_RECENT = 50  # events that are kept of each user
_SAMPLE = 32_768  # past events that negatives of updates are drawn from
_FEW_ROWS = 256  # up to which only the rows of tables that will change are saved


_USER = ("user_factors", "user_squares")
_ITEM = ("input_factors", "input_squares", "item_factors", "item_squares")


@dataclass(frozen=True)
class SoftmaxFactorizationSettings(FactorizationSettings):
    """Settings of `SoftmaxFactorizationModel`: as the parameters of the estimator."""

    history_half_life: float | None = None
    popularity_weight: float | None = None


class SoftmaxFactorizationModel(FactorizationBase):
    """A factorization trained by sampled softmax.

    Attributes
    ----------
    tables : HistoryFactorization
    sample : ndarray of shape (32768,), int32
        Items of a uniform sample of the events.
    n_events : int
        Number of events learned.
    clock : ndarray of shape (2,)
        Seconds: at which the decayed counts are in units of one event, and of the newest event.
    """

    kind = "IncrementalMFRecommender (softmax)"
    settings: SoftmaxFactorizationSettings
    adds_to_histories = True
    # Last items and factors of the users of a view by `with_history`; None is those of the tables.
    visitors: tuple[np.ndarray, np.ndarray] | None = None
    LEARNING_RATE = {"softmax": _LEARNING_RATE}

    def __init__(self, rows: Interactions, settings: SoftmaxFactorizationSettings) -> None:
        super().__init__(rows, settings)
        half_life, n_factors = settings.history_half_life, settings.n_factors
        n_recent = _RECENT if half_life is None else min(_RECENT, int(np.ceil(10 * half_life)))
        n_own = n_factors if half_life is None else 0
        self.tables = HistoryFactorization(n_factors, n_own, n_recent)
        self.sample, self.n_events = np.zeros(_SAMPLE, np.int32), 0
        self.clock = np.full(2, -np.inf)

    @property
    def module(self) -> HistoryFactorization:
        """The tables."""
        return self.tables

    @property
    def reg(self) -> float:
        """L2 penalty in use."""
        default = _REG_BAG if self.settings.history_half_life is None else _REG_NEXT
        return default if self.settings.reg is None else self.settings.reg

    @property
    def popularity_weight(self) -> float:
        """Weight of the popularity in the scores."""
        bag = self.settings.history_half_life is None
        default = _POPULARITY_BAG if bag else _POPULARITY_NEXT
        given = self.settings.popularity_weight
        return default if given is None else given

    @property
    def _half_life(self) -> float:
        """Half-life of the popularity in seconds."""
        days = self.settings.half_life
        return np.inf if days is None else days * SECONDS_PER_DAY

    @property
    def _decay(self) -> float:
        """Weight of an event beside the user's next one."""
        half_life = self.settings.history_half_life
        return 1.0 if half_life is None else 0.5 ** (1 / half_life)

    @property
    def _weights(self) -> np.ndarray:
        """Weights of a user's last events, newest first."""
        return (self._decay ** np.arange(self.tables.recent.shape[1])).astype(np.float32)

    # ------------------------------------------------------------------ learning

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        super()._prepare(rows, undo, call)
        if call.listing is not None:
            call.listing.start(self.seen)

    def _learn_factors(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events; learn later ones in the order of time or, to predict, of rows."""
        events = positives(events)
        if not call.predict:
            events = events.take(np.argsort(events.time, kind="stable"))
        if self.n_events == 0 and not call.predict:
            self._fit(events)
            return np.empty(0)
        if not call.weights:
            self._keep(undo, events, np.empty(0, np.int64))
            self._grow()
            self.tables.push(events.user, events.item)
            return np.empty(0)
        scored = self._update(events, undo, self.tables.n_rows[1], call.listing)
        return scored if call.predict else np.empty(0)

    def _learn_habits(
        self, habits: HabitTerm, events: Events, undo: Transaction, call: Call
    ) -> np.ndarray:
        if not call.predict:
            return super()._learn_habits(habits, events, undo, call)
        return habits.predict_and_learn(events, undo, (self.n_users, self.n_items))

    def _is_learned_finite(self, events: Events) -> bool:
        """Whether the factors of the items are finite."""
        changed = map(self.tables.array, ("input_factors", "item_factors"))
        return all(bool(np.isfinite(values[events.item]).all()) for values in changed)

    def _grow(self) -> Arrays:
        """Add rows for new ids, and return the arrays; factors of new items are random."""
        known = self.tables.n_rows[1]
        if self.tables.n_rows == (self.n_users, self.n_items):
            return self.tables.arrays()
        self.tables.grow(self.n_users, self.n_items)
        arrays, generator = self.tables.arrays(), self.noise_rng.generator
        shape = self.n_items - known, 2, self.settings.n_factors
        drawn = np.float32(_INIT_NEW) * generator.standard_normal(shape, np.float32)
        arrays["input_factors"][known:], arrays["item_factors"][known:] = drawn[:, 0], drawn[:, 1]
        return arrays

    def _fit(self, events: Events) -> None:
        """Run the epochs of `fit` on events in order of time, and keep the newest ones."""
        events = events.take(np.flatnonzero(events.weight > 0))
        if not len(events):
            raise ValueError("y: no row is positive, and loss='softmax' learns positives only.")
        arrays, rng = self._grow(), self.rng.generator
        for name in ("input_factors", "item_factors"):
            arrays[name] *= np.float32(_INIT / _INIT_NEW)
        log = SoftmaxLog(events)
        n = len(events)
        count = np.bincount(events.item, minlength=self.n_items)
        arrays["item_count"][:] = count
        share = 0.5 / self.n_items + 0.5 * count / n
        weight = np.bincount(events.item, events.weight, self.n_items)
        offset = (np.log(weight + 0.5) - np.log(share)).astype(np.float32)
        n_epochs = self.settings.max_epochs
        if n_epochs is None:
            n_epochs = int(np.clip(np.ceil(_STEPS / n), _MIN_EPOCHS, _MAX_EPOCHS))
        with ThreadPoolExecutor(self.settings.n_threads) as pool:
            for epoch in Epochs(n_epochs, self.settings.verbose):
                rate = self.learning_rate * _LAST_RATE ** (epoch / n_epochs)
                blocks = log.blocks(rng, self.n_items, shuffled=self._decay == 1)
                step = partial(self._step, arrays, offset, rate)
                while some := list(itertools.islice(blocks, self.settings.n_threads)):
                    list(pool.map(step, some))
        self._start_counts(arrays, events)
        rows, places = log.newest(self.tables.recent.shape[1])
        arrays["recent"][events.user[rows], places] = events.item[rows] + 1

    def _step(self, arrays: Arrays, offset: np.ndarray, rate: float, block: Block) -> None:
        kernels.softmax_epoch(
            block.starts,
            block.user,
            block.item,
            block.weight,
            block.negatives,
            offset,
            np.float32(self._decay),
            np.float32(rate),
            np.float32(self.reg),
            *(arrays[name] for name in (*_USER, *_ITEM)),
        )

    def _start_counts(self, arrays: Arrays, events: Events) -> None:
        """Count the events of a fit, and sample them."""
        self.n_events, latest = len(events), float(events.time.max())
        self.clock[:] = latest
        weight = events.weight * 0.5 ** ((latest - events.time) / self._half_life)
        arrays["item_popularity"][:] = np.bincount(events.item, weight, self.n_items)
        kept = np.arange(len(events))
        if len(events) > _SAMPLE:
            kept = self.rng.generator.choice(kept, _SAMPLE, replace=False)
        self.sample[: len(kept)] = events.item[kept]

    def _update(
        self, events: Events, undo: Transaction, known: int, listing: Listing | None
    ) -> np.ndarray:
        """Learn events one after the other; return the score of each just before."""
        listing = listing or Listing(0)
        listing.extend(events, self.n_users)
        self.clock, self.sample = self.clock.copy(), self.sample.copy()
        scored = np.empty(len(events), np.float32)
        few = len(events) <= _FEW_ROWS
        if not few:
            self._keep(undo, events, np.arange(known))
        arrays = None
        for start in range(0, len(events), BLOCK):
            piece = events.take(np.arange(start, min(start + BLOCK, len(events))))
            user, item = piece.user.astype(np.int32), piece.item.astype(np.int32)
            weight = piece.weight.astype(np.float32)
            n_counted = int(np.count_nonzero(weight))
            draws = self.rng.generator.integers(
                0, 2**32, (n_counted, _N_ONLINE_NEGATIVES + 1), dtype=np.uint32
            )
            negatives = np.empty((len(piece), _N_ONLINE_NEGATIVES), np.int32)
            kernels.draw_negatives(
                item, weight, draws, known, self.sample, self.n_events, negatives
            )
            if few:
                self._keep(undo, piece, negatives.ravel())
            arrays = arrays or self._grow()
            kernels.softmax_pass(
                user,
                item,
                piece.time,
                weight,
                negatives,
                scored[start : start + len(piece)],
                known,
                self.n_events,
                self._half_life,
                np.float32(self.popularity_weight),
                np.float32(self.learning_rate * _LAST_RATE),
                np.float32(self.reg),
                self.clock,
                arrays["recent"],
                self._weights,
                *(arrays[name] for name in (*_USER, *_ITEM)),
                arrays["item_count"],
                arrays["item_popularity"],
                *listing.of_rows(start, len(piece)),
            )
            self.n_events += n_counted
            known = max(known, int(item.max()) + 1)
        return scored.astype(np.float64)

    def _keep(self, undo: Transaction, events: Events, items: np.ndarray) -> None:
        """Register the rows of tables that will change for rollback."""
        n_users, n_items = self.tables.n_rows
        recent = self.tables.array("recent")[events.user[events.user < n_users]]
        items = np.concatenate([items, events.item, recent[recent > 0] - 1])
        if events.time.max() - self.clock[0] > 32 * self._half_life:
            items = np.arange(n_items)  # all counts may get a new unit
        undo.keep(self.tables, events.user, items)

    # ------------------------------------------------------------------ scoring

    def factors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the states of users (side 0) or factors of items (1), and biases, 0 of users."""
        codes = np.arange(self.tables.n_rows[side])
        if side:
            return self._items(codes)
        return self._states(codes), np.zeros(len(codes), np.float32)

    def _states(self, users: np.ndarray) -> np.ndarray:
        """Return the states (n, f) of users; zeros for -1."""
        recent, own = self._users()
        states = np.empty((len(users), self.settings.n_factors), np.float32)
        inputs = self.tables.arrays()["input_factors"]
        kernels.softmax_states(users.astype(np.int64), recent, self._weights, own, inputs, states)
        return states

    def _users(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the last items and the factors of users."""
        arrays = self.tables.arrays()
        return self.visitors or (arrays["recent"], arrays["user_factors"])

    def _items(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return factors (n, f) and biases (n,) of items; -1 is an item without events."""
        return self._item_factors(items), self._item_biases(items)

    def _item_factors(self, items: np.ndarray) -> np.ndarray:
        """Return the factors (n, f) of items as candidates, 0 for -1."""
        return rows_of(self.tables.arrays()["item_factors"], items)

    def _input_factors(self, items: np.ndarray) -> np.ndarray:
        """Return the factors (n, f) of known items as taken."""
        return self.tables.arrays()["input_factors"][items]

    def _item_popularity(self) -> np.ndarray:
        """Return the decayed sums (n_items,) of the weights of events."""
        return self.tables.arrays()["item_popularity"]

    def _own_factors(self, own: np.ndarray, users: np.ndarray) -> np.ndarray:
        """Return the factors (n, g) of users, 0 for -1, from the second table of `_users`."""
        return rows_of(own, users)

    def _item_biases(self, items: np.ndarray) -> np.ndarray:
        """Return the biases (n,) of items; -1 is an item without events."""
        unit = 1.0
        if self.clock[1] > self.clock[0]:
            unit = 2.0 ** ((self.clock[0] - self.clock[1]) / self._half_life)
        popularity = rows_of(self._item_popularity(), items)
        bias: np.ndarray = np.float32(self.popularity_weight) * np.log(
            np.float32(0.5) + np.float32(unit) * popularity
        )
        return bias

    def _factor_scores(self, events: Events) -> np.ndarray:
        out = np.empty(len(events))
        for start in range(0, len(events), BLOCK):
            rows = slice(start, start + BLOCK)
            users, places = np.unique(events.user[rows], return_inverse=True)
            factors, bias = self._items(events.item[rows])
            out[rows] = np.einsum("nk,nk->n", self._states(users)[places], factors) + bias
        return out

    def _factor_tiles(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        states, bias = self._states(users), self._item_biases(columns)
        return self.tables.tile_scorer(states, bias, columns)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of the factors of items as candidates."""
        return cosine_tiles(self.tables.arrays()["item_factors"], items)

    def _factor_parts(
        self, events: Events
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]:
        recent, own = self._users()
        factors, bias = self._items(events.item)
        parts, n = [], len(events)
        step = max(1, BLOCK // recent.shape[1])
        for start in range(0, n, step):
            rows = slice(start, start + step)
            codes = rows_of(recent, events.user[rows]).astype(np.int64) - 1
            row, place = np.nonzero(codes >= 0)
            weight = self._weights * (codes >= 0)
            share = weight / np.sqrt(np.maximum(weight.sum(axis=1, keepdims=True), 1e-30))
            code = codes[row, place]
            product = np.einsum(
                "nk,nk->n", self._input_factors(code), factors[rows][row], dtype=np.float64
            )
            parts.append((start + row, code, product * share[row, place]))
        row, item, value = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        terms = {"popularity": bias.astype(np.float64)}
        if own.shape[1]:
            p = self._own_factors(own, events.user)
            terms["factors"] = np.einsum("nk,nk->n", p, factors, dtype=np.float64)
        return (row, item, value), terms

    def with_history(self, rows: Interactions) -> SoftmaxFactorizationModel:
        """Return a view of users whose states are sums over these events; they have no factors."""
        view, events = self._with_users(rows)
        events = events.take(np.flatnonzero(events.feedback > 0))
        events = events.take(np.argsort(events.time, kind="stable"))
        recent, own = self._users()
        recent = np.zeros((view.n_users, recent.shape[1]), np.int32)
        if len(events):
            order, places = SoftmaxLog(events).newest(recent.shape[1])
            recent[events.user[order], places] = events.item[order] + 1
        view.visitors = recent, np.zeros((view.n_users, own.shape[1]), np.float32)
        if self.habits is not None:
            view.habits = self.habits.of_history(rows, events, view.n_users)
        return view
