"""Make a net from a module, predict with it, grow it, and restore it."""

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
        How to train. A plain one makes a plain skorch net with Adam.
    max_epochs : int
    verbose : int, default=0
    net_params : dict, default=None
        Parameters of `skorch.NeuralNet`, as `resolve_training` has checked them; they replace
        ours. With an `EarlyStopping` callback and no ``train_split``, the last tenth of rows in
        time is the validation set.

    Returns
    -------
    net : skorch.NeuralNet
        Initialized, ready for `Trainer.fit`.

    Raises
    ------
    ValueError
        Where the module has no parameters that the policy needs.
    """
    policy.check(module)
    given = dict(net_params or {})
    params: dict[str, Any] = {
        "optimizer": torch.optim.Adam,
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
            # skorch makes of -1 the number of rows, which is not the length of them all.
            given[f"{parts}__batch_size"] = sys.maxsize
    if policy.is_plain:
        return NeuralNet(module, criterion, **{**params, **given}).initialize()
    params["optimizer"] = torch.optim.AdamW
    if "optimizer" not in given and _is_plain(given.get("device", "cpu")):
        params["optimizer__fused"] = True  # five times as fast on a CPU
    if policy.patience is not None:
        params["train_split"] = LastRows(policy.validation_fraction)
        # Any improvement counts: the weights to restore must have the lowest loss.
        stop = EarlyStopping(patience=policy.patience, threshold=0.0, load_best=True)
        given["callbacks"] = [*(given.get("callbacks") or []), ("early_stopping", stop)]
    return _TunedNet(module, criterion, policy=policy, **{**params, **given}).initialize()


def predict_net(
    net_or_module: NeuralNet | nn.Module,
    columns: Columns,
    *,
    batch_size: int = 4096,
    n_threads: int = 1,
    collate: Collate | None = None,
) -> np.ndarray:
    """Output of the module for every row, in float32, without gradients or dropout.

    Parameters
    ----------
    net_or_module : skorch.NeuralNet or torch.nn.Module
        Only the module's device counts; nothing of it changes.
    columns : dict of arrays of shape (n, ...)
        Named after the arguments of the module's ``forward``, or what ``collate`` reads.
    batch_size : int, default=4096
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    collate : callable, default=None
        As for `Trainer`.

    Returns
    -------
    output : ndarray of shape (n, ...), float32
        The first part of it, where ``forward`` returns several. No rows are an empty (0,).
    """
    module = net_or_module.module_ if isinstance(net_or_module, NeuralNet) else net_or_module
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    tensors = {name: tensor_of(column) for name, column in columns.items()}
    n = len(next(iter(tensors.values())))
    parts: list[np.ndarray] = []
    was_training = module.training
    with torch_threads(n_threads), torch.no_grad():
        # Written only where it must be: others may be predicting with the same module.
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
    """Return a function that puts the optimizer and the records back to where they are now.

    With ``weights``, so it does with the parameters that train, whatever shape they have by
    then; else the module sees to its own. A policy's schedule needs no keeping: it begins
    with each call, and ends with it, however that ends.
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
    """Give the optimizer's moments zero rows where the parameters have grown new ones."""
    for parameter, state in net.optimizer_.state.items():
        for name, moment in state.items():
            if torch.is_tensor(moment) and moment.dim() and moment.shape != parameter.shape:
                wider = torch.zeros_like(parameter)
                kept = min(len(moment), len(parameter))
                wider[:kept] = moment[:kept]
                state[name] = wider


def _forget_graphs(parameter: nn.Parameter) -> None:
    """Part a parameter from the graphs of a failed call.

    An error's traceback keeps them alive, and with them torch's idea of the shape of the
    gradient, which may have been another. A change of type and back makes torch drop it.
    """
    data, parameter.grad = parameter.data, None
    other = torch.float32 if data.dtype == torch.float64 else torch.float64
    parameter.data = data.new_empty(0, dtype=other)
    parameter.data = data


def _is_plain(device: Any) -> bool:
    return torch.device(device).type in ("cpu", "cuda")
