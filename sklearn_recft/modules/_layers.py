"""Embedding tables that grow in place."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_recft.parallel import torch_threads


def grow_rows(table: Tensor, n_rows: int) -> None:
    """Resize ``table`` (rows, ...) to ``n_rows`` rows in place; new rows are zero.

    The storage keeps spare capacity for 50 % more rows, so adding a row takes amortised constant
    time. The tensor object and its first rows stay the same, so optimizers stay valid.
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
        with torch_threads(1):  # starting threads for a few small tables takes milliseconds
            storage = torch.zeros(size, dtype=table.dtype, device=table.device)
            storage[:rows] = table.data
        table.data = storage[:n_rows]
    else:
        table.data = torch.as_strided(table.data, (n_rows, *shape), table.stride())
        table.data[rows:] = 0


def is_tight(table: Tensor) -> bool:
    """Return whether the storage of ``table`` has no spare capacity."""
    return table.untyped_storage().nbytes() <= table.numel() * table.element_size()


def tight_state(module: nn.Module, tables: Iterable[Tensor], memo: dict[int, Any]) -> dict:
    """Return the attributes of a module to pickle, with tables without spare capacity.

    The module itself does not change, since other threads may read it. ``memo`` gets the copy of
    each table by `id`, so that an optimizer can be pickled together with the module.
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
    """Remove all rows of ``table`` except ``kept`` (codes), in place."""
    table.data = table.data[kept.to(table.device)]
