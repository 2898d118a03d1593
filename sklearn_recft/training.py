"""Nets and how they are trained: the only file that imports skorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset
from skorch.history import History
from torch import Tensor, nn
from torch.utils.data import Subset

from sklearn_recft.modules._layers import torch_threads

Columns = dict[str, np.ndarray]


class Batches:
    """Batches of rows cut from whole tensors, in random order when ``shuffle``.

    Takes the place of torch's ``DataLoader``, which would collate row by row. Where
    ``n_negatives`` is set, each batch gets that many codes to draw from as ``negative``.
    """

    def __init__(
        self, dataset: Any, *, batch_size: int, shuffle: bool = False, n_negatives: int = 0
    ) -> None:
        rows = None
        if isinstance(dataset, Subset):
            dataset, rows = dataset.dataset, torch.as_tensor(np.asarray(dataset.indices))
        columns = {name: torch.as_tensor(column) for name, column in dataset.X.items()}
        target = torch.as_tensor(dataset.y)
        if rows is not None:
            columns = {name: column[rows] for name, column in columns.items()}
            target = target[rows]
        self.columns, self.target = columns, target
        self.batch_size = len(target) if batch_size == -1 else batch_size
        self.shuffle, self.n_negatives = shuffle, n_negatives

    def __len__(self) -> int:
        return -(-len(self.target) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        n = len(self.target)
        order = torch.randperm(n) if self.shuffle else torch.arange(n)
        for rows in order.split(self.batch_size):
            batch = {name: column[rows] for name, column in self.columns.items()}
            if self.n_negatives:
                batch["negative"] = torch.randint(self.n_negatives, (len(rows),))
            yield batch, self.target[rows]


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


class PenalisedLoss(nn.Module):
    """Weighted mean of a pointwise loss plus ``reg / 2`` times the squared norms.

    ``loss`` is "squared_error", "log_loss" (targets 0 to 1) or "bpr" (scores are
    differences). The target has two columns: value and weight.
    """

    def __init__(self, loss: str, reg: float) -> None:
        super().__init__()
        self.loss, self.reg = loss, reg

    def forward(self, output: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
        """Mean loss of a batch: scores and norms (B,), target (B, 2)."""
        score, norm = output
        value, weight = target.unbind(1)
        if self.loss == "squared_error":
            each = (score - value).square() / 2
        elif self.loss == "log_loss":
            each = nn.functional.binary_cross_entropy_with_logits(score, value, reduction="none")
        else:
            each = nn.functional.softplus(-score)
        return (weight * (each + self.reg / 2 * norm)).sum() / weight.sum()


def make_net(
    module: nn.Module, criterion: nn.Module, *, learning_rate: float, max_epochs: int,
    verbose: int, net_params: dict[str, Any] | None,
) -> NeuralNet:  # fmt: skip
    """Wrap ``module`` (used as it is, not copied) in a skorch net trained with Adam.

    ``net_params`` are any parameters of `skorch.NeuralNet`, and win over ours. With an
    `EarlyStopping` callback and no ``train_split`` of its own, the last tenth of rows in
    time is held out to judge it.
    """
    params: dict[str, Any] = {
        "optimizer": torch.optim.Adam, "lr": learning_rate, "max_epochs": max_epochs,
        "batch_size": 256, "verbose": verbose, "train_split": None, "device": "cpu",
        "iterator_train": Batches, "iterator_train__shuffle": True, "iterator_valid": Batches,
    }  # fmt: skip
    given = dict(net_params or {})
    if "train_split" not in given and _stops_early(given.get("callbacks")):
        params["train_split"] = LastRows()
    net = NeuralNet(module, criterion, **{**params, **given})
    return net.initialize()


def fit_net(
    net: NeuralNet, columns: Columns, target: np.ndarray, *, epochs: int, seed: int,
    n_negatives: int = 0, n_threads: int = 1,
) -> None:  # fmt: skip
    """Train for ``epochs`` on rows in time order; nothing global changes, interrupts pass on.

    Parameters
    ----------
    columns : dict of arrays of shape (n, ...)
        Named after the arguments of the module's ``forward``.
    target : ndarray of shape (n, 2), float32
        Value and weight of each row.
    epochs, seed : int
    n_negatives : int, default=0
        Codes to draw the argument ``negative`` from; 0 draws none.
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    """
    # Plain attributes: skorch's set_params refuses them once the net is initialised.
    net.iterator_train__n_negatives = net.iterator_valid__n_negatives = n_negatives
    grow_optimizer(net)
    devices = [d for d in {p.device for p in net.module_.parameters()} if d.type == "cuda"]
    with torch_threads(n_threads), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        # skorch's own partial_fit would swallow a KeyboardInterrupt.
        dataset = Dataset(columns, target)
        net.notify("on_train_begin", X=dataset, y=target)
        try:
            net.fit_loop(dataset, None, epochs=epochs)
        except KeyboardInterrupt:
            # `EarlyStopping` ends training with this very exception.
            if not _stopped_early(net):
                raise
        net.notify("on_train_end", X=dataset, y=target)
    # A stream of calls must not fill memory with the records of its epochs.
    net.history_ = History(net.history_[-max(epochs, 1) :])


def checkpoint(net: NeuralNet) -> Callable[[], None]:
    """Return a function that puts the optimizer and the records back to where they are now."""
    state, history = copy.deepcopy(net.optimizer_.state_dict()), History(net.history_)

    def restore() -> None:
        net.optimizer_.load_state_dict(state)
        net.history_ = history

    return restore


def grow_optimizer(net: NeuralNet) -> None:
    """Give the optimizer's moments zero rows where the parameters have grown new ones."""
    for parameter, state in net.optimizer_.state.items():
        for name, moment in state.items():
            if torch.is_tensor(moment) and moment.dim() and moment.shape != parameter.shape:
                wider = torch.zeros_like(parameter)
                kept = min(len(moment), len(parameter))
                wider[:kept] = moment[:kept]
                state[name] = wider


def _stopped_early(net: NeuralNet) -> bool:
    found = [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]
    return any(c.misses_ >= c.patience for c in found)


def _stops_early(callbacks: Any) -> bool:
    listed = callbacks if isinstance(callbacks, (list, tuple)) else []
    return any(isinstance(c[1] if isinstance(c, tuple) else c, EarlyStopping) for c in listed)
