"""From a module to a trained net and its predictions: make, fit, predict, grow, go back."""

from __future__ import annotations

import copy
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer
from skorch.dataset import Dataset
from skorch.history import History
from torch import Tensor, nn

from sklearn_recft.parallel import torch_threads
from sklearn_recft.training._batches import Batches, Columns, Gather, LastRows, tensor_of
from sklearn_recft.training._policy import FineTuning, take_policy
from sklearn_recft.training._tuned import _TunedNet


def make_net(
    module: nn.Module, criterion: nn.Module, *, learning_rate: float, max_epochs: int,
    verbose: int, net_params: dict[str, Any] | None, policy: FineTuning | None = None,
) -> NeuralNet:  # fmt: skip
    """Wrap ``module`` (used as it is, not copied) in a skorch net.

    Parameters
    ----------
    module, criterion : torch.nn.Module
    learning_rate : float
    max_epochs : int
    verbose : int
    net_params : dict or None
        Any parameters of `skorch.NeuralNet` and any fields of `FineTuning`; they win over
        ours. With an `EarlyStopping` callback and no ``train_split`` of its own, the last
        tenth of rows in time is held out to judge it.
    policy : FineTuning, default=None
        How to train. None is Adam at one rate; a field in ``net_params`` is then the only part
        of a policy that is not off.

    Returns
    -------
    net : skorch.NeuralNet
        Initialized, ready for `fit_net`.

    Raises
    ------
    ValueError
        Where a name or a value in ``net_params`` is none that could be meant.
    """
    given = dict(net_params or {})
    _check_names(given)
    policy = take_policy(policy, given)
    params: dict[str, Any] = {
        "optimizer": torch.optim.Adam, "lr": learning_rate, "max_epochs": max_epochs,
        "batch_size": 256, "verbose": verbose, "train_split": None, "device": "cpu",
        "iterator_train": Batches, "iterator_train__shuffle": True, "iterator_valid": Batches,
    }  # fmt: skip
    if "train_split" not in given and _stops_early(given.get("callbacks")):
        params["train_split"] = LastRows()
    for parts in ("iterator_train", "iterator_valid"):
        rows_at_once = given.get(f"{parts}__batch_size", given.get("batch_size"))
        if given.get(f"{parts}__size") is not None and rows_at_once == -1:
            # skorch makes of -1 the number of rows, which is not the length of them all.
            given[f"{parts}__batch_size"] = sys.maxsize
    if policy is None:
        return NeuralNet(module, criterion, **{**params, **given}).initialize()
    policy.check(module)
    params["optimizer"] = torch.optim.AdamW
    if "optimizer" not in given and _is_plain(given.get("device", "cpu")):
        params["optimizer__fused"] = True  # five times as fast on a CPU
    if policy.patience is not None:
        params["train_split"] = LastRows(policy.validation_fraction)
        # Whatever is better is best: what is gone back to must have the lowest loss.
        stop = EarlyStopping(patience=policy.patience, threshold=0.0, load_best=True)
        given["callbacks"] = [*(given.get("callbacks") or []), ("early_stopping", stop)]
    return _TunedNet(module, criterion, policy=policy, **{**params, **given}).initialize()


def fit_net(
    net: NeuralNet, columns: Columns, target: np.ndarray, *, epochs: int, seed: int,
    n_negatives: int = 0, n_threads: int = 1, gather: Gather | None = None, update: bool = False,
    n_targets: int | None = None, judge: Callable[[], float] | None = None,
    judge_name: str = "score",
) -> None:  # fmt: skip
    """Train for ``epochs`` on rows in time order; nothing global changes, interrupts pass on.

    Parameters
    ----------
    net : skorch.NeuralNet
        As `make_net` made it. It is left in evaluation mode.
    columns : dict of arrays of shape (n, ...)
        Named after the arguments of the module's ``forward``, or what ``gather`` makes them of.
    target : ndarray of shape (n, 2), float32
        Value and weight of each row; or what the net's criterion takes.
    epochs, seed : int
    n_negatives : int, default=0
        Codes to draw the argument ``negative`` from; 0 draws none.
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    gather : callable, default=None
        Called with each batch of the columns, as tensors on the CPU; returns the arguments of
        ``forward`` (see `Batches`). The net does not keep it.
    update : bool, default=False
        Whether this is an update of a fitted net, for the sake of its policy: another
        learning rate, no rows held out.
    n_targets : int, default=None
        In an update, what is to be learned in an epoch, in units of the batch size: where it
        fills the batches in part, the policy's ``update_rate`` is less. None fills them.
    judge : callable, default=None
        Asked after each epoch, with the module in evaluation mode, how good it is by now; more
        is better. With a policy's ``patience`` it decides when a fit stops, and what it goes
        back to: then no rows are held out. The net does not keep it.
    judge_name : str, default="score"
        What its answers are called in the net's history, and in what is printed of it.
    """
    # Plain attributes: skorch's set_params refuses them once the net is initialised.
    net.iterator_train__n_negatives = net.iterator_valid__n_negatives = n_negatives
    grow_optimizer(net)
    planned: AbstractContextManager[None] = nullcontext()
    if isinstance(net, _TunedNet):
        planned = net.one_call(epochs, update=update, n_targets=n_targets)
    judged = nullcontext() if judge is None else _judging(net, judge, judge_name)
    with torch_threads(n_threads), _seeded(net, seed), _gathering(net, gather), judged, planned:
        # skorch's own partial_fit would swallow a KeyboardInterrupt.
        dataset = Dataset(columns, target)
        net.notify("on_train_begin", X=dataset, y=target)
        try:
            net.fit_loop(dataset, None, epochs=epochs)
        except KeyboardInterrupt:
            # `EarlyStopping` ends training with this very exception.
            if not _stopped_early(net):
                raise
        finally:
            net.module_.eval()
        net.notify("on_train_end", X=dataset, y=target)
        for stop in _early_stoppings(net):
            stop.best_model_weights_ = None  # a second copy of the weights
    # A stream of calls must not fill memory with the records of its epochs.
    net.history_ = History(net.history_[-max(epochs, 1) :])


def predict_net(
    net_or_module: NeuralNet | nn.Module, columns: Columns, *, batch_size: int = 4096,
    n_threads: int = 1, gather: Gather | None = None,
) -> np.ndarray:  # fmt: skip
    """Output of the module for every row, in float32, without gradients or dropout.

    Parameters
    ----------
    net_or_module : skorch.NeuralNet or torch.nn.Module
        Only the module's device counts; nothing of it changes.
    columns : dict of arrays of shape (n, ...)
        Named after the arguments of the module's ``forward``, or what ``gather`` makes them of.
    batch_size : int, default=4096
    n_threads : int, default=1
        Threads that torch may use on the CPU.
    gather : callable, default=None
        As for `fit_net`.

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
                batch = gather(batch) if gather else batch
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


def _check_names(given: dict[str, Any]) -> None:
    ours = [f.name for f in fields(FineTuning)]
    of_skorch = [
        name
        for name, p in inspect.signature(NeuralNet.__init__).parameters.items()
        if name not in ("self", "module", "criterion") and p.kind is not p.VAR_KEYWORD
    ]
    prefixes = [f"{name}__" for name in (*NeuralNet.prefixes_, "optimizer", "module", "criterion")]
    unknown = [
        name
        for name in map(str, given)
        if name not in (*ours, *of_skorch) and not name.startswith(tuple(prefixes))
    ]
    if unknown:
        raise ValueError(
            f"net_params: unknown {unknown}. Names of the fine-tuning policy are {ours}, those "
            f"of skorch {of_skorch}, and those of their parts begin with {prefixes}."
        )


@contextmanager
def _seeded(net: NeuralNet, seed: int) -> Iterator[None]:
    """Draw from ``seed`` within the block, and leave torch's generators as they were."""
    devices = {p.device for p in net.module_.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        # Not torch.manual_seed, which would seed the devices that are not put back too.
        torch.default_generator.manual_seed(seed)
        for device in devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _gathering(net: NeuralNet, gather: Gather | None) -> Iterator[None]:
    """Let the net's batches go through ``gather``: a closure, which no pickle must hold."""
    if gather is None:
        yield
        return
    net.iterator_train__gather = net.iterator_valid__gather = gather
    try:
        yield
    finally:
        del net.iterator_train__gather, net.iterator_valid__gather


class _Judge(Callback):
    """Asks after each epoch how good the module is by now, and writes the answer down."""

    def __init__(self, ask: Callable[[], float], name: str) -> None:
        self.ask, self.name, self.best = ask, name, -math.inf

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        """Record the score, and whether it is the best of the call."""
        was_training = net.module_.training
        net.module_.eval()
        try:
            with torch.no_grad():
                score = float(self.ask())
        finally:
            net.module_.train(was_training)
        net.history.record(self.name, score)
        net.history.record(f"{self.name}_best", score > self.best)
        self.best = max(self.best, score)


@contextmanager
def _judging(net: NeuralNet, judge: Callable[[], float], name: str) -> Iterator[None]:
    """Let ``judge`` be asked after each epoch: a closure, which no pickle must hold."""
    callbacks, split = net.callbacks_, net.train_split
    patience = net.policy.patience if isinstance(net, _TunedNet) else None
    ours = [("judge", _Judge(judge, name)), *callbacks]
    if patience is not None:  # from an update, `one_call` within takes the stopping away again
        net.train_split = None
        stop = EarlyStopping(name, patience, 0.0, lower_is_better=False, load_best=True)
        ours = [c for c in ours if not isinstance(c[1], EarlyStopping)]
        # Last of all, so that the others have seen the epoch that it stops after.
        ours.append(("early_stopping", stop))
    # Behind the timer alone: an epoch's time is that of its training, and all see the score.
    net.callbacks_ = sorted(ours, key=lambda c: not isinstance(c[1], EpochTimer))
    try:
        yield
    finally:
        net.callbacks_, net.train_split = callbacks, split


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


def _early_stoppings(net: NeuralNet) -> list[EarlyStopping]:
    return [c for _, c in net.callbacks_ if isinstance(c, EarlyStopping)]


def _stopped_early(net: NeuralNet) -> bool:
    return any(c.misses_ >= c.patience for c in _early_stoppings(net))


def _stops_early(callbacks: Any) -> bool:
    listed = callbacks if isinstance(callbacks, (list, tuple)) else []
    return any(isinstance(c[1] if isinstance(c, tuple) else c, EarlyStopping) for c in listed)
