"""The sequence model: a transformer over users' events, their histories and trends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import (
    EventHistory,
    Past,
    Spans,
    Trends,
    in_order,
    sequences_of,
    training_windows,
)
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._item_counts import ItemCounts
from sklearn_recft.models._random import RandomStream
from sklearn_recft.models._sequence_log import known_again, with_defaults
from sklearn_recft.models._sequence_network import SequenceNetwork, SequenceSettings
from sklearn_recft.models._sequence_queries import (
    Queries,
    TrainingLog,
    add_trends,
    log_shares,
    next_item_scorer,
    past_of,
    read_queries,
    states_of,
    steps_of,
    weights_of_trends,
)
from sklearn_recft.models._sequence_recent import SequenceLists, StateCache
from sklearn_recft.ranking import TileScorer
from sklearn_recft.text import texts_of


class SequenceModel(SequenceLists):
    """Score next items from the order and the times of a user's events.

    Attributes
    ----------
    history : EventHistory
    newest : float
        Time of the newest event.
    trends : Trends
    counts : ItemCounts
    network : SequenceNetwork
        The net, the encoder of texts and the vectors of items.
    """

    kind = "RealtimeTransformerRecommender"

    def __init__(self, rows: Interactions, settings: SequenceSettings) -> None:
        super().__init__(rows, settings)
        self.rng = RandomStream(np.random.default_rng(settings.seed))
        self.history = EventHistory(settings.max_history)
        self.newest = -np.inf
        self.trends = Trends((), SECONDS_PER_DAY)
        self.counts = ItemCounts()
        self.network = SequenceNetwork(settings, timed=self.timed)

    # ------------------------------------------------------------------ events

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Return the time of each row in seconds; 0 for a log without timestamps.

        Rows without timestamps, in a log with them, come after all known events.
        """
        if self.timed and rows.timestamps is not None:
            return rows.timestamps
        return np.full(len(rows), self.newest + 1.0 if self.timed else 0.0)

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code; rows without timestamps get the time inf."""
        events = super().encode(rows)
        if rows.timestamps is not None:
            return events
        return replace(events, time=np.full(len(rows), np.inf))

    def _texts_of(self, rows: Interactions) -> tuple[str, ...] | None:
        if self.settings.backbone is None:
            return None
        return tuple(texts_of(np.asarray(rows.item_ids), rows.text))

    def _as_log(self, events: Events) -> Events:
        """Convert events to training columns; only positive feedback is a target."""
        weight = np.where(events.feedback > 0, events.weight, 0.0)
        return replace(
            events,
            feedback=events.feedback.astype(np.float32),
            weight=weight.astype(np.float32),
            context=events.context.astype(np.float32),
            text=None,
            outcome=None,
            features={},
            query=None,
        )

    def _mean_context(self) -> np.ndarray:
        return self.module.scale_of_context[0].numpy(force=True)

    # ------------------------------------------------------------------ learning

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        if self.network.is_built:
            undo.keep(self.network)
            self.network.settings = self.settings

    def _is_finite(self, events: Events) -> bool:
        """Whether the weights of the net are finite."""
        return not self.network.is_built or self.network.weights.is_finite()

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, and update by later ones."""
        if not self.network.is_built:
            self._fit(events, call)
        else:
            self._update(events, undo, call)
        return np.empty(0)

    def _fit(self, events: Events, call: Call) -> None:
        """Train the net on every step of every user's sequence."""
        settings = self.settings
        codes, texts = self._all_texts(events.item, events.text, call)
        new, network = self._as_log(events), self.network
        if self.timed and settings.query_time:
            half_lives = settings.trend_half_lives
            self.trends = Trends.for_log(half_lives, events.time, self.n_items)
        self._count(new, learned=new)
        given = self._new_vectors(0, call)
        network.make(new, texts, codes, self.n_items, self.rng, given)
        self._put_digests(0, given)
        module = self.module
        module.count(self.counts.n_events, self.counts.n_learned)
        log = self._with_trends(in_order(new))
        until, scorer, policy = np.inf, None, settings.policy
        if policy.patience is not None:
            until = float(np.quantile(events.time, 1 - policy.validation_fraction))
            scorer = next_item_scorer(module, log, until, self.rng.generator, settings.n_threads)
        windows = training_windows(log.events, settings.max_history, until)
        self._train(log, windows, scorer=scorer)
        module.trends = None
        self._append(new)
        network.catalogue = module.catalogue()

    def _update(self, events: Events, undo: Transaction, call: Call) -> None:
        """Store events, and train on them if the call updates weights."""
        network, module, n_items = self.network, self.module, self.module.n_items
        undo.keep(self.history, events.user)
        codes, texts = self._all_texts(events.item, events.text, call)
        vectors = self._new_vectors(n_items, call)
        module.grow(network.read(codes, texts, n_items, vectors), self.n_items, self.rng.generator)
        late = self._put_late(codes, texts, n_items, undo, call)
        self._put_digests(n_items, vectors)
        given = self._as_log(events)
        known, new = self._new_events(given)
        counted = self.counts.first_of(new) if call.adapt else new
        self._count(counted, learned=given if call.weights else None)
        if call.weights:
            module.count(self.counts.n_events, self.counts.n_learned)
            self._rehearse(undo, known, new)
        if call.weights or self.n_items > n_items or len(late):
            network.catalogue = module.catalogue()
        if call.weights or len(late):
            self.recent = StateCache()
        self._append(new)

    def _new_events(self, given: Events) -> tuple[Events, Events]:
        """Return the stored events of the users of ``given`` ones, and those that are new."""
        known, _ = sequences_of(self.history, np.unique(given.user))
        known = with_defaults(known, weight=0.0, context=self._mean_context())
        return known_again(known, given) if self.timed else (known, given)

    def _rehearse(self, undo: Transaction, known: Events, new: Events) -> None:
        """Train on new events with their history, and rehearse sequences of other users."""
        settings, module = self.settings, self.module
        events = in_order(known.joined(new))
        touched = np.unique(events.user)
        windows = training_windows(events, settings.max_history)
        n_replayed = min(settings.replay_size, self.n_users - len(touched))
        if n_replayed:
            drawn = self.rng.generator.integers(self.n_users, size=n_replayed)
            old, _ = sequences_of(self.history, np.setdiff1d(drawn, touched))
            old = with_defaults(old, weight=1.0, context=self._mean_context())
            again = training_windows(old, settings.max_history)
            last = np.unique(old.user[again.start], return_index=True)[1]
            start, stop = again.start[last] + len(events), again.stop[last] + len(events)
            windows = Spans(np.r_[windows.start, start], np.r_[windows.stop, stop])
            events = events.joined(old)
        frozen = settings.policy.freeze_blocks
        undo.keep(self.network.weights)
        log = self._with_trends(events)
        try:
            # Dropout is off: a few gradient steps do not overfit.
            module.begin_update(len(module.blocks) if frozen == "all" else int(frozen))
            self._train(log, windows, update=True)
        finally:
            module.end_update()

    def _train(
        self, log: TrainingLog, windows: Spans, *, update: bool = False,
        scorer: training.Scorer | None = None,
    ) -> None:  # fmt: skip
        if not len(windows):
            return  # no user has two events
        settings = self.settings
        n_so_far = np.cumsum(log.events.weight > 0)
        n_targets = n_so_far[windows.stop] - n_so_far[windows.start]
        trainer = training.Trainer(
            settings.policy.update_epochs if update else settings.max_epochs,
            self.rng.seed(),
            n_threads=settings.n_threads,
            collate=training.SequenceWindows(log.columns()),
            update=update,
            n_targets=int(n_targets.sum()),
            scorer=scorer,
        )
        columns = {"start": windows.start, "size": windows.size}
        trainer.fit(self.network.weights.net, columns, np.zeros(len(windows), np.float32))
        self.module.reset_cold_items(self.counts.has_events)

    # ------------------------------------------------------------------ training data

    def _with_trends(self, events: Events) -> TrainingLog:
        """Set the module's trends for the periods of the targets of a sorted log."""
        if not self.trends.half_lives:
            return TrainingLog(events)
        times = np.where(events.weight > 0, events.time, events.time.max(initial=0))
        period, shares = self.trends.known_at(times, self.n_items)
        self.module.set_trends(shares[..., :-1])
        return TrainingLog(events, period)

    # ------------------------------------------------------------------ counts

    def _count(self, new: Events, *, learned: Events | None) -> None:
        """Update trends and counts of items, for stored events and for training events."""
        positive = new.weight > 0
        self.trends = self.trends.after(new.item[positive], new.time[positive], self.n_items)
        self.counts = self.counts.after(new, learned, self.n_items)

    def _append(self, new: Events) -> None:
        """Append events to the history, in order of arrival."""
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        self.newest = max(self.newest, float(new.time.max(initial=-np.inf)))

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Score each row from the user's history before it, (n,) float64.

        Items whose first event is later than a row are unknown to that row.
        """
        log, queries = self._queries(events)
        states = self._states(log, queries)
        scores, _ = self._scores(events, queries, states)
        return scores if events.query is None else scores + self._logits_of_queries(events)

    def _scores(
        self, events: Events, queries: Queries, states: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score rows by their states, without search words; return their items' vectors too."""
        items, extra = self._known_then(events, queries)
        known, own = np.minimum(items, self.n_items), self._vectors(items, extra)
        scores = np.einsum("nd,nd->n", states, own, dtype=np.float64)
        weights, period, shares = self._trends_of(states, queries)
        scores += (weights * shares[period, :, known]).sum(1)
        if not weights.shape[1]:
            cold = queries.n_before == 0
            scores[cold] = self._popularity()[known[cold]]
        return scores, own

    def _known_then(self, events: Events, queries: Queries) -> tuple[np.ndarray, Any]:
        """Return item codes as known at each row's time, and the contents of unknown items.

        Without texts and vectors, all unknown items share the code ``n_items``.
        """
        items = events.item.copy()
        later = items >= 0
        later[later] = self.counts.first_time[items[later]] > queries.time[later]
        unknown = np.flatnonzero((items < 0) | later)
        if not len(unknown):
            return items, None
        if self.network.encoder is None and not self.reads_vectors:
            items[unknown] = self.n_items
            return items, np.zeros((1, 0), np.float32)
        extra, place = self._contents(events, unknown)
        items[unknown] = self.n_items + np.arange(len(unknown))
        return items, extra[place]

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes products of states and item vectors, plus trends."""
        context = queries.context_as(self.context_names)
        log, wanted = self._sequences(users, queries.timestamps, None, context)
        states = self._with_search_words(self._states_of(users, log, wanted), queries)
        return self._with_lexical_term(self._tiles(states, wanted, columns), queries, columns)

    def _tiles(self, states: np.ndarray, wanted: Queries, columns: np.ndarray) -> TileScorer:
        weights, period, shares = self._trends_of(states, wanted)
        # Without trends, users without history get popularity.
        cold = (wanted.n_before == 0) & (not weights.shape[1])
        score = self._products(states, cold, columns)
        shares = shares[..., :-1]
        if len(columns) < self.n_items:
            shares = shares[..., columns]

        def score_with_trends(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            score(r0, r1, c0, c1, out)
            add_trends(out, weights[r0:r1], period[r0:r1], shares[..., c0:c1])

        return score_with_trends

    def attention(self, events: Events) -> tuple[np.ndarray, Past]:
        """Return the attention (n, n_heads, L) of rows to past events, and these events."""
        log, queries = self._queries(events)
        table, n_threads = self.network.catalogue, self.settings.n_threads
        weights = states_of(self.module, table, log, queries, n_threads=n_threads, weights=True)
        past = past_of(log, queries, self.history.max_history).shortened()
        return weights[..., : past.item.shape[1]], past

    def explain(self, events: Events) -> Explanation:
        """Return the scores of rows as sums over past events, which are added one by one.

        An event adds its change of the item's log-probability. Unknown items have a base only.
        """
        log, queries = self._queries(events)
        score, items = self.score(events), self._known_then(events, queries)[0]
        row, item, steps = steps_of(log, queries, self.history.max_history)
        states = self._states(log, steps)
        tiles = self._tiles(states, steps, np.arange(self.n_items))
        known = items < self.n_items
        shares = log_shares(tiles, np.where(known, items, 0)[row], self.n_items)
        shares = np.where(known[row], shares, score[row])
        last = shares[np.append(row[1:] != row[:-1], True)]
        terms = {"normalizer": score - last}
        if events.query is not None:
            terms["query"] = self._logits_of_queries(events)
            terms["normalizer"] -= terms["query"]
        return Explanation.of_steps(row, item, shares, terms)

    def with_history(self, rows: Interactions) -> SequenceModel:
        """Return a view of the model with these events as the only histories."""
        view, events = self._with_users(rows)
        if (times := rows.timestamps if self.timed else None) is None:
            times = events.time
            times[:] = self.newest if self.timed else 0.0
        view.history = EventHistory(self.history.max_history)
        view.history.append(events.user, events.item, events.feedback, events.time, view.n_users)
        view.newest = max(self.newest, float(times.max(initial=-np.inf)))  # also of unknown items
        view.recent = StateCache()
        return view

    def _queries(self, events: Events) -> tuple[Events, Queries]:
        times = None if np.isinf(events.time).all() else events.time
        return self._sequences(events.user, times, events.item, events.context)

    def _sequences(
        self, users: np.ndarray, times: np.ndarray | None, items: np.ndarray | None,
        context: np.ndarray | None,
    ) -> tuple[Events, Queries]:  # fmt: skip
        """Find the events that each query sees: the sorted log of its user, and their number.

        ``times`` None means after all known events; ``items`` None means no item.
        """
        if context is None:
            context = np.tile(self._mean_context(), (len(users), 1))
        now = self.newest + 1.0 if self.timed else 0.0
        after_all = now, now + self.trends.period
        times = times if self.timed else None
        return read_queries(self.history, users, times, items, context, after_all)

    def _trends_of(
        self, states: np.ndarray, queries: Queries
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the trends at the time of queries, and their weights.

        Returns the weights (N, k), the period (N,) of each query, and the trends (T, k, n_items
        + 1) of the periods; the last item stands for items without events. Users without history
        get the trend of the shortest half-life.
        """
        weights = weights_of_trends(self.module, states)
        weights[queries.n_before == 0] = np.arange(weights.shape[1]) == 0
        return weights, *self.trends.known_at(queries.trend_time, self.n_items)
