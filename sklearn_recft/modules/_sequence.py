"""Transformer over a user's events that predicts the next item at a query time and context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._content import Content
from sklearn_recft.modules._layers import N_TIME_STEPS, grow_rows, time_embedding
from sklearn_recft.modules._softmax import sampled_softmax_loss, softmax_loss
from sklearn_recft.modules._time_attention import Block, Dropout, TimedAttention
from sklearn_recft.parallel import torch_threads

_EMBEDDING_SCALE = 0.02  # standard deviation of the initial embeddings
_INITIAL_TREND_WEIGHT = 0.5  # sum over the half-lives of the trends
_HALF_CONFIDENCE = 100.0  # number of events of an item whose embedding has confidence 1/2
_RARE_FRACTION = 0.1  # of the items with events: their mean embedding is that of cold items


def make_sequence_net(seed: int, *args: Any, **kwargs: Any) -> SequenceNet:
    """Make a `SequenceNet` whose initial weights depend on ``seed`` only."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SequenceNet(*args, **kwargs)


class SequenceNet(nn.Module):
    """Predict the next item of a user from the sequence of past events.

    Events pass ``n_layers - 1`` blocks of causal self-attention. A query is the state of the last
    event plus embeddings of the time since then and of the context. The last block attends from
    the query to all events, at their age at the query time. The logit of an item is the product
    of the query state and the item's vector, plus a weighted sum of the item's trends. The state
    also sets the weights of the trends. Events use the same item vectors as input. With texts,
    an item's vector is an embedding plus a linear map of its text, and `Content` adds a similarity
    term.

    Parameters
    ----------
    n_context : int
        Number of context columns.
    width, n_layers, n_heads, max_history : int
    time_decay : {"exponential", "log", "none"}
        "none" uses the order of events, and not their times.
    query_time : bool
        Whether the net uses the time of a query. If not, it uses the time of the last event.
    dropout : float
    text_width : int, default=0
        Length of a text vector; 0 disables texts.
    vector_width : int, default=0
        Length of a vector that is given for an item; 0 disables them. They stand behind the text
        vectors, so "texts" below are both.
    n_trends : int, default=0
        Number of half-lives of the trends.
    history_dropout : float, default=0.0
        Fraction of the training queries with a truncated history. It lacks the newest events,
        at least one and at most all but the first; their number is uniform on a log scale. The
        net so learns to predict after a pause.
    n_negatives : int, default=0
        Number of negatives that a batch samples for the softmax; 0 uses the whole catalogue.
    half_lives : sequence of float, default=None
        Half-life of each head in days before training.
    """

    item_texts: Tensor
    scale_of_feedback: Tensor
    scale_of_context: Tensor
    n_events: Tensor  # (n_items,), events in the history
    n_learned: Tensor  # (n_items,), events that training has used
    trends: Tensor | None = None  # (T, k, n_items), of the periods of the training log

    def __init__(
        self, n_context: int, *, width: int, n_layers: int, n_heads: int, max_history: int,
        time_decay: str, query_time: bool, dropout: float, text_width: int = 0,
        vector_width: int = 0, n_trends: int = 0, history_dropout: float = 0.0,
        n_negatives: int = 0, half_lives: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.n_items = width, 0
        self.timed, self.query_time = time_decay != "none", query_time
        self.history_dropout, self.n_negatives = history_dropout, n_negatives
        self.augment = True  # whether training applies dropout and truncates histories
        self.embedding = nn.Parameter(torch.empty(0, width, dtype=torch.float32))
        given = text_width, width, max_history, vector_width
        self.content = Content(*given) if text_width or vector_width else None
        size = self.content.size if self.content else 0
        self.text = nn.Linear(size, width, bias=False, dtype=torch.float32) if size else None
        self.gap, self.query_gap = (
            nn.Parameter(torch.zeros(N_TIME_STEPS, width, dtype=torch.float32)) for _ in range(2)
        )
        self.feedback = nn.Parameter(torch.zeros(width, dtype=torch.float32))
        self.context = (
            nn.Linear(n_context, width, bias=False, dtype=torch.float32) if n_context else None
        )
        self.blocks = nn.ModuleList(
            Block(
                TimedAttention(width, n_heads, max_history, time_decay, half_lives), width, dropout
            )
            for _ in range(n_layers)
        )
        self.norm, self.dropout = nn.LayerNorm(width, dtype=torch.float32), Dropout(dropout)
        self.mix = nn.Linear(width, n_trends, dtype=torch.float32) if n_trends else None
        if self.mix is not None:
            nn.init.zeros_(self.mix.weight)
            nn.init.constant_(self.mix.bias, _INITIAL_TREND_WEIGHT / n_trends)
        for name, tensor in (
            ("item_texts", torch.zeros(0, size, dtype=torch.float32)),
            ("scale_of_feedback", torch.tensor([0.0, 1.0], dtype=torch.float32)),
            (
                "scale_of_context",
                torch.tensor([[0.0], [1.0]], dtype=torch.float32).repeat(1, n_context),
            ),
            ("n_events", torch.zeros(0, dtype=torch.float32)),
            ("n_learned", torch.zeros(0, dtype=torch.float32)),
        ):
            self.register_buffer(name, tensor)

    # ------------------------------------------------------------------ items and scales

    def initialize_scales(
        self, texts: np.ndarray | None, feedback: np.ndarray, context: np.ndarray
    ) -> None:
        """Fit the scales of text vectors, feedback and context to the rows of the first fit."""
        if self.content is not None and texts is not None:
            self.content.fit(torch.from_numpy(texts))
        for scale, values in (
            (self.scale_of_feedback, feedback[:, None]),
            (self.scale_of_context, context),
        ):
            mean, deviation = values.mean(0), values.std(0)
            deviation[deviation < 1e-6] = 1.0
            found = torch.from_numpy(np.stack([mean, deviation]))
            scale.copy_(found.view(scale.shape))

    def train(self, mode: bool = True) -> SequenceNet:
        """Set the training mode; dropout stays off unless ``augment`` is set."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, Dropout):
                part.training = mode and self.augment
        return self

    def set_trends(self, trends: np.ndarray) -> None:
        """Set the trends (T, k, n_items) of the periods of a training log."""
        self.trends = torch.from_numpy(trends).to(self.embedding.device)

    @property
    def depth(self) -> int:
        """Number of events that an event attends to, itself included."""
        return self.stack[0].attention.order.shape[1]

    @property
    def stack(self) -> list[Block]:
        """Blocks, the lowest first."""
        return cast("list[Block]", list(self.blocks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group parameters that have learning rates of their own."""
        return {
            "decay": [block.attention.log_rate for block in self.stack],
            "embedding": [self.embedding],
        }

    def row_confidence(self) -> dict[nn.Parameter, Tensor]:
        """Return the confidence (n_items,) of each embedding, from 0 (new) to 1 (many events)."""
        return {self.embedding: self.n_learned / (self.n_learned + _HALF_CONFIDENCE)}

    def begin_update(self, n_frozen: int) -> None:
        """Disable dropout and truncated histories, and freeze the lowest ``n_frozen`` blocks."""
        self.augment = False
        self.freeze(n_frozen)

    def end_update(self) -> None:
        """Enable dropout and all gradients again, and drop the trends of the log."""
        self.augment, self.trends = True, None
        self.requires_grad_(True)

    def freeze(self, n_layers: int) -> None:
        """Freeze the lowest ``n_layers`` blocks; with all blocks, all but the embeddings."""
        for number, block in enumerate(self.blocks):
            block.requires_grad_(number >= n_layers)
        for name, parameter in self.named_parameters():
            if not name.startswith(("blocks.", "embedding")):
                parameter.requires_grad_(n_layers < len(self.blocks))

    @torch.no_grad()  # as a decorator, so that no interrupt can leave gradients off
    def grow(self, texts: np.ndarray | None, n_items: int, rng: np.random.Generator) -> None:
        """Add items up to ``n_items``, with their text vectors (n, t) if the net uses texts.

        Items of the first call get random embeddings, later ones `cold_item_embedding`.
        """
        first = self.n_items
        if n_items == first:
            return
        if self.content is not None and texts is not None:
            grow_rows(self.item_texts, n_items)
            self.item_texts[first:] = self.content(torch.from_numpy(texts))
        grow_rows(self.embedding, n_items)
        if first:
            self.embedding[first:] = self.cold_item_embedding()
        else:
            noise = rng.standard_normal((n_items, self.width), np.float32)
            self.embedding.copy_(torch.from_numpy(_EMBEDDING_SCALE * noise))
        grow_rows(self.n_events, n_items)
        grow_rows(self.n_learned, n_items)
        self.n_items = n_items

    @torch.no_grad()
    def put_vectors(self, items: np.ndarray, vectors: np.ndarray) -> None:
        """Set the given vectors (m, e) of known ``items`` (m,); NaN is missing."""
        if self.content is not None:
            self.content.put_vectors(self.item_texts, items, vectors)

    def mark(self, *rows: Any) -> tuple[int, Tensor, Tensor]:
        """Return what `restore` needs to undo later growth and counts."""
        return self.n_items, self.n_events.clone(), self.n_learned.clone()

    def restore(self, mark: tuple[int, Tensor, Tensor]) -> None:
        """Remove items and counts added since ``mark``, and end an update."""
        n_items, n_events, n_learned = mark
        for table in self._tables:
            if len(table) > n_items:
                grow_rows(table, n_items)
        self.n_items = n_items
        self.n_events.copy_(n_events)
        self.n_learned.copy_(n_learned)
        self.end_update()

    @property
    def _tables(self) -> tuple[Tensor, ...]:
        """Tensors with one row per item."""
        return self.item_texts, self.embedding, self.n_events, self.n_learned

    def count(self, n_events: np.ndarray, n_learned: np.ndarray) -> None:
        """Set the number of events (n_items,) of each item, and of those used in training."""
        self.n_events.copy_(torch.from_numpy(n_events))
        self.n_learned.copy_(torch.from_numpy(n_learned))

    def negative_distribution(self) -> Tensor:
        """Return the distribution (n_items,) of negatives: half by popularity, half uniform."""
        return 0.5 * self.n_events / self.n_events.sum().clamp(min=1) + 0.5 / self.n_items

    def cold_item_embedding(self) -> Tensor:
        """Return the embedding (d,) of an item without events.

        It is the mean embedding of the rarest 10 % of the items with events. The softmax already
        ranks these low, so cold items start low too.
        """
        seen = self.n_events.nonzero()[:, 0]
        rare = seen[self.n_events[seen].argsort()[: max(1, int(_RARE_FRACTION * len(seen)))]]
        return self.embedding.detach()[rare].sum(0) / max(len(rare), 1)

    @torch.no_grad()
    def reset_cold_items(self, has_events: np.ndarray) -> None:
        """Reset the embeddings of items without events; ``has_events`` (n_items,) is a mask."""
        self.embedding[torch.from_numpy(~has_events)] = self.cold_item_embedding()

    @property
    def query_width(self) -> int:
        """Length of a query state: d, or d + 2 c with texts."""
        return self.width + 2 * self.item_texts.shape[1]

    def vectors(self, extra: np.ndarray | None = None) -> Tensor:
        """Return the vectors (n_items + m, d + c) of all items and of ``extra`` texts (m, t).

        The last c coordinates are the whitened text, for the similarity to a user's history.
        """
        table: Tensor = self.embedding
        texts = self.item_texts
        if extra is not None:
            table = torch.cat([table, self.cold_item_embedding().expand(len(extra), -1)])
            if self.content is not None:
                new = self.content(torch.from_numpy(extra).to(table.device))
                texts = torch.cat([texts, new])
        return table if self.text is None else torch.cat([table + self.text(texts), texts], 1)

    @torch.no_grad()
    def catalogue(self, extra: np.ndarray | None = None) -> Tensor:
        """Return a copy of `vectors` for scoring, (n, d + 2 c) with texts.

        The last c coordinates are the text vectors scaled by rarity.
        """
        with torch_threads(1):
            table = self.vectors(extra).detach().clone()
            if self.content is None:
                return table
            n_learned = functional.pad(self.n_learned, (0, len(table) - self.n_items))
            rare = self.content.scale_by_rarity(table[:, self.width :], n_learned)
            return torch.cat([table, rare], 1)

    @torch.no_grad()
    def with_cold_items(self, table: Tensor, extra: np.ndarray) -> Tensor:
        """Append the vectors of unknown items with texts ``extra`` (m, t) to a `catalogue`."""
        with torch_threads(1):
            cold = self.cold_item_embedding().expand(len(extra), -1)
            if self.content is None or self.text is None:
                return torch.cat([table, cold])
            texts = self.content(torch.from_numpy(extra).to(table.device))
            rare = self.content.scale_by_rarity(texts, texts.new_zeros(len(extra)))
            return torch.cat([table, torch.cat([cold + self.text(texts), texts, rare], 1)])

    def query_vectors(self, texts: Tensor) -> Tensor:
        """Return vectors (n, c) of texts; their product with ``item_texts`` is the cosine."""
        if self.content is None:
            raise ValueError("A net without texts of items has no vectors of search words.")
        return self.content.queries(texts)

    # ------------------------------------------------------------------ sequences

    def event_states(
        self, table: Tensor, item: Tensor, feedback: Tensor, time: Tensor, *, first: int = 0
    ) -> Tensor:
        """Compute the states of events, (B, n - first, d + c), each from the events up to it.

        The last c coordinates are the text vectors of the events, as in ``table``.

        Parameters
        ----------
        table : Tensor of shape (n_items, d + c) or more
        item : Tensor of shape (B, n), int64
            In order of time, padded with -1 at the end.
        feedback : Tensor of shape (B, n)
        time : Tensor of shape (B, n), float64
            Seconds.
        first : int, default=0
            First event whose state is returned. Earlier events are computed as far as needed.
        """
        mean, scale = self.scale_of_feedback
        rows = table.index_select(0, item.clamp(min=0).flatten()).view(*item.shape, -1)
        end = self.width + self.item_texts.shape[1]
        x, texts = rows[..., : self.width], rows[..., self.width : end]
        x = x + ((feedback - mean) / scale)[..., None] * self.feedback
        if self.timed:
            x = x + time_embedding(self.gap, torch.diff(time, dim=1, prepend=time[:, :1]))
        x = self.dropout(x * math.sqrt(self.width))
        lower, begin = self.stack[:-1], 0  # position of the first event in x
        starts = [max(0, first - reach * (self.depth - 1)) for reach in range(len(lower))[::-1]]
        ages = self._transformed_ages(time[:, starts[0] :], time) if lower else None
        for block, start in zip(lower, starts, strict=True):
            some = None if ages is None else ages[:, start - starts[0] :, begin:]
            bias = block.attention.bias(x.shape[1], None, some, first=start - begin)
            x = block(x[:, start - begin :], None if start == begin else x, bias)
            begin = start
        x = x[:, first - begin :]  # without lower blocks, x still starts at 0
        return x if self.content is None else torch.cat([x, texts[:, first:]], 2)

    def query_states(
        self,
        events: Tensor,
        time: Tensor,
        n_before: Tensor | None,
        query_times: Tensor,
        context: Tensor | None,
        *,
        weights: bool = False,
    ) -> Tensor:
        """Compute the states of queries, (B, Q, d + 2 c), or their attention (B, H, Q, n).

        With texts, the last 2 c coordinates are the profile and the text of the last event.

        Parameters
        ----------
        events : Tensor of shape (B, n, d + c)
        time : Tensor of shape (B, n), float64
            Seconds of the events.
        n_before : Tensor of shape (B, Q), int64, or None
            Number of events that each query sees, at least 1. None makes one query per event.
        query_times : Tensor of shape (B, Q), float64
            Seconds.
        context : Tensor of shape (B, Q, n_context) or None
            None uses the average context.
        weights : bool, default=False
            Return the attention weights of the last block instead of the states.
        """
        position = None if n_before is None else n_before - 1
        events, texts = events[..., : self.width], events[..., self.width :]
        x, then = events, time
        if position is not None:
            then = time.gather(1, position)
            x = events.gather(1, position[..., None].expand(-1, -1, self.width))
        query_times = torch.maximum(query_times, then) if self.query_time else then
        query = time_embedding(self.query_gap, query_times - then) * self.query_time
        if self.context is not None and context is not None:
            mean, scale = self.scale_of_context
            query = query + self.context((context - mean) / scale)
        x = x + self.dropout(query * math.sqrt(self.width))
        block = self.stack[-1]
        ages = self._transformed_ages(query_times, time)
        if ages is not None:
            # The softmax ignores a common offset: subtracting it first saves precision in bfloat16.
            newest = self._transform_age(query_times - then)
            ages = ages - newest[..., None]
        bias = block.attention.bias(events.shape[1], position, ages)
        if weights:
            return block.attention.weights(block.norm(x), block.norm(events), bias)
        states: Tensor = self.norm(block(x, events, bias))
        if self.content is None:
            return states
        last = texts
        if position is not None:
            last = texts.gather(1, position[..., None].expand(-1, -1, texts.shape[2]))
        profile = self.content.profile(states, texts, position)
        return torch.cat([states, profile, self.content.similarity_weight * last], 2)

    def _transformed_ages(self, query_times: Tensor, time: Tensor) -> Tensor | None:
        """Compute the ages (B, Q, n) of events at the query times, on the scale of the decay."""
        if not self.timed:
            return None
        return self._transform_age(query_times[..., None] - time[:, None])

    def _transform_age(self, seconds: Tensor) -> Tensor:
        """Transform seconds to the scale of the decay: days, or ``log(1 + days)``."""
        days = seconds.float().clamp(min=0) / 86_400
        return self.stack[0].attention.transform_age(days)

    def forward(
        self,
        item: Tensor,
        feedback: Tensor,
        time: Tensor,
        query_times: Tensor,
        target: Tensor,
        weight: Tensor,
        context: Tensor | None = None,
        period: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss () of predicting the next item after each event.

        Parameters
        ----------
        item, feedback, time : Tensor of shape (B, n)
            As for `event_states`.
        query_times : Tensor of shape (B, n), float64
            Time of the next event, in seconds.
        target : Tensor of shape (B, n), int64
            Item of the next event.
        weight : Tensor of shape (B, n)
            Weight of the next event; 0 for padding.
        context : Tensor of shape (B, n, n_context), default=None
            Context of the next event.
        period : Tensor of shape (B, n), int64, default=None
            Index in ``trends`` of the next event's period.
        """
        table = self.vectors()
        states = self.event_states(table, item, feedback, time)
        states = self.query_states(
            states, time, self._draw_history_lengths(item), query_times, context
        )
        real = weight > 0
        targets = states[real][:, : table.shape[1]].float(), table, target[real], weight[real]
        trending = None
        if self.mix is not None and self.trends is not None and period is not None:
            trending = self.mix(states[real][:, : self.width]).float(), period[real], self.trends
        if not self.n_negatives:
            return softmax_loss(*targets, trending)
        probability = self.negative_distribution()
        drawn = torch.rand(self.n_negatives, device=item.device, dtype=torch.float32)
        chosen = torch.searchsorted(probability.cumsum(0), drawn).clamp(max=self.n_items - 1)
        return sampled_softmax_loss(*targets, chosen, probability[chosen].log(), trending)

    def _draw_history_lengths(self, item: Tensor) -> Tensor | None:
        """Draw the number of events (B, n) that each query sees; None: all of them."""
        if not (self.augment and self.history_dropout):
            return None
        length = torch.arange(1, item.shape[1] + 1, device=item.device).expand(item.shape)
        drop, depth = torch.rand(2, *item.shape, device=item.device, dtype=torch.float32)
        hidden = torch.exp(depth * length.float().log()).long().clamp(max=length - 1)
        return length - torch.where(drop < self.history_dropout, hidden, 0)
