"""Blocks of a transformer whose attention knows order and age."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._decay_heads import FadingHeads


class Dropout(nn.Module):
    """`torch.nn.Dropout`, whose draws are bytes: eight from each random number on the CPU."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.kept = share, 256 - round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of ``x`` in training, and scale up the rest."""
        if not self.training or self.kept == 256:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) < self.kept
        return x * (kept.to(x.dtype) * (256 / self.kept))


class TimedAttention(FadingHeads):
    """Attention of rows to events, whose logits carry order and age.

    The logit of head h for the event that is ``lag`` events back and of age t is
    ``q_h k_h / sqrt(d_h) + order[h, lag] - fading_h(t)``.

    Parameters
    ----------
    width, n_heads, max_history : int
        An event further back than ``max_history`` is not looked at.
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

    def bias(self, n: int, place: Tensor | None, faded: Tensor | None, *, first: int = 0) -> Tensor:
        """Add to logits (B or 1, H, Q, n) so much, of what is out of sight minus infinity.

        Parameters
        ----------
        n : int
            Events.
        place : Tensor of shape (B, Q), int64, or None
            The event that each row looks back from, itself included; None is each from itself.
        faded : Tensor of shape (B, Q, n) or None
            Ages, as the decay counts them.
        first : int, default=0
            Without ``place``, the event from which on there are rows.
        """
        depth = min(n, self.order.shape[1])
        bias = by_lag(self.order[:, :depth], n, place, first=first, far=-torch.inf)
        bias = bias[None] if place is None else bias.transpose(0, 1)
        if faded is not None:
            rate = self.log_rate.exp()[:, None, None]
            bias = torch.addcmul(bias, rate, faded[:, None], value=-1)
        return bias

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, H, n, d / H)

    def forward(self, asks: Tensor, past: Tensor, bias: Tensor) -> Tensor:
        """Say of rows (B, Q, d) what the events (B, n, d) make of them."""
        query, (key, value) = self.query(asks), self.key_value(past).chunk(2, -1)
        said = functional.scaled_dot_product_attention(
            self._split(query),
            self._split(key),
            self._split(value),
            attn_mask=bias.to(query.dtype),
        )
        return self.output(said.transpose(1, 2).flatten(2))

    def weights(self, asks: Tensor, past: Tensor, bias: Tensor) -> Tensor:
        """Attention (B, H, Q, n) of `forward`."""
        query, key = self.query(asks), self.key_value(past).chunk(2, -1)[0]
        logits = self._split(query) @ self._split(key).transpose(-1, -2)
        logits = logits / math.sqrt(query.shape[-1] // self.n_heads) + bias
        # Where there is nothing to look at, nothing has weight.
        return torch.nan_to_num(logits.softmax(-1))


def by_lag(
    values: Tensor, n: int, place: Tensor | None = None, *, first: int = 0, far: float = 0.0
) -> Tensor:
    """Lay out values (k, depth) of lags 0, 1, ... of the last n events.

    The row of place i has in column j the value of lag i - j, or ``far`` where that is none of
    them. There is a row for each ``place`` (B, Q), in all (k, B, Q, n), or else for every one from
    ``first`` on: (k, n - first, n).
    """
    lags = functional.pad(values, (n, n - values.shape[1]), value=far)
    # Of lags -n to n - 1 row i has those from i down: windows of one vector, not a look-up.
    windows = lags.flip(1).unfold(1, n, 1)[:, :n]  # (k, n, n), the last place first
    return windows[:, : n - first].flip(1) if place is None else windows[:, n - 1 - place]


class Block(nn.Module):
    """Attention and a hidden layer, each added to what it was given the norm of."""

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

    def forward(self, asks: Tensor, past: Tensor | None, bias: Tensor) -> Tensor:
        """Rows (B, Q, d) that look at events (B, n, d); None: that look at each other."""
        normed = self.norm(asks)
        events = normed if past is None else self.norm(past)
        x = asks + self.dropout(self.attention(normed, events, bias))
        hidden = self.dropout(functional.relu(self.hidden(self.hidden_norm(x))))
        return x + self.dropout(self.output(hidden))
