"""Events of the log as the rows and the feedback that a model learns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.event_stream import EventStream
from sklearn_recft.loop._errors import ServingError
from sklearn_recft.loop._events import Event, EventBatch, listed_id
from sklearn_recft.loop._feedback import (
    Feedback,
    check_suits,
    checked_mapping,
    labels_of,
    last_step,
    values_of,
)
from sklearn_recft.loop._items import (
    ADD_ITEMS,
    check_takes_items,
    item_table,
    runs_of,
)
from sklearn_recft.loop._model import Served
from sklearn_recft.names import ITEM, TIME, USER

# Feedback of events, and what a model predicted for them before it learned them, each (n,).
Predicted = tuple[np.ndarray, np.ndarray]
_PREDICTING = ("partial_fit_predict", "partial_fit_predict_proba")
# Verbs by the option `learn` of the loop; the first that a model has.
_VERBS = {
    "event": (*_PREDICTING, "partial_fit"),
    "observe": ("observe",),
    "chunk": ("partial_fit",),
}
_REFUSES = "the model was compressed with keep='serve', so it refuses every event."
# All of them.
VERBS = frozenset({ADD_ITEMS, *(verb for verbs in _VERBS.values() for verb in verbs)})


class RowMaker:
    """Make rows of events.

    Parameters
    ----------
    feedback : dict of str to float or str, or None
        Feedback of an event without a value, by its kind. None: a model of positives, without y.
    """

    def __init__(self, feedback: Feedback | None) -> None:
        self.feedback = checked_mapping(feedback)
        self._stream: EventStream | None = None

    def make(self, model: Served, batch: EventBatch) -> tuple[Any, np.ndarray | None]:
        """Return ``X`` and ``y`` of events, in the form that the model was fitted on."""
        return _table(model, batch), self._labels(model, batch)

    def check(self, model: Served) -> None:
        """Refuse a model that could not learn the feedback of some kind of event."""
        check_suits(model, self.feedback)

    def takes_columns(self, model: Served) -> bool:
        """Whether a model learns `Columns` alone, without context."""
        return _width(model) is not None

    def learn_one(self, model: Served, event: Event) -> Predicted | None:
        """Let a model learn one event by its stream; None, and nothing is learned, without one.

        To the same bits as the verbs that predict do it for a table of one row, in less time.
        """
        if not hasattr(model, "n_users_") or not hasattr(model, "stream"):
            return None
        width = _width(model)
        if width is None or self.feedback is None:
            return None
        if self._stream is None or self._stream.estimator is not model:
            self._stream = model.stream()
        y = labels_of(model, values_of([event.kind], [event.value], self.feedback))
        time = event.timestamp if width > 2 else None
        found = self._stream.predict_learn_one(event.user_id, event.item_id, y.item(), time)
        return y, np.array([found])

    def clear(self) -> None:
        """Drop what is kept of a model: another one takes its place."""
        self._stream = None

    def _labels(self, model: Served, batch: EventBatch) -> np.ndarray | None:
        if self.feedback is None:
            return None
        own = batch.columns
        return labels_of(model, values_of(own.kinds, own.values, self.feedback))


def verb_of(model: Served, learn: str) -> str:
    """Return the method by which a model learns events of the log."""
    if learn not in _VERBS:
        raise ValueError(f"learn={learn!r}: give one of {sorted(_VERBS)}.")
    found = next((verb for verb in _VERBS[learn] if hasattr(model, verb)), None)
    if found is None:
        raise ValueError(
            f"learn={learn!r}: {type(model).__name__} has none of the methods {_VERBS[learn]}."
        )
    if found != "observe" and _only_serves(model):
        raise ValueError(
            f"learn={learn!r}: {_REFUSES} Give learn='observe', or a model that was compressed "
            "with keep='learn'."
        )
    return found


def check_learns(model: Served, verb: str) -> None:
    """Refuse a model that cannot go live, since it could not learn by the verb of the loop."""
    if not hasattr(model, verb):
        raise ValueError(
            f"The loop learns by {verb}, which this {type(model).__name__} does not have. Take "
            "another saved model, or start a loop with another `learn`."
        )
    if verb != "observe" and _only_serves(model):
        raise ValueError(
            f"The loop learns by {verb}: {_REFUSES} Take another saved model, one that was "
            "compressed with keep='learn', or a loop with learn='observe'."
        )


def _only_serves(model: Served) -> bool:
    """Whether a model, or the last step of a pipeline, has dropped what it would learn with."""
    last = last_step(model)
    if not isinstance(last, RecommenderMixin) or not hasattr(last, "n_users_"):
        return False
    return getattr(last.__recommender_model__(), "keep", None) == "serve"


def is_cut_free(model: Served, verb: str) -> bool:
    """Whether events learned in one call or in several lead to the same model, bit by bit.

    The contract tests check it. The order of the pairs of habits depends on the calls, and so does
    what the transformers of a pipeline have learned. Of the models that observe, only the
    transformer keeps histories alone; others also solve, sort or round by call, and it encodes the
    texts of a call together.
    """
    if not isinstance(model, RecommenderMixin) or not hasattr(model, "n_users_"):
        return False  # not fitted: the first call draws the seed
    if verb == "observe":
        is_history = type(model).__name__ == "RealtimeTransformerRecommender"
        return is_history and getattr(model, "backbone", None) is None
    return verb in _PREDICTING and getattr(model, "habit_half_life", None) is None


def predicts_first(verb: str, *, probability: bool) -> bool:
    """Whether a verb returns the predictions of the events, as probabilities or as feedback."""
    return verb == _PREDICTING[probability]


def teach(
    model: Served,
    verb: str,
    batch: EventBatch,
    rows: RowMaker,
    predicted: list[Predicted] | None = None,
) -> dict[int, str]:
    """Let a model learn events; return the reason for each ``seq`` that it refused.

    What the model predicted for events before it learned them is appended to ``predicted``.

    A call that raises has changed nothing. Then each half is learned by itself, down to single
    events. So the same events lead to the same model in each replay. New items among them are
    learned in their place, by `add_items`. Whatever the error is, it refuses the event, but for
    those of the machine: without memory or disk, the step is tried again later. A warning that the
    process turns into an error refuses nothing: a replay elsewhere would not.
    """
    refused: dict[int, str] = {}
    for run in runs_of(batch):
        own = ADD_ITEMS if run.users[0] is None else verb
        refused |= _taught(model, own, run, rows, predicted)
    return refused


def _taught(
    model: Served,
    verb: str,
    batch: EventBatch,
    rows: RowMaker,
    predicted: list[Predicted] | None,
) -> dict[int, str]:
    """Let a model learn events, or new items."""
    try:
        found = _teach(model, verb, batch, rows)
        if predicted is not None and found is not None:
            predicted.append(found)
        return {}
    except (MemoryError, OSError, ServingError):
        raise
    except Exception as error:
        if len(batch) == 1:
            return {int(batch.seq[0]): f"{type(error).__name__}: {error}"}
    half = len(batch) // 2
    refused = _taught(model, verb, batch.take(slice(None, half)), rows, predicted)
    return {**refused, **_taught(model, verb, batch.take(slice(half, None)), rows, predicted)}


def _teach(model: Served, verb: str, batch: EventBatch, rows: RowMaker) -> Predicted | None:
    """Let a model learn events; return their feedback and predictions, if there are any."""
    arguments: tuple[Any, ...]
    y: np.ndarray | None = None
    if verb == ADD_ITEMS:
        check_takes_items(model)
        arguments = (item_table(batch),)
    else:
        if verb in _PREDICTING and len(batch) == 1:
            found = _patient(rows.learn_one, model, batch.events[0])
            if found is not None:
                return found
        X, y = rows.make(model, batch)
        arguments = (X, y)
    answer = _patient(getattr(model, verb), *arguments)
    if verb not in _PREDICTING or y is None:
        return None
    return y, answer if answer.ndim == 1 else answer[:, 1]


def _patient(learn: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, once more without warnings if they are errors."""
    try:
        return learn(*arguments)
    except Warning:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return learn(*arguments)


def check_form(model: Served) -> None:
    """Refuse a model whose columns cannot be made of events, or whose items the log cannot keep."""
    for item in getattr(model, "item_ids_", ()):
        listed_id(item, "item_ids_ of the model")
    names = _names(model)
    width = getattr(model, "n_features_in_", 2)
    if names is None and width > 3:
        raise ValueError(
            f"The model was fitted on an array of {width} columns, and context "
            "needs names: fit it on a data frame with user_id, item_id, timestamp and the names "
            "of the context."
        )
    if names is not None and _as_array(names) is None:
        _pandas()


def _names(model: Served) -> list[str] | None:
    found = getattr(model, "feature_names_in_", None)
    return None if found is None else [str(name) for name in found]


def _as_array(names: list[str] | None) -> int | None:
    """Return how many columns an array may have in place of a frame, or None."""
    if names is None or names == [USER, ITEM, TIME]:
        return 3
    return 2 if names == [USER, ITEM] else None


def _width(model: Served) -> int | None:
    """Return how many columns the array of a model's rows has, None if it needs a frame."""
    names = _names(model)
    return getattr(model, "n_features_in_", 3) if names is None else _as_array(names)


def _table(model: Served, batch: EventBatch) -> Any:
    width = _width(model)
    if width is not None:
        table = np.empty((len(batch), width), object)
        for place, column in enumerate(batch.columns[:width]):
            table[:, place] = np.fromiter(column, object, len(batch))
        return table
    events = batch.events
    own: dict[str, list[Any]] = {
        USER: [event.user_id for event in events],
        ITEM: [event.item_id for event in events],
        TIME: [event.timestamp for event in events],
    }
    columns = {
        name: own.get(name) or [event.context.get(name) for event in events]
        for name in _names(model) or ()
    }
    return _pandas().DataFrame(columns)


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "The model was fitted on a data frame with context; install pandas to serve it."
        ) from error
    return pandas
