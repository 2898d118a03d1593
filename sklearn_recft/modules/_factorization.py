"""Matrix factorization with biases: mean + b_u + b_i + p_u . q_i + w . context."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.modules._id_tables import IdTables
from sklearn_recft.ranking import TileScorer, row_tiles

# Rows scored at once: bounds memory.
_BLOCK = 65_536


class MatrixFactorization(IdTables):
    """Score (user, item) pairs; holds all state with one row per id.

    Parameters
    ----------
    n_factors : int
    n_context : int, default=0

    Notes
    -----
    The tables start empty, and `grow` adds ids. The number of events of each id (``user_count``,
    ``item_count``) sets the size of its next step. An unknown id gets the mean of the ``NEWEST``
    last rows.
    """

    NEWEST = 300

    context_mean: Tensor
    context_scale: Tensor
    ID_TABLES = (
        ("user_factors", "user_bias", "user_count"),
        ("item_factors", "item_bias", "item_count"),
    )
    SHARED = ("mean", "context_weight")

    def __init__(self, n_factors: int, n_context: int = 0) -> None:
        super().__init__()
        self.user_factors = nn.Parameter(torch.zeros(0, n_factors, dtype=torch.float32))
        self.item_factors = nn.Parameter(torch.zeros(0, n_factors, dtype=torch.float32))
        self.user_bias = nn.Parameter(torch.zeros(0, dtype=torch.float32))
        self.item_bias = nn.Parameter(torch.zeros(0, dtype=torch.float32))
        self.context_weight = nn.Parameter(torch.zeros(n_context, dtype=torch.float32))
        self.mean = nn.Parameter(torch.zeros(1, dtype=torch.float32))
        self.register_buffer("user_count", torch.zeros(0, dtype=torch.float32))
        self.register_buffer("item_count", torch.zeros(0, dtype=torch.float32))
        # The first fit sets the center and scale of the context; updates keep them.
        self.register_buffer("context_mean", torch.zeros(n_context, dtype=torch.float64))
        self.register_buffer("context_scale", torch.ones(n_context, dtype=torch.float64))

    @property
    def intercept(self) -> float:
        """Mean of the score."""
        return float(self.mean.item())

    def forward(
        self, user: Tensor, item: Tensor, context: Tensor, negative: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute scores (B,) and the squared norms (B,) of their parameters.

        With ``negative`` item codes, the score is the difference of ``item`` and ``negative``.
        """
        p, q = self.user_factors[user], self.item_factors[item]  # (B, k)
        bias = self.user_bias[user]  # (B,)
        norm = p.square().sum(-1) + q.square().sum(-1) + self.item_bias[item].square()
        score = self.item_bias[item] + (p * q).sum(-1)  # (B,)
        if negative is not None:
            other = self.item_factors[negative]  # (B, k)
            norm = norm + other.square().sum(-1) + self.item_bias[negative].square()
            return score - self.item_bias[negative] - (p * other).sum(-1), norm
        return self.mean + bias + score + context @ self.context_weight, norm + bias.square()

    def learn_context_scale(self, context: np.ndarray) -> None:
        """Fit the center and scale of the context to rows (n, c)."""
        scale = context.std(axis=0)
        self.context_mean.copy_(torch.from_numpy(context.mean(axis=0)))
        self.context_scale.copy_(torch.from_numpy(np.where(scale > 0, scale, 1.0)))

    def standardise(self, context: np.ndarray) -> np.ndarray:
        """Standardize context (n, c); return float32."""
        if not context.shape[1]:
            return context.astype(np.float32)
        mean, scale = self.context_mean.cpu().numpy(), self.context_scale.cpu().numpy()
        return ((context - mean) / scale).astype(np.float32)

    def rows(self, side: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up factors (n, k) and biases (n,) of users (side 0) or items (1); -1 is unknown."""
        names = self.ID_TABLES[side][:2]
        factors, bias = (self.array(name) for name in names)
        if not len(bias):
            return np.zeros((len(codes), factors.shape[1]), np.float32), np.zeros(len(codes))
        p, b, unknown = factors[codes], bias[codes], codes < 0
        if unknown.any():
            newest = slice(max(0, len(bias) - self.NEWEST), None)
            p[unknown], b[unknown] = factors[newest].mean(0), bias[newest].mean()
        return p, b

    def score(self, users: np.ndarray, items: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Score rows of codes (-1: unknown) and raw context (n, c); return float64 (n,)."""
        out = np.empty(len(users))
        offset = self.offset(context)
        for start in range(0, len(users), _BLOCK):
            rows = slice(start, start + _BLOCK)
            (p, b_u), (q, b_i) = self.rows(0, users[rows]), self.rows(1, items[rows])
            out[rows] = np.vecdot(p, q) + b_u + b_i + offset[rows]
        return out

    def offset(self, context: np.ndarray) -> np.ndarray:
        """Compute the terms (n,) that do not depend on ids: mean + w . context."""
        mean = self.mean.item()
        if not context.shape[1]:
            return np.full(len(context), mean, np.float32)
        return mean + self.standardise(context) @ self.array("context_weight")

    def average_context(self) -> np.ndarray:
        """Return the center (c,) of the context, which is zero after standardization."""
        return self.context_mean.cpu().numpy()

    def item_vectors(self) -> np.ndarray:
        """Return the factors (n, k) of all items."""
        return self.array("item_factors")

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, context: np.ndarray
    ) -> TileScorer:
        """Return a function that scores catalogue ``columns`` in tiles (see `ranking.top_k`).

        ``users`` (n,) codes, -1 for unknown; raw ``context`` (n, c).
        """
        p, bias = self.rows(0, users)
        q, item_bias = self.array("item_factors"), self.array("item_bias")
        base = bias + self.offset(context).astype(np.float32)
        return row_tiles(p, q, item_bias, base, columns, self.quantized_items)
