"""Single events by plain ids: learned and scored without a table, as rows of one are."""

from __future__ import annotations

from operator import setitem
from typing import Any, ClassVar

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call, FittedModel, Transaction, numpy_defaults
from sklearn_recft.models._random import RandomStream
from sklearn_recft.parallel import SharedLock

_NO_CONTEXT, _ONE = np.empty((1, 0)), np.ones(1)
# A row without a time, for models that give it one.
_UNTIMED = Interactions(np.zeros(1), None, None, None, None, _NO_CONTEXT, ())


class Steps(Transaction):
    """What the steps of one event have written: `undo` puts it back."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, tuple[Any, ...]]] = []

    def on_failure(self, call: Any, *args: Any) -> None:
        """Call a function with these arguments on failure."""
        self._calls.append((call, args))

    def write(self, *writes: tuple[Any, Any, Any]) -> None:
        """Set ``into[key] = value`` for each (into, key, value); ``into`` is an array or a dict."""
        self._calls += [(setitem, (into, key, into[key])) for into, key, _ in writes]
        for into, key, value in writes:
            into[key] = value

    def undo(self) -> None:
        """Undo all steps, the last one first."""
        for call, args in reversed(self._calls):
            call(*args)


class LightEvents:
    """Learn and score single events, to the same bits as `FittedModel.learn` and `score`.

    A step takes no turn: it holds the mutex of the model's lock, and does nothing if others hold
    the lock or wait for it. What a failed step has written is put back.

    Parameters
    ----------
    model : LightMixin
    lock : SharedLock
        The lock of the model.
    settings : dataclass
        What `learn` sets as the settings of the model.
    """

    def __init__(self, model: LightMixin, lock: SharedLock, settings: Any) -> None:
        self._model, self._lock, self._settings = model, lock, settings

    def is_current(self, model: FittedModel) -> bool:
        """Whether this is of ``model``."""
        return model is self._model

    def learn(
        self,
        user_id: int | str,
        item_id: int | str,
        target: float,
        time: float | None,
        streams: bool,
    ) -> float | None:
        """Learn an event, and return its prediction before if ``streams``.

        Parameters
        ----------
        user_id, item_id : int or str
        target : float
        time : float or None
            Seconds; None: the event has no time.
        streams : bool
            Whether to learn as `partial_fit_predict` does, if the model is trained so; if not, as
            `partial_fit`.

        Returns
        -------
        scored : float or None
            None if nothing was learned: new ids are of another type than known ones, parameters
            would not be finite, or others are at the model.
        """
        model, lock = self._model, self._lock
        with lock.mutex:
            if not lock.may_write():
                return None
            before = None
            if streams and not model.STREAMS:
                before = self.score(user_id, item_id, time)
                if before is None:
                    return None
            user, item = model.users.code(user_id), model.items.code(item_id)
            seen = model.seen.append_one(user, item) if user >= 0 and item >= 0 else None
            if seen is None:
                found = self._learn_row(user_id, item_id, target, time, streams)
            else:
                steps = Steps()
                try:
                    steps.write(*seen, (vars(model), "settings", self._settings))
                    found = model.learn_event(user, item, target, time, steps, streams)
                    if found is None:
                        steps.undo()
                    lock.count_writing()
                except BaseException:
                    steps.undo()
                    raise
            return found if before is None or found is None else before

    def score(self, user_id: int | str, item_id: int | str, time: float | None) -> float | None:
        """Return what `FittedModel.score` does for one row; None if it has to."""
        model, lock = self._model, self._lock
        with lock.mutex:
            if not lock.may_read():
                return None
            user, item = model.users.code(user_id), model.items.code(item_id)
            if (user < 0 or item < 0) and not model.are_of_known_types(user_id, item_id):
                return None
            return model.score_event(user, item, time)

    def recommend(
        self, user_id: int | str, n: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return None: ``recommend`` has to."""
        return None

    def _learn_row(
        self,
        user_id: int | str,
        item_id: int | str,
        target: float,
        time: float | None,
        streams: bool,
    ) -> float | None:
        """Learn an event of a new id, or one for which memory is to be allocated, as a row."""
        model = self._model
        if not model.are_of_known_types(user_id, item_id):
            return None
        feedback = None if model.positives_only else np.array([target], np.float64)
        times = None if time is None else np.array([time], np.float64)
        ids = one_id(user_id), one_id(item_id)
        rows = Interactions(*ids, feedback, times, None, _NO_CONTEXT, ())
        streams = streams and model.STREAMS
        answers = model.learn(rows, self._settings, Call(predict=streams))
        return float(answers[0]) if streams else target


class LightMixin(FittedModel):
    """Mixin of models whose single events `LightEvents` learns: no context, no texts."""

    # Whether `learn` with ``call.predict`` returns predictions.
    STREAMS: ClassVar[bool] = False

    @property
    def takes_single(self) -> bool:
        """Whether `single_events` may return something."""
        return not self.context_names

    def single_events(self, settings: Any) -> LightEvents | None:
        """Return what learns and scores single events quickly."""
        return LightEvents(self, self._lock, settings) if self.n_users and self.n_items else None

    def are_of_known_types(self, user_id: int | str, item_id: int | str) -> bool:
        """Whether ids are of the types of the known ones, and no huge integers."""
        kinds = kind_of(self.users.ids), kind_of(self.items.ids)
        return (type(user_id), type(item_id)) == kinds and is_small(user_id) and is_small(item_id)

    def learn_event(
        self, user: int, item: int, target: float, time: float | None, steps: Steps, streams: bool
    ) -> float | None:
        """Learn an event of known ids (codes), as `learn` does with a row.

        What is written is given to ``steps`` before. Returns the prediction before if ``streams``,
        else any number; None if parameters are not finite.
        """
        attributes = vars(self).copy()
        steps.on_failure(self._put_back, attributes)
        for part in attributes.values():
            if isinstance(part, RandomStream):
                steps.keep(part)
        call, events = Call(predict=streams and self.STREAMS), self._event(user, item, target, time)
        with numpy_defaults():
            self._prepare(_UNTIMED, steps, call)
            answers = self._learn(events, steps, call)
            if not self._is_finite(events):
                return None
        return float(answers[0]) if call.predict else target

    def score_event(self, user: int, item: int, time: float | None) -> float:
        """Score an event of ids (codes, -1 for unknown ones) as `score` does."""
        with numpy_defaults():
            return float(self.score(self._event(user, item, 1.0, time))[0])

    def _event(self, user: int, item: int, target: float, time: float | None) -> Events:
        """Return one event."""
        times = self._times_of(_UNTIMED) if time is None else np.array([time], np.float64)
        codes, feedback = np.array([[user], [item]]), np.array([target], np.float64)
        return Events(codes[0], codes[1], times, feedback, _ONE, _NO_CONTEXT)


def kind_of(ids: np.ndarray) -> type:
    """Return the type of known ids, by which a new one is of another type or not."""
    return int if ids.dtype == np.int64 else type(ids[0])


def is_small(value: int | str) -> bool:
    """Whether an id is no integer of more than 64 bits."""
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def one_id(value: int | str) -> np.ndarray:
    """Return an id as a column of ids, as `columns.to_ids` does."""
    if isinstance(value, int) and is_small(value):
        return np.array([value], np.int64)
    return np.fromiter([value], object, 1)
