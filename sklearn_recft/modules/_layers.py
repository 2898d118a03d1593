"""Tables whose rows grow in place."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_recft.parallel import torch_threads


def grow_rows(table: Tensor, n_rows: int) -> None:
    """Give ``table`` (rows, ...) ``n_rows`` rows, in place; new rows are zero.

    Room for half as many rows again is kept behind the last one, so that a stream of small
    growths costs amortised constant time a row. The tensor object stays the same, and so do
    its first rows: optimizers and views by name keep their meaning.
    """
    rows, shape = table.shape[0], table.shape[1:]
    if n_rows == rows:
        return
    if n_rows < rows:
        with torch.no_grad():
            table.data = table.data[:n_rows]
        return
    width = max(1, shape.numel())
    capacity = table.untyped_storage().nbytes() // (table.element_size() * width)
    if n_rows > capacity:
        size = (max(n_rows, rows * 3 // 2), *shape)
        with torch_threads(1):  # waking threads for a few small tables takes milliseconds
            storage = torch.zeros(size, dtype=table.dtype, device=table.device)
            storage[:rows] = table.data
        table.data = storage[:n_rows]
    else:
        table.data = torch.as_strided(table.data, (n_rows, *shape), table.stride())
        table.data[rows:] = 0


def is_tight(table: Tensor) -> bool:
    """Whether `grow_rows` keeps no room behind the last row."""
    return table.untyped_storage().nbytes() <= table.numel() * table.element_size()


def tight_state(module: nn.Module, tables: Iterable[Tensor], memo: dict[int, Any]) -> dict:
    """Return what to pickle of a module: its attributes, with tables that have no spare room.

    The module itself is not written to: others may be reading it. ``memo`` gets, by `id`, the
    copy of each table, for an optimizer that is to be pickled beside the module.
    """
    tables = list(tables)
    if all(map(is_tight, tables)):
        return module.__dict__.copy()
    for table in tables:
        copied = table.detach().clone()
        if isinstance(table, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=table.requires_grad)
        memo[id(table)] = copied
    return copy.deepcopy(module.__dict__, memo)


def keep_rows(table: Tensor, kept: Tensor) -> None:
    """Keep the rows ``kept`` (codes) of ``table``, in place."""
    table.data = table.data[kept.to(table.device)]
