"""Make a net from a module, predict with it, grow its optimizer, and restore it."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping
from skorch.history import History
from torch import Tensor, nn

from sklearn_recft.parallel import torch_threads
from sklearn_recft.training._batches import Batches, Collate, Columns, LastRows, tensor_of
from sklearn_recft.training._eager import EagerAdam, EagerAdamW
from sklearn_recft.training._net_params import stops_early
from sklearn_recft.training._policy import Policy
from sklearn_recft.training._tuned import _TunedNet


def make_net(
    module: nn.Module,
    criterion: nn.Module,
    policy: Policy,
    *,
    max_epochs: int,
    verbose: int = 0,
    net_params: dict[str, Any] | None = None,
) -> NeuralNet:
    """Wrap ``module`` (used as it is, not copied) in a skorch net.

    Parameters
    ----------
    module, criterion : torch.nn.Module
    policy : Policy
        Training settings. A plain policy makes a plain skorch net with Adam.
    max_epochs : int
    verbose : int, default=0
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet`, validated by `resolve_training`; they override the
        defaults. With an `EarlyStopping` callback and no ``train_split``, the newest 10 % of rows
        are the validation set.

    Returns
    -------
    net : skorch.NeuralNet
        Initialized, ready for `Trainer.fit`.

    Raises
    ------
    ValueError
        If the module has no parameters that the policy needs.
    """
    policy.check(module)
    given = dict(net_params or {})
    params: dict[str, Any] = {
        "optimizer": EagerAdam,
        "lr": policy.learning_rate,
        "max_epochs": max_epochs,
        "batch_size": 256,
        "verbose": verbose,
        "train_split": None,
        "device": "cpu",
        "iterator_train": Batches,
        "iterator_train__shuffle": True,
        "iterator_valid": Batches,
    }
    if "train_split" not in given and stops_early(given.get("callbacks")):
        params["train_split"] = LastRows()
    for parts in ("iterator_train", "iterator_valid"):
        rows_at_once = given.get(f"{parts}__batch_size", given.get("batch_size"))
        if given.get(f"{parts}__size") is not None and rows_at_once == -1:
            # skorch turns -1 into the number of rows, which is not their total length.
            given[f"{parts}__batch_size"] = sys.maxsize
    if policy.is_plain:
        return NeuralNet(module, criterion, **{**params, **given}).initialize()
    params["optimizer"] = EagerAdamW
    if "optimizer" not in given and _is_plain(given.get("device", "cpu")):
        params["optimizer__fused"] = True  # five times as fast on a CPU
    if policy.patience is not None:
        params["train_split"] = LastRows(policy.validation_fraction)
        # Threshold 0: the restored weights must have the lowest loss.
        stop = EarlyStopping(patience=policy.patience, threshold=0.0, load_best=True)
        given["callbacks"] = [*(given.get("callbacks") or []), ("early_stopping", stop)]
    return _TunedNet(module, criterion, policy=policy, **{**params, **given}).initialize()


@torch.no_grad()  # as a decorator, so that no interrupt can leave gradients off
def predict_net(
    net_or_module: NeuralNet | nn.Module,
    columns: Columns,
    *,
    batch_size: int = 4096,
    n_threads: int = 1,
    collate: Collate | None = None,
) -> np.ndarray:
    """Compute the output of the module for every row, in float32 and evaluation mode.

    Parameters
    ----------
    net_or_module : skorch.NeuralNet or torch.nn.Module
        Nothing of it changes.
    columns : dict of arrays of shape (n, ...)
        Named after the arguments of the module's ``forward``, or as ``collate`` reads them.
    batch_size : int, default=4096
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    collate : callable, default=None
        As for `Trainer`.

    Returns
    -------
    output : ndarray of shape (n, ...), float32
        The first output if ``forward`` returns several. Without rows, the shape is (0,).
    """
    module = net_or_module.module_ if isinstance(net_or_module, NeuralNet) else net_or_module
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    tensors = {name: tensor_of(column) for name, column in columns.items()}
    n = len(next(iter(tensors.values())))
    parts: list[np.ndarray] = []
    was_training = module.training
    with torch_threads(n_threads):
        # Written only if needed: other threads may predict with the same module.
        if was_training:
            module.eval()
        try:
            for start in range(0, n, batch_size):
                batch = {name: t[start : start + batch_size] for name, t in tensors.items()}
                batch = collate(batch) if collate else batch
                output = module(**{name: t.to(device) for name, t in batch.items()})
                score: Tensor = output[0] if isinstance(output, (tuple, list)) else output
                parts.append(score.float().cpu().numpy())
        finally:
            if was_training:
                module.train()
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def checkpoint(net: NeuralNet, *, weights: bool = False) -> Callable[[], None]:
    """Return a function that restores the current state of the optimizer and the history.

    With ``weights``, it also restores the trained parameters and their shapes; otherwise the
    module restores its own. The schedule of a policy needs no state, since it lasts one call.
    """
    state, history = copy.deepcopy(net.optimizer_.state_dict()), History(net.history_)
    training = [p for g in net.optimizer_.param_groups for p in g["params"] if p.requires_grad]
    kept = [(p, p.detach().clone()) for p in training] if weights else []

    def restore() -> None:
        for parameter, before in kept:
            parameter.data = before.clone()
        for parameter in training:
            _forget_graphs(parameter)
        net.optimizer_.load_state_dict(state)
        net.history_ = History(history)

    return restore


def grow_optimizer(net: NeuralNet) -> None:
    """Append zero rows to the optimizer's moments for new rows of the parameters."""
    for parameter, state in net.optimizer_.state.items():
        for name, moment in state.items():
            if torch.is_tensor(moment) and moment.dim() and moment.shape != parameter.shape:
                wider = torch.zeros_like(parameter)
                kept = min(len(moment), len(parameter))
                wider[:kept] = moment[:kept]
                state[name] = wider


def _forget_graphs(parameter: nn.Parameter) -> None:
    """Detach a parameter from the autograd graphs of a failed call.

    The traceback of an error keeps these graphs alive, with the old shape of the gradient. A
    change of dtype and back makes torch drop them.
    """
    data, parameter.grad = parameter.data, None
    other = torch.float32 if data.dtype == torch.float64 else torch.float64
    parameter.data = data.new_empty(0, dtype=other)
    parameter.data = data


def _is_plain(device: Any) -> bool:
    return torch.device(device).type in ("cpu", "cuda")
