"""Validate `net_params`: names of skorch only; errors name the place of other options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection
from numbers import Integral
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping

from sklearn_recft.training._fine_tuning import FineTuning
from sklearn_recft.training._policy import Policy

# Set by the estimator; skorch would accept them and fail later.
_TAKEN = ("module", "criterion", "verbose", "max_epochs")
_LEARNING_RATE = ("lr", "optimizer__lr")
_NAMES = tuple(
    name
    for name, p in inspect.signature(NeuralNet.__init__).parameters.items()
    if name not in ("self", *_TAKEN, *_LEARNING_RATE) and p.kind is not p.VAR_KEYWORD
)
_PREFIXES = tuple(
    f"{name}__"
    for name in dict.fromkeys((*NeuralNet.prefixes_, "optimizer"))
    if name not in ("module", "criterion")
)
_MANY = 3  # an error explains this many names, and counts the others


def resolve_training(
    training: FineTuning | None,
    net_params: dict[str, Any] | None,
    *,
    defaults: Policy,
    supported: tuple[str, ...],
    parameters: Collection[str],
) -> Policy:
    """Validate the training options of an estimator, before any state changes.

    Parameters
    ----------
    training : FineTuning or None
    net_params : dict or None
        Parameters of `skorch.NeuralNet`.
    defaults : Policy
        Defaults of the estimator.
    supported : tuple of str
        Names of the options of `FineTuning` that the estimator supports.
    parameters : collection of str
        Names of the estimator's constructor parameters.

    Returns
    -------
    policy : Policy

    Raises
    ------
    ValueError
        For an option out of range, or a misplaced name.
    """
    policy = (FineTuning() if training is None else training).resolve(defaults, supported)
    given = dict(net_params or {})
    misplaced = [name for name in given if not _is_skorch_name(name)]
    if misplaced:
        where = [_place_of(name, supported, parameters) for name in misplaced[:_MANY]]
        if len(misplaced) > _MANY:
            where.append(f"and {len(misplaced) - _MANY} more")
        raise ValueError(
            f"net_params: {'; '.join(where)}. net_params holds names of skorch only: "
            f"{', '.join(_NAMES)}, and {', '.join(prefix + '*' for prefix in _PREFIXES)}."
        )
    _check_values(given)
    if policy.patience is not None:
        _check_stopping(given)
    return policy


def stops_early(callbacks: Any) -> bool:
    """Return whether skorch ``callbacks`` contain `EarlyStopping`."""
    given = callbacks if isinstance(callbacks, (list, tuple)) else []
    found = (c[1] if isinstance(c, tuple) else c for c in given)
    return any(
        isinstance(c, EarlyStopping) or (isinstance(c, type) and issubclass(c, EarlyStopping))
        for c in found
    )


def _is_skorch_name(name: Any) -> bool:
    if not isinstance(name, str) or name in _LEARNING_RATE:
        return False
    return name in _NAMES or name.startswith(_PREFIXES)


def _place_of(name: Any, supported: Collection[str], parameters: Collection[str]) -> str:
    """Return a message with the right place of a misplaced name."""
    wanted = "learning_rate" if name in _LEARNING_RATE else name
    if wanted in parameters:
        return f"{name!r} is the estimator's own: set its parameter {wanted}"
    if wanted in supported:
        return f"{name!r} belongs in training=FineTuning({wanted}=...)"
    if isinstance(name, str) and name.split("__")[0] in ("module", "criterion"):
        return f"{name!r} is set by the estimator and cannot be given"
    known = [*parameters, *supported, *_NAMES]
    similar = difflib.get_close_matches(str(name), known, n=1)
    return f"{name!r} is unknown" + (f" (did you mean {similar[0]}?)" if similar else "")


def _check_values(given: dict[str, Any]) -> None:
    """Check values that would otherwise fail inside torch."""
    size = given.get("batch_size", 1)
    if not isinstance(size, Integral) or isinstance(size, bool) or int(size) == 0 or int(size) < -1:
        raise ValueError(f"net_params: batch_size={size!r}; it must be an int >= 1, or -1 for all.")
    device = given.get("device", "cpu")
    try:
        torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"net_params: device={device!r}; it must be a device of torch, such as 'cpu' or 'cuda'."
        ) from None


def _check_stopping(given: dict[str, Any]) -> None:
    """Raise if ``patience`` would override a given option."""
    if given.get("train_split") is not None:
        raise ValueError(
            "net_params: train_split and training's patience exclude each other; leave out "
            "train_split (patience holds out the newest rows, validation_fraction of all)."
        )
    if stops_early(given.get("callbacks")):
        raise ValueError(
            "net_params: an EarlyStopping callback and training's patience exclude each other; "
            "leave one of them out."
        )
