"""Attention heads that forget: each takes off its logits what an event's age costs it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

FIRST_HALF_LIVES = (0.02, 300.0)  # days, of the quickest and the slowest head, before training


class FadingHeads(nn.Module):
    """What attention heads share that fade with age: a rate each, learned.

    Head h takes ``lambda_h t`` off the logit of an event of age t days ("exponential"), or
    ``lambda_h log(1 + t)`` ("log"), or nothing ("none").

    Parameters
    ----------
    n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
        Of each head in days, before training; None spreads them evenly on the logarithm.
    """

    def __init__(self, n_heads: int, decay: str, half_lives: Sequence[float] | None = None) -> None:
        super().__init__()
        self.n_heads, self.decay = n_heads, decay
        if half_lives is None:
            first, last = map(math.log, FIRST_HALF_LIVES)
            spread = torch.linspace(first, last, n_heads + 2 * (n_heads == 1), dtype=torch.float32)
            half_lives = spread[n_heads == 1 :][:n_heads].exp().tolist()
        days = torch.as_tensor(half_lives, dtype=torch.float32)
        if days.shape != (n_heads,) or not (days > 0).all():
            raise ValueError(f"half_lives={half_lives!r}: give {n_heads} positive numbers of days.")
        self.log_rate = nn.Parameter(torch.log(math.log(2) / self.faded(days)))

    def half_lives(self) -> np.ndarray:
        """Days in which each head's weight of an event halves, (n_heads,); inf without decay."""
        if self.decay == "none":
            return np.full(self.n_heads, np.inf)
        rate = self.log_rate.detach().double().exp().cpu().numpy()
        if self.decay == "exponential":
            return np.log(2) / rate
        with np.errstate(over="ignore"):  # a head that hardly fades: inf
            return np.exp2(1 / rate) - 1

    def faded(self, age: Tensor) -> Tensor:
        """Ages in days as the decay counts them, of the same shape."""
        return age.log1p() if self.decay == "log" else age

    def fading(self, age: Tensor) -> Tensor:
        """Say what each head takes off its logits at ages in days (..., L): (..., H, L)."""
        if self.decay == "none":
            return age.new_zeros(*age.shape[:-1], self.n_heads, age.shape[-1])
        return self.log_rate.exp()[:, None] * self.faded(age)[..., None, :]
