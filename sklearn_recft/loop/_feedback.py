"""Feedback of events: the value of each kind, and whether a model can learn it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from sklearn.base import is_classifier

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.loop._events import checked_feedback
from sklearn_recft.loop._model import Served
from sklearn_recft.pipeline import RecommenderPipeline

# By kind: a number, or a label of a classifier whose labels are texts.
Feedback = Mapping[str, float | str]
# Floats below it are integers without rounding.
_EXACT = 2.0**53
# Losses that do not take each number, and what they take.
_SMALLEST = {"log_loss": 0.0, "poisson": 0.0}
_LARGEST = {"log_loss": 1.0}


def checked_mapping(feedback: Feedback | None) -> Feedback | None:
    """Return the feedback of each kind of event, a text or a finite number, to be read only."""
    if feedback is None:
        return None
    if not isinstance(feedback, Mapping):
        raise TypeError(f"feedback={feedback!r}: give a dict of feedback by kind, or None.")
    wrong = [kind for kind in feedback if not isinstance(kind, str)]
    if wrong:
        raise TypeError(f"feedback has the kind {wrong[0]!r}: give texts, such as 'click'.")
    found = {
        kind: value if isinstance(value, str) else checked_feedback(value, f"feedback[{kind!r}]")
        for kind, value in feedback.items()
    }
    return MappingProxyType(found)


def values_of(
    kinds: Sequence[str], values: Sequence[float | None], feedback: Feedback
) -> list[float | str]:
    """Return the feedback of events: their own values, or those of their kinds."""
    found = [
        feedback.get(kind) if value is None else value
        for kind, value in zip(kinds, values, strict=True)
    ]
    if None in found:
        raise ValueError(
            f"kind={kinds[found.index(None)]!r} has no feedback, and the event no value. Known "
            f"kinds: {sorted(feedback)}."
        )
    return cast("list[float | str]", found)


def labels_of(model: Served, values: list[float | str]) -> np.ndarray:
    """Return feedback as ``y`` (n,); whole numbers are integers for a classifier."""
    if str in set(map(type, values)):
        labels = np.empty(len(values), object)  # an array of both would turn numbers into texts
        labels[:] = values
        return labels
    numbers = np.array(values, np.float64)
    if is_classifier(model) and (numbers % 1 == 0).all() and (abs(numbers) < _EXACT).all():
        return numbers.astype(np.int64)
    return numbers


def check_suits(model: Served, feedback: Feedback | None) -> None:
    """Refuse feedback that the model could not learn, before the first event of the kind."""
    last: Any = last_step(model)
    if not isinstance(last, RecommenderMixin):
        return
    name = type(last).__name__
    if hasattr(last, "n_users_"):
        _check_has_feedback(last, name, feedback)
    if feedback is None:
        return
    if is_classifier(model):
        _check_labels(model, name, feedback)
        return
    texts = [kind for kind, value in feedback.items() if isinstance(value, str)]
    if texts:
        raise ValueError(
            f"feedback[{texts[0]!r}]={feedback[texts[0]]!r}: {name} learns numbers. Give a number."
        )
    _check_range(getattr(last, "loss", None), name, feedback)


def last_step(model: Served) -> Any:
    """Return the recommender itself, which is the last step of a pipeline."""
    return model.steps[-1][1] if isinstance(model, RecommenderPipeline) else model


# ---------------------------------------------------------------------- private


def _check_has_feedback(model: RecommenderMixin, name: str, feedback: Feedback | None) -> None:
    """Refuse feedback for a model of positives, and none for another one."""
    positives_only = getattr(model.__recommender_model__(), "positives_only", None)
    if positives_only and feedback is not None:
        raise ValueError(
            f"feedback: the {name} was fitted without y, on positives alone, and the kinds "
            f"{sorted(feedback)} have values. Give feedback=None, or fit the model with y."
        )
    if positives_only is False and feedback is None:
        raise ValueError(
            f"feedback=None: the {name} was fitted with y, so each kind of event needs a value. "
            "Give a dict such as feedback={'click': 1.0, 'skip': 0.0}, or fit the model without y."
        )


def _check_labels(model: Served, name: str, feedback: Feedback) -> None:
    """Refuse values that are no labels of a classifier."""
    classes = getattr(model, "classes_", None)
    if classes is None:
        values = set(feedback.values())
        if len(values) > 2:
            raise ValueError(
                f"feedback={dict(feedback)}: {name} learns two labels, and these are "
                f"{len(values)}. Give each kind one of two, such as 0 and 1."
            )
        return
    known = np.asarray(classes).tolist()
    for kind, value in feedback.items():
        if value not in known:
            raise ValueError(
                f"feedback[{kind!r}]={value!r} is none of the labels {known} that the {name} was "
                f"fitted on. Give feedback={{{kind!r}: {known[1]!r}}}, or {known[0]!r}, or leave "
                "this kind out."
            )


def _check_range(loss: Any, name: str, feedback: Feedback) -> None:
    """Refuse numbers that a loss does not take."""
    least, most = _SMALLEST.get(loss, -np.inf), _LARGEST.get(loss, np.inf)
    for kind, value in feedback.items():
        if not least <= float(value) <= most:
            wanted = "0 to 1" if most == 1 else "at least 0"
            raise ValueError(
                f"feedback[{kind!r}]={value:g}: {name} with loss={loss!r} learns numbers of "
                f"{wanted}. Give such a number, or a model with another loss."
            )
