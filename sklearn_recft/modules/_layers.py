"""Embedding tables that grow in place, and the embedding of times."""

import math

import torch
from torch import Tensor

from sklearn_recft.parallel import torch_threads

N_TIME_STEPS = 64  # steps of half an octave, from a second to a century


def all_rows(table: Tensor) -> Tensor:
    """Return a view of ``table`` (rows, ...) with all rows that its storage has room for."""
    shape = table.shape[1:]
    size = table.element_size() * max(1, shape.numel())
    capacity = table.untyped_storage().nbytes() // size
    return torch.as_strided(table.data, (capacity, *shape), table.stride())


def grow_rows(table: Tensor, n_rows: int) -> None:
    """Resize ``table`` (rows, ...) to ``n_rows`` rows in place; new rows are zero.

    The storage keeps spare capacity for 50 % more rows, so adding a row takes amortised constant
    time. The tensor object and its first rows stay the same, so optimizers stay valid.
    """
    rows, shape = table.shape[0], table.shape[1:]
    if n_rows == rows:
        return
    if n_rows < rows:
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


def keep_rows(table: Tensor, kept: Tensor) -> None:
    """Remove all rows of ``table`` except ``kept`` (codes), in place."""
    table.data = table.data[kept.to(table.device)]


def time_embedding(table: Tensor, seconds: Tensor) -> Tensor:
    """Embed times in seconds (...) as vectors (..., d), by steps of half an octave.

    The embedding of a step is the sum of ``table`` (n_steps, d) up to that step. Times longer
    than any in training therefore get the embedding of the longest one.
    """
    step = (2 * (seconds.clamp(min=0) + 1).log2()).long().clamp(max=N_TIME_STEPS - 1)
    return (table / math.sqrt(N_TIME_STEPS)).cumsum(0)[step]
