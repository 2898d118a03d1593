"""Deep & cross network: products of features up to a degree, beside a small dense net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from sklearn_recft.modules._layers import grow_rows, keep_rows

# Embeddings (B, F, d) from tables, unknown embeddings, codes, kept ones and the layout.
LookUp = Callable[[tuple[Tensor, ...], Tensor, Tensor, Tensor, np.ndarray], Tensor]

# Standard deviation of the initial embeddings.
_NOISE = 0.05
# A vector is projected to so many times the length of an embedding.
_WIDER = 4


@dataclass(frozen=True)
class CrossShape:
    """Sizes of a `CrossNet`.

    Attributes
    ----------
    n_numbers : int
        Numbers of a row.
    fields : tuple of int
        Codes of each field of categories: 1, or the places of a list.
    dim : int
        Length of an embedding.
    hidden : tuple of int
        Widths of the dense layers.
    has_ids : bool
        Whether users and items have embeddings.
    n_layers, rank : int
        Number of cross layers, and their rank.
    vectors : tuple of int
        Width of each vector of a row.
    """

    n_numbers: int
    fields: tuple[int, ...] = ()
    dim: int = 8
    hidden: tuple[int, ...] = (64, 32)
    has_ids: bool = True
    n_layers: int = 2
    rank: int = 32
    vectors: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Length of the input of the layers."""
        n_embeddings = len(self.fields) + 2 * self.has_ids
        return self.n_numbers + self.dim * n_embeddings + sum(self.projected)

    @property
    def projected(self) -> tuple[int, ...]:
        """Length of each vector after its projection."""
        return tuple(min(width, _WIDER * self.dim) for width in self.vectors)

    @property
    def layout(self) -> np.ndarray:
        """Table, kind, first column and number of columns of each field: see `look_up`."""
        ids = [(0, 0, 0, 1), (1, 1, 1, 1)] if self.has_ids else []
        start, fields = len(ids), []
        for place, width in enumerate(self.fields):
            fields.append((2, place + 2, start, width))
            start += width
        return np.array([*ids, *fields], np.int64).reshape(-1, 4)


class CrossLayer(nn.Module):
    """A cross layer of low rank: ``x0 * (U V^T x + b) + x``."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        rank = min(rank, width)
        self.down = nn.Linear(width, rank, bias=False, dtype=torch.float32)
        self.up = nn.Linear(rank, width, dtype=torch.float32)

    def forward(self, first: Tensor, x: Tensor) -> Tensor:
        """Multiply the input of the net, (B, D), with a mixture of ``x``, and add ``x``."""
        return first * self.up(self.down(x)) + x  # (B, D)


class Projection(nn.Module):
    """A linear map of vectors; missing ones have a vector of their own, which is learned."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, size, dtype=torch.float32)
        self.unknown = nn.Parameter(_NOISE * torch.randn(size, dtype=torch.float32))

    def forward(self, vectors: Tensor, kept: Tensor) -> Tensor:
        """Map vectors (B, w) to (B, p); rows of NaN, and those not ``kept`` (B, 1), are unknown."""
        known = kept & ~vectors[:, :1].isnan()  # (B, 1)
        return torch.where(known, self.linear(vectors.nan_to_num()), self.unknown)  # (B, p)


class CrossNet(nn.Module):
    """Score rows of ids, categories, lists, numbers and vectors.

    Parameters
    ----------
    shape : CrossShape
    id_dropout : float
        Share of codes and vectors that training replaces by the unknown one.
    look_up : callable, default=None
        Takes the place of `look_up_in_torch`.

    Notes
    -----
    Codes of -1, and those above the number of rows, have the embedding of the unknown one. The
    heads start at zero, so the first scores are the offsets.
    """

    TABLES = ("users", "items", "values")

    def __init__(
        self, shape: CrossShape, id_dropout: float = 0.0, look_up: LookUp | None = None
    ) -> None:
        super().__init__()
        self.shape, self.id_dropout = shape, id_dropout
        self.look_up = look_up_in_torch if look_up is None else look_up
        for name in self.TABLES:
            table = torch.zeros(0, shape.dim, dtype=torch.float32)
            self.register_parameter(name, nn.Parameter(table))
        n_kinds = len(shape.fields) + 2
        self.unknown = nn.Parameter(_NOISE * torch.randn(n_kinds, shape.dim, dtype=torch.float32))
        width = shape.width
        self.cross = nn.ModuleList([CrossLayer(width, shape.rank) for _ in range(shape.n_layers)])
        sizes = [width, *shape.hidden]
        self.deep = nn.ModuleList(
            [nn.Linear(a, b, dtype=torch.float32) for a, b in pairwise(sizes)]
        )
        self.head = nn.Linear(width + (sizes[-1] if shape.hidden else 0), 1, dtype=torch.float32)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.offset_weight = nn.Parameter(torch.ones(1, dtype=torch.float32))
        self.projections = nn.ModuleList(
            [Projection(own, to) for own, to in zip(shape.vectors, shape.projected, strict=True)]
        )

    def forward(
        self,
        user: Tensor,
        item: Tensor,
        codes: Tensor,
        numbers: Tensor,
        offset: Tensor,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Score rows.

        Parameters
        ----------
        user, item : Tensor of shape (B,)
            Codes; -1 is unknown.
        codes : Tensor of shape (B, K)
            Codes of categories; in a list, -1 fills the places after its members.
        numbers : Tensor of shape (B, n_numbers)
        offset : Tensor of shape (B,)
        vectors : Tensor of shape (B, sum(shape.vectors)), default=None
            Side by side; NaN is missing.

        Returns
        -------
        score : Tensor of shape (B,)
        """
        parts = [numbers, self._embed(user, item, codes)]
        if vectors is not None:
            parts += self._project(vectors)
        first = torch.cat(parts, 1)  # (B, D)
        x = deep = first
        for layer in self.cross:
            x = layer(first, x)  # (B, D)
        for layer in self.deep:
            deep = torch.relu(layer(deep))  # (B, h)
        last = torch.cat([x, deep], 1) if len(self.deep) else x
        return self.head(last)[:, 0] + self.offset_weight * offset

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters with learning rates of their own."""
        return {"embedding": [*(getattr(self, name) for name in self.TABLES), self.unknown]}

    def grow(self, sizes: tuple[int, int, int], rng: np.random.Generator | None) -> None:
        """Add rows of users, items and values; they start at the unknown one, or at noise.

        Parameters
        ----------
        sizes : (int, int, int)
            Rows of users, items and values.
        rng : numpy.random.Generator or None
            Draws noise; None copies the embedding of an unknown one.
        """
        for place, (name, size) in enumerate(zip(self.TABLES, sizes, strict=True)):
            table: nn.Parameter = getattr(self, name)
            known = len(table)
            if size <= known:
                continue
            grow_rows(table, size)
            if rng is None:
                start = self.unknown[place] if place < 2 else self.unknown[2:].mean(0)
                table.data[known:] = start.detach()
            else:
                noise = rng.normal(0, _NOISE, (size - known, self.shape.dim))
                table.data[known:] = torch.from_numpy(noise.astype(np.float32))

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of users (codes); the rows behind them move up."""
        kept = np.setdiff1d(np.arange(len(self.users)), users)  # type: ignore[arg-type]
        keep_rows(self.users, torch.from_numpy(kept))  # type: ignore[arg-type]

    # ------------------------------------------------------------------ private

    def _embed(self, user: Tensor, item: Tensor, codes: Tensor) -> Tensor:
        """Return the embeddings of all fields (B, F * d); those of codes to drop are unknown."""
        layout = self.shape.layout
        if not len(layout):
            return self.unknown.new_zeros((len(codes), 0))
        if self.shape.has_ids:
            codes = torch.cat([user[:, None], item[:, None], codes], 1)  # (B, K)
        kept = torch.ones_like(codes, dtype=torch.bool)
        if self.training and self.id_dropout:
            drawn = torch.rand(codes.shape, dtype=torch.float32, device=codes.device)
            kept = drawn >= self.id_dropout
        tables: tuple[Tensor, ...] = tuple(getattr(self, name) for name in self.TABLES)
        found: Tensor = self.look_up(tables, self.unknown, codes, kept, layout)
        return found.flatten(1)

    def _project(self, vectors: Tensor) -> list[Tensor]:
        """Return the projection (B, p) of each vector; those to drop are unknown."""
        found = []
        for own, projection in zip(
            vectors.split(list(self.shape.vectors), 1), self.projections, strict=True
        ):
            kept = torch.ones_like(own[:, :1], dtype=torch.bool)  # (B, 1)
            if self.training and self.id_dropout:
                kept = torch.rand_like(own[:, :1]) >= self.id_dropout
            found.append(projection(own, kept))
        return found


def make_cross_net(
    seed: int, shape: CrossShape, id_dropout: float, look_up: LookUp | None = None
) -> CrossNet:
    """Return a net whose initial weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return CrossNet(shape, id_dropout, look_up)


def look_up_in_torch(
    tables: tuple[Tensor, ...], unknown: Tensor, codes: Tensor, kept: Tensor, layout: np.ndarray
) -> Tensor:
    """Return embeddings (B, F, d) of fields, on any device; codes not kept are unknown."""
    found = []
    for table, kind, start, width in layout.tolist():
        own, rows = codes[:, start : start + width], tables[table]
        known = kept[:, start : start + width] & (own >= 0) & (own < len(rows))
        each = unknown[kind].expand(*own.shape, -1)  # (B, L, d)
        if len(rows):
            each = torch.where(
                known[..., None], functional.embedding(torch.where(known, own, 0), rows), each
            )
        if width > 1:
            there = (own >= 0).float()[..., None]  # (B, L, 1)
            count = there.sum(1)  # (B, 1)
            mean = (each * there).sum(1) / count.clamp(min=1)  # (B, d)
            found.append(torch.where(count > 0, mean, unknown[kind]))
        else:
            found.append(each[:, 0])
    return torch.stack(found, 1)
