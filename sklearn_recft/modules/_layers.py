"""Parts that several modules share: tables whose rows grow in place."""

import torch
from torch import Tensor


def grow_rows(table: Tensor, n_rows: int) -> None:
    """Give ``table`` (rows, ...) ``n_rows`` rows, in place; new rows are zero.

    Room for half as many rows again is kept behind the last one, so that a stream of small
    growths costs amortised constant time a row. The tensor object stays the same, and so do
    its first rows: optimizers and views by name keep their meaning.
    """
    rows, shape = table.shape[0], table.shape[1:]
    if n_rows <= rows:
        with torch.no_grad():
            table.data = table.data[:n_rows]
        return
    width = max(1, shape.numel())
    capacity = table.untyped_storage().nbytes() // (table.element_size() * width)
    if n_rows > capacity:
        storage = torch.zeros((max(n_rows, rows * 3 // 2), *shape), dtype=table.dtype,
                              device=table.device)  # fmt: skip
        storage[:rows] = table.data
        table.data = storage[:n_rows]
    else:
        table.data = torch.as_strided(table.data, (n_rows, *shape), table.stride())
        table.data[rows:] = 0


class one_torch_thread:
    """Keep torch to one thread, until the end of the block or for ever in a worker thread."""

    def __init__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.before)
