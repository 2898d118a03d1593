"""What the state of an object is, and how an object is made of it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from sklearn.base import BaseEstimator

# Attributes that are no part of a model: a cache, and the receipt of a call with its time.
_LEFT_OUT = ("_valid", "forget_receipt_")
_CACHE = "memory: the next fit would unpickle files of this cache; set it to None, and again later"


def _makes_own_state(cls: type) -> bool:
    """Whether a class of this package says itself what its state is."""
    own = (base for base in cls.__mro__ if base.__module__.startswith("sklearn_recft."))
    return any("__getstate__" in vars(base) for base in own)


def state_of(value: Any) -> dict[str, Any]:
    """Return the state of an object of the registry."""
    if _makes_own_state(type(value)):
        return {"state": value.__getstate__()}
    if isinstance(value, BaseEstimator):
        parameters = value.get_params(deep=False)
        if _has_cache(parameters):
            raise TypeError(_CACHE)
        return {"parameters": parameters, **_others(value, parameters)}
    if is_dataclass(value) and fields(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return dict(vars(value))


def _others(value: Any, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what an estimator has learned."""
    held = vars(value).items()
    fitted = {n: v for n, v in held if n not in parameters and n not in _LEFT_OUT}
    return {"fitted": fitted} if fitted else {}


def make(cls: type, state: dict[str, Any]) -> Any:
    """Return the object whose state this is."""
    if _makes_own_state(cls):
        whole: Any = object.__new__(cls)
        if hasattr(cls, "check_state"):
            cls.check_state(state["state"])
        whole.__setstate__(state["state"])
        return whole
    if issubclass(cls, BaseEstimator):
        return _make_estimator(cls, **state)
    made: Any = object.__new__(cls)
    names = {one.name for one in fields(cls)} if is_dataclass(cls) else set()
    if names and set(state) != names:
        raise ValueError(f"a {cls.__name__} has {sorted(names)}, and not {sorted(state)}")
    vars(made).update(state)
    return made


def _has_cache(parameters: dict[str, Any]) -> bool:
    """Whether a pipeline names a cache, which holds pickles."""
    return parameters.get("memory") is not None


def _make_estimator(cls: Any, parameters: Any, fitted: Any = None) -> Any:
    if _has_cache(parameters):
        raise ValueError(_CACHE)
    made = cls(**parameters)
    fitted = fitted or {}
    hidden = sorted(name for name in fitted if callable(getattr(cls, name, None)))
    if hidden:
        raise ValueError(f"a {cls.__name__} has methods {hidden}, which no value can replace")
    vars(made).update(fitted)
    return made
