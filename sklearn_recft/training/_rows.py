"""AdamW that moves only the rows of a table that a batch has read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sklearn_recft.training._eager import EagerAdamW


class RowAdamW(EagerAdamW):
    """AdamW; parameters with sparse gradients move in the rows of the gradient alone.

    AdamW moves every row of a table in each step, since moments outlive the gradients. Here a row
    without a gradient keeps its bits, so the cost of a step does not depend on the length of a
    table. Each row has a step count of its own for the correction of bias. There is no weight decay
    of such rows.
    """

    def step(self, closure: Any = None) -> Any:
        """Take a step."""
        sparse = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for _, parameter, _ in sparse:
            parameter.grad = None
        loss = super().step(closure)
        for group, parameter, gradient in sparse:
            self._step_rows(group, parameter, gradient.coalesce())
        return loss

    @torch.no_grad()
    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        values, rows = gradient.values(), gradient.indices()[0]
        moved = values.any(1)
        values, rows = values[moved], rows[moved]
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            for name in ("exp_avg", "exp_avg_sq", "steps"):
                state[name] = torch.zeros_like(parameter)
        fast, slow = group["betas"]
        steps = state["steps"][rows] + 1
        mean = state["exp_avg"][rows].lerp(values, 1 - fast)
        square = state["exp_avg_sq"][rows].lerp(values.square(), 1 - slow)
        for name, new in (("exp_avg", mean), ("exp_avg_sq", square), ("steps", steps)):
            state[name][rows] = new
        size = (square / (1 - slow**steps)).sqrt_().add_(group["eps"])
        parameter.index_add_(0, rows, mean / (1 - fast**steps) / size, alpha=-float(group["lr"]))
