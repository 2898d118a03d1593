"""Which rows make a batch, and which are held out: whole tensors, indexed a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

Columns = dict[str, np.ndarray]
# Makes of a batch's columns the arguments of the module's ``forward``.
Gather = Callable[[dict[str, Tensor]], dict[str, Tensor]]


class Batches:
    """Batches of rows cut from whole tensors, in random order when ``shuffle``.

    Takes the place of torch's ``DataLoader``, which would collate row by row. No column is
    copied: a part of a dataset is a list of its rows.

    Parameters
    ----------
    dataset : skorch.dataset.Dataset or torch.utils.data.Subset of one
        ``X`` is a dict of arrays of shape (n, ...), ``y`` the target.
    batch_size : int
        -1 makes one batch of all rows.
    shuffle : bool, default=False
        Draw a new order from torch's generator for each pass.
    block_size : int, default=0
        Where above 0, rows are shuffled only inside blocks of so many consecutive rows, and
        the blocks follow each other as they are: old rows are learned before new ones.
    n_negatives : int, default=0
        Where above 0, each batch gets that many codes to draw from as ``negative``.
    gather : callable, default=None
        Called with the columns of each batch, returns what the module gets instead. Rows can
        so be handed on by reference, say as places in a log that would be too large as a
        column of its own.
    """

    def __init__(
        self, dataset: Any, *, batch_size: int, shuffle: bool = False, block_size: int = 0,
        n_negatives: int = 0, gather: Gather | None = None,
    ) -> None:  # fmt: skip
        self.rows = None
        if isinstance(dataset, Subset):
            dataset, self.rows = dataset.dataset, torch.as_tensor(np.asarray(dataset.indices))
        self.columns = {name: tensor_of(column) for name, column in dataset.X.items()}
        self.target = tensor_of(dataset.y)
        self.n_rows = len(self.target) if self.rows is None else len(self.rows)
        self.batch_size = self.n_rows if batch_size == -1 else batch_size
        self.shuffle, self.block_size = shuffle, block_size
        self.n_negatives, self.gather = n_negatives, gather

    def __len__(self) -> int:
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        order = self._order()
        if self.rows is not None:
            order = self.rows[order]
        for rows in order.split(self.batch_size):
            # Of the ways to index, the fastest: six times that of brackets on rows of 50.
            batch = {name: column.index_select(0, rows) for name, column in self.columns.items()}
            if self.n_negatives:
                batch["negative"] = torch.randint(self.n_negatives, (len(rows),))
            yield self.gather(batch) if self.gather else batch, self.target.index_select(0, rows)

    def _order(self) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.n_rows)
        if not self.block_size:
            return torch.randperm(self.n_rows)
        blocks = torch.arange(self.n_rows).split(self.block_size)
        return torch.cat([block[torch.randperm(len(block))] for block in blocks])


class LastRows:
    """Validation split that holds out the last ``fraction`` of rows: never random ones.

    Rows must be in the order of time. A single row is trained on and judged by itself.
    """

    def __init__(self, fraction: float = 0.1) -> None:
        self.fraction = fraction

    def __call__(self, dataset: Any, y: Any = None, **_: Any) -> tuple[Subset, Subset]:
        """Train and validation parts of a dataset."""
        n = len(dataset)
        cut = min(max(1, round(n * (1 - self.fraction))), n - 1)
        return Subset(dataset, range(max(cut, 1))), Subset(dataset, range(cut, n))


def tensor_of(column: Any) -> Tensor:
    """Return a tensor over the column's own memory; a copy where that is read-only."""
    if isinstance(column, np.ndarray) and not column.flags.writeable:
        column = column.copy()  # torch warns of what it might write to
    return torch.as_tensor(column)
