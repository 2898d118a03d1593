"""Similarity of texts and vectors between a candidate item and the items of a user's history."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._time_attention import by_lag
from sklearn_recft.modules._vectors import INITIAL_SCALE, Whitened, WhitenedVectors
from sklearn_recft.parallel import torch_threads

_DECAY_FACTORS = (0.0, 0.7, 0.95)  # of the profiles, per event
_SIMILARITY_WEIGHT = 8.0  # logit of an item without events whose text equals the last event's
_HALF_COUNT = 2.0  # number of events of an item that halves its similarity weight


class Content(Whitened):
    """Whitened text vectors, and user profiles as exponential moving averages of them.

    Text vectors are whitened, projected on their first principal axes and normalized. Whitening
    removes what most texts share. The profile at event j is
    ``P_kj = (1 - g_k) sum_i g_k^(j - i) c_i`` over the events up to j, for several decay factors
    g. A linear function of the query state z weights them: ``sum_k (w_k z + b_k) P_k``.

    Vectors that are given for items stand behind those of their texts, and are whitened by
    themselves. The cosine of two items is then the mean of both cosines. A missing vector is 0.

    Parameters
    ----------
    text_width : int
        Length of a vector of the text encoder; 0 is no texts.
    width : int
        Length of a state.
    max_history : int
        Profiles ignore events further back.
    vector_width : int, default=0
        Length of a given vector; 0 is none.
    """

    lags: Tensor

    def __init__(
        self, text_width: int, width: int, max_history: int, vector_width: int = 0
    ) -> None:
        text_size, vector_size = min(text_width, width), min(vector_width, width)
        super().__init__(text_width, text_size)
        self.size, self.text_width, self.text_size = text_size + vector_size, text_width, text_size
        self.vectors = WhitenedVectors(vector_width, vector_size) if vector_width else None
        self.mix = nn.Linear(width, len(_DECAY_FACTORS), dtype=torch.float32)
        nn.init.zeros_(self.mix.weight)
        nn.init.constant_(self.mix.bias, 1 / len(_DECAY_FACTORS))
        # Used at prediction time only: it gets no gradient in training.
        self.similarity_weight = nn.Parameter(torch.tensor(_SIMILARITY_WEIGHT, dtype=torch.float32))
        factors = torch.tensor(_DECAY_FACTORS, dtype=torch.float64)[:, None]
        lags = (1 - factors) * factors ** torch.arange(max_history)
        self.register_buffer("lags", lags.float())  # (k, max_history)

    def fit(self, content: Tensor) -> None:
        """Fit the whitening to text vectors and given vectors, side by side (n, t + e)."""
        if self.text_width:
            self.fit_whitening(content[:, : self.text_width])
        if self.vectors is not None:
            self.vectors.fit(content[:, self.text_width :])

    def forward(self, content: Tensor) -> Tensor:
        """Whiten texts and vectors (n, t + e) to vectors (n, c); a vector with NaN is missing."""
        if self.vectors is None:
            return self.whiten(content)
        vectors: Tensor = self.vectors(content[:, self.text_width :])
        if not self.text_width:
            return vectors
        return torch.cat([self.whiten(content[:, : self.text_width]), vectors], 1)

    def put_vectors(self, table: Tensor, items: np.ndarray, vectors: np.ndarray) -> None:
        """Write given vectors (m, e) of ``items`` (m,) to the rows of a ``table`` (n, c)."""
        if self.vectors is not None:
            new = self.vectors(torch.from_numpy(vectors).to(table.device))
            table[torch.from_numpy(items), self.text_size :] = new

    def put_texts(self, table: Tensor, items: np.ndarray, texts: np.ndarray) -> None:
        """Write texts (m, t) of ``items`` (m,) to the rows of a ``table`` (n, c)."""
        new = self.whiten(torch.from_numpy(texts).to(table.device))
        table[torch.from_numpy(items), : self.text_size] = new

    @torch.no_grad()
    def queries(self, texts: np.ndarray) -> np.ndarray:
        """Whiten texts (n, t); the product of the result with that of `forward` is a cosine."""
        with torch_threads(1):
            given = torch.from_numpy(texts).to(self.lags.device)
            found = self.whiten(given) / (3 * self.text_size * INITIAL_SCALE**2)
            padded = functional.pad(found, (0, self.size - self.text_size))  # (n, c)
        return padded.numpy(force=True)

    def scale_by_rarity(self, vectors: Tensor, n_learned: Tensor) -> Tensor:
        """Scale vectors (n, c) so that rare items get a larger similarity term.

        The embedding of a rare item overfits its few events. Training therefore learns a small
        text term, although the text predicts the item's next events better. The product with the
        text vector of the last event is ``cos(c_last, c_i) 2 / (n_learned + 2)``. Queries multiply
        it by ``similarity_weight``.
        """
        rarity = _HALF_COUNT / (n_learned + _HALF_COUNT)
        if self.vectors is None or not self.text_width:
            return vectors * (rarity / (3 * self.size * INITIAL_SCALE**2))[:, None]
        sizes = vectors.new_full((self.size,), self.size - self.text_size)
        sizes[: self.text_size] = self.text_size
        return vectors * rarity[:, None] / (6 * sizes * INITIAL_SCALE**2)

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
