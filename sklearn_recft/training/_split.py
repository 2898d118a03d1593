"""Training of a net by several processes: each takes its rows of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import Tensor, nn

from sklearn_recft.processes import Processes
from sklearn_recft.training import _skorch
from sklearn_recft.training._batches import Batches

_DENSE, _SPARSE = 1, 2


class Part:
    """The rows of each batch that one process takes.

    All processes draw the same batches, by a generator of their own. So the gradient of a step is
    that of the whole batch, and only dropout and negatives are drawn by each process.

    Attributes
    ----------
    rank, size : int
    generator : torch.Generator
        Draws the batches.
    shares : list of float
        Share of this process in each batch since the last step.
    """

    def __init__(self, processes: Processes, seed: int) -> None:
        self.rank, self.size = processes.rank, processes.size
        self.generator = torch.Generator().manual_seed(seed)
        self.shares: list[float] = []

    def take(self, rows: Tensor, weight: Tensor | None) -> Tensor:
        """Return this process's part of the rows of a batch; all, if they are too few.

        ``weight`` (n_rows,) is the weight of all rows in the loss; None counts rows.
        """
        mine = rows[self.rank :: self.size]
        if len(rows) < self.size:
            mine, share = rows, 1 / self.size
        elif weight is None:
            share = len(mine) / len(rows)
        else:
            total = float(weight[rows].sum())
            share = float(weight[mine].sum()) / total if total else 1 / self.size
        self.shares.append(share)
        return mine

    def share(self) -> float:
        """Return the share of this process in the step, and start the next step."""
        share, self.shares = sum(self.shares) / len(self.shares), []
        return share


class AddGradients(Callback):
    """Replace gradients before each step by their means over the processes."""

    def __init__(self, processes: Any, part: Part) -> None:
        self.processes, self.part = processes, part

    @torch.no_grad()
    def on_grad_computed(self, net: NeuralNet, **_: Any) -> None:
        """Add up the shares of all processes."""
        groups = net.optimizer_.param_groups
        trained = [p for group in groups for p in group["params"] if p.requires_grad]
        add_gradients(trained, self.part.share(), self.processes)


def add_gradients(parameters: list[nn.Parameter], share: float, processes: Any) -> None:
    """Replace gradients by their sums over processes, each weighted by its share.

    A parameter without a gradient in any process keeps none.
    """
    kinds = torch.tensor([_kind_of(p.grad) for p in parameters])
    processes.largest(kinds)
    dense = [p for p, kind in zip(parameters, kinds.tolist(), strict=True) if kind == _DENSE]
    if dense:
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in dense]
        flat = torch.cat([part.flatten() for part in parts]).mul_(share)
        processes.add(flat)
        for p, values in zip(dense, flat.split([p.numel() for p in dense]), strict=True):
            p.grad = values.view_as(p)
    for p, kind in zip(parameters, kinds.tolist(), strict=True):
        if kind == _SPARSE:
            none = _no_rows(p)
            gradient = ((none if p.grad is None else p.grad) * share).coalesce()
            processes.add(gradient)
            p.grad = gradient


def _no_rows(p: Tensor) -> Tensor:
    """Return a sparse gradient without rows."""
    rows = torch.empty(1, 0, dtype=torch.int64)
    return torch.sparse_coo_tensor(rows, p[:0], p.shape, check_invariants=False)


def _kind_of(gradient: Tensor | None) -> int:
    return 0 if gradient is None else _SPARSE if gradient.is_sparse else _DENSE


@contextmanager
def split_batches(net: NeuralNet, processes: Processes, seed: int) -> Iterator[None]:
    """Train on a part of every batch within the block, with the gradients of all processes.

    Raises
    ------
    ValueError
        If the net has other batches than `Batches`.
    """
    if net.iterator_train is not Batches:
        raise ValueError(
            "net_params: fit_distributed splits the batches of this package; leave out "
            "iterator_train."
        )
    part = Part(processes, seed)
    callbacks = [("processes", AddGradients(processes, part)), *net.callbacks_]
    with (
        _skorch.train_option(net, part=part),
        _skorch.replaced(net, callbacks, net.train_split),
    ):
        yield
