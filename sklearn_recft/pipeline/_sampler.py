"""A first step that drops rows before the others learn, such as `InteractionCleaner`."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from sklearn_recft.columns import plain

_WEIGHT = "sample_weight"


def is_sampler(step: Any) -> bool:
    """Whether a step drops rows by `fit_resample`; it neither fits nor transforms."""
    return hasattr(step, "fit_resample") and not hasattr(step, "transform")


def sampled(step: Any, X: Any, y: Any, params: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    """Return a fitted sampler, and the rows, feedback and parameters that it keeps."""
    made = clone(step)
    X, y = made.fit_resample(X, y)
    rows = made.sample_indices_
    kept = {
        name: plain(value)[rows] if name.split("__")[-1] == _WEIGHT and value is not None else value
        for name, value in params.items()
    }
    return made, X, y, kept


def as_passthrough(steps: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the steps of `Pipeline.fit`, after the sampler has dropped rows."""
    name, step = steps[0]
    return [(name, "passthrough"), *steps[1:]] if is_sampler(step) else steps
