"""Tables with one row per id that are updated online: statistics and factorizations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.modules._factorization import MatrixFactorization
from sklearn_recft.modules._layers import grow_rows, keep_rows

_SIDES = ("user_statistics", "item_statistics")
# Numbers of users and items, a copy of the marked rows, and their codes.
Mark = tuple[tuple[int, int], "OnlineTables", list[np.ndarray]]


class OnlineTables(nn.Module):
    """State of the online features: statistics of each id, and matrix factorizations.

    Parameters
    ----------
    n_factors : int
    n_factorizations : int
        One per target.
    widths : (int, int)
        Number of statistics of a user and of an item.

    Notes
    -----
    It gets no gradients: only compiled kernels write to its arrays.
    """

    user_statistics: Tensor
    item_statistics: Tensor
    totals: Tensor
    moments: Tensor

    def __init__(self, n_factors: int, n_factorizations: int, widths: tuple[int, int]) -> None:
        super().__init__()
        made = [
            MatrixFactorization(n_factors).requires_grad_(False) for _ in range(n_factorizations)
        ]
        self.factorizations: Any = nn.ModuleList(made)
        for name, width in zip(_SIDES, widths, strict=True):
            self.register_buffer(name, torch.zeros(0, width, dtype=torch.float64))
        self.register_buffer("totals", torch.zeros(2, dtype=torch.float64))
        moments = torch.tensor([0.0, 0.0, 0.0, torch.inf, -torch.inf], dtype=torch.float64)
        self.register_buffer("moments", moments.repeat(n_factorizations, 1))

    def grow(self, n_users: int, n_items: int) -> None:
        """Resize every table of ids; new rows are zero."""
        for name, n_rows in zip(_SIDES, (n_users, n_items), strict=True):
            grow_rows(getattr(self, name), n_rows)
        for factorization in self.factorizations:
            factorization.grow(n_users, n_items)

    def state(self) -> dict[str, Any]:
        """Return a copy of every table as an array."""
        own = {name: array.copy() for name, array in self.arrays().items()}
        return {**own, "factorizations": [f.state() for f in self.factorizations]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the arrays that `state` returned."""
        self.grow(len(state["users"]), len(state["items"]))
        for name, array in self.arrays().items():
            array[...] = state[name]
        for factorization, part in zip(self.factorizations, state["factorizations"], strict=True):
            factorization.load_state(part)

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""
        kept = np.setdiff1d(np.arange(len(self.user_statistics)), users)
        keep_rows(self.user_statistics, torch.from_numpy(kept))
        for factorization in self.factorizations:
            factorization.forget(users)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return arrays ``users``, ``items``, ``totals`` and ``moments`` that share memory."""
        names = dict(zip(("users", "items"), _SIDES, strict=True))
        named = {**names, "totals": "totals", "moments": "moments"}
        return {name: self._buffers[held].numpy() for name, held in named.items()}  # type: ignore[union-attr]

    def rows(self, users: np.ndarray, items: np.ndarray) -> OnlineTables:
        """Copy the rows of ``users`` and ``items`` (codes) to new tables."""
        part = OnlineTables.__new__(OnlineTables)
        nn.Module.__init__(part)
        for name, codes in zip(_SIDES, (users, items), strict=True):
            part.register_buffer(name, getattr(self, name)[torch.from_numpy(codes)])
        part.register_buffer("totals", self.totals.clone())
        part.register_buffer("moments", self.moments.clone())
        part.factorizations = [_rows_of(f, (users, items)) for f in self.factorizations]
        return part

    def patch(self, other: OnlineTables, users: np.ndarray, items: np.ndarray) -> None:
        """Write the rows of ``other`` to ``users`` and ``items`` (-1: skip), and its totals."""
        for name, codes in zip(_SIDES, (users, items), strict=True):
            _write(getattr(self, name), getattr(other, name), codes)
        self.totals.copy_(other.totals)
        self.moments.copy_(other.moments)
        for ours, theirs in zip(self.factorizations, other.factorizations, strict=True):
            for names, codes in zip(MatrixFactorization.ID_TABLES, (users, items), strict=True):
                for name in names:
                    _write(getattr(ours, name).data, getattr(theirs, name).data, codes)
            ours.mean.data.copy_(theirs.mean.data)

    def mark(self, users: np.ndarray, items: np.ndarray) -> Mark:
        """Return what `restore` needs to undo growth and changes of these rows (codes)."""
        sizes = len(self.user_statistics), len(self.item_statistics)
        known = [
            np.unique(codes[(codes >= 0) & (codes < size)])
            for codes, size in zip((users, items), sizes, strict=True)
        ]
        return sizes, self.rows(*known), known

    def restore(self, mark: Mark) -> None:
        """Undo growth and changes since ``mark``."""
        sizes, kept, known = mark
        self.grow(*sizes)
        self.patch(kept, *known)


def _rows_of(factorization: MatrixFactorization, codes: tuple[np.ndarray, ...]) -> Any:
    part = MatrixFactorization(factorization.user_factors.shape[1]).requires_grad_(False)
    for names, own in zip(MatrixFactorization.ID_TABLES, codes, strict=True):
        for name in names:
            getattr(part, name).data = getattr(factorization, name).data[torch.from_numpy(own)]
    part.mean.data.copy_(factorization.mean.data)
    return part


def _write(table: Tensor, rows: Tensor, codes: np.ndarray) -> None:
    written = torch.from_numpy(np.flatnonzero(codes >= 0))
    table[torch.from_numpy(codes[codes >= 0])] = rows[written]
