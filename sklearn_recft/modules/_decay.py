"""Target attention over a user's history, with a learned time decay per head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._decay_heads import DecayHeads
from sklearn_recft.modules._layers import grow_rows
from sklearn_recft.modules._vectors import ProjectedVectors
from sklearn_recft.parallel import torch_threads

_TEXT_NORM = 4.0  # of text vectors: the initial output of a linear map has unit scale
_TINY = 1e-12  # smallest norm to divide by, as in `functional.normalize`
_EMBEDDING_SCALE = 0.02  # standard deviation of the initial embeddings
_FEW_ITEMS = 8192  # up to this catalogue size, each batch computes the vectors of all items


class Encoder(Protocol):
    """Text encoder that is trained with the net: a module with a method `upper`."""

    def upper(self, codes: Tensor) -> Tensor:
        """Return the vectors (n, t) of texts, given by code, with gradients."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter."""


def make_decay_net(seed: int, *args: Any, **kwargs: Any) -> DecayNet:
    """Make a `DecayNet` whose initial weights depend on ``seed`` only."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return DecayNet(*args, **kwargs)


class DecayAttention(DecayHeads):
    """Target attention from a candidate item to past items, with time decay.

    The logit of head h for past item j with vector ``z_j``, feedback ``f_j`` and age ``t_j`` is
    ``z^T A_h z_j + b_h f_j + s_h [j is the candidate] - decay``. The decay is ``lambda_h t_j``
    ("exponential"), ``lambda_h log(1 + t_j / 1 day)`` ("log") or 0 ("none"). A learned null key
    takes the remaining weight if no past item is relevant.

    Parameters
    ----------
    width : int
        Length of an item's vector.
    n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
        Half-life of each head in days before training; None spaces them evenly on a log scale.
    """

    def __init__(
        self, width: int, n_heads: int, decay: str, half_lives: Sequence[float] | None = None
    ) -> None:
        super().__init__(n_heads, decay, half_lives)
        self.width = width
        # One matrix replaces the maps of keys and queries, and values are the item vectors. Past
        # vectors are so read once and multiplied twice.
        self.query = nn.Parameter(torch.randn(n_heads, width, width, dtype=torch.float32) / width)
        self.feedback = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))
        self.same = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))
        self.null = nn.Parameter(torch.zeros(n_heads, dtype=torch.float32))

    @property
    def n_outputs(self) -> int:
        """Number of outputs of `forward` per row."""
        return self.n_heads * (2 * self.width + 5) + 1

    def weights(
        self,
        queries: Tensor,
        past: Tensor,
        feedback: Tensor,
        age: Tensor,
        same: Tensor,
        pad: Tensor,
    ) -> Tensor:
        """Compute attention weights (B, H, L) of queries (B, H, d); with the null key: sum 1."""
        logit = queries @ past.transpose(-1, -2)
        logit = logit + self.feedback[:, None] * feedback[..., None, :]
        logit = logit + self.same[:, None] * same[..., None, :]
        logit = (logit - self.decay_penalty(age)).masked_fill(pad[..., None, :], -torch.inf)
        null = self.null[None, :, None].expand(len(logit), -1, 1)
        return torch.cat([logit, null], 2).softmax(2)[..., :-1]

    def forward(
        self, item: Tensor, past: Tensor, feedback: Tensor, age: Tensor, same: Tensor, pad: Tensor
    ) -> Tensor:
        """Attend from each row's item to its past items; return (B, n_outputs).

        Parameters
        ----------
        item : Tensor of shape (B, d)
        past : Tensor of shape (B, L, d)
            (L, d) if all rows share one past.
        feedback, age, same : Tensor of shape (B, L)
            Age in days; ``same`` is 1 where the past item is the row's item. If all rows share
            one past, feedback and age have shape (L,).
        pad : Tensor of shape (B, L) or (L,), bool
            True at padding.
        """
        queries = torch.einsum("bd,hde->bhe", item, self.query)  # (B, H, d)
        weight = self.weights(queries, past, feedback, age, same, pad)  # (B, H, L)
        liked = weight * feedback[..., None, :]
        pooled = torch.cat([weight, liked], 1) @ past  # (B, 2H, d)
        agree = pooled * item[:, None]
        mean = agree[:, self.n_heads :].sum(2)
        outputs = [agree.flatten(1), liked.sum(2), weight.sum(2), mean]
        return torch.cat([*outputs, self.repeats(weight, age, same)], 1)

    def repeats(self, weight: Tensor, age: Tensor, same: Tensor) -> Tensor:
        """Measure how often the item itself is in the past, (B, 2 n_heads + 1).

        The columns are the attention on it per head, the log of its decayed count per head, and
        the log of its count.
        """
        if not same.any():
            return weight.new_zeros(len(weight), 2 * self.n_heads + 1)
        again = (weight * same[:, None]).sum(2)
        decayed = ((-self.decay_penalty(age)).exp() * same[:, None]).sum(2)
        return torch.cat([again, decayed.log1p(), same.sum(1, keepdim=True).log1p()], 1)


class DecayNet(nn.Module):
    """Compute the logit of a row from its item, the user's history and features.

    The logit is ``W2 ReLU(W1 x) + w . features``. Here x concatenates the output of
    `DecayAttention`, the item's vector and the features. An item's vector is a linear map of its
    text vector and one of its given vector, plus an embedding if ``ids`` is set.

    Parameters
    ----------
    n_features : int
        Number of features of a row.
    text_width : int
        Length of a text vector; 0 disables texts.
    vector_width : int, default=0
        Length of a vector that is given for an item; 0 disables them.
    encoder : Encoder, default=None
        Text encoder to train with the net. None takes precomputed text vectors.
    ids : bool
        Whether items have embeddings.
    about_item : sequence of int
        Features computed from the item's events. In training, each row loses them and the
        embedding with probability ``cold_dropout``. The net so learns to score items without
        events by their texts.
    width, n_hidden, n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
    cold_dropout : float, default=0.3

    Notes
    -----
    ``item_texts`` has one row per item: its text vector, or the code of its text if the encoder
    is trained.
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
        vector_width: int = 0,
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
        self.given = ProjectedVectors(vector_width, width, _TEXT_NORM) if vector_width else None
        self.embedding = nn.Parameter(torch.empty(0, width, dtype=torch.float32)) if ids else None
        self.hidden = nn.Linear(
            self.attention.n_outputs + width + n_features, n_hidden, dtype=torch.float32
        )
        self.output = nn.Linear(n_hidden, 1, dtype=torch.float32)
        self.linear = nn.Linear(n_features, 1, dtype=torch.float32)
        self.output.weight.data.mul_(0.1)  # training starts near the linear model
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
        """Fit the mean of text vectors to ``texts`` (n, t)."""
        self.text_mean.copy_(torch.from_numpy(texts.mean(0)))

    @torch.no_grad()
    def initialize_linear(self, features: np.ndarray, weights: np.ndarray, bias: float) -> None:
        """Fit the feature scale to rows (n, F), and set the weights of the linear part.

        Its initial output is ``features @ weights + bias``, for unscaled features.
        """
        mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
        scale[scale < 1e-6] = 1.0
        self.feature_mean.copy_(torch.from_numpy(mean))
        self.feature_scale.copy_(torch.from_numpy(scale))
        self.linear.weight.copy_(torch.from_numpy(weights * scale))
        self.linear.bias.fill_(float(weights @ mean) + bias)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Group parameters that have learning rates of their own."""
        groups = {"decay": [self.attention.log_rate]}
        if self.embedding is not None:
            groups["embedding"] = [self.embedding]
        if self.encoder is not None:
            groups["backbone"] = [p for p in self.encoder.parameters() if p.requires_grad]
        return groups

    def grow(
        self,
        texts: np.ndarray | None,
        n_items: int,
        rng: np.random.Generator | None,
        vectors: np.ndarray | None = None,
    ) -> None:
        """Add items up to ``n_items``, with their text vectors or codes if the net uses texts.

        A new embedding is zero, or random if ``rng`` is given. ``vectors`` (n, e) are given ones.
        """
        first = self.n_items
        if self.text is not None and texts is not None:
            grow_rows(self.item_texts, n_items)
            self.item_texts[first:] = self._as_rows(texts)
        if self.embedding is not None:
            grow_rows(self.embedding, n_items)
            if rng is not None:
                noise = rng.standard_normal((n_items - first, self.embedding.shape[1]), np.float32)
                self.embedding.data[first:] = torch.from_numpy(_EMBEDDING_SCALE * noise)
        if self.given is not None and vectors is not None and n_items > first:
            self.given.grow(n_items, vectors)
        self.n_items = n_items

    def _as_rows(self, texts: np.ndarray) -> Tensor:
        """Return codes (m,) of texts as they are, and vectors (m, t) normalized."""
        new = torch.from_numpy(texts)
        return new if self.encoder is not None else self.normalized(new)

    def put_texts(self, items: np.ndarray, texts: np.ndarray) -> None:
        """Set the vectors or codes of the texts of known ``items`` (m,)."""
        if self.text is not None:
            self.item_texts[torch.from_numpy(items)] = self._as_rows(texts)

    def put_vectors(self, items: np.ndarray, vectors: np.ndarray) -> None:
        """Set the given vectors (m, e) of known ``items`` (m,); NaN is missing."""
        if self.given is not None:
            self.given.put(items, vectors)

    def mark(self, *rows: Any) -> int:
        """Return what `restore` needs to undo later growth."""
        return self.n_items

    def restore(self, mark: int) -> None:
        """Remove the items added since ``mark``."""
        n_items = mark
        given = None if self.given is None else self.given.rows
        for table in (self.item_texts, self.embedding, given):
            if table is not None and len(table) > n_items:
                grow_rows(table, n_items)
        self.n_items = n_items

    def normalized(self, texts: Tensor) -> Tensor:
        """Center text vectors (n, t) and scale them to one norm."""
        return _TEXT_NORM * functional.normalize(texts - self.text_mean, dim=1)

    def query_vectors(self, texts: np.ndarray) -> np.ndarray:
        """Return vectors (n, t) of texts; their product with ``item_texts`` is the cosine.

        These are the vectors of `normalized`, divided by their squared norm. For the single text
        of a request, NumPy takes a third of the time of torch.
        """
        centered = texts - self.text_mean.numpy(force=True)
        norm = np.sqrt(np.einsum("nt,nt->n", centered, centered))[:, None]
        found: np.ndarray = centered / (_TEXT_NORM * np.maximum(norm, _TINY))
        return found

    def vectors(self, codes: Tensor | None = None) -> Tensor:
        """Compute the vectors (n, width) of items by code; None means all items."""
        parts = []
        if self.text is not None:
            texts = self.item_texts if codes is None else self.item_texts[codes]
            if self.encoder is not None:
                texts = self.normalized(self.encoder.upper(texts))
            parts.append(self.text(texts))
        if self.given is not None:
            parts.append(self.given(codes))
        if self.embedding is not None:
            parts.append(self.embedding if codes is None else self.embedding[codes])
        return sum(parts[1:], start=parts[0])

    @torch.no_grad()
    def vectors_at(self, items: np.ndarray) -> Tensor:
        """Compute the vectors (n, width) of ``items`` (codes), one after the other."""
        codes = torch.from_numpy(items).to(self.linear.weight.device)
        with torch_threads(1):
            return torch.cat([self.vectors(code) for code in codes.split(1)])

    @torch.no_grad()
    def catalogue(self, known: Tensor | None = None, extra: np.ndarray | None = None) -> Tensor:
        """Compute the vectors of all items for scoring.

        ``known`` (m, width) are precomputed vectors of the first m items. The vectors of unknown
        items are appended; ``extra`` (n, t + e) are their text vectors and given vectors.
        """
        device = self.linear.weight.device
        if known is None:
            known = torch.zeros(0, self.attention.width, device=device, dtype=torch.float32)
        parts = [known]
        with torch_threads(1):
            # A batch of one text gives a vector that does not depend on other new texts.
            size = 1 if len(known) and self.encoder is not None else 4096
            for codes in torch.arange(len(known), self.n_items, device=device).split(size):
                parts.append(self.vectors(codes))
            if extra is not None:
                parts.append(self._cold_vectors(extra, device))
        return torch.cat(parts) if len(parts) > 1 else known

    def _cold_vectors(self, extra: np.ndarray, device: torch.device) -> Tensor:
        """Compute the vectors (n, width) of items without events from their contents."""
        size = 0 if self.text is None else self.text.in_features
        cold = torch.zeros(len(extra), self.attention.width, device=device, dtype=torch.float32)
        if self.text is not None:
            texts = np.ascontiguousarray(extra[:, :size])
            cold = self.text(self.normalized(torch.from_numpy(texts).to(device)))
        if self.given is not None:
            cold = cold + self.given.project(extra[:, size:])
        return cold

    def forward(
        self,
        item: Tensor,
        features: Tensor,
        past: Tensor,
        feedback: Tensor,
        age: Tensor,
        table: Tensor | None = None,
    ) -> Tensor:
        """Compute logits (B,).

        Parameters
        ----------
        item : Tensor of shape (B,), int64
            Codes.
        features : Tensor of shape (B, n_features)
        past : Tensor of shape (B, L), int64
            Codes of the user's past items, -1 at padding.
        feedback, age : Tensor of shape (B, L)
            Feedback and age in days of the past items.
        table : Tensor of shape (n, width), default=None
            Vectors by code; None computes the vectors that the batch needs.
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
        # `index_select` is faster than advanced indexing.
        vectors = table.index_select(0, rows.flatten()).view(*past.shape, -1)  # (B, L, d)
        attended = self.attention(own, vectors, feedback, age, same, pad)
        return self.score(attended, own, features)

    def score(self, attended: Tensor, own: Tensor, features: Tensor) -> Tensor:
        """Compute logits (B,) from attention outputs, item vectors and features."""
        features = (features - self.feature_mean) / self.feature_scale
        hidden = functional.relu(self.hidden(torch.cat([attended, own, features], 1)))
        return (self.output(hidden) + self.linear(features))[:, 0]

    @torch.no_grad()
    def score_items(
        self, table: Tensor, items: np.ndarray, features: np.ndarray, past: tuple[np.ndarray, ...]
    ) -> np.ndarray:
        """Compute logits (n,) of ``items`` (n,) with ``features`` (n, F) for one user's ``past``.

        The past consists of item codes, feedback and age in days, each of shape (L,).
        """
        past_items, past_feedback, past_age = past
        real = past_items >= 0
        codes, known, feedback, age, own = (
            torch.from_numpy(column).to(table.device)
            for column in (
                past_items[real],
                features,
                past_feedback[real],
                past_age[real],
                items,
            )
        )
        same = (own[:, None] == codes).to(table.dtype)
        pad = torch.zeros(len(codes), dtype=torch.bool, device=table.device)
        vectors = table[own]
        attended = self.attention(vectors, table[codes], feedback, age, same, pad)
        return self.score(attended, vectors, known).cpu().numpy()

    @torch.no_grad()
    def attention_of(
        self,
        table: Tensor,
        item: np.ndarray,
        past: np.ndarray,
        feedback: np.ndarray,
        age: np.ndarray,
    ) -> np.ndarray:
        """Return the attention weights (n, H, L) of rows, as in `forward`."""
        own, codes, past_feedback, past_age = (
            torch.from_numpy(column).to(table.device) for column in (item, past, feedback, age)
        )
        queries = torch.einsum("bd,hde->bhe", table[own], self.attention.query)
        same, pad = (codes == own[:, None]).to(table.dtype), codes < 0
        vectors = table[codes.clamp(min=0)]
        return (
            self.attention.weights(queries, vectors, past_feedback, past_age, same, pad)
            .cpu()
            .numpy()
        )
