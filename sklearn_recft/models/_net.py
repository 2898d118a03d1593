"""A trained net as a part of a model: weights and optimizer state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sklearn_recft import training


class Net:
    """A skorch net as a part.

    Parameters
    ----------
    net : skorch.NeuralNet
        Net made by `training.make_net`.
    """

    def __init__(self, net: Any) -> None:
        self.net = net

    @property
    def module(self) -> Any:
        """The module that the net trains."""
        return self.net.module_

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    @torch.no_grad()
    def is_finite(self) -> bool:
        """Whether all trained weights are finite."""
        trained = (p for p in self.module.parameters() if p.requires_grad)
        return all(bool(torch.isfinite(parameter).all()) for parameter in trained)

    def mark(self, *rows: Any) -> Any:
        """Return what `restore` needs to undo later training: all trained weights."""
        return training.checkpoint(self.net, weights=True)

    def restore(self, mark: Any) -> None:
        """Undo all training since ``mark``."""
        mark()

    def state(self) -> dict[str, Any]:
        """Return parameters, buffers and the moments of the optimizer as arrays."""
        tensors = self.module.state_dict()
        moments = self.net.optimizer_.state_dict()["state"]
        return {
            "module": {name: _array(tensor) for name, tensor in tensors.items()},
            "n_items": int(getattr(self.module, "n_items", 0)),
            "optimizer": {
                str(number): {name: _array(value) for name, value in its.items()}
                for number, its in moments.items()
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned; the module must have the same parts."""
        named = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        for name, array in state["module"].items():
            _check_like(name, array, named[name])
            named[name].data = torch.from_numpy(array.copy()).to(named[name].device)
        if hasattr(self.module, "n_items"):
            self.module.n_items = state["n_items"]
        optimizer = self.net.optimizer_.state_dict()
        optimizer["state"] = {
            int(number): {name: torch.from_numpy(value.copy()) for name, value in its.items()}
            for number, its in state["optimizer"].items()
        }
        trained = [p for group in self.net.optimizer_.param_groups for p in group["params"]]
        for number, its in optimizer["state"].items():
            for name, moment in its.items():
                # A table may have grown since its last step.
                own = trained[number].shape
                if moment.ndim and (moment.shape[1:] != own[1:] or len(moment) > own[0]):
                    raise ValueError(f"{name} of parameter {number} has {tuple(moment.shape)}.")
        self.net.optimizer_.load_state_dict(optimizer)
        self.module.eval()

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes) and their moments, if the module has any."""
        if not hasattr(self.module, "forget"):
            return
        before = {p: len(p) for p in self.module.parameters() if p.ndim}
        self.module.forget(users)
        for parameter, moments in self.net.optimizer_.state.items():
            if parameter.ndim and len(parameter) < before[parameter]:
                kept = torch.from_numpy(np.setdiff1d(np.arange(before[parameter]), users))
                for name, moment in moments.items():
                    if moment.ndim:
                        moments[name] = moment[kept.to(moment.device)]


def _check_like(name: str, array: np.ndarray, tensor: torch.Tensor) -> None:
    """Raise unless an array can become a tensor of the module; tables of ids may be longer."""
    if array.ndim != tensor.ndim or array.shape[1:] != tensor.shape[1:]:
        shape = tuple(tensor.shape)
        raise ValueError(f"{name} has the shape {array.shape}, and this net has {shape}.")
    if torch.from_numpy(array[:0].copy()).dtype != tensor.dtype if array.ndim else False:
        raise ValueError(f"{name} has the type {array.dtype}, and this net {tensor.dtype}.")


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if torch.is_tensor(value) else value).copy()
