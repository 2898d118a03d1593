"""Adam as torch has it, without its compiler, whose import takes a second of the first fit."""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch


class _Eager:
    """Mixin of an optimizer that is never compiled: its methods without the wrappers of torch.

    The wrappers tell ``torch.compile`` to leave the methods alone, and import it for that. What
    they wrap is called here, so all numbers are those of torch.
    """

    defaults: dict[str, Any]

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        step = unwrap(super().step.__func__)  # type: ignore[misc]
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step(self, closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients, or set them to 0."""
        unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters."""
        unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)


class EagerAdam(_Eager, torch.optim.Adam):
    """`torch.optim.Adam`."""


class EagerAdamW(_Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`."""
