"""The sequence model: a transformer over users' events, their histories and trends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sklearn_recft import kernels, training
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.history import (
    EventHistory,
    SeenItems,
    Spans,
    Trends,
    in_order,
    sequences_of,
    training_windows,
)
from sklearn_recft.interactions import Events, Interactions, context_of_queries
from sklearn_recft.models._base import Call, FittedModel, RandomStream, Transaction
from sklearn_recft.models._net import Net
from sklearn_recft.models._sequence_log import known_again, with_defaults
from sklearn_recft.models._sequence_queries import (
    Queries,
    TrainingLog,
    add_trends,
    next_item_ndcg,
    states_of,
)
from sklearn_recft.models._state import from_plain
from sklearn_recft.modules import SequenceNet, make_sequence_net
from sklearn_recft.ranking import TileScorer, dot_tiles
from sklearn_recft.text import TextEncoder, make_encoder, new_texts, read_texts, texts_of
from sklearn_recft.vocabulary import Vocabulary

SEQUENCE_DEFAULTS = training.Policy(
    learning_rate=2e-3, rates={"decay": 5.0}, weight_decay=0.0, warmup=0.05, update_rate=0.1,
    update_epochs=3,
)  # fmt: skip
# The options of `FineTuning` that the model has.
SEQUENCE_OPTIONS = (
    "learning_rate",
    "decay_rate",
    "embedding_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "clip",
    "accumulate",
    "bf16",
    "adversarial",
    "patience",
    "validation_fraction",
    "update_rate",
    "update_epochs",
    "freeze_blocks",
)
_TOKENS = 2048  # of a batch
_FEW_ITEMS, _MANY_NEGATIVES = 20_000, 4096  # above so many items, so many are drawn
_N_HELD_OUT = 4096  # held-out events at most
_N_PERIODS = 256  # that a log is cut into, for trends; none is longer than a day,
_TREND_BYTES = 2**27  # but where all of them would take more than this


@dataclass(frozen=True)
class SequenceSettings:
    """Settings of the sequence model: as the parameters of the estimator."""

    backbone: str | None = None
    n_layers: int = 2
    n_heads: int = 2
    max_history: int = 200
    decay: str = "log"
    query_time: bool = True
    width: int = 128
    dropout: float = 0.2
    trend_half_lives: tuple[float, ...] = (3.0, 30.0, np.inf)
    history_dropout: float = 0.3
    n_negatives: int | None = None
    replay_size: int = 0
    max_epochs: int = 12
    policy: training.Policy = SEQUENCE_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None


class SequenceModel(FittedModel):
    """Scores of next items from the order and the times of a user's events.

    Attributes
    ----------
    history : EventHistory
    newest : float
        Time of the newest event.
    trends : Trends
    n_events, n_learned : ndarray of shape (n_items,), float64
        Positive events of each item, known and learned from.
    has_events : ndarray of shape (n_items,), bool
        Whether each item is in any event, positive or not.
    first_time : ndarray of shape (n_items,), float64
        When each item was first seen; -inf for items of the catalogue that was given.
    encoder : TextEncoder or None
    net : Net
    catalogue : Tensor
        Vectors of items, for scoring.
    """

    kind = "RealtimeTransformerRecommender"
    settings: SequenceSettings

    def __init__(self, rows: Interactions, settings: SequenceSettings) -> None:
        super().__init__(rows, settings)
        self.rng = RandomStream(np.random.default_rng(settings.seed))
        self.history = EventHistory(settings.max_history)
        self.newest = -np.inf
        self.trends = Trends((), SECONDS_PER_DAY)
        self.n_events = self.n_learned = np.zeros(0)
        self.has_events, self.first_time = np.zeros(0, bool), np.zeros(0)
        self.encoder: TextEncoder | None = None
        self.net: Net | None = None
        self.catalogue: Any = None
        self.shape: dict[str, Any] = {}  # of the net, given by the first events

    @property
    def module(self) -> SequenceNet:
        """The net's module."""
        return self._net.module

    @property
    def _net(self) -> Net:
        if self.net is None:
            raise AttributeError("The model has no net yet.")
        return self.net

    # ------------------------------------------------------------------ events

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Seconds of each row; of a log without timestamps all are one: only order is known.

        Rows without a timestamp, where the log has them, come after all that is known.
        """
        if self.timed and rows.timestamps is not None:
            return rows.timestamps
        return np.full(len(rows), self.newest + 1.0 if self.timed else 0.0)

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code; rows without a time are after all that is known: at inf."""
        events = super().encode(rows)
        if rows.timestamps is not None:
            return events
        return replace(events, time=np.full(len(rows), np.inf))

    def _texts_of(self, rows: Interactions) -> tuple[str, ...] | None:
        if self.settings.backbone is None:
            return None
        return tuple(texts_of(np.asarray(rows.item_ids), rows.text))

    def _as_log(self, events: Events) -> Events:
        """Put events as they are learned; what has no positive feedback is no target."""
        weight = np.where(events.feedback > 0, events.weight, 0.0)
        return replace(
            events, feedback=events.feedback.astype(np.float32), weight=weight.astype(np.float32),
            context=events.context.astype(np.float32), text=None, outcome=None,
        )  # fmt: skip

    def _mean_context(self) -> np.ndarray:
        return self.module.scale_of_context[0].numpy(force=True)

    # ------------------------------------------------------------------ learning

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, update by later ones."""
        if self.net is None:
            self._fit(events, call)
        else:
            self._update(events, undo, call)
        return np.empty(0)

    def _fit(self, events: Events, call: Call) -> None:
        """Train the net on every step of every user's sequence."""
        settings = self.settings
        texts, codes = self._all_texts(events, call)
        if settings.backbone is not None:
            self.encoder = make_encoder(
                settings.backbone, "all", texts, seed=self.rng.seed(),
                device=str(settings.net_params.get("device", "cpu")), lora_rank=0,
            )  # fmt: skip
        vectors = self._read(codes, texts, 0)
        new = self._as_log(events)
        self.trends = self._new_trends(events.time)
        self._count(new, learned=new)
        module = self._make_net(vectors, new)
        module.begin(vectors, new.feedback, new.context)
        module.grow(vectors, self.n_items, self.rng.generator)
        module.count(self.n_events, self.n_learned)
        log = self._with_trends(in_order(new))
        until, scorer, policy = np.inf, None, settings.policy
        if policy.patience is not None:
            until = float(np.quantile(events.time, 1 - policy.validation_fraction))
            scorer = self._make_scorer(log, until)
        windows = training_windows(log.events, settings.max_history, until)
        self._train(log, windows, scorer=scorer)
        module.trends = None
        self._append(new)
        self.catalogue = module.catalogue()

    def _update(self, events: Events, undo: Transaction, call: Call) -> None:
        """Remember events, and train on them where weights move."""
        module, n_items = self.module, self.module.n_items
        undo.keep(module)
        undo.keep(self.history, events.user)
        texts, codes = self._all_texts(events, call)
        module.grow(self._read(codes, texts, n_items), self.n_items, self.rng.generator)
        given = self._as_log(events)
        known, _ = sequences_of(self.history, np.unique(events.user))
        known = with_defaults(known, weight=0.0, context=self._mean_context())
        new = given
        if self.timed:
            known, new = known_again(known, given)
        self._count(new, learned=given if call.weights else None)
        if call.weights:
            module.count(self.n_events, self.n_learned)
            self._rehearse(undo, known, new)
        if call.weights or self.n_items > n_items:
            self.catalogue = module.catalogue()
        self._append(new)

    def _rehearse(self, undo: Transaction, known: Events, new: Events) -> None:
        """Train on new events, each after its user's past, beside sequences of other users."""
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
        undo.keep(self._net)
        log = self._with_trends(events)
        try:
            # Dropout is off: a few gradient steps do not overfit.
            module.begin_update(len(module.blocks) if frozen == "all" else int(frozen))
            self._train(log, windows, update=True)
        finally:
            module.end_update()

    def _train(
        self,
        log: TrainingLog,
        windows: Spans,
        *,
        update: bool = False,
        scorer: training.Scorer | None = None,
    ) -> None:
        if not len(windows):
            return  # nobody has two events
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
        trainer.fit(self._net.net, columns, np.zeros(len(windows), np.float32))
        self.module.settle(self.has_events)

    def _make_scorer(self, log: TrainingLog, until: float) -> training.Scorer:
        """Return NDCG@10 of events after ``until``, each predicted from what came before it."""
        held_out = np.flatnonzero((log.events.time > until) & (log.events.weight > 0))
        if not len(held_out):
            raise ValueError(
                "patience holds out the newest events, and none is later than the rest: give X a "
                "timestamp, a larger validation_fraction, or patience=None."
            )
        if len(held_out) > _N_HELD_OUT:
            held_out = np.sort(self.rng.generator.choice(held_out, _N_HELD_OUT, replace=False))
        module, threads = self.module, self.settings.n_threads
        return training.Scorer(
            "ndcg@10", lambda: next_item_ndcg(module, log, held_out, n_threads=threads)
        )

    # ------------------------------------------------------------------ what is made

    def _new_trends(self, times: np.ndarray) -> Trends:
        """Make trends without events, with periods to suit the log."""
        timed = self.timed and self.settings.query_time
        half_lives = self.settings.trend_half_lives if timed else ()
        span = float(np.ptp(times)) or SECONDS_PER_DAY
        size = 4 * (self.n_items + 1) * len(half_lives)  # bytes of a period
        period = min(span / _N_PERIODS, SECONDS_PER_DAY)
        return Trends(half_lives, max(period, span * size / _TREND_BYTES))

    def _with_trends(self, events: Events) -> TrainingLog:
        """Give the module the trends as each event of a sorted log is to be predicted."""
        if not self.trends.half_lives:
            return TrainingLog(events)
        times = np.where(events.weight > 0, events.time, events.time.max(initial=0))
        period, shares = self.trends.known_at(times, self.n_items)
        self.module.tell_trends(shares[..., :-1])
        return TrainingLog(events, period)

    def _load(self, state: dict[str, Any]) -> None:
        """Become the model of a state of the same kind."""
        parts = dict(state["parts"])
        device = str(self.settings.net_params.get("device", "cpu"))
        self.encoder = None
        if "encoder" in parts:
            self.encoder = TextEncoder.from_state(from_plain(parts.pop("encoder")), device)
        self.trends.load_state(from_plain(parts["trends"]))
        self.timed = state["values"]["timed"]
        self.shape = from_plain(state["values"]["shape"])
        self.net = Net(self._build_net(0))
        super()._load({**state, "parts": parts})
        self.catalogue = self.catalogue.to(self.net.device)

    def _make_net(self, vectors: np.ndarray | None, new: Events) -> SequenceNet:
        """Make the module, and the net around it, by the first events."""
        self.shape = {
            "n_context": new.context.shape[1],
            "text_width": 0 if vectors is None else vectors.shape[1],
            "n_events": len(new),
            "n_items": self.n_items,
        }
        self.net = Net(self._build_net(self.rng.seed()))
        return self.module.eval()

    def _build_net(self, seed: int) -> Any:
        """Build a net of the shape that the first events gave it."""
        settings, shape = self.settings, self.shape
        n_negatives = settings.n_negatives
        if n_negatives is None:
            n_negatives = _MANY_NEGATIVES if shape["n_items"] > _FEW_ITEMS else 0
        timed = self.timed and settings.query_time
        module = make_sequence_net(
            seed,
            shape["n_context"],
            n_layers=settings.n_layers,
            n_heads=settings.n_heads,
            max_history=settings.max_history,
            query_time=timed,
            time_decay=settings.decay if self.timed else "none",
            width=settings.width,
            text_width=shape["text_width"],
            dropout=settings.dropout,
            late_share=settings.history_dropout if timed else 0.0,
            n_trends=len(self.trends.half_lives),
            n_negatives=n_negatives,
        )
        # Few events are learned in small batches, or there would be too few steps.
        size = int(np.clip(2 ** int(np.log2(shape["n_events"] / 50 + 1)), 32, _TOKENS))
        ours = {"batch_size": size, "iterator_train__size": "size"}
        ours |= {"optimizer__betas": (0.9, 0.98)}
        return training.make_net(
            module, training.OwnLoss(), settings.policy, max_epochs=settings.max_epochs,
            verbose=settings.verbose, net_params={**ours, **settings.net_params},
        )  # fmt: skip

    def _all_texts(self, events: Events, call: Call) -> tuple[list[str], np.ndarray]:
        """Texts of the events' items and of the catalogue's, and their codes."""
        texts = list(events.text or ())
        if call.catalogue is None:
            return texts, events.item
        ids, its_texts = call.catalogue
        codes = np.concatenate([events.item, self.items.extend(ids)])
        if self.settings.backbone is None:
            return [], codes
        return texts + texts_of(ids, its_texts), codes

    def _read(self, codes: np.ndarray, texts: list[str], first: int) -> np.ndarray | None:
        """Text vectors of the items from code ``first`` on."""
        if self.encoder is None:
            return None
        new, threads = new_texts(codes, texts, first), self.settings.n_threads
        return read_texts(self.encoder, new, n_threads=threads, apart=first > 0)

    # ------------------------------------------------------------------ counts

    def _count(self, new: Events, *, learned: Events | None) -> None:
        """Count events of items, known and learned from, and the trends they make."""
        positive = new.weight > 0
        self.trends = self.trends.after(new.item[positive], new.time[positive], self.n_items)
        self.n_events = _counted(self.n_events, new, self.n_items)
        self.n_learned = _counted(self.n_learned, learned, self.n_items)
        has_events = np.bincount(new.item, minlength=self.n_items) > 0
        has_events[: len(self.has_events)] |= self.has_events
        first_time = np.full(self.n_items, np.inf)
        np.minimum.at(first_time, new.item, new.time)
        n_known = len(self.first_time)
        first_time[:n_known] = np.minimum(first_time[:n_known], self.first_time)
        first_time[first_time == np.inf] = -np.inf  # of a catalogue: known without events
        self.has_events, self.first_time = has_events, first_time

    def _append(self, new: Events) -> None:
        """Remember events, in order of arrival."""
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        self.newest = max(self.newest, float(new.time.max(initial=-np.inf)))

    # ------------------------------------------------------------------ answering

    def score(self, events: Events) -> np.ndarray:
        """Score (n,) of each row, from what its user did before it, float64.

        An item that was first seen later than a row's time is unknown to that row.
        """
        log, queries = self._queries(events)
        items, extra = self._known_then(events, queries)
        states = states_of(
            self.module, self.catalogue, log, queries, n_threads=self.settings.n_threads
        )
        vectors, known = self.catalogue, np.minimum(items, self.n_items)
        if extra is not None:
            vectors = self.module.with_cold_items(self.catalogue, extra)
        scores = np.einsum("nd,nd->n", states, vectors.numpy(force=True)[items], dtype=np.float64)
        weights, period, shares = self._trends_of(states, queries)
        scores += (weights * shares[period, :, known]).sum(1)
        if not weights.shape[1]:
            cold = queries.n_before == 0
            scores[cold] = self._popularity()[known[cold]]
        return scores

    def _known_then(self, events: Events, queries: Queries) -> tuple[np.ndarray, Any]:
        """Item codes of rows as known at their times, and text vectors of the unknown ones.

        Without texts all unknown items are one, with code ``n_items``.
        """
        items = events.item.copy()
        later = items >= 0
        later[later] = self.first_time[items[later]] > queries.time[later]
        unknown = np.flatnonzero((items < 0) | later)
        if not len(unknown):
            return items, None
        if self.encoder is None or events.text is None:
            items[unknown] = self.n_items
            return items, np.zeros((1, 0), np.float32)
        items[unknown] = self.n_items + np.arange(len(unknown))
        texts = [events.text[row] for row in unknown.tolist()]
        threads = self.settings.n_threads
        return items, self.encoder.encode(texts, n_threads=threads, apart=True)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes products of states and item vectors, plus trends."""
        context = context_of_queries(queries, self.context_names)
        log, asked = self._sequences(users, queries.timestamps, None, context)
        states = states_of(
            self.module, self.catalogue, log, asked, n_threads=self.settings.n_threads
        )
        vectors = self.catalogue.numpy(force=True)
        weights, period, shares = self._trends_of(states, asked)
        cold = asked.n_before == 0
        if cold.any() and not weights.shape[1]:
            # Without trends their query is one more column: popularity.
            states = np.column_stack([states, cold.astype(np.float32)])
            vectors = np.column_stack([vectors, self._popularity()[:-1]])
        shares = shares[..., :-1]
        if len(columns) < len(vectors):
            vectors, shares = vectors[columns], shares[..., columns]
        nothing = np.zeros(len(columns), np.float32), np.zeros(len(states), np.float32)
        score = dot_tiles(states, vectors, *nothing)

        def score_with_trends(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            score(r0, r1, c0, c1, out)
            add_trends(out, weights[r0:r1], period[r0:r1], shares[..., c0:c1])

        return score_with_trends

    def attention(self, events: Events) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Attention (n, n_heads, max_history) of rows' queries to their past, newest first.

        Also returns the codes (n, max_history) of the past items, -1 for none, and their ages in
        days.
        """
        log, queries = self._queries(events)
        weights = states_of(
            self.module, self.catalogue, log, queries,
            n_threads=self.settings.n_threads, weights=True,
        )  # fmt: skip
        back = np.arange(self.history.max_history)
        there = back < queries.n_before[:, None]
        place = np.where(there, (queries.start + queries.n_before)[:, None] - 1 - back, 0)
        items, age = np.full(place.shape, -1), np.zeros(place.shape)
        items[there] = log.item[place[there]]
        age[there] = queries.time.repeat(there.sum(1)) - log.time[place[there]]
        return weights, items, age / SECONDS_PER_DAY

    def with_history(self, rows: Interactions) -> SequenceModel:
        """Return a view of the model that knows these events of users, and no others."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view.users, view.seen = Vocabulary(), SeenItems()
        users, items = view.users.extend(rows.user_ids), self.items.encode(rows.item_ids)
        times = rows.timestamps
        if times is None or not self.timed:
            times = np.full(len(users), self.newest if self.timed else 0.0)
        feedback = np.ones(len(users)) if rows.feedback is None else rows.feedback
        known = items >= 0
        users, items, n_users = users[known], items[known], view.n_users
        view.seen.append(users, items, n_users)
        view.history = EventHistory(self.history.max_history)
        view.history.append(users, items, feedback[known], times[known], n_users)
        view.newest = max(self.newest, float(times.max()))
        return view

    def _queries(self, events: Events) -> tuple[Events, Queries]:
        times = None if np.isinf(events.time).all() else events.time
        return self._sequences(events.user, times, events.item, events.context)

    def _sequences(
        self,
        users: np.ndarray,
        times: np.ndarray | None,
        items: np.ndarray | None,
        context: np.ndarray | None,
    ) -> tuple[Events, Queries]:
        """Find what each query knows: the sorted log of its user, and its place in there.

        ``times`` None is after all that is known; ``items`` None for none in particular.
        """
        distinct, owner = np.unique(users, return_inverse=True)
        log, spans = sequences_of(self.history, distinct)
        n_before = spans.size[owner]
        now = np.full(len(users), self.newest + 1.0 if self.timed else 0.0)
        trend_time = now + self.trends.period  # after all that is known
        if self.timed and times is not None:
            now = trend_time = times
            none = np.full(len(users), -1) if items is None else items
            kernels.count_past(
                owner, times, none, spans.start, spans.stop, log.item, log.time, n_before
            )
        if context is None:
            context = np.tile(self._mean_context(), (len(users), 1))
        start = spans.start[owner]
        return log, Queries(start, n_before, now, trend_time, context.astype(np.float32))

    def _popularity(self) -> np.ndarray:
        """Log share (n_items + 1,) of each item in all events; last, of a new one."""
        counts = np.append(self.n_events, 0) + 1.0
        return np.log(counts / counts.sum()).astype(np.float32)

    def _trends_of(
        self, states: np.ndarray, queries: Queries
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find what was popular at the time of queries, and with what weights.

        Returns the weights (N, k), the period (N,) of each query, and the trends (T, k, n_items
        + 1) of the periods; the last item stands for one without events. Users without history
        get the quickest trend.
        """
        weights = self.module.weights_of_trends(states)
        weights[queries.n_before == 0] = np.arange(weights.shape[1]) == 0
        return weights, *self.trends.known_at(queries.trend_time, self.n_items)


def _counted(before: np.ndarray, new: Events | None, n_items: int) -> np.ndarray:
    """Add the positive events of each item (n_items,) to counts."""
    counts = np.zeros(n_items)
    counts[: len(before)] = before
    if new is not None:
        counts += np.bincount(new.item, new.weight > 0, n_items)
    return counts
