"""What items' texts have in common with those of a user's past."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._time_attention import by_lag

_LOUDNESS = 0.1  # of what texts say at first, in an embedding's coordinates
_KEPT = (0.0, 0.7, 0.95)  # of a profile, from one event to the next
_LIKENESS = 8.0  # in logits, of an item with no events whose text is that of the last event
_RARE = 2.0  # events by which that is halved
_FLOOR = 1e-3  # of the largest variance; less is not blown up


class Content(nn.Module):
    """Texts as short vectors, and profiles of a user as their fading means.

    Vectors of texts are whitened and cut to their first principal axes, so that what tells texts
    apart counts, and not what many share; then all are made as long. The profile at event j is
    ``P_kj = (1 - g_k) sum_i g_k^(j - i) c_i`` over it and those before it, for each of several
    g. A query's state z weighs them: the profile it asks with is ``sum_k (w_k z + b_k) P_k``.

    Parameters
    ----------
    text_width : int
        Length of an encoder's vectors.
    width : int
        Length of a state.
    max_history : int
        Events further back are in no profile.
    """

    mean: Tensor
    axes: Tensor
    lags: Tensor

    def __init__(self, text_width: int, width: int, max_history: int) -> None:
        super().__init__()
        self.size = min(text_width, width)
        self.mix = nn.Linear(width, len(_KEPT), dtype=torch.float32)
        nn.init.zeros_(self.mix.weight)
        nn.init.constant_(self.mix.bias, 1 / len(_KEPT))
        # A weight of answers, which training has no part in.
        self.likeness = nn.Parameter(torch.tensor(_LIKENESS, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(text_width, dtype=torch.float32))
        self.register_buffer("axes", torch.eye(text_width, self.size, dtype=torch.float32))
        kept = torch.tensor(_KEPT, dtype=torch.float64)[:, None]
        lags = (1 - kept) * kept ** torch.arange(max_history)
        self.register_buffer("lags", lags.float())

    def begin(self, texts: Tensor) -> None:
        """Measure by these texts (n, t) what texts have in common."""
        self.mean.copy_(texts.mean(0))
        centred = (texts - self.mean).double()
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(texts))  # ascending
        variance, axes = variance.flip(0)[: self.size], axes.flip(1)[:, : self.size]
        least = (_FLOOR * variance[0]).clamp(min=1e-12)
        self.axes.copy_(axes / variance.clamp(min=least).sqrt())

    def forward(self, texts: Tensor) -> Tensor:
        """Vectors (n, c) of texts (n, t), of a length that suits an `nn.Linear` behind them."""
        length = _LOUDNESS * math.sqrt(3 * self.size)
        return length * functional.normalize((texts - self.mean) @ self.axes, dim=1)

    def of_the_rare(self, vectors: Tensor, n_learned: Tensor) -> Tensor:
        """Vectors (n, c) by which items are the more like the last event, the rarer they are.

        A rare item's embedding has learned its few events by heart, so in training there is
        little that its text needs to say; of the events to come it knows nothing. The product
        with the vector of the last event's text is ``cos(c_last, c_i) 2 / (n_learned + 2)``, which
        a query multiplies by ``likeness``.
        """
        share = _RARE / (n_learned + _RARE) / (3 * self.size * _LOUDNESS**2)
        return vectors * share[:, None]

    def profile(self, states: Tensor, past: Tensor, place: Tensor | None) -> Tensor:
        """Profiles (B, Q, c) that queries ask with.

        Parameters
        ----------
        states : Tensor of shape (B, Q, d)
        past : Tensor of shape (B, n, c)
            Vectors of the events' texts.
        place : Tensor of shape (B, Q), int64, or None
            The last event that each query knows; None is each its own.
        """
        n = past.shape[1]
        fading = by_lag(self.lags[:, :n], n, place)  # 0 for what is later
        fading = fading[:, None] if place is None else fading  # (k, B, Q, n)
        weights = cast("Tensor", self.mix(states)).permute(2, 0, 1)[..., None]  # (k, B, Q, 1)
        return (weights * fading).sum(0) @ past
