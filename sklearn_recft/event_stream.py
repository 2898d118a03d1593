"""One event a call: learn, predict and list by plain ids, as in a loop over a stream."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, Protocol

import numpy as np
from sklearn.base import is_classifier

from sklearn_recft.models import FittedModel
from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.parallel import Turns
from sklearn_recft.tables import EventRow

# Types of ids and feedback that need no check; others are checked as those of a table are.
_PLAIN_IDS = frozenset((int, str))
_LABELS = frozenset((bool, int, float, str))
_NUMBERS = frozenset((int, float))
# Feedback and times below this are finite in all that reads them.
_LARGE_FEEDBACK, _LARGE_TIME = 1e18, 1e11
# Calls that change an estimator take turns: `partial_fit`, `observe`, `adapt`, `forget` and the
# last step of `fit`. A thread that has the turn may take it again, as in `partial_fit` on an
# unfitted estimator. Readers (`predict`, `recommend`) take no turn. They wait only while the model
# itself learns (`FittedModel.learn`), not while `fit` makes a new model or `forget` changes a copy.
TURNS = Turns()
_PREDICTING = ("partial_fit_predict", "partial_fit_predict_proba")


class SingleEvents(Protocol):
    """What learns and scores single events of known ids, to the same bits as `FittedModel` does.

    Each method returns None if it has done nothing, since `FittedModel.learn` or `score` has to.
    """

    def is_current(self, model: FittedModel) -> bool:
        """Whether this is of ``model``, and nothing else has written to it."""

    def learn(
        self,
        user_id: int | str,
        item_id: int | str,
        target: float,
        time: float | None,
        streams: bool,
    ) -> float | None:
        """Learn an event; ``streams``: as ``call.predict`` says. Return the prediction before."""

    def score(self, user_id: int | str, item_id: int | str, time: float | None) -> float | None:
        """Return the score of an event."""

    def recommend(
        self, user_id: int | str, n: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the best ``n`` items of a user, and their scores, (n,) float64."""


class Learner(Protocol):
    """What a stream asks of a recommender, beside the methods that everybody calls."""

    def __recommender_turn__(self) -> Any:
        """Return the lock of calls that change the recommender."""

    def __recommender_ready__(self) -> Any:
        """Check the parameters, and return the settings of an update."""

    def __recommender_needs_time__(self) -> bool:
        """Whether rows to learn need a timestamp."""

    def __recommender_model__(self) -> FittedModel:
        """Return the model."""

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is one."""


class EventStream:
    """A recommender that is given one event a call: what ``stream()`` of it returns.

    Every method does what a method of the recommender does for a table of one row, to the same
    bits, and raises the same errors. It keeps no copy: the recommender learns, and both can be
    called in any order, from several threads. After `fit`, `forget` or ``set_params`` of the
    recommender, the stream goes on with what it is then. The calls cost less, since the types of
    plain ids need no check, and parameters are checked again only if one has changed.

    `IncrementalMFRecommender` with ``loss="squared_error"`` or ``"log_loss"``, and
    `IncrementalMFClassifier`, learn or predict an event of known ids in a few microseconds, if
    ``solver="sgd"``, ``drift=None``, ``replay_size=0``, and there is no context. An event of a new
    id takes some tens of them, and a list about half of the time of `recommend`. Of the other
    models, `PopularityRecommender` and `BiasRecommender` learn an event of known ids in about ten
    microseconds. `HabitRecommender` and the other settings of these two factorizations, without
    context, take tens or a few hundred of them, since no table is made and checked. Everything else
    is one call of the recommender: other models, lists of all but the first kind, ids other than
    integers and strings, and events at which another thread reads or learns.

    Parameters
    ----------
    estimator : recommender
        Fitted or not. On an unfitted one, the first event is learned as by its methods.

    Attributes
    ----------
    estimator : recommender

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> X, y = make_interactions(n_interactions=2000, random_state=0, return_X_y=True)
    >>> model = IncrementalMFRecommender(n_factors=8, random_state=0).fit(X, y)
    >>> events = model.stream()
    >>> rating = events.predict_one(3, 5)
    >>> rating == model.predict([[3, 5, 0]])[0]
    np.True_
    >>> before = events.predict_learn_one(3, 5, 4.0, timestamp=1_700_000_000)
    >>> before == rating
    True
    >>> items, scores = events.recommend_one(3, n_recommendations=2)
    >>> len(items)
    2
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self._learner: Learner = estimator
        self._turn = self._learner.__recommender_turn__()
        self._parameters = attrgetter("__class__", *estimator.get_params(deep=False))
        self._single: SingleEvents | None = None  # to learn
        self._model: FittedModel | None = None  # that it is of, with `_settings`
        self._settings: Any = None
        self._checked: Any = None  # the parameters that the settings are of
        self._untimed = False
        self._target: Callable[[Any], float | None] = _no_target
        self._reader: SingleEvents | None = None  # to predict before, or beside

    def learn_one(
        self, user: Any, item: Any, y: Any = None, timestamp: Any = None, **columns: Any
    ) -> None:
        """Learn one event, as `partial_fit` does.

        Parameters
        ----------
        user, item : hashable
            Ids, known or new. Other types than ``int``, ``str`` and those of NumPy for integers
            and strings take as long as a one-row call.
        y : number or label, default=None
            Feedback, if the recommender was fitted with any.
        timestamp : number, datetime or str, default=None
            Seconds since 1970, or what a column of a frame may hold. None: the event has no time.
        **columns : object
            Other columns of the row, such as ``text``, and all of the context in `fit`. Those of
            an array have the names ``x3``, ``x4``, and so on.

        Raises
        ------
        ValueError, TypeError
            Those of `partial_fit`. The recommender is unchanged then.
        """
        if columns or self._learn(user, item, y, timestamp, False) is None:
            rows = self._row(user, item, timestamp, columns)
            self.estimator.partial_fit(rows, None if y is None else [y])

    def predict_learn_one(
        self, user: Any, item: Any, y: Any = None, timestamp: Any = None, **columns: Any
    ) -> float:
        """Predict one event, and learn it then: the prequential step in one call.

        It does what ``partial_fit_predict`` or ``partial_fit_predict_proba`` does, if the
        recommender has one of them. Their steps are those of a stream: they may differ from the
        steps of `partial_fit`. Other recommenders predict, and then call `partial_fit`.

        Parameters
        ----------
        user, item, y, timestamp, **columns
            As for `learn_one`.

        Returns
        -------
        y_pred : float
            The prediction before the event was learned. Of a classifier, the probability of the
            second class.

        Raises
        ------
        ValueError, TypeError
            As `learn_one`.
        """
        found = None if columns else self._learn(user, item, y, timestamp, True)
        return (
            self._predict_and_learn(user, item, y, timestamp, columns) if found is None else found
        )

    def predict_one(self, user: Any, item: Any, timestamp: Any = None, **columns: Any) -> float:
        """Predict the feedback of one event; nothing is learned.

        Parameters
        ----------
        user, item, timestamp, **columns
            As for `learn_one`.

        Returns
        -------
        y_pred : float
            What ``predict`` returns. Of a classifier, the probability of the second class.

        Raises
        ------
        NotFittedError
            Before `fit`.
        """
        single = None if columns else self._single_of_now()
        if single is not None and (timestamp is None or _is_time(timestamp)):
            plain_user, plain_item = _plain(user), _plain(item)
            if plain_user is not None and plain_item is not None:
                time = None if timestamp is None else float(timestamp)
                found = single.score(plain_user, plain_item, time)
                if found is not None:
                    return found
        return self._predict(self._row(user, item, timestamp, columns))

    def recommend_one(
        self,
        user: Any,
        n_recommendations: int = 10,
        *,
        timestamp: Any = None,
        exclude_seen: bool = True,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Recommend the best items for one user, best first; `recommend` has more options.

        Parameters
        ----------
        user : hashable
        n_recommendations : int, default=10
        timestamp : number, datetime or str, default=None
            Time of the query, for models that read it.
        exclude_seen : bool, default=True

        Returns
        -------
        items : ndarray of shape (n_recommendations,)
        scores : ndarray of shape (n_recommendations,), float64

        Raises
        ------
        ValueError
            Those of `recommend`, also if the user has fewer items left.
        NotFittedError
            Before `fit`.
        """
        plain = _plain(user)
        known_time = timestamp is None or _is_time(timestamp)
        if plain is not None and known_time and type(exclude_seen) is bool:
            single = self._single_of_now()
            if single is not None and type(n_recommendations) is int and n_recommendations > 0:
                found = single.recommend(plain, n_recommendations, exclude_seen)
                if found is not None:
                    return found
        cells = [user] if timestamp is None else [user, timestamp]
        queries = np.empty((1, len(cells)), object)
        queries[0] = np.fromiter(cells, object, len(cells))
        items, scores = self.estimator.recommend(
            queries if timestamp is not None else queries[:, 0],
            n_recommendations=n_recommendations,
            exclude_seen=exclude_seen,
        )
        return items[0], scores[0]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.estimator!r})"

    def __reduce__(self) -> tuple[type[EventStream], tuple[Any]]:
        return EventStream, (self.estimator,)

    # ------------------------------------------------------------------ private

    def _learn(self, user: Any, item: Any, y: Any, timestamp: Any, streams: bool) -> float | None:
        """Learn an event quickly; None if nothing was learned."""
        if type(user) not in _PLAIN_IDS or type(item) not in _PLAIN_IDS:
            user, item = _plain(user), _plain(item)
            if user is None or item is None:
                return None
        with self._turn:
            single = self._single
            if (
                single is None
                or not single.is_current(self._learner.__recommender_model__())
                or self._parameters(self.estimator) != self._checked
            ):
                single = self._prepare()
                if single is None:
                    return None
            target = self._target(y)
            if target is None:
                return None
            if timestamp is None:
                return single.learn(user, item, target, None, streams) if self._untimed else None
            if _is_time(timestamp):
                return single.learn(user, item, target, float(timestamp), streams)
            return None

    def _prepare(self) -> SingleEvents | None:
        """Return what learns single events of the model, with the parameters of now."""
        learner = self._learner
        self._single = None
        if not learner.__sklearn_is_fitted__():
            return None
        fitted: Any = learner.__recommender_model__()
        if not getattr(fitted, "takes_single", False):
            return None
        parameters = self._parameters(self.estimator)
        if fitted is not self._model or parameters != self._checked:
            self._checked = None
            try:
                self._settings = learner.__recommender_ready__()
            except (TypeError, ValueError):
                return None  # the recommender raises it
            self._untimed = not learner.__recommender_needs_time__()
            self._target = _targets_of(self.estimator, fitted)
            self._model, self._checked = fitted, parameters
        self._single = fitted.single_events(self._settings)
        return self._single

    def _single_of_now(self) -> SingleEvents | None:
        """Return what predicts single events of the model, if anything does."""
        if not self._learner.__sklearn_is_fitted__():
            return None
        fitted: Any = self._learner.__recommender_model__()
        for single in (self._single, self._reader):
            if single is not None and single.is_current(fitted):
                return single
        # Not in place of `_single`: another thread may be about to learn.
        takes = getattr(fitted, "takes_single", False)
        self._reader = fitted.single_events(fitted.settings) if takes else None
        return self._reader

    def _row(self, user: Any, item: Any, timestamp: Any, columns: dict[str, Any]) -> Any:
        """Return a table of one event."""
        twice = [name for name in (USER, ITEM) if name in columns]
        if twice:
            raise ValueError(
                f"The columns {twice} are given twice: leave them out, since user and item are the "
                "first two arguments."
            )
        named = {USER: user, ITEM: item, **({} if timestamp is None else {TIME: timestamp})}
        if self._learner.__sklearn_is_fitted__():
            return EventRow({**columns, **named})
        if columns:
            raise ValueError(
                f"The first event has the columns {list(columns)}, and the recommender is not "
                "fitted: call fit or partial_fit on a table with all columns before."
            )
        cells = np.empty((1, len(named)), object)
        cells[0] = np.fromiter(named.values(), object, len(named))
        return cells

    def _predict(self, rows: Any) -> float:
        predicts = "predict_proba" if is_classifier(self.estimator) else "predict"
        return float(np.ravel(getattr(self.estimator, predicts)(rows))[-1])

    def _predict_and_learn(
        self, user: Any, item: Any, y: Any, timestamp: Any, columns: dict[str, Any]
    ) -> float:
        """Predict and learn by methods of the recommender."""
        feedback = None if y is None else [y]
        with self._turn:
            rows = self._row(user, item, timestamp, columns)
            verb = next((v for v in _PREDICTING if hasattr(self.estimator, v)), None)
            if verb is not None:
                return float(np.ravel(getattr(self.estimator, verb)(rows, feedback))[-1])
            predicted = self._predict(rows)
            self.estimator.partial_fit(rows, feedback)
            return predicted


def _plain(value: Any) -> Any:
    """Return an id as ``int`` or ``str``; None if its type needs a check."""
    if type(value) in _PLAIN_IDS:
        return value
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "iuU" else None


def _is_time(value: Any) -> bool:
    """Whether a time needs no check."""
    if type(value) in _NUMBERS or _is_number_of_numpy(value):
        return bool(-_LARGE_TIME < value < _LARGE_TIME)
    return False


def _is_number_of_numpy(value: Any) -> bool:
    """Whether a value is a number of NumPy of at most 64 bits, other than a duration."""
    return isinstance(value, np.generic) and value.dtype.kind in "iuf" and value.itemsize <= 8


def _targets_of(estimator: Any, model: FittedModel) -> Callable[[Any], float | None]:
    """Return a function of the feedback of an event: what the model learns, None if in doubt."""
    if model.positives_only:
        return _of_positive
    if is_classifier(estimator):
        code_of = {label: float(code) for code, label in enumerate(estimator.classes_.tolist())}
        return lambda y: code_of.get(y) if type(y) in _LABELS or _is_number_of_numpy(y) else None
    return _of_share if getattr(estimator, "loss", "") == "log_loss" else _of_number


def _no_target(y: Any) -> None:
    return None


def _of_positive(y: Any) -> float | None:
    return 1.0 if y is None else None


def _of_number(y: Any) -> float | None:
    if isinstance(y, (float, int)):
        return y if -_LARGE_FEEDBACK < y < _LARGE_FEEDBACK else None
    return _of_number(y.item()) if _is_number_of_numpy(y) else None


def _of_share(y: Any) -> float | None:
    if isinstance(y, (float, int)):
        return y if 0 <= y <= 1 else None
    return _of_share(y.item()) if _is_number_of_numpy(y) else None


class StreamMixin:
    """Mixin of recommenders: the method `stream`, and what the stream asks of them."""

    _NEED_TIME: ClassVar[tuple[str, ...]]

    def stream(self) -> EventStream:
        """Return an object that learns, predicts and lists one event a call, by plain ids.

        Its methods ``learn_one``, ``predict_learn_one``, ``predict_one`` and ``recommend_one`` do
        what the methods of the recommender do for a table of one row, in less time.

        Returns
        -------
        events : EventStream
            It keeps no copy of the recommender: what it learns, the recommender has learned.
        """
        return EventStream(self)

    def __recommender_turn__(self) -> Any:
        """Return the lock of calls that change this estimator."""
        return TURNS.of(self)

    def __recommender_ready__(self) -> Any:
        """Check the parameters, and return the settings of an update."""
        self._check_parameters()  # type: ignore[attr-defined]
        self._check_fixed()  # type: ignore[attr-defined]
        return self._settings()  # type: ignore[attr-defined]

    def __recommender_needs_time__(self) -> bool:
        """Whether rows to learn need a timestamp."""
        return any(getattr(self, name, None) is not None for name in self._NEED_TIME)
