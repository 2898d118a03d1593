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

# Kinds of gradients: dense, of the rows of a small table (exchanged as dense), and of a large one.
_DENSE, _TABLE, _SPARSE = 1, 2, 3
_SMALL = 2**18  # numbers; larger tables are exchanged by the rows of a batch


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
    """Replace gradients before each step by their means over the processes.

    A parameter without a gradient in any process keeps none. Which have one is expected to be as in
    the step before; a step in which that differs in a process takes a second exchange.
    """

    def __init__(self, processes: Processes, part: Part) -> None:
        self.processes, self.part = processes, part
        self.expected = torch.empty(0, dtype=torch.int64)

    @torch.no_grad()
    def on_grad_computed(self, net: NeuralNet, **_: Any) -> None:
        """Add up the shares of all processes."""
        groups = net.optimizer_.param_groups
        trained = [p for group in groups for p in group["params"] if p.requires_grad]
        self.add(trained, self.part.share())

    def add(self, parameters: list[nn.Parameter], share: float) -> None:
        """Replace gradients by their sums over processes, each weighted by its share."""
        now = torch.tensor([_kind_of(p) for p in parameters])
        if len(self.expected) != len(now):
            self.expected = self._kinds_of_all(now)
        if not self._add_dense(parameters, share, now):
            self.expected = self._kinds_of_all(now)
            self._add_dense(parameters, share, self.expected)
        for p, kind in zip(parameters, self.expected.tolist(), strict=True):
            if kind == _SPARSE:
                gradient = ((_no_rows(p) if p.grad is None else p.grad) * share).coalesce()
                self.processes.add(gradient)
                p.grad = gradient

    def _kinds_of_all(self, now: Tensor) -> Tensor:
        """Return the kind of each gradient where a process has one."""
        found = torch.zeros(self.processes.size, len(now), dtype=torch.int64)
        found[self.processes.rank] = now
        self.processes.add(found)
        return found.amax(0)

    def _add_dense(self, parameters: list[nn.Parameter], share: float, now: Tensor) -> bool:
        """Add up dense gradients and small tables, unless a process has other kinds."""
        kinds = self.expected.tolist()
        listed = [(p, k) for p, k in zip(parameters, kinds, strict=True) if k in (_DENSE, _TABLE)]
        first = parameters[0]
        wrong = torch.full((1,), float((now != self.expected).any()), device=first.device)
        parts = [_dense_gradient(p).flatten().float() for p, _ in listed]
        flat = torch.cat([*parts, wrong])
        flat[:-1].mul_(share)
        self.processes.add(flat)
        if flat[-1] > 0:
            return False
        sizes = [p.numel() for p, _ in listed]
        for (p, kind), values in zip(listed, flat[:-1].split(sizes), strict=True):
            gradient = values.view_as(p).to(p.dtype)
            p.grad = _rows_of(gradient) if kind == _TABLE else gradient
        return True


def _kind_of(parameter: nn.Parameter) -> int:
    gradient = parameter.grad
    if gradient is None:
        return 0
    if not gradient.is_sparse:
        return _DENSE
    return _TABLE if parameter.numel() <= _SMALL else _SPARSE


def _dense_gradient(p: nn.Parameter) -> Tensor:
    if p.grad is None:
        return torch.zeros_like(p)
    return p.grad.to_dense() if p.grad.is_sparse else p.grad


def _rows_of(gradient: Tensor) -> Tensor:
    """Return a sparse gradient of the rows that are not zero."""
    rows = gradient.any(1).nonzero()[:, 0]
    values = gradient[rows]
    return torch.sparse_coo_tensor(
        rows[None], values, gradient.shape, is_coalesced=True, check_invariants=False
    )


def _no_rows(p: Tensor) -> Tensor:
    """Return a sparse gradient without rows."""
    rows = torch.empty(1, 0, dtype=torch.int64)
    return torch.sparse_coo_tensor(rows, p[:0], p.shape, check_invariants=False)


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
