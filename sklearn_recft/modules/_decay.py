"""Target attention over a user's past, whose weights fade with a learned half-life."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._decay_heads import FadingHeads
from sklearn_recft.modules._layers import grow_rows, tight_state
from sklearn_recft.parallel import torch_threads

_TEXT_NORM = 4.0  # of an item's text vector, so that a linear map of it begins at unit scale
_EMBEDDING_SCALE = 0.02  # of the noise that embeddings begin with
_FEW_ITEMS = 8192  # of which vectors are all computed for each batch, needed or not


class Encoder(Protocol):
    """A text encoder that is trained with the net: a module with a method `upper`."""

    def upper(self, codes: Tensor) -> Tensor:
        """Return the vectors (n, t) of texts by code, with gradients."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter."""


def make_decay_net(seed: int, *args: Any, **kwargs: Any) -> DecayNet:
    """Make a `DecayNet` whose first weights are drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DecayNet(*args, **kwargs)


class DecayAttention(FadingHeads):
    """Heads in which a candidate asks and past items answer, the less the older they are.

    The logit of head h for past item j with vector ``z_j``, feedback ``f_j`` and age ``t_j`` is
    ``z^T A_h z_j + b_h f_j + s_h [j is the candidate] - decay``, where the decay is
    ``lambda_h t_j`` ("exponential"), ``lambda_h log(1 + t_j / 1 day)`` ("log") or nothing.
    A learned null key takes what weight no past item earns.

    Parameters
    ----------
    width : int
        Length of an item's vector.
    n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
        Of each head in days, before training; None spreads them evenly on the logarithm.
    """

    def __init__(
        self, width: int, n_heads: int, decay: str, half_lives: Sequence[float] | None = None
    ) -> None:
        super().__init__(n_heads, decay, half_lives)
        self.width = width
        # Keys and queries in one map, and values taken up by the head that reads them: past
        # vectors are gathered once and multiplied twice.
        self.query = nn.Parameter(torch.randn(n_heads, width, width, dtype=torch.float32) / width)
        self.feedback = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))
        self.same = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))
        self.null = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))

    @property
    def n_outputs(self) -> int:
        """Length of what `forward` says of a row."""
        return self.n_heads * (2 * self.width + 5) + 1

    def weights(
        self, asks: Tensor, past: Tensor, feedback: Tensor, age: Tensor, same: Tensor, pad: Tensor
    ) -> Tensor:
        """Attention (B, H, L) of queries (B, H, d); with that of the null key it sums to 1."""
        logit = asks @ past.transpose(-1, -2)
        logit = logit + self.feedback[:, None] * feedback[..., None, :]
        logit = logit + self.same[:, None] * same[..., None, :]
        logit = (logit - self.fading(age)).masked_fill(pad[..., None, :], -torch.inf)
        null = self.null[None, :, None].expand(len(logit), -1, 1)
        return torch.cat([logit, null], 2).softmax(2)[..., :-1]

    def forward(
        self, item: Tensor, past: Tensor, feedback: Tensor, age: Tensor, same: Tensor, pad: Tensor
    ) -> Tensor:
        """Say of each row (B, n_outputs) what its past makes of its item.

        Parameters
        ----------
        item : Tensor of shape (B, d)
        past : Tensor of shape (B, L, d)
            Or (L, d), one past for all rows.
        feedback, age, same : Tensor of shape (B, L)
            Age in days; ``same`` is 1 where the past item is the row's own. Those of one past
            for all rows are (L,), but for ``same``.
        pad : Tensor of shape (B, L) or (L,), bool
            True where there is no past item.
        """
        asks = torch.einsum("bd,hde->bhe", item, self.query)
        weight = self.weights(asks, past, feedback, age, same, pad)  # (B, H, L)
        liked = weight * feedback[..., None, :]
        pooled = torch.cat([weight, liked], 1) @ past  # (B, 2H, d)
        agree = pooled * item[:, None]
        mean = agree[:, self.n_heads :].sum(2)
        said = [agree.flatten(1), liked.sum(2), weight.sum(2), mean]
        return torch.cat([*said, self.repeats(weight, age, same)], 1)

    def repeats(self, weight: Tensor, age: Tensor, same: Tensor) -> Tensor:
        """Say how much of the past is the item itself, (B, 2 n_heads + 1).

        By the heads' attention, by how often it came, each time faded, and by how often.
        """
        if not same.any():
            return weight.new_zeros(len(weight), 2 * self.n_heads + 1)
        again = (weight * same[:, None]).sum(2)
        faded = ((-self.fading(age)).exp() * same[:, None]).sum(2)
        return torch.cat([again, faded.log1p(), same.sum(1, keepdim=True).log1p()], 1)


class DecayNet(nn.Module):
    """Logit of a row from its item, the user's past and what is known of both.

    ``W2 ReLU(W1 x) + w . features``, where x holds the item's vector, what `DecayAttention`
    makes of the past, and the features. An item's vector is a linear map of its text vector
    plus, with ``ids``, an embedding of its own.

    Parameters
    ----------
    n_features : int
        Known of a row beside the past.
    text_width : int
        Length of a text vector; 0 reads no texts.
    encoder : Encoder, default=None
        Where it is to be trained with the rest. Else texts come as vectors.
    ids : bool
        Whether items have an embedding of their own.
    about_item : sequence of int
        Features that tell of the item's own events. In training they are hidden, with the
        embedding, from every row with probability ``cold_dropout``, so that texts alone learn
        to speak for items without events.
    width, n_hidden, n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
    cold_dropout : float, default=0.3

    Notes
    -----
    ``item_texts`` holds a row per item: its text vector, or the code of its text where an
    encoder is trained.
    """

    item_texts: Tensor
    text_mean: Tensor
    feature_mean: Tensor
    feature_scale: Tensor
    known_when_cold: Tensor

    def __init__(
        self,
        n_features: int,
        *,
        text_width: int,
        ids: bool,
        about_item: Sequence[int],
        width: int,
        n_hidden: int,
        n_heads: int,
        decay: str,
        half_lives: Sequence[float] | None = None,
        cold_dropout: float = 0.3,
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__()
        self.cold_dropout, self.n_items = cold_dropout, 0
        self.attention = DecayAttention(width, n_heads, decay, half_lives)
        self.encoder = encoder
        self.text = (
            nn.Linear(text_width, width, bias=False, dtype=torch.float32) if text_width else None
        )
        self.embedding = nn.Parameter(torch.empty(0, width, dtype=torch.float32)) if ids else None
        self.hidden = nn.Linear(
            self.attention.n_outputs + width + n_features, n_hidden, dtype=torch.float32
        )
        self.output = nn.Linear(n_hidden, 1, dtype=torch.float32)
        self.linear = nn.Linear(n_features, 1, dtype=torch.float32)
        with torch.no_grad():
            self.output.weight.mul_(0.1)  # training begins near what the features say
        known = torch.ones(n_features, dtype=torch.float32)
        known[list(about_item)] = 0
        codes = encoder is not None
        for name, tensor in (
            ("known_when_cold", known),
            ("feature_mean", torch.zeros(n_features, dtype=torch.float32)),
            ("feature_scale", torch.ones(n_features, dtype=torch.float32)),
            ("text_mean", torch.zeros(text_width, dtype=torch.float32)),
            (
                "item_texts",
                torch.zeros(0, dtype=torch.int64)
                if codes
                else torch.zeros(0, text_width, dtype=torch.float32),
            ),
        ):
            self.register_buffer(name, tensor)

    def center(self, texts: np.ndarray) -> None:
        """Measure text vectors from the mean of these (n, t) ever after."""
        self.text_mean.copy_(torch.from_numpy(texts.mean(0)))

    def begin(self, features: np.ndarray, weights: np.ndarray, bias: float) -> None:
        """Scale features by those of the first rows (n, F), and say first what they say.

        That is ``weights`` (F,) of the features as they are, plus ``bias``.
        """
        mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
        scale[scale < 1e-6] = 1.0
        with torch.no_grad():
            self.feature_mean.copy_(torch.from_numpy(mean))
            self.feature_scale.copy_(torch.from_numpy(scale))
            self.linear.weight.copy_(torch.from_numpy(weights * scale))
            self.linear.bias.fill_(float(weights @ mean) + bias)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by what becomes of them in training."""
        groups = {"decay": [self.attention.log_rate]}
        if self.embedding is not None:
            groups["embedding"] = [self.embedding]
        if self.encoder is not None:
            groups["backbone"] = [p for p in self.encoder.parameters() if p.requires_grad]
        return groups

    def grow(self, texts: np.ndarray | None, n_items: int, rng: np.random.Generator | None) -> None:
        """Add items up to ``n_items``, with their text vectors or codes where texts are read.

        A new embedding is zero (an average item), or small noise from ``rng``.
        """
        first = self.n_items
        if self.text is not None and texts is not None:
            grow_rows(self.item_texts, n_items)
            new = torch.from_numpy(texts)
            self.item_texts[first:] = new if self.encoder is not None else self.prepared(new)
        if self.embedding is not None:
            grow_rows(self.embedding, n_items)
            if rng is not None:
                noise = rng.standard_normal((n_items - first, self.embedding.shape[1]), np.float32)
                self.embedding.data[first:] = torch.from_numpy(_EMBEDDING_SCALE * noise)
        self.n_items = n_items

    def mark(self, *rows: Any) -> int:
        """Return what `restore` needs to undo growth from here on."""
        return self.n_items

    def restore(self, mark: int) -> None:
        """Remove the items that were added since ``mark``."""
        n_items = mark
        for table in (self.item_texts, self.embedding):
            if table is not None and len(table) > n_items:
                grow_rows(table, n_items)
        self.n_items = n_items

    def tight_state(self, memo: dict[int, Any]) -> dict[str, Any]:
        """Return what to pickle, without spare room in tables; ``memo`` gets their copies."""
        tables = [table for table in (self.item_texts, self.embedding) if table is not None]
        return tight_state(self, tables, memo)

    def __getstate__(self) -> dict[str, Any]:
        return self.tight_state({})

    def prepared(self, texts: Tensor) -> Tensor:
        """Text vectors (n, t), centred and of one length."""
        return _TEXT_NORM * functional.normalize(texts - self.text_mean, dim=1)

    def vectors(self, codes: Tensor | None = None) -> Tensor:
        """Vectors (n, width) of items by code; None: of all."""
        parts = []
        if self.text is not None:
            texts = self.item_texts if codes is None else self.item_texts[codes]
            if self.encoder is not None:
                texts = self.prepared(self.encoder.upper(texts))
            parts.append(self.text(texts))
        if self.embedding is not None:
            parts.append(self.embedding if codes is None else self.embedding[codes])
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def catalogue(self, known: Tensor | None = None, extra: np.ndarray | None = None) -> Tensor:
        """Vectors of all items for scoring.

        ``known`` (m, width) are those of the first m, where they are at hand. Behind the last
        item come those of ``extra`` text vectors (n, t), of items without a code.
        """
        device = self.linear.weight.device
        if known is None:
            known = torch.zeros(0, self.attention.width, device=device, dtype=torch.float32)
        parts = [known]
        with torch.no_grad(), torch_threads(1):
            # A text that is run by itself has the same vector whatever others are new.
            size = 1 if len(known) and self.encoder is not None else 4096
            for codes in torch.arange(len(known), self.n_items, device=device).split(size):
                parts.append(self.vectors(codes))
            if extra is not None:
                width = self.attention.width
                own = torch.zeros(len(extra), width, device=device, dtype=torch.float32)
                if self.text is not None:
                    own = self.text(self.prepared(torch.from_numpy(extra).to(device)))
                parts.append(own)
        return torch.cat(parts) if len(parts) > 1 else known

    def forward(
        self,
        item: Tensor,
        features: Tensor,
        past: Tensor,
        feedback: Tensor,
        age: Tensor,
        table: Tensor | None = None,
    ) -> Tensor:
        """Logits (B,).

        Parameters
        ----------
        item : Tensor of shape (B,), int64
            Codes.
        features : Tensor of shape (B, n_features)
        past : Tensor of shape (B, L), int64
            Codes of what the user met before, -1 where there is nothing.
        feedback, age : Tensor of shape (B, L)
            What came of it; its age in days.
        table : Tensor of shape (n, width), default=None
            Vectors by code; None computes those that are needed.
        """
        same = (past == item[:, None]).to(features.dtype)
        pad, past = past < 0, past.clamp(min=0)
        if table is not None:
            rows, own_rows = past, item
        elif self.encoder is None and self.n_items <= _FEW_ITEMS:
            table, rows, own_rows = self.vectors(), past, item
        else:
            codes, place = torch.unique(torch.cat([item, past.flatten()]), return_inverse=True)
            table, rows, own_rows = self.vectors(codes), place[len(item) :], place[: len(item)]
        own = table[own_rows]  # (B, d)
        if self.training and self.cold_dropout:
            cold = (
                torch.rand(len(item), 1, device=item.device, dtype=torch.float32)
                < self.cold_dropout
            )
            features = torch.where(cold, features * self.known_when_cold, features)
            if self.embedding is not None:
                own = own - cold * self.embedding[item]
        # One gather for all of the past, written out since advanced indexing is slower.
        gathered = table.index_select(0, rows.flatten()).view(*past.shape, -1)  # (B, L, d)
        read = self.attention(own, gathered, feedback, age, same, pad)
        return self.score(read, own, features)

    def score(self, read: Tensor, own: Tensor, features: Tensor) -> Tensor:
        """Logits (B,) of what was read in the past, item vectors and features."""
        features = (features - self.feature_mean) / self.feature_scale
        hidden = functional.relu(self.hidden(torch.cat([read, own, features], 1)))
        return (self.output(hidden) + self.linear(features))[:, 0]

    def score_items(
        self, table: Tensor, items: np.ndarray, features: np.ndarray, past: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        """Logits (n,) of ``items`` (n,) with ``features`` (n, F) for one user's ``past``.

        The past is item codes, feedback and age in days, (L,) each.
        """
        its_items, its_feedback, its_age = past
        there = its_items >= 0
        with torch.no_grad():
            codes, known, feedback, age, own = (
                torch.from_numpy(column).to(table.device)
                for column in (
                    its_items[there],
                    features,
                    its_feedback[there],
                    its_age[there],
                    items,
                )
            )
            same = (own[:, None] == codes).to(table.dtype)
            pad = torch.zeros(len(codes), dtype=torch.bool, device=table.device)
            vectors = table[own]
            read = self.attention(vectors, table[codes], feedback, age, same, pad)
            return self.score(read, vectors, known).cpu().numpy()

    def attention_of(
        self,
        table: Tensor,
        item: np.ndarray,
        past: np.ndarray,
        feedback: np.ndarray,
        age: np.ndarray,
    ) -> np.ndarray:
        """Attention (n, H, L) of rows, as in `forward`."""
        with torch.no_grad():
            own, codes, came, old = (
                torch.from_numpy(column).to(table.device) for column in (item, past, feedback, age)
            )
            asks = torch.einsum("bd,hde->bhe", table[own], self.attention.query)
            same, pad = (codes == own[:, None]).to(table.dtype), codes < 0
            gathered = table[codes.clamp(min=0)]
            return self.attention.weights(asks, gathered, came, old, same, pad).cpu().numpy()
