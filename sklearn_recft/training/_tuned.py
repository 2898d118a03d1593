"""A skorch net that trains by a fine-tuning policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from skorch import NeuralNet
from skorch.dataset import unpack_data
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from sklearn_recft.training import _skorch
from sklearn_recft.training._policy import Policy


@dataclass
class _Call:
    """Plan and progress of one training call."""

    epochs: int
    update: bool
    n_targets: int | None  # per epoch of an update; None means full batches
    scheduled: bool = False  # by a scheduler given by the user
    filled: float = 1.0  # fraction of the batches that contains targets
    batches: int = 0  # per epoch
    batch: int = 0  # index within the epoch
    step: int = 0  # optimizer steps over all epochs
    perturbed: list[nn.Parameter] = field(default_factory=list)
    rows: dict[nn.Parameter, Tensor] = field(default_factory=dict)  # factors of row steps
    means: dict[nn.Parameter, Tensor] = field(default_factory=dict)  # of weights after steps
    n_averaged: int = 0


class _TunedNet(NeuralNet):
    """A skorch net whose training follows a `Policy`.

    Optimizers that need a closure (LBFGS) are not supported: a step may span several batches.
    """

    callbacks_: list[tuple[str, Any]]

    def __init__(self, *args: Any, policy: Policy, **kwargs: Any) -> None:
        self.policy = policy
        self.call_: _Call | None = None
        super().__init__(*args, **kwargs)

    @contextmanager
    def one_call(
        self, epochs: int, *, update: bool, n_targets: int | None = None
    ) -> Iterator[None]:
        """Plan a training call; an update uses every row and does not stop early."""
        self.call_ = _Call(epochs, update, n_targets, _skorch.has_scheduler(self))
        if self.policy.adversarial:
            found = self.policy.targets(self.module_)
            self.call_.perturbed = [p for p in found if p.requires_grad]
        with ExitStack() as stack:
            stack.callback(self._end_call)
            if update and self.policy.patience is not None:
                stack.enter_context(_skorch.without_stopping(self))
            yield

    @contextmanager
    def trained_by(self, policy: Policy) -> Iterator[None]:
        """Train by another policy within the block."""
        before, self.policy = self.policy, policy
        try:
            yield
        finally:
            self.policy = before

    # ------------------------------------------------------------------ overrides of skorch

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> _TunedNet:
        """Initialize the optimizer, and store the full learning rate of each group."""
        super().initialize_optimizer(*args, **kwargs)
        for group in self.optimizer_.param_groups:
            group["initial_lr"] = group["lr"]
        return self

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Use the parameter groups of the policy, unless ``optimizer__param_groups`` is given."""
        named = list(named_parameters)
        args, kwargs = super().get_params_for_optimizer(prefix, named)
        if not hasattr(self, f"{prefix}__param_groups"):
            decay = kwargs.pop("weight_decay", self.policy.weight_decay)
            policy = replace(self.policy, weight_decay=decay)
            args = (policy.groups(self.module_, named, kwargs["lr"]),)
        return args, kwargs

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any) -> Any:
        """Train; a call without `one_call` is a fit."""
        if self.call_ is not None:
            super().fit_loop(X, y, epochs=epochs, **fit_params)
            self._use_means(self.call_)
            return self
        planned = self.max_epochs if epochs is None else epochs
        with self.one_call(planned, update=False):
            return self.fit_loop(X, y, epochs=planned, **fit_params)

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Set the number of batches and the row factors, then run the epoch."""
        call = self.call_
        if training and call is not None:
            call.batches, call.batch = len(iterator), 0
            if call.update:
                if call.n_targets is not None and self.batch_size > 0:
                    call.filled = min(1.0, call.n_targets / (call.batches * self.batch_size))
                call.rows = self.policy.row_factors(self.module_, call.filled)
        super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Train on one batch; the optimizer takes a step every ``accumulate`` batches."""
        call, size = self.call_, self.policy.accumulate
        if call is None:
            raise RuntimeError("train_step is a part of fit_loop; call that, or fit_net.")
        position = call.batch % size
        if position == 0:
            self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        call.batch += 1
        if position == size - 1 or call.batch == call.batches:
            self.notify(
                "on_grad_computed",
                named_parameters=TeeGenerator(self.get_all_learnable_params()),
                batch=batch,
                training=True,
            )
            self._take_step(call)
        return step

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Accumulate the gradient of a batch, and of its adversarial copy if configured."""
        self._set_training(True)
        X, y = unpack_data(batch)
        targets = [] if self.call_ is None else self.call_.perturbed
        earlier = [p.grad for p in targets]
        for parameter in targets:
            parameter.grad = None  # the perturbation uses the gradient of this batch only
        loss, output = self._backward(X, y, fit_params)
        if targets:
            with _perturbed(targets, self.policy.adversarial):
                self._backward(X, y, fit_params)
            for parameter, grad in zip(targets, earlier, strict=True):
                if grad is not None:
                    parameter.grad = grad if parameter.grad is None else parameter.grad + grad
        return {"loss": loss.detach(), "y_pred": output}

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Run the forward pass; with bfloat16 training, the output is cast to float32."""
        device = torch.device(self.device)
        if not (self.module_.training and _in_bf16(self.policy.bf16, device)):
            return super().infer(x, **fit_params)
        # A call instead of a `with` block: an interrupt cannot leave autocast enabled.
        infer = torch.autocast(device.type, dtype=torch.bfloat16)(super().infer)
        return _as_float32(infer(x, **fit_params))

    # ------------------------------------------------------------------ private

    def _end_call(self) -> None:
        scheduled = self.call_ is not None and self.call_.scheduled
        self.call_ = None
        for group in self.optimizer_.param_groups:
            if not scheduled:  # a scheduler continues from here, as in skorch
                group["lr"] = group["initial_lr"]
        # Drop the records of batches, which are many.
        _skorch.drop_batch_records(self)

    def _backward(self, X: Any, y: Any, fit_params: dict[str, Any]) -> tuple[Tensor, Any]:
        call, size = self.call_, self.policy.accumulate
        # The last step of an epoch may average over fewer batches.
        share = 1 if call is None else min(size, call.batches - call.batch // size * size)
        output = self.infer(X, **fit_params)
        loss = self.get_loss(output, y, X=X, training=True)
        (loss / share if share > 1 else loss).backward()
        return loss, output

    def _take_step(self, call: _Call) -> None:
        policy, groups = self.policy, self.optimizer_.param_groups
        planned = call.epochs * -(-call.batches // policy.accumulate)
        factor = policy.factor(call.step, planned, update=call.update, filled=call.filled)
        if call.scheduled and not call.update:
            factor = 1.0
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = group["lr" if call.scheduled else "initial_lr"] * factor
        if policy.clip < math.inf:
            nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], policy.clip)
        with _by_row(call.rows):
            self.optimizer_.step()
        if call.scheduled:  # the scheduler may compute its next rate from this one
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
        call.step += 1
        if not call.update and call.step > int((1 - policy.average) * planned):
            self._add_to_means(call)

    def _add_to_means(self, call: _Call) -> None:
        """Update the mean of the trained weights over the steps that are averaged."""
        call.n_averaged += 1
        for group in self.optimizer_.param_groups:
            for weight in group["params"]:
                now = weight.detach()
                if call.n_averaged == 1:
                    call.means[weight] = now.clone()
                else:
                    call.means[weight].lerp_(now, 1 / call.n_averaged)

    @torch.no_grad()
    def _use_means(self, call: _Call) -> None:
        """Replace the weights by their means, if any."""
        for weight, mean in call.means.items():
            weight.copy_(mean)
        call.means = {}


@contextmanager
def _perturbed(parameters: list[nn.Parameter], size: float) -> Iterator[None]:
    """Perturb each parameter by ``size`` along its gradient within the block."""
    moved = [(p, p.grad, p.detach().clone()) for p in parameters if p.grad is not None]
    try:
        for parameter, gradient, _ in moved:
            length = torch.linalg.vector_norm(gradient).item()
            if 0 < length < math.inf:  # otherwise the direction is undefined
                parameter.data.add_(gradient, alpha=size / length)
        yield
    finally:
        for parameter, _, before in moved:
            parameter.data.copy_(before)  # subtracting it would leave rounding errors


@contextmanager
def _by_row(factors: dict[nn.Parameter, Tensor]) -> Iterator[None]:
    """Scale the change of each row within the block by ``factors``, for any optimizer."""
    before = {p: p.detach().clone() for p in factors if p.grad is not None}
    yield
    for parameter, old in before.items():
        parameter.data.sub_(old).mul_(factors[parameter][:, None]).add_(old)


def _in_bf16(wanted: bool | None, device: torch.device) -> bool:
    if wanted is None:
        # Devices from this generation on support bfloat16 in hardware.
        return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return wanted


def _as_float32(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.dtype == torch.bfloat16 else output
    if isinstance(output, (tuple, list)):
        return tuple(_as_float32(part) for part in output)
    return output
