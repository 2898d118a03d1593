"""Matrix factorization with biases: mean + b_u + b_i + p_u . q_i + w . context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.modules._layers import grow_rows, keep_rows
from sklearn_recft.ranking import dot_tiles

# Rows scored at once: bounds memory.
_BLOCK = 65_536

# Numbers of users and items, and rows of tables: what `MatrixFactorization.restore` needs.
Mark = tuple[tuple[int, int], list[tuple[str, "np.ndarray | slice", np.ndarray]]]


class MatrixFactorization(nn.Module):
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

    def grow(self, n_users: int, n_items: int) -> None:
        """Resize every table of ids; new rows are zero."""
        for names, n_rows in zip(self.ID_TABLES, (n_users, n_items), strict=True):
            if len(getattr(self, names[0])) != n_rows:
                for name in names:
                    grow_rows(getattr(self, name), n_rows)

    def tables(self) -> list[Tensor]:
        """Return every tensor with one row per user or item."""
        return [getattr(self, name) for names in self.ID_TABLES for name in names]

    def state(self) -> dict[str, Any]:
        """Return a copy of every parameter and buffer as an array."""
        return {name: array.copy() for name, array in self.arrays().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the arrays that `state` returned."""
        self.grow(len(state["user_bias"]), len(state["item_bias"]))
        for name, own in self.arrays().items():
            own[...] = state[name]

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes); later rows move up."""
        kept = np.setdiff1d(np.arange(len(self.user_bias)), users)
        for name in self.ID_TABLES[0]:
            keep_rows(getattr(self, name), torch.from_numpy(kept))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every parameter and buffer as an array that shares memory on the CPU."""
        tensors = self._parameters | self._buffers  # named_parameters() walks the whole tree
        return {name: t.numpy(force=True) for name, t in tensors.items() if t is not None}

    def mark(self, users: np.ndarray, items: np.ndarray) -> Mark:
        """Return what `restore` needs to undo growth and changes of these rows (codes)."""
        arrays = self.arrays()
        saved: list[tuple[str, np.ndarray | slice, np.ndarray]] = []
        sizes = len(arrays["user_bias"]), len(arrays["item_bias"])
        for names, codes, size in zip(self.ID_TABLES, (users, items), sizes, strict=True):
            known = codes[codes < size]
            if len(codes) > size:  # without growth, duplicates are cheaper than `unique`
                known = np.unique(known)
            saved += [(name, known, arrays[name][known]) for name in names]
        saved += [(name, slice(None), arrays[name].copy()) for name in ("mean", "context_weight")]
        return sizes, saved

    def restore(self, mark: Mark) -> None:
        """Undo growth and changes since ``mark``."""
        sizes, saved = mark
        self.grow(*sizes)
        for name, known, values in saved:
            getattr(self, name).data[known] = torch.as_tensor(values)

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy `arrays` back to a module that is not on the CPU."""
        for name, values in arrays.items():
            tensor = getattr(self, name)
            if tensor.device.type != "cpu":
                tensor.data.copy_(torch.from_numpy(values))

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
        factors, bias = (getattr(self, name).detach().cpu().numpy() for name in names)
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
            out[rows] = np.einsum("nk,nk->n", p, q) + b_u + b_i + offset[rows]
        return out

    def offset(self, context: np.ndarray) -> np.ndarray:
        """Compute the terms (n,) that do not depend on ids: mean + w . context."""
        weight = self.context_weight.detach().cpu().numpy()
        return self.mean.item() + self.standardise(context) @ weight

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, offset: np.ndarray
    ) -> Callable[[int, int, int, int, np.ndarray], None]:
        """Return a function that scores catalogue ``columns`` in tiles (see `ranking.top_k`).

        ``users`` (n,) codes, -1 for unknown; ``offset`` (n,) is added to the whole row.
        """
        p, bias = self.rows(0, users)
        arrays = self.arrays()
        q, item_bias = arrays["item_factors"], arrays["item_bias"]
        if len(columns) != len(q):
            q, item_bias = q[columns], item_bias[columns]
        return dot_tiles(p, q, item_bias, bias + offset.astype(np.float32))
