"""Attention heads with a learned time decay: each subtracts a penalty for an event's age."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

FIRST_HALF_LIVES = (0.02, 300.0)  # days: the shortest and the longest before training


class DecayHeads(nn.Module):
    """Base class of attention with one learned decay rate per head.

    Head h subtracts a penalty from the logit of an event of age t days: ``lambda_h t``
    ("exponential"), ``lambda_h log(1 + t)`` ("log") or nothing ("none").

    Parameters
    ----------
    n_heads : int
    decay : {"exponential", "log", "none"}
    half_lives : sequence of float, default=None
        Half-life of each head in days before training; None spaces them evenly on a log scale.
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
        self.log_rate = nn.Parameter(torch.log(math.log(2) / self.transform_age(days)))

    def half_lives(self) -> np.ndarray:
        """Return each head's half-life in days, (n_heads,); inf without decay."""
        if self.decay == "none":
            return np.full(self.n_heads, np.inf)
        rate = self.log_rate.detach().double().exp().cpu().numpy()
        if self.decay == "exponential":
            return np.log(2) / rate
        with np.errstate(over="ignore"):  # a head with almost no decay: inf
            return np.exp2(1 / rate) - 1

    def transform_age(self, age: Tensor) -> Tensor:
        """Transform ages in days to the scale of the decay; the shape stays the same."""
        return age.log1p() if self.decay == "log" else age

    def decay_penalty(self, age: Tensor) -> Tensor:
        """Compute each head's logit penalty (..., H, L) at ages in days (..., L)."""
        if self.decay == "none":
            return age.new_zeros(*age.shape[:-1], self.n_heads, age.shape[-1])
        return self.log_rate.exp()[:, None] * self.transform_age(age)[..., None, :]
