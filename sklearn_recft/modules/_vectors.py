"""Vectors of items that are given, such as embeddings of images: standardized and whitened."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._layers import grow_rows

INITIAL_SCALE = 0.1  # of a whitened vector, per coordinate of an embedding
_VARIANCE_FLOOR = 1e-3  # relative to the largest variance: bounds the whitening of small axes
# Standardized numbers beyond this are as large as this: single numbers may be far off.
_CLIP = 20.0


class Whitened(nn.Module):
    """Vectors that are whitened, projected on their first principal axes and normalized.

    Parameters
    ----------
    width : int
        Length of a vector.
    size : int
        Number of axes.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("axes", torch.eye(width, size, dtype=torch.float32))

    def fit_whitening(self, vectors: Tensor) -> None:
        """Fit the mean and the whitening axes to vectors (n, t)."""
        size = self.axes.shape[1]
        self.mean.copy_(vectors.mean(0))
        centred = (vectors - self.mean).double()
        variance, axes = torch.linalg.eigh(centred.T @ centred / len(vectors))  # ascending
        variance, axes = variance.flip(0)[:size], axes.flip(1)[:, :size]
        least = (_VARIANCE_FLOOR * variance[0]).clamp(min=1e-12)
        self.axes.copy_(axes / variance.clamp(min=least).sqrt())

    def whiten(self, vectors: Tensor) -> Tensor:
        """Whiten vectors (n, t) to (n, size), of the scale that the next `nn.Linear` needs."""
        length = INITIAL_SCALE * math.sqrt(3 * self.axes.shape[1])
        return length * functional.normalize((vectors - self.mean) @ self.axes, dim=1)


class Standardized(nn.Module):
    """Vectors whose coordinates have mean 0 and deviation 1; a missing vector is 0.

    Parameters
    ----------
    width : int
        Length of a vector.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("scale", torch.ones(width, dtype=torch.float32))

    def fit(self, vectors: np.ndarray) -> Tensor:
        """Fit mean and deviation to the rows (n, e) without NaN; return these, standardized."""
        known = vectors[~np.isnan(vectors).any(axis=1)]
        center = known.mean(0, dtype=np.float64)
        scale = known.std(0, dtype=np.float64)
        scale[scale <= 1e-6 * np.abs(known).max(0)] = 1.0  # constant, but for rounding errors
        self.center.copy_(torch.from_numpy(center))
        self.scale.copy_(torch.from_numpy(scale))
        return self(torch.from_numpy(known).to(self.center.device))

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardize vectors (n, e); NaN is 0."""
        scaled = ((vectors - self.center) / self.scale).nan_to_num(0.0, _CLIP, -_CLIP)
        return scaled.clamp(-_CLIP, _CLIP)


class WhitenedVectors(Whitened):
    """Given vectors that are standardized, then whitened; a missing vector is 0.

    Parameters
    ----------
    width, size : int
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__(width, size)
        self.standardized = Standardized(width)

    def fit(self, vectors: Tensor) -> None:
        """Fit both to vectors (n, e), without those that are missing."""
        self.fit_whitening(self.standardized.fit(vectors.numpy(force=True)))

    def forward(self, vectors: Tensor) -> Tensor:
        """Whiten vectors (n, e) to (n, size); those with NaN are 0."""
        known = ~vectors.isnan().any(dim=1, keepdim=True)
        return self.whiten(self.standardized(vectors)) * known


class ProjectedVectors(nn.Module):
    """A linear map of given vectors of items, which are standardized and stored.

    Parameters
    ----------
    width : int
        Length of a vector.
    out : int
        Length of a projected vector.
    norm : float
        Mean norm of the vectors that are projected.
    """

    rows: Tensor  # (n_items, e), 0 where a vector is missing

    def __init__(self, width: int, out: int, norm: float) -> None:
        super().__init__()
        self.standardized = Standardized(width)
        self.linear = nn.Linear(width, out, bias=False, dtype=torch.float32)
        self.norm = norm / math.sqrt(width)
        self.register_buffer("rows", torch.zeros(0, width, dtype=torch.float32))

    def fit(self, vectors: np.ndarray) -> None:
        """Fit the scales to vectors (n, e), without rows with NaN."""
        self.standardized.fit(vectors)

    @torch.no_grad()
    def grow(self, n_items: int, vectors: np.ndarray) -> None:
        """Add items up to ``n_items`` with these vectors; NaN is missing."""
        first = len(self.rows)
        grow_rows(self.rows, n_items)
        self.put(np.arange(first, n_items), vectors)

    @torch.no_grad()
    def put(self, items: np.ndarray, vectors: np.ndarray) -> None:
        """Set the vectors (m, e) of ``items`` (m,); NaN is missing."""
        self.rows[torch.from_numpy(items)] = self._scaled(vectors)

    def forward(self, codes: Tensor | None) -> Tensor:
        """Project the vectors of ``codes`` (n,), or of all items, to (n, out)."""
        found: Tensor = self.linear(self.rows if codes is None else self.rows[codes])
        return found

    def project(self, vectors: np.ndarray) -> Tensor:
        """Project vectors (n, e) of unknown items to (n, out)."""
        found: Tensor = self.linear(self._scaled(vectors))
        return found

    def _scaled(self, vectors: np.ndarray) -> Tensor:
        given = torch.from_numpy(vectors).to(self.rows.device)
        found: Tensor = self.norm * self.standardized(given)
        return found
