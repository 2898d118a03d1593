"""The decay model: online features, and a net over texts and histories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import expit
from torch import Tensor

from sklearn_recft import training
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import EventHistory, Past, Reservoir, past_at, windows_before
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._content_model import has_texts
from sklearn_recft.models._decay_network import DecayNetwork, DecaySettings
from sklearn_recft.models._decay_rows import (
    Rows,
    as_log,
    columns_of,
    rows_of,
    rows_with_negatives,
    target_of,
    written_out,
)
from sklearn_recft.models._decay_search import DecaySearch
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._random import RandomStream
from sklearn_recft.ranking import TileScorer, cosine_tiles
from sklearn_recft.text import texts_of

ROWS_AT_ONCE = 16_384  # with their past: bounds memory


class DecayModel(DecaySearch):
    """Logits of rows from an item's text, the user's history and online features.

    Attributes
    ----------
    history : EventHistory
    reservoir : Reservoir
        Past rows for rehearsal, if updates train the net.
    features : OnlineFeatures
    outcome_scale : (float, float)
        Mean and deviation of the outcomes of the first rows.
    class_weights : (float, float)
    network : DecayNetwork
        The net, the encoder of texts and the vectors of items.
    """

    kind = "DecayBertRecommender"

    def __init__(self, rows: Interactions, settings: DecaySettings) -> None:
        super().__init__(rows, settings)
        own, features = np.random.default_rng(settings.seed).spawn(2)
        self.rng = RandomStream(own)
        self.history = EventHistory(settings.max_history)
        self.reservoir = Reservoir(settings.replay_size)
        self.features = OnlineFeatures(settings.n_factors, outcome=settings.outcome, rng=features)
        self.outcome_scale = 0.0, 1.0
        if rows.outcome is not None:
            mean, deviation = float(rows.outcome.mean()), float(rows.outcome.std())
            is_constant = deviation <= 1e-9 * abs(mean)  # but for rounding errors
            self.outcome_scale = mean, 1.0 if is_constant else deviation
        self.class_weights, self.has_text = settings.class_weights, False
        self.network = DecayNetwork(settings, self.features.about_item)

    # ------------------------------------------------------------------ events

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Return the time of each row in seconds; without timestamps, after all known events."""
        if self.timed and rows.timestamps is not None:
            return rows.timestamps
        newest = self.features.newest if np.isfinite(self.features.newest) else 0.0
        return max(newest + 1.0, np.nextafter(newest, np.inf)) + np.zeros(len(rows))

    def _texts_of(self, rows: Interactions) -> tuple[str, ...] | None:
        return tuple(texts_of(np.asarray(rows.item_ids), rows.text))

    def _register(self, rows: Interactions) -> Events:
        """Assign codes; without timestamps, the times of rows increase in their order.

        Rows of weight 0 get no codes. Without timestamps, each has the time of the next learned
        row, so that its prediction uses all learned rows before it.
        """
        learned = rows.learned()
        events = super()._register(learned)
        steps = np.arange(len(events))
        if learned is not rows:
            events, counted = self.encode(rows), np.asarray(rows.sample_weight) > 0
            steps = np.cumsum(counted) - counted
        return events if self.timed else replace(events, time=events.time + steps)

    # ------------------------------------------------------------------ learning

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        if self.network.is_built:
            undo.keep(self.network)
            self.network.settings = self.settings
        else:
            self.has_text = has_texts(rows, call)

    def _is_finite(self, events: Events) -> bool:
        """Whether the weights of the net are finite."""
        return not self.network.is_built or self.network.weights.is_finite()

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, and update by later ones; those of weight 0 are only predicted."""
        learn = self._update if self.network.is_built else self._fit
        counted = events.weight > 0
        if counted.all():
            return expit(learn(events, undo, call))
        logits = np.empty(len(events))
        learned, unlearned = events.take_items(counted), events.take_items(~counted)
        logits[np.argsort(~counted, kind="stable")] = learn(learned, undo, call, unlearned)
        return expit(logits)

    def _fit(
        self, events: Events, undo: Transaction, call: Call, unlearned: Events | None = None
    ) -> np.ndarray:
        """Learn the online features in time order, then train the net on them.

        With ``call.predict``, returns the logits of the events, then of the ``unlearned`` rows,
        which are only predicted. They come from the features before each event alone: no net
        exists yet.
        """
        settings = self.settings
        rows = self._rows(events)
        codes, texts = self._all_texts(events.item, events.text, call)
        self.features.grow(self.n_users, self.n_items)
        features, rest = self._update_features(rows, unlearned, Call())
        network, given = self.network, self._new_vectors(0, call)
        width = 0 if given is None else given.shape[1]
        network.make(
            features, texts, self.features, self.rng, has_text=self.has_text, vector_width=width
        )
        network.grow(codes, texts, self.n_items, self.rng, given)
        self._put_digests(0, given)
        new = as_log(events, self.outcome_scale, self.positives_only)
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        log, columns = columns_of(rows, features, new, settings.max_history)
        # In the order of time, so that the last rows are the newest.
        order = np.argsort(rows.events.time, kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        target = target_of(rows, self.class_weights)[order]
        windows = training.LogWindows(log.item, log.feedback, log.time)
        trainer = training.Trainer(
            settings.max_epochs, self.rng.seed(), n_threads=settings.n_threads, collate=windows
        )
        trainer.fit(self.network.weights.net, columns, target)
        if settings.net_moves:
            self._fill_reservoir(log, columns, target, rows.events.user[order])
        if not self.positives_only:
            # Not on drawn negatives, which many passes overfit.
            self.features.refit(
                events.user,
                events.item,
                label=rows.events.feedback,
                outcome=rows.events.outcome,
                weight=rows.events.weight,
                n_threads=settings.n_threads,
            )
        network.catalogue = self.module.catalogue()
        if not call.predict:
            return np.empty(0)
        known = np.concatenate([features[rows.real], rest])[:, : self.features.n_features]
        return known.astype(np.float64) @ self.features.first_weights

    def _update(
        self, events: Events, undo: Transaction, call: Call, unlearned: Events | None = None
    ) -> np.ndarray:
        """Learn further events; with ``call.predict``, return the logits (n,) before each.

        The logits of ``unlearned`` events, which are only predicted, follow.
        """
        network, module = self.network, self.module
        undo.keep(self.history, events.user)
        rows = self._rows(events)
        codes, texts = self._all_texts(events.item, events.text, call)
        # No leak, although the tables grow and the features learn before the logits are computed:
        # a row's features were taken from strictly earlier rows, a new item adds its text or a
        # random vector, and the net and the history are updated after the logits.
        undo.keep(self.features, rows.events.user, rows.events.item)
        self.features.grow(self.n_users, self.n_items)
        features, rest = self._update_features(rows, unlearned, call)
        first = module.n_items
        late = self._put_late(codes, texts, first, undo, call)
        given = self._new_vectors(first, call)
        network.grow(codes, texts, self.n_items, self.rng, given)
        self._put_digests(first, given)
        table = module.catalogue(self._catalogue_with(late))
        new, logits = as_log(events, self.outcome_scale, self.positives_only), np.empty(0)
        moves, longest = call.weights and self.settings.net_moves, self.settings.max_history
        if call.predict or moves:
            users = events.user if unlearned is None else np.r_[events.user, unlearned.user]
            known, _ = self.history.events_of(np.unique(users))
            log, columns = columns_of(rows, features, known.joined(new), longest)
        if call.predict:
            past = training.LogWindows(log.item, log.feedback, log.time, longest)
            happened = {name: column[rows.real] for name, column in columns.items()}
            logits = network.logits(happened, lambda batch: {**past(batch), "table": table})
            if unlearned is not None:
                happened, wider = self._unlearned_columns(unlearned, rest, log, table)
                more = network.logits(happened, lambda batch: {**past(batch), "table": wider})
                logits = np.concatenate([logits, more])
        if moves:
            self._rehearse(undo, log, columns, rows)
            table = module.catalogue()
        network.catalogue = table
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        return logits

    def _catalogue_with(self, late: np.ndarray) -> Tensor:
        """Return the catalogue, with new vectors of the items ``late`` (codes)."""
        table: Tensor = self.network.catalogue
        if len(late):
            table = table.clone()
            table[late] = self.module.vectors_at(late)
        return table

    def _rehearse(
        self, undo: Transaction, log: Events, columns: training.Columns, rows: Rows
    ) -> None:
        """Train the net on new rows, with one rehearsed past row for each."""
        undo.keep(self.network.weights)
        target, settings = target_of(rows, self.class_weights), self.settings
        for start in range(0, len(target), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            some = {name: column[part] for name, column in columns.items()}
            new = written_out(log, some, target[part], rows.events.user[part], settings.max_history)
            both = new
            if len(self.reservoir):
                old = self.reservoir.draw(len(new["item"]), self.rng.generator)
                both = {name: np.concatenate([new[name], old[name]]) for name in new}
            trainer = training.Trainer(
                settings.policy.update_epochs,
                self.rng.seed(),
                n_threads=settings.n_threads,
                update=True,
            )
            inputs = {n: column for n, column in both.items() if n not in ("target", "user")}
            trainer.fit(self.network.weights.net, inputs, both["target"])
            slots = self.reservoir.slots(len(new["item"]), self.rng.generator)
            undo.keep(self.reservoir, slots)
            self.reservoir.put(slots, new)

    def _fill_reservoir(
        self, log: Events, columns: training.Columns, target: np.ndarray, users: np.ndarray
    ) -> None:
        """Store a sample of the rows of a fit."""
        size = min(self.reservoir.capacity, len(target))
        chosen = np.sort(self.rng.generator.choice(len(target), size, replace=False))
        some = {name: column[chosen] for name, column in columns.items()}
        kept = written_out(log, some, target[chosen], users[chosen], self.settings.max_history)
        self.reservoir.put(np.arange(size), kept)
        self.reservoir.n_offered = len(target)

    # ------------------------------------------------------------------ rows

    def _rows(self, events: Events) -> Rows:
        """Make training rows: events, each followed by its sampled negatives, if any."""
        if not self.positives_only:
            return rows_of(events)
        known = self.features.seen_items()
        return rows_with_negatives(events, known, self.settings.n_negatives, self.rng.generator)

    def _update_features(
        self, rows: Rows, unlearned: Events | None, call: Call
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute the features of each row, then learn it; those of ``unlearned`` rows are last."""
        n, rows = len(rows.events), rows.with_unlearned(unlearned)
        events = rows.events
        transformed = self.features.update(
            events.user,
            events.item,
            events.time,
            label=events.feedback,
            outcome=events.outcome,
            weight=events.weight,
            real=rows.real,
            items_learn=call.weights,
            items_count=not call.adapt,
            n_unlearned=len(events) - n,
        )
        features = np.concatenate([transformed, events.context], 1)
        return features[:n], features[n:]

    def _unlearned_columns(
        self, unlearned: Events, features: np.ndarray, log: Events, table: Tensor
    ) -> tuple[training.Columns, Tensor]:
        """Return the columns of events that are no part of the log, and the items' vectors."""
        codes, table = self._with_unknown(unlearned, table)
        spans = windows_before(log, unlearned.user, unlearned.time, self.settings.max_history)
        return {"item": codes, "features": features, "time": unlearned.time, **vars(spans)}, table

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Compute the logit (n,) of each row; users and items may be unknown."""
        logits = self._logits(events)
        return logits if events.query is None else logits + self._logits_of_queries(events)

    def _logits(self, events: Events, past_of: Callable[[slice], Past] | None = None) -> np.ndarray:
        """Compute the logit (n,) of each row, from its past events or from given ones."""
        users, items = events.user, events.item
        find = past_of or (lambda rows: past_at(self.history, users[rows], events.time[rows]))
        codes, table = self._with_unknown(events, self.network.catalogue)
        out = np.empty(len(events))
        for start in range(0, len(events), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            past = find(rows)
            columns = {
                "past": past.item,
                "feedback": past.feedback,
                "age": past.age,
                "item": codes[rows],
                "features": self._features(
                    users[rows], items[rows], events.time[rows], events.context[rows]
                ),
            }
            out[rows] = self.network.logits(columns, lambda batch: {**batch, "table": table})
        return out

    def inverse_link(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities of logits."""
        return expit(scores)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the logits of ``users`` for catalogue ``columns``."""
        module, table, times = self.module, self.network.catalogue, self._times_of(queries)
        past = past_at(self.history, users, times)
        context = queries.context_as(self.context_names)
        if context is None:  # the average context
            mean = module.feature_mean.numpy(force=True)[self.features.n_features :]
            context = np.tile(mean, (len(users), 1))
        term = self._term_of_lists(queries)

        def score_tile(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            items, n = columns[c0:c1], c1 - c0
            for row in range(r0, r1):
                features = self._features(
                    np.full(n, users[row]),
                    items,
                    np.full(n, times[row]),
                    np.tile(context[row], (n, 1)),
                )
                its = past.item[row], past.feedback[row], past.age[row]
                out[row - r0] = module.score_items(table, items, features, its)
                if term is not None:
                    out[row - r0] += term(row, items)

        return self._with_lexical_term(score_tile, queries, columns)

    def attention(self, events: Events) -> tuple[np.ndarray, Past]:
        """Return the attention (n, n_heads, L) of rows of known items, and their past."""
        if (events.item < 0).any():
            raise ValueError(f"X: {int((events.item < 0).sum())} rows have an unknown item.")
        past = past_at(self.history, events.user, events.time).shortened()
        weights = self.module.attention_of(
            self.network.catalogue, events.item, past.item, past.feedback, past.age
        )
        return weights, past

    def explain(self, events: Events) -> Explanation:
        """Return the logits of rows as sums over past events, which are added one by one."""
        past = past_at(self.history, events.user, events.time).shortened()
        row, item, n_kept = past.steps()
        steps = events.take_items(row)
        logits = self._logits(steps, lambda rows: past.take(row[rows]).oldest(n_kept[rows]))
        terms = {} if events.query is None else {"query": self._logits_of_queries(events)}
        return Explanation.of_steps(row, item, logits, terms)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item vectors."""
        return cosine_tiles(self.network.catalogue.numpy(force=True), items)

    def _features(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        transformed = self.features.transform(users, items, times)
        return np.concatenate([transformed, context.astype(np.float32)], 1)

    def _with_unknown(self, events: Events, table: Tensor) -> tuple[np.ndarray, Tensor]:
        """Return the codes of the events' items in a table that has the unknown ones at its end."""
        unknown, extra = np.flatnonzero(events.item < 0), None
        codes = events.item.copy()
        if len(unknown):
            extra, place = self._contents(events, unknown)
            codes[unknown] = self.n_items + place
        return codes, self.module.catalogue(table, extra)
