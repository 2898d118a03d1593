"""Transformer blocks whose attention depends on the order and the age of events."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._decay_heads import DecayHeads


class Dropout(nn.Module):
    """`torch.nn.Dropout` with cheaper random numbers on the CPU.

    Each 64-bit random number gives eight bytes, and each byte decides about one unit.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate, self.kept = rate, 256 - round(256 * rate)

    def forward(self, x: Tensor) -> Tensor:
        """Set a fraction of ``x`` to zero in training, and scale up the rest."""
        if not self.training or self.kept == 256:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.rate)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * (kept.to(x.dtype) * (256 / self.kept))


class TimedAttention(DecayHeads):
    """Attention of queries to events, with a bias for the lag and a penalty for the age.

    The logit of head h for an event of age t that is ``lag`` events back is
    ``q_h k_h / sqrt(d_h) + order[h, lag] - decay_penalty_h(t)``.

    Parameters
    ----------
    width, n_heads, max_history : int
        Attention ignores events that are ``max_history`` or more events back.
    time_decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        max_history: int,
        time_decay: str,
        half_lives: Sequence[float] | None = None,
    ) -> None:
        super().__init__(n_heads, time_decay, half_lives)
        self.query = nn.Linear(width, width, bias=False, dtype=torch.float32)
        self.key_value = nn.Linear(width, 2 * width, bias=False, dtype=torch.float32)
        self.output = nn.Linear(width, width, dtype=torch.float32)
        self.order = nn.Parameter(torch.zeros(n_heads, max_history, dtype=torch.float32))

    def bias(
        self, n: int, position: Tensor | None, ages: Tensor | None, *, first: int = 0
    ) -> Tensor:
        """Compute the additive attention bias (B or 1, H, Q, n), -inf for masked events.

        Parameters
        ----------
        n : int
            Number of events.
        position : Tensor of shape (B, Q), int64, or None
            Last event that each query sees; None means one query per event.
        ages : Tensor of shape (B, Q, n) or None
            Ages after `transform_age`.
        first : int, default=0
            Without ``position``, the first event that has a query.
        """
        depth = min(n, self.order.shape[1])
        bias = by_lag(self.order[:, :depth], n, position, first=first, far=-torch.inf)
        bias = bias[None] if position is None else bias.transpose(0, 1)  # (B or 1, H, Q, n)
        if ages is not None:
            rate = self.log_rate.exp()[:, None, None]
            bias = torch.addcmul(bias, rate, ages[:, None], value=-1)
        return bias

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, n, d / H)

    def forward(self, queries: Tensor, past: Tensor, bias: Tensor) -> Tensor:
        """Attend from queries (B, Q, d) to events (B, n, d); return (B, Q, d)."""
        query, (key, value) = self.query(queries), self.key_value(past).chunk(2, -1)
        pooled = functional.scaled_dot_product_attention(
            self._split(query),
            self._split(key),
            self._split(value),
            attn_mask=bias.to(query.dtype),
        )
        return self.output(pooled.transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, past: Tensor, bias: Tensor) -> Tensor:
        """Return the attention weights (B, H, Q, n) of `forward`."""
        query, key = self.query(queries), self.key_value(past).chunk(2, -1)[0]
        logits = self._split(query) @ self._split(key).transpose(-1, -2)
        logits = logits / math.sqrt(query.shape[-1] // self.n_heads) + bias
        # A query whose events are all masked has weights of zero.
        return torch.nan_to_num(logits.softmax(-1))


def by_lag(
    values: Tensor, n: int, position: Tensor | None = None, *, first: int = 0, far: float = 0.0
) -> Tensor:
    """Expand values (k, depth) of the lags 0, 1, ... to a matrix of positions.

    The row of position i holds in column j the value of lag i - j, or ``far`` if there is no such
    lag. The result has one row per entry of ``position`` (B, Q), that is (k, B, Q, n). Without
    it, it has one row per event from ``first`` on: (k, n - first, n).
    """
    lags = functional.pad(values, (n, n - values.shape[1]), value=far)
    # Row i holds the lags from i down to i - n + 1: a window of one vector, which needs no look-up.
    windows = lags.flip(1).unfold(1, n, 1)[:, :n]  # (k, n, n), the last position first
    return windows[:, : n - first].flip(1) if position is None else windows[:, n - 1 - position]


class Block(nn.Module):
    """Pre-norm transformer block: attention, then a hidden layer, each with a residual."""

    def __init__(self, attention: TimedAttention, width: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.norm, self.hidden_norm = (
            nn.LayerNorm(width, dtype=torch.float32),
            nn.LayerNorm(width, dtype=torch.float32),
        )
        self.hidden, self.output = (
            nn.Linear(width, 2 * width, dtype=torch.float32),
            nn.Linear(2 * width, width, dtype=torch.float32),
        )
        self.dropout = Dropout(dropout)

    def forward(self, queries: Tensor, past: Tensor | None, bias: Tensor) -> Tensor:
        """Update queries (B, Q, d) by attention to events (B, n, d); None is self-attention."""
        normed = self.norm(queries)
        events = normed if past is None else self.norm(past)
        x = queries + self.dropout(self.attention(normed, events, bias))
        hidden = self.dropout(functional.relu(self.hidden(self.hidden_norm(x))))
        return x + self.dropout(self.output(hidden))
