"""What the thread that reads does: it answers many requests by few calls of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from sklearn_recft.loop import Loop, Served
from sklearn_recft.names import USER
from sklearn_recft.serving._problems import Problem
from sklearn_recft.serving._tables import RowForm, as_ids, query_table

# Past items that are given as reasons of one listed item.
_N_REASONS = 3


@dataclass(frozen=True)
class ListCall:
    """A request for lists; those with the same ``options`` and nothing of their ``own`` are joined.

    Attributes
    ----------
    users : sequence of ids
    options : tuple
        Items of a list, and whether seen items are left out.
    own : dict
        ``queries``, ``candidates``, ``exclude``, ``history``, ``because`` for
        reasons, and ``remember``.
    """

    users: Sequence[Any]
    options: tuple[int, bool]
    own: Mapping[str, Any]


@dataclass(frozen=True)
class PredictCall:
    """A request for predictions."""

    rows: Sequence[Any]


@dataclass(frozen=True)
class WatchCall:
    """A request which ids of some events are unknown, and what the model predicts for them.

    Attributes
    ----------
    rows : sequence of events
    predicts : bool
        Whether feedback is predicted too, as a probability where the model has any.
    """

    rows: Sequence[Any]
    predicts: bool


@dataclass(frozen=True)
class Watched:
    """What the model knows of events, each of shape (n,), and its ``classes`` if it has any."""

    unknown_users: np.ndarray
    unknown_items: np.ndarray
    predictions: np.ndarray | None
    classes: np.ndarray | None = None

    def part(self, start: int, stop: int) -> Watched:
        """Return some of the events."""
        predictions = None if self.predictions is None else self.predictions[start:stop]
        users, items = self.unknown_users[start:stop], self.unknown_items[start:stop]
        return Watched(users, items, predictions, self.classes)


@dataclass(frozen=True)
class Made:
    """Lists of one request: one entry of each sequence for a query."""

    list_ids: Sequence[str]
    items: Sequence[Sequence[Any]]
    scores: Sequence[Sequence[float]]
    model: str
    seq: int
    because: Sequence[Sequence[Sequence[tuple[Any, float]]]] | None = None

    def part(self, start: int, stop: int) -> Made:
        """Return the lists of some of the queries."""
        return Made(
            self.list_ids[start:stop],
            self.items[start:stop],
            self.scores[start:stop],
            self.model,
            self.seq,
        )


class Reader:
    """Answer requests by calls of a loop's model.

    Parameters
    ----------
    loop : Loop
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._form = RowForm()
        self._known = KnownIds()

    def answer(self, requests: Sequence[Any]) -> Sequence[Any]:
        """Return an answer, or an exception, for each request."""
        answers: dict[int, Any] = {}
        shared: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            key = _shared(request)
            if key is None:
                answers[place] = _tried(self._alone, request)
            else:
                shared.setdefault(key, []).append(place)
        for places in shared.values():
            answers.update(self._together(places, [requests[place] for place in places]))
        return [answers[place] for place in range(len(requests))]

    def answer_now(self, request: Any) -> Any:
        """Return the answer, or an exception, to a request for one list; None if it may take long.

        It never waits for a model that learns.
        """
        if not isinstance(request, ListCall) or request.own or len(request.users) > 1:
            return None
        with self._loop.reading_now() as view:
            return None if view is None else _tried(self._alone, request)

    def _together(self, places: list[int], calls: list[Any]) -> dict[int, Any]:
        """Answer requests that differ in their users or rows alone by one call."""
        parts = [call.users if isinstance(call, ListCall) else call.rows for call in calls]
        joined = [one for part in parts for one in part]
        name = "users" if isinstance(calls[0], ListCall) else "rows"
        found = _tried(self._alone, replace(calls[0], **{name: joined}))
        if isinstance(found, Exception):  # each gets its own message, without ids of others
            return {p: _tried(self._alone, call) for p, call in zip(places, calls, strict=True)}
        answers, start = {}, 0
        for place, part in zip(places, parts, strict=True):
            answers[place] = found.part(start, start + len(part))
            start += len(part)
        return answers

    def _alone(self, request: Any) -> Any:
        if isinstance(request, WatchCall):
            return self._watched(request)
        if isinstance(request, PredictCall):
            return self._form.call(self._loop.predict, request.rows)
        return self._lists(request)

    def _lists(self, call: ListCall) -> Made:
        own = dict(call.own)
        because, queries = own.pop("because", False), own.pop("queries", None)
        remember = own.pop("remember", True)
        n, exclude_seen = call.options
        found = self._loop.recommend(
            as_ids(call.users) if queries is None else query_table(queries),
            n_recommendations=n,
            remember=remember,
            exclude_seen=exclude_seen,
            on_missing="pad",
            **own,
        )
        items, scores = found.items.tolist(), found.scores.tolist()
        made = (found.list_ids, items, scores, found.model, found.seq)
        return Made(*made, self._reasons(call.users, queries, items) if because else None)

    def _reasons(
        self, users: Sequence[Any], queries: Sequence[Any] | None, items: Sequence[Sequence[Any]]
    ) -> list[list[list[tuple[Any, float]]]]:
        """Return the past items with the largest contributions to each listed item."""
        asked = queries or [SimpleNamespace(**{USER: user, "timestamp": None}) for user in users]
        pairs = [(q, item) for q, own in zip(asked, items, strict=True) for item in own]
        rows = [_row(query, item) for query, item in pairs if item is not None]
        found = iter(self._form.call(self._explain, rows)) if rows else iter(())
        return [[next(found) if item is not None else [] for item in own] for own in items]

    def _explain(self, table: Any) -> list[list[tuple[Any, float]]]:
        with self._loop.reading() as view:
            if not hasattr(view.model, "explain"):
                raise Problem("invalid", "because: this model gives no reasons.")
            reasons = view.model.explain(table)
        ids, values = np.asarray(reasons.item_ids, dtype=object), reasons.contribution
        return [
            [(item, value) for item, value in zip(own, row, strict=True) if item is not None]
            for own, row in zip(
                ids[:, :_N_REASONS].tolist(), values[:, :_N_REASONS].tolist(), strict=True
            )
        ]

    def _feedback(self, table: Any) -> np.ndarray:
        with self._loop.reading() as view:
            if hasattr(view.model, "predict_proba"):
                return view.model.predict_proba(table)[:, 1]
            return view.model.predict(table)

    def _watched(self, call: WatchCall) -> Watched:
        with self._loop.reading() as view:
            unknown = self._known.unknown(view.model, call.rows)
            classes = getattr(view.model, "classes_", None)
        predicted = self._form.call(self._feedback, call.rows) if call.predicts else None
        return Watched(*unknown, predicted, classes)


class KnownIds:
    """Known users and items of a model."""

    def __init__(self) -> None:
        self._users, self._items = _Known("user_ids_"), _Known("item_ids_")

    def unknown(self, model: Served, events: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return which events have unknown users, and which unknown items, bool."""
        return (
            self._users.missing(model, [event.user_id for event in events]),
            self._items.missing(model, [event.item_id for event in events]),
        )


class _Known:
    """Known ids of a model as a set; only what is new is added with each call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = f"n_{name.split('_')[0]}s_"
        self._ids: set[Any] = set()
        self._n, self._last = 0, None

    def missing(self, recommender: Any, ids: Iterable[Any]) -> np.ndarray:
        """Return which ids are unknown, bool."""
        if getattr(recommender, self._count) != self._n:
            self._read(getattr(recommender, self._name))
        return np.array([one not in self._ids for one in ids])

    def _read(self, ids: np.ndarray) -> None:
        same = 0 < self._n <= len(ids) and ids[self._n - 1] == self._last
        if not same:  # another model, or users were erased
            self._ids, self._n = set(), 0
        self._ids.update(ids[self._n :].tolist())
        self._n, self._last = len(ids), ids[-1] if len(ids) else None


def _shared(request: Any) -> tuple[Any, ...] | None:
    """Return what requests that are answered together have in common; None for one by itself."""
    if isinstance(request, WatchCall):
        return ("watch", request.predicts)
    if isinstance(request, ListCall) and not request.own:
        return ("lists", *request.options)
    return None


def _row(query: Any, item: Any) -> SimpleNamespace:
    context = getattr(query, "context", None)

    return SimpleNamespace(
        user_id=query.user_id,
        item_id=item,
        timestamp=query.timestamp,
        context=context,
        query=getattr(query, "query", None),
    )


def _tried(function: Callable[[Any], Any], request: Any) -> Any:
    """Return the answer of one request, or its error."""
    try:
        return function(request)
    except Exception as error:
        return error
