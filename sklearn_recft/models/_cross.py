"""The cross model: a deep & cross network over ids, columns and online features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from sklearn_recft.events import Events, Interactions
from sklearn_recft.features import FeatureColumn
from sklearn_recft.history import Reservoir
from sklearn_recft.kernels import N_STATISTICS
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._cross_columns import ROW, CrossColumns
from sklearn_recft.models._cross_network import RATE_OF_LARGE, CrossNetwork, CrossSettings
from sklearn_recft.models._cross_rows import CrossRows
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._random import RandomStream
from sklearn_recft.models._surprise import BATCH, RATE, Surprise, mean_error
from sklearn_recft.modules import CrossNet, CrossShape
from sklearn_recft.names import ITEM, USER
from sklearn_recft.ranking import TileScorer

# A context column of this name is added to the score as it is.
OFFSET = "offset"
_LEAST_RATE = 1e-6


class CrossModel(FittedModel):
    """A deep & cross network, with statistics and a factorization that are updated row by row.

    Attributes
    ----------
    columns : CrossColumns
    online : OnlineFeatures or None
    network : CrossNetwork
    reservoir : Reservoir
        Past rows for rehearsal.
    target : (float, float, float, float)
        Mean, deviation, least and largest feedback so far; the first two are those of `fit`.
    errors : (float, float)
        Fast and slow mean of the errors of new rows (`Surprise`).
    newest : float
        Time of the newest event.
    """

    kind = "IncrementalDCNRecommender"
    settings: CrossSettings

    def __init__(self, rows: Interactions, settings: CrossSettings) -> None:
        super().__init__(rows, settings)
        own, online = np.random.default_rng(settings.seed).spawn(2)
        self.rng = RandomStream(own)
        self.context_places = [j for j, n in enumerate(self.context_names) if n != OFFSET]
        self.columns = CrossColumns(len(self.context_places))
        self.online: OnlineFeatures | None = None
        if settings.use_ids and settings.n_factors:
            outcome = settings.loss != "log_loss"
            self.online = OnlineFeatures(settings.n_factors, outcome=outcome, rng=online)
        self.network = CrossNetwork(settings)
        self.reservoir = Reservoir(settings.replay_size)
        self.target = 0.0, 1.0, np.inf, -np.inf
        self.errors = 0.0, 0.0
        self.newest = 0.0

    @property
    def module(self) -> CrossNet:
        """The net's module."""
        return self.network.module

    def side(self, role: str) -> Any:
        """Return the names of the features of users or items: ``features.columns``."""
        return SimpleNamespace(features=SimpleNamespace(columns=self.columns.names(role)))

    @property
    def feature_columns(self) -> list[str]:
        """Columns of queries that are categories, lists, or features of users and items."""
        names = (name for source in (ROW, USER, ITEM) for name in self.columns.names(source))
        return list(dict.fromkeys(names))

    # ------------------------------------------------------------------ events

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Return the time of each row in seconds; without timestamps, after all known events."""
        if self.timed and rows.timestamps is not None:
            return rows.timestamps
        return self.newest + 1.0 + np.zeros(len(rows))

    def _register(self, rows: Interactions) -> Events:
        """Assign codes, and remember the features of users and items."""
        if not self.network.is_built:
            stored = {name for table in rows.tables.values() for name in table.columns}
            features = {n: c for n, c in rows.features.items() if n not in stored}
            found = {role: table.columns for role, table in rows.tables.items()}
            n_online = 0 if self.online is None else self.online.n_features
            self.columns.start({ROW: features, **found}, n_online)
        events = self._without_ids(rows, learn=True) if rows.absent else super()._register(rows)
        for role, table in rows.tables.items():
            ids = self.users if role == USER else self.items
            self.columns.learn_features(role, ids.extend(table.ids), table.columns)
        if self.timed:
            return events
        return replace(events, time=events.time + np.arange(len(events)))

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code, -1 for unknown and for absent ids; nothing changes."""
        return self._without_ids(rows) if rows.absent else super().encode(rows)

    def _without_ids(self, rows: Interactions, *, learn: bool = False) -> Events:
        """Return rows without ids of users, of items or of both, whose codes are -1."""
        codes = [np.full(len(rows), -1)] * 2
        for j, (role, known) in enumerate(((USER, self.users), (ITEM, self.items))):
            if role not in rows.absent:
                ids = rows.user_ids if role == USER else rows.item_ids
                codes[j] = known.extend(ids) if learn else known.encode(ids)
        return self._as_events(rows, *codes)

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        if self.network.is_built:
            for role, table in rows.tables.items():
                self.columns.check(role, table.columns)
            undo.keep(self.columns)
            if call.weights:
                undo.keep(self.network)
            self.network.settings = self.settings

    def _is_finite(self, events: Events) -> bool:
        """Whether the weights of the net are finite."""
        return not self.network.is_built or self.network.weights.is_finite()

    # ------------------------------------------------------------------ learning

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, and update by later ones."""
        self.newest = float(events.time.max(initial=self.newest))
        first = not self.network.is_built
        if first:
            self._set_target(events)
        rows = self._rows_to_learn(events, undo, call)
        if not call.weights:
            return np.empty(0)
        fed, (mean, scale, low, high) = events.feedback, self.target
        self.target = mean, scale, min(low, float(fed.min())), max(high, float(fed.max()))
        self.columns.learn_numbers(rows.numbers, events.weight)
        target = np.column_stack([self._standard(fed), events.weight]).astype(np.float32)
        if first:
            self._fit(events, rows, target)
        else:
            self._update(rows, target, undo)
        return np.empty(0)

    def _set_target(self, events: Events) -> None:
        """Set the mean and the deviation of the feedback."""
        mean = float(np.average(events.feedback, weights=events.weight))
        rest = events.feedback - mean
        largest = float(np.abs(rest).max()) or 1.0  # so that no square overflows
        squares = np.average(np.square(rest / largest), weights=events.weight)
        spread = largest * float(np.sqrt(squares))
        scale = spread if spread > 1e-9 * abs(mean) else 1.0
        self.target = mean, scale, np.inf, -np.inf

    def _standard(self, feedback: np.ndarray) -> np.ndarray:
        """Return feedback in the units of the net."""
        if self.settings.loss != "squared_error":
            return feedback
        mean, scale = self.target[:2]
        return (feedback - mean) / scale

    def _fit(self, events: Events, rows: CrossRows, target: np.ndarray) -> None:
        """Train the net on the first rows, and then the factorization in several passes."""
        settings, columns = self.settings, self.columns
        shape = CrossShape(
            rows.numbers.shape[1],
            columns.widths,
            settings.embedding_dim,
            settings.hidden,
            settings.use_ids,
            vectors=columns.vector_widths,
        )
        self.network.make(shape, len(rows.user), self.rng.seed(), self._first_score())
        self._grow(first=True)
        if (np.diff(events.time) < 0).any():
            order = np.argsort(events.time, kind="stable")
            rows, target = rows.take(order), target[order]
        epochs = settings.epochs(len(target))
        gather = columns.gather()
        self.network.train(self._inputs(rows), target, self.rng, epochs=epochs, collate=gather)
        slots = self.reservoir.slots(len(target), self.rng.generator)
        self.reservoir.put(slots, self._stored(rows, target))
        last = slice(-max(1, len(target) // 10), None)
        error = mean_error(self._scores(rows.take(last)), target[last], settings.loss)
        self.errors = error, error
        if self.online is not None and not self.positives_only:
            self.online.refit(
                events.user,
                events.item,
                **self._labels(events),
                weight=events.weight,
                n_threads=settings.n_threads,
            )

    def _update(self, rows: CrossRows, target: np.ndarray, undo: Transaction) -> None:
        """Train the net on new rows, with one rehearsed row for each."""
        self._grow(first=False)
        new = self._stored(rows, target)
        both = dict(new)
        settings, options = self.settings, dict[str, Any]()
        epochs = settings.policy.update_epochs
        if settings.drift == "follow":
            error = mean_error(self._scores(rows), target, settings.loss)
            surprise = Surprise(*self.errors).after(error, len(target))
            self.errors = surprise.fast, surprise.slow
            if surprise.epochs and settings.policy.update_rate:
                large = RATE_OF_LARGE if self.network.has_large_batches else 1.0
                policy = replace(settings.policy, update_rate=RATE / large)
                epochs, options = surprise.epochs, {"policy": policy, "batch_size": BATCH}
                undo.keep(self.reservoir, np.arange(len(self.reservoir)))
                self.reservoir.n_offered = 0  # what was learned before contradicts these rows
        if len(self.reservoir):
            old = self.reservoir.draw(len(target), self.rng.generator)
            both = {name: np.concatenate([new[name], old[name]]) for name in new}
        target = both.pop("target")
        inputs, options["collate"] = self._inputs(CrossRows.of_columns(both)), self.columns.gather()
        self.network.train(inputs, target, self.rng, epochs=epochs, update=True, **options)
        slots = self.reservoir.slots(len(rows.user), self.rng.generator)
        undo.keep(self.reservoir, slots)
        self.reservoir.put(slots, new)

    def _grow(self, *, first: bool) -> None:
        n_users, n_items = (self.n_users, self.n_items) if self.settings.use_ids else (0, 0)
        sizes = n_users, n_items, len(self.columns.vocabulary)
        self.module.grow(sizes, self.rng.generator if first else None)

    def _first_score(self) -> float:
        """Return the score where nothing is known of a row."""
        mean = max(self.target[0], _LEAST_RATE)
        if self.settings.loss == "poisson":
            return float(np.log(mean))
        if self.settings.loss == "squared_error" or self.online is not None:
            return 0.0
        return float(logit(min(mean, 1 - _LEAST_RATE)))

    def _stored(self, rows: CrossRows, target: np.ndarray) -> dict[str, np.ndarray]:
        return {**rows.columns(), "target": target}

    def _inputs(self, rows: CrossRows) -> dict[str, np.ndarray]:
        """Return the arguments of the net."""
        numbers = self.columns.standardize(rows.numbers)
        return {**rows.columns(), "numbers": numbers, "offset": rows.offset.astype(np.float32)}

    # ------------------------------------------------------------------ rows

    def _rows_to_learn(self, events: Events, undo: Transaction, call: Call) -> CrossRows:
        """Return rows with online features from strictly earlier events, and learn these."""
        online = np.zeros((len(events), 0))
        if self.online is not None:
            undo.keep(self.online, events.user, events.item)
            self.online.grow(self.n_users, self.n_items)
            online = self.online.update(
                events.user,
                events.item,
                events.time,
                **self._labels(events),
                weight=events.weight,
                real=np.full(len(events), True),
                items_learn=call.weights,
                items_count=not call.adapt,
            )
        row = self.columns.of_rows(self._row_features(events), len(events), grow=call.weights)
        return self._rows(events, row, online)

    def _labels(self, events: Events) -> dict[str, Any]:
        """Return the label and the outcome that the online features learn."""
        if self.settings.loss == "log_loss":
            return {"label": events.feedback, "outcome": None}
        mean, scale = self.target[:2]
        if self.settings.loss == "poisson":
            outcome = np.log1p(events.feedback) - np.log1p(mean)
        else:
            outcome = (events.feedback - mean) / scale
        return {"label": (events.feedback > mean).astype(np.float64), "outcome": outcome}

    def _row_features(self, events: Events) -> dict[str, FeatureColumn]:
        names = self.columns.names(ROW)
        return {name: events.features[name] for name in names if name in events.features}

    def _rows(self, events: Events, row: np.ndarray, online: np.ndarray) -> CrossRows:
        """Put the cells of rows, users and items together."""
        cells = {
            ROW: row,
            USER: self.columns.of_ids(USER, events.user, events.features),
            ITEM: self.columns.of_ids(ITEM, events.item, events.features),
        }
        vectors = {
            **self.columns.vectors_of_rows(self._row_features(events), len(events)),
            **self.columns.vectors_of_ids(USER, events.user, events.features),
            **self.columns.vectors_of_ids(ITEM, events.item, events.features),
        }
        rows = self._joined(events.user, events.item, cells, events.context, online)
        return replace(rows, vectors=vectors)

    def _joined(
        self,
        user: np.ndarray,
        item: np.ndarray,
        cells: Mapping[str, np.ndarray],
        context: np.ndarray,
        online: np.ndarray,
    ) -> CrossRows:
        codes, numbers = self.columns.split(cells)
        n_context, n_own = len(self.context_places), numbers.shape[1]
        every = np.empty((len(user), n_context + n_own + online.shape[1]))
        for place, column in enumerate(self.context_places):  # faster than an index of columns
            every[:, place] = context[:, column]
        every[:, n_context : n_context + n_own] = numbers
        every[:, n_context + n_own :] = online
        return CrossRows(user, item, codes, every, self._offset(context, online))

    def _offset(self, context: np.ndarray, online: np.ndarray) -> np.ndarray:
        """Return the offset (n,): the column of this name, or the score of the factorization."""
        if OFFSET in self.context_names:
            given = context[:, self.context_names.index(OFFSET)]
            return np.nan_to_num(self._standard(given))
        if self.online is None:
            return np.zeros(len(context))
        start = N_STATISTICS + (0 if self.settings.loss == "log_loss" else 4)
        total: np.ndarray = online[:, start : start + 4].sum(1).astype(np.float64)
        return total

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Return the prediction (n,) of each row; users and items may be unknown."""
        online = self._transform(events.user, events.item, events.time)
        row = self.columns.of_rows(self._row_features(events), len(events))
        return self.inverse_link(self._scores(self._rows(events, row, online)))

    def _scores(self, rows: CrossRows) -> np.ndarray:
        return self.network.score(self._inputs(rows), self.columns.gather())

    def _transform(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        if self.online is None:
            return np.zeros((len(users), 0))
        return self.online.transform(users, items, times)

    def inverse_link(self, scores: np.ndarray) -> np.ndarray:
        """Map scores to feedback within the range seen, or to probabilities."""
        scores = scores.astype(np.float64)
        if self.settings.loss == "log_loss":
            return expit(scores)
        mean, scale, low, high = self.target
        fed = np.exp(scores) if self.settings.loss == "poisson" else mean + scale * scores
        return np.clip(fed, low, high)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the scores of ``users`` for catalogue ``columns``."""
        n, own = len(users), self.columns
        times, context = self._times_of(queries), queries.context_as(self.context_names)
        if context is None:
            context = np.full((n, len(self.context_names)), np.nan)
        given = {
            name: queries.features[name] for name in own.names(ROW) if name in queries.features
        }
        row = own.of_rows(given, n)
        user = own.of_ids(USER, users, queries.features)
        item = own.of_ids(ITEM, columns, {})
        vectors = own.vectors_of_rows(given, n) | own.vectors_of_ids(USER, users, queries.features)

        def score_tile(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            items, m = columns[c0:c1], c1 - c0
            for place in range(r0, r1):
                same = np.full(m, place)
                cells = {ROW: row[same], USER: user[same], ITEM: item[c0:c1]}
                online = self._transform(users[same], items, times[same])
                rows = self._joined(users[same], items, cells, context[same], online)
                rows = replace(rows, vectors={name: v[same] for name, v in vectors.items()})
                out[place - r0] = self._scores(rows)

        return score_tile
