"""Parts that several modules share: tables whose rows grow in place, threads, dot products."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


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


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Let torch use ``n`` threads within the block: more would fight with ours for the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def limit_torch_threads() -> None:
    """Keep torch to one thread for good: for the start of a worker thread."""
    torch.set_num_threads(1)


def trim_rows(table: Tensor) -> None:
    """Give up, in place, the room that `grow_rows` keeps behind the last row."""
    if table.untyped_storage().nbytes() > table.numel() * table.element_size():
        table.data = table.data.clone()


def dot_tiles(
    p: np.ndarray, q: np.ndarray, bias: np.ndarray, base: np.ndarray
) -> Callable[[int, int, int, int, np.ndarray], None]:
    """Scores ``p_r . q_c + bias_c + base_r``, tile by tile (see base.top_k); float32 arrays.

    Shapes: ``p`` (n, k), ``q`` (m, k), ``bias`` (m,), ``base`` (n,).
    """
    if len(p) == 1:
        # One row is a matrix-vector product, which numpy's BLAS does faster.
        def score_one(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            np.dot(q[c0:c1], p[0], out=out[0])
            out[0] += bias[c0:c1]
            out[0] += base

        return score_one
    rows, columns, column_bias = map(torch.from_numpy, (p, q, bias))
    row_base = torch.from_numpy(base)[:, None]  # (n, 1)

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        tile = torch.from_numpy(out)
        # Where rows begin decides the order of MKL's sums, and so the last bit of a score: they
        # are copied to where torch begins a tensor.
        some = rows[r0:r1].clone()
        torch.addmm(column_bias[c0:c1], some, columns[c0:c1].T, out=tile)
        tile += row_base[r0:r1]

    return score
