"""The decay model: online features learned event by event, and a net over texts and histories."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import expit

from sklearn_recft import training
from sklearn_recft.history import (
    EventHistory,
    Past,
    Reservoir,
    Spans,
    past_at,
    past_in,
    windows_of_last,
)
from sklearn_recft.interactions import Events, Interactions, context_of_queries
from sklearn_recft.models._base import Call, FittedModel, Part, RandomStream, Transaction
from sklearn_recft.models._decay_rows import Rows, draw_negatives
from sklearn_recft.models._net import Net
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._state import from_plain
from sklearn_recft.modules import DecayNet, make_decay_net
from sklearn_recft.ranking import TileScorer
from sklearn_recft.text import TextEncoder, make_encoder, new_texts, read_texts, texts_of

DECAY_DEFAULTS = training.Policy(
    learning_rate=2e-3, rates={"backbone": 0.01, "decay": 5.0, "embedding": 10.0}, update_rate=0.0
)
# The options of `FineTuning` that the model has.
DECAY_OPTIONS = (
    "learning_rate",
    "backbone_rate",
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
    "lora_rank",
)
ROWS_AT_ONCE = 16_384  # with their past written out: bounds memory
_SCORED_AT_ONCE = 256


@dataclass(frozen=True)
class DecaySettings:
    """Settings of the decay model: as the parameters of the estimator.

    ``class_weights`` (2,) are those of the labels at hand; ``seed`` decides everything drawn.
    """

    backbone: str | None = None
    decay: str = "exponential"
    n_heads: int = 4
    max_history: int = 50
    freeze: Any = "all"
    outcome: bool = False
    width: int = 32
    n_factors: int = 64
    cold_dropout: float = 0.3
    n_negatives: int = 4
    replay_size: int = 2048
    max_epochs: int = 2
    class_weights: tuple[float, float] = (1.0, 1.0)
    policy: training.Policy = DECAY_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None

    @property
    def net_moves(self) -> bool:
        """Whether updates train the net, which then needs rows to rehearse."""
        return self.policy.update_rate != 0


class DecayModel(FittedModel):
    """Logits of rows from an item's text, the user's history and online features.

    Attributes
    ----------
    history : EventHistory
    reservoir : Reservoir
        Past rows to rehearse, where updates train the net.
    features : OnlineFeatures
    outcome_scale : (float, float)
        Mean and deviation of the outcomes of the first rows.
    class_weights : (float, float)
    encoder : TextEncoder or None
        A frozen one. One that trains is a part of the net.
    net : Net
    catalogue : Tensor of shape (n_items, width)
        Vectors of items, for scoring.
    """

    kind = "DecayBertRecommender"
    settings: DecaySettings

    def __init__(self, rows: Interactions, settings: DecaySettings) -> None:
        super().__init__(rows, settings)
        own, features = np.random.default_rng(settings.seed).spawn(2)
        self.rng = RandomStream(own)
        self.history = EventHistory(settings.max_history)
        self.reservoir = Reservoir(settings.replay_size)
        self.features = OnlineFeatures(settings.n_factors, outcome=settings.outcome, rng=features)
        self.outcome_scale = 0.0, 1.0
        if rows.outcome is not None:
            self.outcome_scale = float(rows.outcome.mean()), float(rows.outcome.std()) or 1.0
        self.class_weights = settings.class_weights
        self.encoder: TextEncoder | None = None
        self.net: Net | None = None
        self.catalogue: Any = None
        self.has_text = False  # whether the items of the fit had texts
        self.shape: dict[str, Any] = {}  # of the net, given by the first rows

    @property
    def module(self) -> DecayNet:
        """The net's module."""
        if self.net is None:
            raise AttributeError("The model has no net yet.")
        return self.net.module

    # ------------------------------------------------------------------ events

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Seconds of each row; without timestamps, after all that is known."""
        if self.timed and rows.timestamps is not None:
            return rows.timestamps
        newest = self.features.newest if np.isfinite(self.features.newest) else 0.0
        return max(newest + 1.0, np.nextafter(newest, np.inf)) + np.zeros(len(rows))

    def _texts_of(self, rows: Interactions) -> tuple[str, ...] | None:
        return tuple(texts_of(np.asarray(rows.item_ids), rows.text))

    def _register(self, rows: Interactions) -> Events:
        """Give codes; rows of a log without timestamps follow each other in their order."""
        events = super()._register(rows)
        if self.timed:
            return events
        return replace(events, time=events.time + np.arange(len(events)))

    # ------------------------------------------------------------------ learning

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        if self.net is None:
            self.has_text = rows.text is not None or call.catalogue is not None

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, update by later ones."""
        if self.net is None:
            return expit(self._fit(events, call))
        return expit(self._update(events, undo, call))

    def _fit(self, events: Events, call: Call) -> np.ndarray:
        """Learn the features once in time, then train the net on those before each row.

        Returns the logits (n,) of the events by the features before each, without the net.
        """
        settings = self.settings
        rows = self._rows(events)
        texts, codes = self._all_texts(events, call)
        self.features.grow(self.n_users, self.n_items)
        features = self._follow(rows)
        self._make_net(features, texts)
        self._add_items(codes, texts)
        new = self._as_log(events)
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        log, columns = self._columns(rows, features, new, len(events))
        # In the order of time, so that the last rows are the newest.
        order = np.argsort(rows.events.time, kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        target = self._target(rows)[order]
        windows = training.LogWindows(log.item, log.feedback, log.time)
        trainer = training.Trainer(
            settings.max_epochs, self.rng.seed(), n_threads=settings.n_threads, collate=windows
        )
        trainer.fit(self._net.net, columns, target)
        if settings.net_moves:
            self._fill_reservoir(log, columns, target, rows.events.user[order])
        if not self.positives_only:
            # Not on drawn negatives, which many passes overfit.
            self.features.refine(
                events.user, events.item, label=rows.events.feedback, outcome=rows.events.outcome,
                weight=rows.events.weight, n_threads=settings.n_threads,
            )  # fmt: skip
        self.catalogue = self.module.catalogue()
        known = features[rows.real, : self.features.n_features]
        return known.astype(np.float64) @ self.features.first_weights

    def _update(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Learn further events; return their logits (n,) before each, where ``call.predict``."""
        module = self.module
        undo.keep(module)
        if module.encoder is not None:
            undo.keep(module.encoder)
        undo.keep(self.history, events.user)
        rows = self._rows(events)
        texts, codes = self._all_texts(events, call)
        undo.keep(self.features, rows.events.user, rows.events.item)
        self.features.grow(self.n_users, self.n_items)
        features = self._follow(rows, items_learn=call.weights)
        self._add_items(codes, texts)
        table = module.catalogue(self.catalogue)
        new, logits = self._as_log(events), np.empty(0)
        moves = call.weights and self.settings.net_moves
        if call.predict or moves:
            known, _ = self.history.events_of(np.unique(events.user))
            log, columns = self._columns(rows, features, known.joined(new), len(events))
        if call.predict:
            longest = self.settings.max_history
            past = training.LogWindows(log.item, log.feedback, log.time, longest)
            happened = {name: column[rows.real] for name, column in columns.items()}
            logits = self._logits(happened, lambda batch: {**past(batch), "table": table})
        if moves:
            self._rehearse(undo, log, columns, rows)
            table = module.catalogue()
        self.catalogue = table
        self.history.append(new.user, new.item, new.feedback, new.time, self.n_users)
        return logits

    def _rehearse(
        self, undo: Transaction, log: Events, columns: training.Columns, rows: Rows
    ) -> None:
        """Take small steps with the net on new rows, each beside one of the past."""
        undo.keep(self._net)
        target, settings = self._target(rows), self.settings
        for start in range(0, len(target), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            some = {name: column[part] for name, column in columns.items()}
            new = self._written_out(log, some, target[part], rows.events.user[part])
            both = new
            if len(self.reservoir):
                old = self.reservoir.draw(len(new["item"]), self.rng.generator)
                both = {name: np.concatenate([new[name], old[name]]) for name in new}
            trainer = training.Trainer(
                settings.policy.update_epochs, self.rng.seed(), n_threads=settings.n_threads,
                update=True,
            )  # fmt: skip
            inputs = {n: column for n, column in both.items() if n not in ("target", "user")}
            trainer.fit(self._net.net, inputs, both["target"])
            slots = self.reservoir.slots(len(new["item"]), self.rng.generator)
            undo.keep(self.reservoir, slots)
            self.reservoir.put(slots, new)

    def _fill_reservoir(
        self, log: Events, columns: training.Columns, target: np.ndarray, users: np.ndarray
    ) -> None:
        """Keep a sample of the rows of a fit."""
        size = min(self.reservoir.capacity, len(target))
        chosen = np.sort(self.rng.generator.choice(len(target), size, replace=False))
        some = {name: column[chosen] for name, column in columns.items()}
        kept = self._written_out(log, some, target[chosen], users[chosen])
        self.reservoir.put(np.arange(size), kept)
        self.reservoir.n_offered = len(target)

    @property
    def _net(self) -> Net:
        if self.net is None:
            raise AttributeError("The model has no net yet.")
        return self.net

    # ------------------------------------------------------------------ what is made

    def parts(self) -> dict[str, Part]:
        """Every stateful part by name, the encoder that trains included."""
        found = super().parts()
        if self.net is not None and self.module.encoder is not None:
            found["trained_encoder"] = self.module.encoder
        return found

    def _load(self, state: dict[str, Any]) -> None:
        """Become the model of a state of the same kind."""
        parts = dict(state["parts"])
        device = str(self.settings.net_params.get("device", "cpu"))
        trained = parts.pop("trained_encoder", None)
        if trained is not None:
            trained = TextEncoder.from_state(from_plain(trained), device)
        self.encoder = None
        if "encoder" in parts:
            self.encoder = TextEncoder.from_state(from_plain(parts.pop("encoder")), device)
        self.shape = from_plain(state["values"]["shape"])
        self.net = Net(self._build_net(0, trained))
        super()._load({**state, "parts": parts})
        self.catalogue = self.catalogue.to(self.net.device)

    def _make_net(self, features: np.ndarray, texts: list[str]) -> None:
        """Make the encoder, the module and the net around it, by the first rows."""
        settings = self.settings
        encoder = None if settings.backbone is None else self._make_encoder(texts)
        trains = encoder is not None and encoder.keep != "all"
        self.shape = {
            "n_features": features.shape[1],
            "text_width": encoder.width if encoder else 0,
            "ids": settings.backbone is None or not self.has_text,
            "n_rows": len(features),
        }
        # One that trains is a part of the net, and pickled with it.
        self.encoder = None if trains else encoder
        self.net = Net(self._build_net(self.rng.seed(), encoder if trains else None))
        first = np.zeros(features.shape[1])
        first[: self.features.n_features] = self.features.first_weights
        negative, positive = self.class_weights
        self.module.begin(features, first, float(np.log(positive / negative)))

    def _build_net(self, seed: int, encoder: TextEncoder | None) -> Any:
        """Build a net of the shape that the first rows gave it."""
        settings, shape = self.settings, self.shape
        module = make_decay_net(
            seed,
            shape["n_features"],
            text_width=shape["text_width"],
            ids=shape["ids"],
            about_item=self.features.about_item,
            width=settings.width,
            n_hidden=2 * settings.width,
            n_heads=settings.n_heads,
            decay=settings.decay,
            half_lives=None,
            cold_dropout=settings.cold_dropout,
            encoder=encoder,
        )
        # Few rows are learned in small batches, or there would be too few steps.
        size = int(np.clip(2 ** int(np.log2(shape["n_rows"] / 100 + 1)), 16, 512))
        return training.make_net(
            module, training.LogLoss(), settings.policy, max_epochs=settings.max_epochs,
            verbose=settings.verbose, net_params={"batch_size": size, **settings.net_params},
        )  # fmt: skip

    def _make_encoder(self, texts: list[str]) -> TextEncoder:
        settings = self.settings
        return make_encoder(
            str(settings.backbone),
            settings.freeze,
            texts,
            seed=self.rng.seed(),
            device=str(settings.net_params.get("device", "cpu")),
            lora_rank=settings.policy.lora_rank,
        )

    def _add_items(self, codes: np.ndarray, texts: list[str]) -> None:
        """Give the net what it reads of new items."""
        module, threads = self.module, self.settings.n_threads
        first = module.n_items
        encoder = self.encoder if module.encoder is None else module.encoder
        new = new_texts(codes, texts, first)
        if not first and encoder is not None:
            module.center(encoder.encode(new, n_threads=threads))
        read = read_texts(encoder, new, n_threads=threads, apart=first > 0)
        module.grow(read, self.n_items, None if first else self.rng.generator)

    def _all_texts(self, events: Events, call: Call) -> tuple[list[str], np.ndarray]:
        """Texts of the events' items and of the catalogue's, and their codes."""
        texts = list(events.text or ())
        if call.catalogue is None:
            return texts, events.item
        ids, its_texts = call.catalogue
        codes = np.concatenate([events.item, self.items.extend(ids)])
        return texts + texts_of(ids, its_texts), codes

    # ------------------------------------------------------------------ rows

    def _rows(self, events: Events) -> Rows:
        """Rows to learn: events, each followed by its drawn negatives if there are any."""
        n = len(events)
        source, real, items = np.arange(n), np.ones(n, bool), events.item
        if self.positives_only:
            known, n_draws = self.features.met_items(), self.settings.n_negatives
            source, items = draw_negatives(items, known, n_draws, self.rng.generator)
            real = np.r_[True, source[1:] != source[:-1]]
        label = np.where(real, events.feedback[source], 0.0)
        drawn = replace(events.take(source), item=items, feedback=label)
        return Rows(replace(drawn, context=drawn.context.astype(np.float32)), source, real)

    def _follow(self, rows: Rows, *, items_learn: bool = True) -> np.ndarray:
        """Features of the rows, each from before itself, then learned."""
        events = rows.events
        followed = self.features.follow(
            events.user, events.item, events.time, label=events.feedback,
            outcome=events.outcome, weight=events.weight, real=rows.real,
            items_learn=items_learn,
        )  # fmt: skip
        return np.concatenate([followed, events.context], 1)

    def _as_log(self, events: Events) -> Events:
        """Put events as histories hold them; feedback is about -1 to 1."""
        feedback = np.ones(len(events))
        if events.outcome is not None:
            mean, scale = self.outcome_scale
            feedback = (events.outcome - mean) / scale
        elif not self.positives_only:
            feedback = 2 * events.feedback - 1
        return replace(
            events, feedback=feedback.astype(np.float32), context=np.empty((len(events), 0)),
            outcome=None, text=None,
        )  # fmt: skip

    def _columns(
        self, rows: Rows, features: np.ndarray, log: Events, n_events: int
    ) -> tuple[Events, training.Columns]:
        """Sort the log, whose last rows are the events, and point each row at its past there."""
        log_time = log.time[len(log) - n_events :]
        log, spans = windows_of_last(log, n_events, self.settings.max_history)
        spans = spans.take(rows.source)
        columns = {
            "item": rows.events.item, "features": features, "start": spans.start,
            "stop": spans.stop, "time": log_time[rows.source],
        }  # fmt: skip
        return log, columns

    def _written_out(
        self, log: Events, columns: training.Columns, target: np.ndarray, users: np.ndarray
    ) -> training.Columns:
        """Rows with their past in full, as the reservoir keeps them."""
        spans = Spans(columns["start"], columns["stop"])
        past = past_in(log, spans, columns["time"], self.settings.max_history)
        return {
            "item": columns["item"], "features": columns["features"], "past": past.item,
            "feedback": past.feedback, "age": past.age, "target": target, "user": users,
        }  # fmt: skip

    def _target(self, rows: Rows) -> np.ndarray:
        """Label and weight of each row, (n, 2) float32."""
        label = rows.events.feedback
        weight = rows.events.weight * np.asarray(self.class_weights)[label.astype(int)]
        return np.column_stack([label, weight]).astype(np.float32)

    # ------------------------------------------------------------------ answering

    def score(self, events: Events) -> np.ndarray:
        """Logit (n,) of each row, of users and items known or not."""
        users, items = events.user, events.item
        unknown, extra = np.flatnonzero(items < 0), None
        codes = items.copy()
        if len(unknown):
            extra, place = self._unknown_texts([events.text[row] for row in unknown])
            codes[unknown] = self.n_items + place
        table = self.module.catalogue(self.catalogue, extra)
        out = np.empty(len(events))
        for start in range(0, len(events), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            past = past_at(self.history, users[rows], events.time[rows])
            columns = {
                "past": past.item, "feedback": past.feedback, "age": past.age,
                "item": codes[rows],
                "features": self._described(
                    users[rows], items[rows], events.time[rows], events.context[rows]
                ),
            }  # fmt: skip
            out[rows] = self._logits(columns, lambda batch: {**batch, "table": table})
        return out

    def _logits(self, columns: training.Columns, collate: training.Collate) -> np.ndarray:
        """Logits (n,), float64, each the same to the last bit whatever rows come behind.

        Of matrix products that holds for one shape: the last batch is filled up.
        """
        n = len(columns["item"])
        missing = -n % _SCORED_AT_ONCE
        filled = {
            name: np.concatenate([c, np.repeat(c[-1:], missing, 0)]) for name, c in columns.items()
        }
        logits = training.predict_net(
            self._net.net, filled, batch_size=_SCORED_AT_ONCE,
            n_threads=self.settings.n_threads, collate=collate,
        )  # fmt: skip
        return logits[:n].astype(np.float64)

    def link(self, scores: np.ndarray) -> np.ndarray:
        """Return probabilities of logits."""
        return expit(scores)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the logits of ``users`` for catalogue ``columns``."""
        module, table, times = self.module, self.catalogue, self._times_of(queries)
        past = past_at(self.history, users, times)
        context = context_of_queries(queries, self.context_names)
        if context is None:  # the average one
            mean = module.feature_mean.numpy(force=True)[self.features.n_features :]
            context = np.tile(mean, (len(users), 1))

        def score_tile(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            items, n = columns[c0:c1], c1 - c0
            for row in range(r0, r1):
                features = self._described(
                    np.full(n, users[row]), items, np.full(n, times[row]),
                    np.tile(context[row], (n, 1)),
                )  # fmt: skip
                its = past.item[row], past.feedback[row], past.age[row]
                out[row - r0] = module.score_items(table, items, features, its)

        return score_tile

    def attention(self, events: Events) -> tuple[np.ndarray, Past]:
        """Attention (n, n_heads, L) of rows of known items, and the past it is paid to."""
        past = past_at(self.history, events.user, events.time).shortened()
        weights = self.module.attention_of(
            self.catalogue, events.item, past.item, past.feedback, past.age
        )
        return weights, past

    def _described(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, context: np.ndarray
    ) -> np.ndarray:
        described = self.features.describe(users, items, times)
        return np.concatenate([described, context.astype(np.float32)], 1)

    def _unknown_texts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Text vectors (n, t) of items without a code, and which of them each row has."""
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        place = np.array([distinct[text] for text in texts])
        encoder = self.module.encoder or self.encoder
        if encoder is None:
            return np.zeros((len(distinct), 0), np.float32), place
        threads = self.settings.n_threads
        return encoder.encode(list(distinct), n_threads=threads, apart=True), place
