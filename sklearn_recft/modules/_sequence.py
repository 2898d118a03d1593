"""A transformer over a user's events, asked at a time and in a context what comes next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._content import Content
from sklearn_recft.modules._layers import grow_rows, tight_state
from sklearn_recft.modules._softmax import sampled_softmax_loss, softmax_loss
from sklearn_recft.modules._time_attention import Block, Dropout, TimedAttention
from sklearn_recft.parallel import torch_threads

_SCALE = 0.02  # of the noise that embeddings begin with
_N_GAPS = 64  # steps of half an octave, from a second to a century
_TREND = 0.5  # weight of trends at first, of all speeds together
_FAMILIAR = 100.0  # events by which an item is half known
_FEW = 0.1  # of the items: the rarest, whose mean a new one begins as


def make_sequence_net(seed: int, *args: Any, **kwargs: Any) -> SequenceNet:
    """Make a `SequenceNet` whose first weights are drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SequenceNet(*args, **kwargs)


class SequenceNet(nn.Module):
    """What a user's events say of the next one.

    Events go through ``n_layers - 1`` blocks in which each looks at itself and those before it.
    A query, which is the state of the last event before it, the time since then and a context,
    then looks at all of them in a last block, at their age when it asks. Logits of items are
    the products of its state with the items' vectors, which are also what events begin as, and
    a mix of the items' trends, whose weights are the query's too. Where texts are read, an item's
    vector is an embedding and a map of its text, and how its text is like the user's past is told
    beside (`Content`).

    Parameters
    ----------
    n_context : int
        Columns of context.
    width, n_layers, n_heads, max_history : int
    time_decay : {"exponential", "log", "none"}
        "none" knows nothing of the times of events but their order.
    query_time : bool
        Whether a query's time is told; else it asks at the time of the last event.
    dropout : float
    text_width : int, default=0
        Length of a text vector; 0 reads no texts.
    n_trends : int, default=0
        Speeds of forgetting at which trends are told.
    late_share : float, default=0.0
        Of the queries in training that do not know of the newest events, from one of them to
        all but the first, evenly on the logarithm: what is asked after a pause.
    n_negatives : int, default=0
        Items that a batch's softmax draws; 0 takes the whole catalogue.
    half_lives : sequence of float, default=None
        Of each head, in days, before training.
    """

    item_texts: Tensor
    scale_of_feedback: Tensor
    scale_of_context: Tensor
    n_events: Tensor  # (n_items,), known and learned
    n_learned: Tensor
    trends: Tensor | None = None  # (T, k, n_items), of the moments of a log that is learned

    def __init__(
        self, n_context: int, *, width: int, n_layers: int, n_heads: int, max_history: int,
        time_decay: str, query_time: bool, dropout: float, text_width: int = 0,
        n_trends: int = 0, late_share: float = 0.0, n_negatives: int = 0,
        half_lives: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.width, self.n_items = width, 0
        self.timed, self.query_time = time_decay != "none", query_time
        self.late_share, self.n_negatives = late_share, n_negatives
        self.noisy = True  # whether training drops units, and hides events from late queries
        self.embedding = nn.Parameter(torch.empty(0, width, dtype=torch.float32))
        self.content = Content(text_width, width, max_history) if text_width else None
        size = self.content.size if self.content else 0
        self.text = nn.Linear(size, width, bias=False, dtype=torch.float32) if size else None
        self.gap, self.query_gap = (
            nn.Parameter(torch.zeros(_N_GAPS, width, dtype=torch.float32)) for _ in range(2)
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
            nn.init.constant_(self.mix.bias, _TREND / n_trends)
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

    def begin(self, texts: np.ndarray | None, feedback: np.ndarray, context: np.ndarray) -> None:
        """Measure text vectors, feedback and context by those of the first rows ever after."""
        if self.content is not None and texts is not None:
            self.content.begin(torch.from_numpy(texts))
        for scale, values in (
            (self.scale_of_feedback, feedback[:, None]),
            (self.scale_of_context, context),
        ):
            mean, deviation = values.mean(0), values.std(0)
            deviation[deviation < 1e-6] = 1.0
            found = torch.from_numpy(np.stack([mean, deviation]))
            scale.copy_(found.view(scale.shape))

    def train(self, mode: bool = True) -> SequenceNet:
        """Set the mode of all parts; of a module that is not ``noisy`` no part drops units."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, Dropout):
                part.training = mode and self.noisy
        return self

    def tell_trends(self, trends: np.ndarray) -> None:
        """Put before the module what was popular at each moment (T, k, n_items) of a log."""
        self.trends = torch.from_numpy(trends).to(self.embedding.device)

    @property
    def depth(self) -> int:
        """How many events each looks back at, itself included."""
        return self.stack[0].attention.order.shape[1]

    @property
    def stack(self) -> list[Block]:
        """The blocks, from the lowest."""
        return cast("list[Block]", list(self.blocks))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what becomes of them in training."""
        return {
            "decay": [block.attention.log_rate for block in self.stack],
            "embedding": [self.embedding],
        }

    def familiarity(self) -> dict[nn.Parameter, Tensor]:
        """How well (n_items,) embeddings are known by the events they learned from: 0 to 1."""
        return {self.embedding: self.n_learned / (self.n_learned + _FAMILIAR)}

    def begin_update(self, n_frozen: int) -> None:
        """Train without dropout, all but the lowest ``n_frozen`` blocks."""
        self.noisy = False
        self.freeze(n_frozen)

    def end_update(self) -> None:
        """Let all parameters train again, with dropout, and drop the trends of the log."""
        self.noisy, self.trends = True, None
        self.requires_grad_(True)

    def freeze(self, n_layers: int) -> None:
        """Let all but the lowest ``n_layers`` blocks train; with all, also what goes into them."""
        for number, block in enumerate(self.blocks):
            block.requires_grad_(number >= n_layers)
        for name, parameter in self.named_parameters():
            if not name.startswith(("blocks.", "embedding")):
                parameter.requires_grad_(n_layers < len(self.blocks))

    @torch.no_grad()  # whole, so that no interrupt can leave gradients off
    def grow(self, texts: np.ndarray | None, n_items: int, rng: np.random.Generator) -> None:
        """Add items up to ``n_items``, with their text vectors where texts are read.

        The first ones begin as noise, later ones as `newcomer`.
        """
        first = self.n_items
        if n_items == first:
            return
        if self.content is not None and texts is not None:
            grow_rows(self.item_texts, n_items)
            self.item_texts[first:] = self.content(torch.from_numpy(texts))
        grow_rows(self.embedding, n_items)
        if first:
            self.embedding[first:] = self.newcomer()
        else:
            noise = rng.standard_normal((n_items, self.width), np.float32)
            self.embedding.copy_(torch.from_numpy(_SCALE * noise))
        grow_rows(self.n_events, n_items)
        grow_rows(self.n_learned, n_items)
        self.n_items = n_items

    def mark(self, *rows: Any) -> tuple[int, Tensor, Tensor]:
        """Return what `restore` needs to undo growth and counts from here on."""
        return self.n_items, self.n_events.clone(), self.n_learned.clone()

    def restore(self, mark: tuple[int, Tensor, Tensor]) -> None:
        """Remove the items that were added since ``mark``, what was counted, and end an update."""
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
        """All that has a row an item."""
        return self.item_texts, self.embedding, self.n_events, self.n_learned

    def count(self, n_events: np.ndarray, n_learned: np.ndarray) -> None:
        """Take note of how many events (n_items,) each item has, and of how many are learned."""
        self.n_events.copy_(torch.from_numpy(n_events))
        self.n_learned.copy_(torch.from_numpy(n_learned))

    def shares(self) -> Tensor:
        """Share (n_items,) of each item in what is drawn: half follows the events, half none."""
        return 0.5 * self.n_events / self.n_events.sum().clamp(min=1) + 0.5 / self.n_items

    def newcomer(self) -> Tensor:
        """Embedding (d,) of an item that nobody has met.

        The mean of the rarest that somebody has, whom the softmax has taught to wait behind the
        others.
        """
        met = self.n_events.nonzero()[:, 0]
        rare = met[self.n_events[met].argsort()[: max(1, int(_FEW * len(met)))]]
        return self.embedding.detach()[rare].sum(0) / max(len(rare), 1)

    @torch.no_grad()
    def settle(self, met: np.ndarray) -> None:
        """Let items that are not in ``met`` (n_items,) be newcomers, whatever was made of them."""
        self.embedding[torch.from_numpy(~met)] = self.newcomer()

    def tight_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Return what to pickle, without spare room in tables; ``memo`` gets their copies."""
        return tight_state(self, self._tables, memo)

    def __getstate__(self) -> dict[str, Any]:
        return self.tight_state({})

    @property
    def query_width(self) -> int:
        """Length of what a query asks with: d, or d + 2 c with texts."""
        return self.width + 2 * self.item_texts.shape[1]

    def vectors(self, extra: np.ndarray | None = None) -> Tensor:
        """Vectors (n_items, d + c) of all items, and behind them those of ``extra`` texts (m, t).

        The last c coordinates are the texts' own, by which items are like a user's past.
        """
        table: Tensor = self.embedding
        texts = self.item_texts
        if extra is not None:
            table = torch.cat([table, self.newcomer().expand(len(extra), -1)])
            if self.content is not None:
                new = self.content(torch.from_numpy(extra).to(table.device))
                texts = torch.cat([texts, new])
        return table if self.text is None else torch.cat([table + self.text(texts), texts], 1)

    @torch.no_grad()
    def catalogue(self, extra: np.ndarray | None = None) -> Tensor:
        """`vectors` for scoring, a copy which training does not write to.

        Behind them stand the texts once more, the louder the rarer the item: (n, d + 2 c) in all.
        """
        with torch_threads(1):
            table = self.vectors(extra).detach().clone()
            if self.content is None:
                return table
            n_learned = functional.pad(self.n_learned, (0, len(table) - self.n_items))
            rare = self.content.of_the_rare(table[:, self.width :], n_learned)
            return torch.cat([table, rare], 1)

    @torch.no_grad()
    def with_cold_items(self, table: Tensor, extra: np.ndarray) -> Tensor:
        """Return a `catalogue`, and behind it the vectors of items with texts ``extra`` (m, t)."""
        with torch_threads(1):
            cold = self.newcomer().expand(len(extra), -1)
            if self.content is None or self.text is None:
                return torch.cat([table, cold])
            texts = self.content(torch.from_numpy(extra).to(table.device))
            rare = self.content.of_the_rare(texts, texts.new_zeros(len(extra)))
            return torch.cat([table, torch.cat([cold + self.text(texts), texts, rare], 1)])

    # ------------------------------------------------------------------ sequences

    def events(
        self, table: Tensor, item: Tensor, feedback: Tensor, time: Tensor, *, first: int = 0
    ) -> Tensor:
        """States (B, n - first, d) of events, each from what is known right after it.

        Behind them stand the events' texts, as in ``table``: (B, n - first, d + c) in all.

        Parameters
        ----------
        table : Tensor of shape (n_items, d + c) or more
        item : Tensor of shape (B, n), int64
            In order; -1 behind the last.
        feedback : Tensor of shape (B, n)
        time : Tensor of shape (B, n), float64
            Seconds.
        first : int, default=0
            The event from which on states are wanted: of those before it is done what they need.
        """
        mean, scale = self.scale_of_feedback
        known = table.index_select(0, item.clamp(min=0).flatten()).view(*item.shape, -1)
        end = self.width + self.item_texts.shape[1]
        x, texts = known[..., : self.width], known[..., self.width : end]
        x = x + ((feedback - mean) / scale)[..., None] * self.feedback
        if self.timed:
            x = x + _told(self.gap, torch.diff(time, dim=1, prepend=time[:, :1]))
        x = self.dropout(x * math.sqrt(self.width))
        lower, begin = self.stack[:-1], 0  # place of the first event in x
        starts = [max(0, first - reach * (self.depth - 1)) for reach in range(len(lower))[::-1]]
        faded = self._faded(time[:, starts[0] :], time) if lower else None
        for block, start in zip(lower, starts, strict=True):
            some = None if faded is None else faded[:, start - starts[0] :, begin:]
            bias = block.attention.bias(x.shape[1], None, some, first=start - begin)
            x = block(x[:, start - begin :], None if start == begin else x, bias)
            begin = start
        x = x[:, first - begin :]  # without lower blocks none was left out yet
        return x if self.content is None else torch.cat([x, texts[:, first:]], 2)

    def ask(
        self,
        events: Tensor,
        time: Tensor,
        n_before: Tensor | None,
        asked: Tensor,
        context: Tensor | None,
        *,
        weights: bool = False,
    ) -> Tensor:
        """States (B, Q, d) of queries, or the attention (B, H, Q, n) they pay to events.

        Behind the states stand the users' profiles of texts, and the text of the last event: (B,
        Q, d + 2 c) in all.

        Parameters
        ----------
        events : Tensor of shape (B, n, d + c)
        time : Tensor of shape (B, n), float64
            Seconds of the events.
        n_before : Tensor of shape (B, Q), int64, or None
            How many of the events a query knows, at least 1; None asks after each event.
        asked : Tensor of shape (B, Q), float64
            Seconds.
        context : Tensor of shape (B, Q, n_context) or None
            None is the average one.
        weights : bool, default=False
        """
        place = None if n_before is None else n_before - 1
        events, texts = events[..., : self.width], events[..., self.width :]
        x, then = events, time
        if place is not None:
            then = time.gather(1, place)
            x = events.gather(1, place[..., None].expand(-1, -1, self.width))
        asked = torch.maximum(asked, then) if self.query_time else then
        told = _told(self.query_gap, asked - then) * self.query_time
        if self.context is not None and context is not None:
            mean, scale = self.scale_of_context
            told = told + self.context((context - mean) / scale)
        x = x + self.dropout(told * math.sqrt(self.width))
        block = self.stack[-1]
        faded = self._faded(asked, time)
        if faded is not None:
            # What all have lost alike cancels in the softmax: taken off before it is rounded.
            newest = self._faded_of(asked - then)
            faded = faded - newest[..., None]
        bias = block.attention.bias(events.shape[1], place, faded)
        if weights:
            return block.attention.weights(block.norm(x), block.norm(events), bias)
        states: Tensor = self.norm(block(x, events, bias))
        if self.content is None:
            return states
        last = texts
        if place is not None:
            last = texts.gather(1, place[..., None].expand(-1, -1, texts.shape[2]))
        profile = self.content.profile(states, texts, place)
        return torch.cat([states, profile, self.content.likeness * last], 2)

    def _faded(self, asked: Tensor, time: Tensor) -> Tensor | None:
        """Ages (B, Q, n) of events in days when asked, as decay counts them."""
        if not self.timed:
            return None
        return self._faded_of(asked[..., None] - time[:, None])

    def _faded_of(self, seconds: Tensor) -> Tensor:
        """Seconds as decay counts them: in days, or the logarithm of days."""
        days = seconds.float().clamp(min=0) / 86_400
        return self.stack[0].attention.faded(days)

    def forward(
        self,
        item: Tensor,
        feedback: Tensor,
        time: Tensor,
        asked: Tensor,
        target: Tensor,
        weight: Tensor,
        context: Tensor | None = None,
        moment: Tensor | None = None,
    ) -> Tensor:
        """Loss () of predicting, after each event, what comes next.

        Parameters
        ----------
        item, feedback, time : Tensor of shape (B, n)
            As for `events`.
        asked : Tensor of shape (B, n), float64
            Seconds of the event that comes next.
        target : Tensor of shape (B, n), int64
            Its item.
        weight : Tensor of shape (B, n)
            What it counts for; 0 where there is none.
        context : Tensor of shape (B, n, n_context), default=None
            In which it happened.
        moment : Tensor of shape (B, n), int64, default=None
            Which of ``trends`` holds at its time.
        """
        table = self.vectors()
        states = self.events(table, item, feedback, time)
        states = self.ask(states, time, self._late(item), asked, context)
        real = weight > 0
        aims = states[real][:, : table.shape[1]].float(), table, target[real], weight[real]
        trending = None
        if self.mix is not None and self.trends is not None and moment is not None:
            trending = self.mix(states[real][:, : self.width]).float(), moment[real], self.trends
        if not self.n_negatives:
            return softmax_loss(*aims, trending)
        share = self.shares()
        drawn = torch.rand(self.n_negatives, device=item.device, dtype=torch.float32)
        chosen = torch.searchsorted(share.cumsum(0), drawn).clamp(max=self.n_items - 1)
        return sampled_softmax_loss(*aims, chosen, share[chosen].log(), trending)

    def _late(self, item: Tensor) -> Tensor | None:
        """Draw how many events (B, n) each query of a batch knows; None: all before it."""
        if not (self.noisy and self.late_share):
            return None
        known = torch.arange(1, item.shape[1] + 1, device=item.device).expand(item.shape)
        late, far = torch.rand(2, *item.shape, device=item.device, dtype=torch.float32)
        hidden = torch.exp(far * known.float().log()).long().clamp(max=known - 1)
        return known - torch.where(late < self.late_share, hidden, 0)


def _told(table: Tensor, seconds: Tensor) -> Tensor:
    """Say what a time in seconds means, by which step of half an octave it is in.

    A step is the sum of ``table`` (n_steps, d) up to it, so that times longer than any that
    was learned from mean what the longest one does.
    """
    step = (2 * (seconds.clamp(min=0) + 1).log2()).long().clamp(max=_N_GAPS - 1)
    return (table / math.sqrt(_N_GAPS)).cumsum(0)[step]
