"""Text similarity between a candidate item and the items of a user's history."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._time_attention import by_lag

_INITIAL_SCALE = 0.1  # of the text term, per coordinate of an embedding
_DECAY_FACTORS = (0.0, 0.7, 0.95)  # of the profiles, per event
_SIMILARITY_WEIGHT = 8.0  # logit of an item without events whose text equals the last event's
_HALF_COUNT = 2.0  # number of events of an item that halves its similarity weight
_VARIANCE_FLOOR = 1e-3  # relative to the largest variance: bounds the whitening of small axes


class Content(nn.Module):
    """Whitened text vectors, and user profiles as exponential moving averages of them.

    Text vectors are whitened, projected on their first principal axes and normalized. Whitening
    removes what most texts share. The profile at event j is
    ``P_kj = (1 - g_k) sum_i g_k^(j - i) c_i`` over the events up to j, for several decay factors
    g. A linear function of the query state z weights them: ``sum_k (w_k z + b_k) P_k``.

    Parameters
    ----------
    text_width : int
        Length of a vector of the text encoder.
    width : int
        Length of a state.
    max_history : int
        Profiles ignore events further back.
    """

    mean: Tensor
    axes: Tensor
    lags: Tensor

    def __init__(self, text_width: int, width: int, max_history: int) -> None:
        super().__init__()
        self.size = min(text_width, width)
        self.mix = nn.Linear(width, len(_DECAY_FACTORS), dtype=torch.float32)
        nn.init.zeros_(self.mix.weight)
        nn.init.constant_(self.mix.bias, 1 / len(_DECAY_FACTORS))
        # Used at prediction time only: it gets no gradient in training.
        self.similarity_weight = nn.Parameter(torch.tensor(_SIMILARITY_WEIGHT, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(text_width, dtype=torch.float32))
        self.register_buffer("axes", torch.eye(text_width, self.size, dtype=torch.float32))
        factors = torch.tensor(_DECAY_FACTORS, dtype=torch.float64)[:, None]
        lags = (1 - factors) * factors ** torch.arange(max_history)
        self.register_buffer("lags", lags.float())  # (k, max_history)

    def fit_whitening(self, texts: Tensor) -> None:
        """Fit the mean and the whitening axes to text vectors (n, t)."""
        self.mean.copy_(texts.mean(0))
        centred = (texts - self.mean).double()
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(texts))  # ascending
        variance, axes = variance.flip(0)[: self.size], axes.flip(1)[:, : self.size]
        least = (_VARIANCE_FLOOR * variance[0]).clamp(min=1e-12)
        self.axes.copy_(axes / variance.clamp(min=least).sqrt())

    def forward(self, texts: Tensor) -> Tensor:
        """Whiten texts (n, t) to vectors (n, c) of the scale that the next `nn.Linear` needs."""
        length = _INITIAL_SCALE * math.sqrt(3 * self.size)
        return length * functional.normalize((texts - self.mean) @ self.axes, dim=1)

    def queries(self, texts: Tensor) -> Tensor:
        """Whiten texts (n, t); the product of the result with that of `forward` is a cosine."""
        return self(texts) / (3 * self.size * _INITIAL_SCALE**2)

    def scale_by_rarity(self, vectors: Tensor, n_learned: Tensor) -> Tensor:
        """Scale vectors (n, c) so that rare items get a larger similarity term.

        The embedding of a rare item overfits its few events. Training therefore learns a small
        text term, although the text predicts the item's next events better. The product with the
        text vector of the last event is ``cos(c_last, c_i) 2 / (n_learned + 2)``. Queries multiply
        it by ``similarity_weight``.
        """
        scale = _HALF_COUNT / (n_learned + _HALF_COUNT) / (3 * self.size * _INITIAL_SCALE**2)
        return vectors * scale[:, None]

    def profile(self, states: Tensor, past: Tensor, position: Tensor | None) -> Tensor:
        """Compute the text profiles (B, Q, c) of queries.

        Parameters
        ----------
        states : Tensor of shape (B, Q, d)
        past : Tensor of shape (B, n, c)
            Text vectors of the events.
        position : Tensor of shape (B, Q), int64, or None
            Last event that each query sees; None means one query per event.
        """
        n = past.shape[1]
        decay = by_lag(self.lags[:, :n], n, position)  # 0 for later events
        decay = decay[:, None] if position is None else decay  # (k, B or 1, Q, n)
        weights = cast("Tensor", self.mix(states)).permute(2, 0, 1)[..., None]  # (k, B, Q, 1)
        return (weights * decay).sum(0) @ past  # (B, Q, c)
