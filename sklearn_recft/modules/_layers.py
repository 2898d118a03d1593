"""Tables whose rows grow in place."""

import torch
from torch import Tensor

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


def trim_rows(table: Tensor) -> None:
    """Give up, in place, the room that `grow_rows` keeps behind the last row."""
    if table.untyped_storage().nbytes() > table.numel() * table.element_size():
        table.data = table.data.clone()
