"""The registry of kinds: which classes a file may name, by their names alone."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import BaseCrossValidator

# Rooms whose objects are part of a saved estimator. They are imported when a kind is looked up.
_ROOMS = (
    "estimators",
    "pipeline",
    "training",
    "models",
    "preprocessing",
    "model_selection",
    "metrics",
    "text",
    "compression",
)
# Values of settings, by module.
_VALUES = {"edges": ("Edges",)}
# Rooms where classes that are not public are the state of an estimator.
_WITH_STATES = ("preprocessing", "pipeline")
# Estimators of scikit-learn that hold parameters and arrays only, by module.
_OF_SKLEARN = {
    "frozen": ("FrozenEstimator",),
    "impute": ("SimpleImputer",),
    "linear_model": ("LinearRegression", "LogisticRegression", "Ridge"),
    "pipeline": ("Pipeline",),
    "preprocessing": (
        "FunctionTransformer",
        "LabelEncoder",
        "MaxAbsScaler",
        "MinMaxScaler",
        "OneHotEncoder",
        "OrdinalEncoder",
        "RobustScaler",
        "StandardScaler",
    ),
}
_NUMBERS = ("bool_", "float16", "float32", "float64", "int8", "int16", "int32", "int64")


def kind_of(value: Any) -> str | None:
    """Return the kind of an object, or None if its class is not in the registry."""
    cls = type(value)
    return cls.__name__ if _find(cls.__name__) is cls else None


def class_of(kind: Any) -> type:
    """Return the class of a kind.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = _find(kind) if isinstance(kind, str) else None
    if found is None:
        raise ValueError(f"there is no kind {kind!r} in this version")
    return found


def name_of_type(cls: type) -> str | None:
    """Return the name of a class that is a value itself, such as an optimizer of torch."""
    if cls.__module__.startswith("torch.optim") and _type(f"torch.optim.{cls.__name__}") is cls:
        return f"torch.optim.{cls.__name__}"
    if issubclass(cls, np.generic) and cls.__name__ in _NUMBERS:
        return f"numpy.{cls.__name__}"
    return cls.__name__ if _type(cls.__name__) is cls else None


def type_of_name(name: Any) -> type:
    """Return the class of `name_of_type`.

    Raises
    ------
    ValueError
        If the name is not one of them.
    """
    found = _type(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"{name!r} is no type that a file may name")
    return found


def registered() -> dict[str, type]:
    """Return all classes of the package that a file may name; this imports torch."""
    return {cls.__name__: cls for cls in classes() if is_plain(cls) and _is_state(cls)}


def classes() -> Iterator[type]:
    """Iterate over the classes that are defined in the rooms."""
    for room in _ROOMS:
        for module in _modules(room):
            for member in vars(module).values():
                if inspect.isclass(member) and member.__module__ == module.__name__:
                    yield member
    for room, names in _VALUES.items():
        for name in names:
            yield _exported(room, name)


def is_plain(cls: type) -> bool:
    """Whether objects of a class hold parameters and arrays; nets, which skorch unpickles, not."""
    if any(base.__module__.startswith(("skorch.", "torch.")) for base in cls.__mro__):
        return False
    own = _exported("models", "FittedModel"), _exported("text", "PretrainedBackbone")
    return issubclass(cls, (BaseEstimator, BaseCrossValidator, *own)) or is_dataclass(cls)


def _is_state(cls: type) -> bool:
    """Whether a class is public, a fitted model, or the state of a transformer."""
    room = cls.__module__.split(".")[1]
    if cls.__name__ in _VALUES.get(room, ()):
        return True
    if room in _WITH_STATES and not cls.__name__.startswith("_"):
        return True
    exported = import_module(f"sklearn_recft.{room}")
    return cls.__name__ in exported.__all__ or issubclass(cls, _exported("models", "FittedModel"))


@cache
def _find(kind: str) -> type | None:
    """Return the class of a kind, from the room that exports it if there is one."""
    for module, names in _OF_SKLEARN.items():
        if kind in names:
            found: type = getattr(import_module(f"sklearn.{module}"), kind)
            return found
    for room in _ROOMS:
        exported = import_module(f"sklearn_recft.{room}")
        if kind in exported.__all__:
            member = getattr(exported, kind)
            return member if inspect.isclass(member) and is_plain(member) else None
    return registered().get(kind)


@cache
def _type(name: str) -> type | None:
    """Return an optimizer of torch, a type of numbers, or a kind of fitted model."""
    package, _, last = name.rpartition(".")
    if package == "torch.optim":
        optim = import_module("torch.optim")
        found = getattr(optim, last, None)
        return found if inspect.isclass(found) and issubclass(found, optim.Optimizer) else None
    if package == "numpy":
        return getattr(np, last) if last in _NUMBERS else None
    if name == "RowAdamW":
        return _exported("training", name)
    found = _find(name)
    is_model = found is not None and issubclass(found, _exported("models", "FittedModel"))
    return found if is_model else None


def _exported(room: str, name: str) -> type:
    found: type = getattr(import_module(f"sklearn_recft.{room}"), name)
    return found


def _modules(room: str) -> Iterator[ModuleType]:
    package = import_module(f"sklearn_recft.{room}")
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        yield import_module(found.name)
