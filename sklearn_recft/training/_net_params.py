"""Validate `net_params`: names of skorch only; errors name the place of other options."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection
from numbers import Integral
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping

from sklearn_recft.training._batches import Batches
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
# Given to our batches by the net itself.
_SET_BY_NET = ("self", "dataset", "kwargs")
_OPTIONS_OF_BATCHES = tuple(
    name for name in inspect.signature(Batches.__init__).parameters if name not in _SET_BY_NET
)
_DEFAULT_CALLBACKS = ("epoch_timer", "train_loss", "valid_loss", "print_log")
_MANY = 3  # an error explains this many names, and counts the others


def resolve_training(
    training: FineTuning | None,
    net_params: dict[str, Any] | None,
    *,
    defaults: Policy,
    supported: tuple[str, ...],
    parameters: Callable[[], Collection[str]],
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
    parameters : callable
        Returns the names of the estimator's constructor parameters, for an error.

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
        where = [_place_of(name, supported, parameters()) for name in misplaced[:_MANY]]
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
    _check_device(given.get("device", "cpu"))
    for name, kind in (("optimizer", "an optimizer class of torch"), ("train_split", "a callable")):
        value = given.get(name)
        if name in given and not (callable(value) or (value is None and name == "train_split")):
            raise ValueError(f"net_params: {name}={value!r}; it must be {kind}.")
    for name in ("dataset", "iterator_train", "iterator_valid"):
        if name in given and not callable(given[name]):
            raise ValueError(f"net_params: {name}={given[name]!r}; it must be a class.")
    _check_callbacks(given)
    _check_iterators(given)


def _check_device(device: Any) -> None:
    """Raise unless torch has the device."""
    try:
        wanted = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        raise ValueError(
            f"net_params: device={device!r}; it must be a device of torch, such as 'cpu' or 'cuda'."
        ) from None
    n_devices = torch.cuda.device_count() if wanted.type == "cuda" else 1
    if (wanted.index or 0) >= n_devices and wanted.type == "cuda":
        raise ValueError(
            f"net_params: device={device!r}, but torch finds {n_devices} CUDA devices here; use "
            "'cpu', or an installation of torch for your GPU."
        )


def _check_callbacks(given: dict[str, Any]) -> None:
    """Raise unless callbacks are callbacks, and options of callbacks are of some that exist."""
    callbacks = given.get("callbacks")
    listed = callbacks if isinstance(callbacks, list) else []
    pairs = [c if _is_pair(c) else (getattr(c, "__name__", type(c).__name__), c) for c in listed]
    lawful = callbacks is None or callbacks == "disable" or isinstance(callbacks, list)
    if not lawful or not all(_is_callback(callback) for _, callback in pairs):
        raise ValueError(
            f"net_params: callbacks={callbacks!r}; it must be a list of callbacks of skorch, or of "
            "pairs (name, callback)."
        )
    # skorch numbers callbacks of the same name.
    names = [name for name, _ in pairs]
    known = {
        *_DEFAULT_CALLBACKS,
        *names,
        *(f"{n}_{j + 1}" for n in names for j in range(len(names))),
    }
    for full in given:
        if full.startswith("callbacks__") and full.split("__")[1] not in known:
            raise ValueError(
                f"net_params: {full!r} names no callback; there are "
                f"{', '.join([*_DEFAULT_CALLBACKS, *names])}."
            )


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _is_callback(value: Any) -> bool:
    return isinstance(value, Callback) or (isinstance(value, type) and issubclass(value, Callback))


def _check_iterators(given: dict[str, Any]) -> None:
    """Raise if our batches have no such option."""
    for full in given:
        part, _, name = full.partition("__")
        ours = part in ("iterator_train", "iterator_valid") and part not in given
        if ours and name and name not in _OPTIONS_OF_BATCHES:
            raise ValueError(
                f"net_params: {full!r} is unknown; batches have the options "
                f"{', '.join(_OPTIONS_OF_BATCHES)}."
            )


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
