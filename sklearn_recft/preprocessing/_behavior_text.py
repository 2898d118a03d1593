"""Turn each event into a text: the user's recent history, then the item."""

from __future__ import annotations

from bisect import bisect_left, insort_right
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Interactions
from sklearn_recft.interactions import check_events

_UNITS = (
    ("year", 365 * SECONDS_PER_DAY),
    ("month", 30 * SECONDS_PER_DAY),
    ("week", 7 * SECONDS_PER_DAY),
    ("day", SECONDS_PER_DAY),
    ("hour", 3600.0),
    ("minute", 60.0),
)


class _Event(NamedTuple):
    """Past event of a user, as it appears in texts."""

    time: float
    text: str
    liked: bool | None  # None: unknown feedback


class _Past(NamedTuple):
    """Past events of one user, oldest first, bounded in number.

    Events at the latest timestamp are stored separately. Rows at that timestamp must not see them,
    and still need enough earlier events. So each part has its own bound.
    """

    before: tuple[_Event, ...]
    latest: tuple[_Event, ...]

    def and_then(self, event: _Event, bound: int) -> _Past:
        """Return the past with one more event; out-of-order events are inserted by time."""
        now = self.latest[-1].time
        if event.time == now:
            return _Past(self.before, (*self.latest, event)[-bound:])
        if event.time > now:
            return _Past((self.before + self.latest)[-bound:], (event,))
        before = list(self.before)
        insort_right(before, event, key=_time_of)
        return _Past(tuple(before[-bound:]), self.latest)

    def earlier_than(self, time: float) -> tuple[_Event, ...]:
        """Return the events strictly earlier than ``time``, oldest first."""
        if time > self.latest[-1].time:
            return self.before + self.latest
        return self.before[: bisect_left(self.before, time, key=_time_of)]


# The output is an array of strings, not a table: tokenizers cannot read pandas output.
class BehaviorText(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Turn each event into a text: the user's recent history, then the item.

    The text lists the user's last events strictly before the row, newest first, each with its
    feedback and age. The text of the row's item follows:

    ``liked 3 days ago: green tea; disliked 2 weeks ago: instant coffee; now: oat milk``

    The output can be the input of a tokenizer or a `TfidfVectorizer`.

    Parameters
    ----------
    max_history : int, default=5
        Maximal number of past events in a text.
    liked_from : float, default=0.5
        Smallest feedback ``y`` that is written as "liked"; lower values are "disliked". Use 0.5
        for labels 0 and 1, and 4 for one to five stars. None ignores ``y``.
    max_characters : int, default=200
        Maximal number of characters per item text. The row's item is last, where tokenizers
        truncate, so a long text before it must not displace it.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    Notes
    -----
    The text of a row depends only on events strictly before the row; events with equal
    timestamps do not see each other. Use `fit_transform` for training rows, and `transform` for
    rows that come after them. The two differ on purpose, as for
    :class:`sklearn.preprocessing.TargetEncoder`, and a `Pipeline` calls the right one.

    Rows given to `transform` do not see each other either, so the text of a row is the same alone
    and in a batch. Pass events that have happened to `partial_fit`.

    For each user, the transformer stores up to ``max_history`` events at the newest timestamp, and
    up to ``max_history`` events before it. This gives exact texts for rows at or after that
    timestamp, for any split of the events into calls of `fit` and `partial_fit`. Earlier rows may
    get a shorter history, but never later events. One text per item is also stored.

    Without ``timestamp``, the order of the rows is the order of time, and texts contain no ages.
    An item without ``text``, or with a blank one, uses its first text, or its id if it never had
    one. Context columns are validated, but not used.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import BehaviorText
    >>> day = 86400
    >>> X = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": [1, 2, 1],
    ...                   "timestamp": [0, 3 * day, 4 * day],
    ...                   "text": ["green tea", "oat milk", "green tea"]})
    >>> behavior = BehaviorText()
    >>> for text in behavior.fit_transform(X, [1, 0, 1]):
    ...     print(text)
    now: green tea
    liked 3 days ago: green tea; now: oat milk
    now: green tea
    >>> later = pd.DataFrame({"user_id": ["ann"], "item_id": [3], "timestamp": [3 * day + 7200],
    ...                       "text": ["rice"]})
    >>> behavior.transform(later)[0]
    'disliked 2 hours ago: oat milk; liked 3 days ago: green tea; now: rice'
    """

    _parameter_constraints: ClassVar[dict] = {
        "max_history": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "liked_from": [Interval(Real, None, None, closed="neither"), None],
        "max_characters": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self, max_history: int = 5, liked_from: float | None = 0.5, max_characters: int = 200
    ) -> None:
        self.max_history = max_history
        self.liked_from = liked_from
        self.max_characters = max_characters

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> BehaviorText:
        """Store the latest events of each user, and drop all earlier state.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, optionally, ``timestamp`` and ``text``.
        y : array-like of shape (n,), default=None
            Feedback, written as "liked" or "disliked"; None writes neither.

        Returns
        -------
        self : BehaviorText
        """
        self._learn(X, y, reset=True)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> BehaviorText:
        """Add events; the result equals one `fit` on all events in time order.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            With timestamps if and only if `fit` had them.
        y : array-like of shape (n,), default=None
            Feedback; it may be given in some calls only.

        Returns
        -------
        self : BehaviorText

        Raises
        ------
        ValueError
            For invalid input, or if only one of `fit` and this call has timestamps. The state
            does not change then.
        """
        self._learn(X, y, reset=not self.__sklearn_is_fitted__())
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Store the events, and return the text of each event as of its own time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Feedback; the text of a row contains that of earlier events only.

        Returns
        -------
        texts : ndarray of shape (n,), object
            One string for each row, in the order of the rows.
        """
        return self._learn(X, y, reset=True, transform=True)

    def transform(self, X: Any) -> np.ndarray:
        """Return the text of each row, from stored events strictly before it.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Rows to transform. Without timestamps, they come after all stored events, and the
            texts contain no ages.

        Returns
        -------
        texts : ndarray of shape (n,), object
            One string for each row.
        """
        check_is_fitted(self)
        events = check_events(self, X, reset=False)
        times = events.timestamps if self._timed else None
        timed = times is not None
        if times is None:
            times = np.full(len(events), np.inf)
        texts = np.empty(len(events), object)
        n_events, n_characters = getattr(self, "_limits", (self.max_history, self.max_characters))
        for i, (user, item, time, own) in enumerate(_rows(events, times)):
            now = self._memory.text_of(item, own, n_characters)
            texts[i] = _history_text(self._memory, (user, time), now, n_events, timed)
        return texts

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the name of the output.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Must be the names of `fit`, if given.

        Returns
        -------
        names : ndarray of shape (1,), object
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        return np.array(["behavior_text"], dtype=object)

    # ------------------------------------------------------------------ private

    _memory: BehaviorMemory
    _timed: bool

    def _learn(self, X: Any, y: Any, *, reset: bool, transform: bool = False) -> np.ndarray:
        """Process the events in time order; the only place that changes state.

        The texts of all rows with equal timestamps are made before any of them is stored.
        """
        events = check_events(self, X, None if self.liked_from is None else y, reset=reset)
        timed = events.timestamps is not None
        if not reset and timed != self._timed:
            raise ValueError(
                f"timestamp: fit had {'it' if self._timed else 'none'}, this X has "
                f"{'it' if timed else 'none'}; give the column on both sides or on neither."
            )
        memory = BehaviorMemory() if reset else self._memory
        times = events.timestamps
        if times is None:
            times = memory.n_events + np.arange(float(len(events)))
        liked = _liked(events, self.liked_from)
        rows = list(_rows(events, times))
        draft = memory.draft(rows)  # a copy, so that an error cannot leave half of X stored
        found = np.empty(len(rows), object)
        for tied in _rows_by_time(times):
            texts = [draft.text_of(rows[i][1], rows[i][3], self.max_characters) for i in tied]
            if transform:
                for i, text in zip(tied, texts, strict=True):
                    asked = rows[i][0], rows[i][2]
                    found[i] = _history_text(draft, asked, text, self.max_history, timed)
            for i, text in zip(tied, texts, strict=True):
                user, item, time, own = rows[i]
                draft.remember(user, _Event(time, text, liked[i]), self.max_history)
                if own.strip():
                    draft.texts.setdefault(item, text)
        memory.accept(draft, len(rows))
        self._memory, self._timed = memory, timed
        self._limits = self.max_history, self.max_characters
        return found

    def __sklearn_is_fitted__(self) -> bool:
        return "_memory" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.transformer_tags.preserves_dtype = []  # numbers in, strings out
        return tags


def _history_text(
    memory: BehaviorMemory, asked: tuple[Hashable, float], text: str, n_events: int, timed: bool
) -> str:
    """Return up to ``n_events`` events of a user before a time, then ``text``."""
    user, time = asked
    past = memory.past.get(user)
    events = past.earlier_than(time)[-n_events:] if past else ()
    parts = [_in_words(event, time, timed) for event in reversed(events)]
    return "; ".join([*parts, f"now: {text}"])


@dataclass(eq=False)
class BehaviorMemory:
    """Past events of each user, and the text of each item."""

    past: dict[Hashable, _Past] = field(default_factory=dict)
    texts: dict[Hashable, str] = field(default_factory=dict)
    n_events: int = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return lists of ids and texts, and arrays: every format can hold them."""
        events = [event for past in self.past.values() for part in past for event in part]
        texts = dict.fromkeys([*(event.text for event in events), *self.texts.values()])
        codes = dict(zip(texts, range(len(texts)), strict=True))
        liked = [-1 if event.liked is None else event.liked for event in events]
        return {
            "n_events": self.n_events,
            "texts": list(texts),
            "items": list(self.texts),
            "item_text": np.array([codes[text] for text in self.texts.values()], np.int64),
            "users": list(self.past),
            "lengths": np.array([list(map(len, past)) for past in self.past.values()], np.int64),
            "time": np.array([event.time for event in events]),
            "text": np.array([codes[event.text] for event in events], np.int64),
            "liked": np.array(liked, np.int8),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        texts, self.n_events = state["texts"], state["n_events"]
        listed = (texts[code] for code in state["item_text"].tolist())
        self.texts = dict(zip(state["items"], listed, strict=True))
        columns = (state[name].tolist() for name in ("time", "text", "liked"))
        events = (
            _Event(time, texts[code], None if liked < 0 else bool(liked))
            for time, code, liked in zip(*columns, strict=True)
        )
        parts = (
            _Past(*(tuple(islice(events, length)) for length in lengths))
            for lengths in state["lengths"].tolist()
        )
        self.past = dict(zip(state["users"], parts, strict=True))

    def draft(self, rows: list[tuple]) -> BehaviorMemory:
        """Copy the state of the users and items of ``rows``, so that it can be changed."""
        draft = BehaviorMemory()
        draft.past = {row[0]: self.past[row[0]] for row in rows if row[0] in self.past}
        draft.texts = {row[1]: self.texts[row[1]] for row in rows if row[1] in self.texts}
        return draft

    def accept(self, draft: BehaviorMemory, n_events: int) -> None:
        """Merge a draft that has processed ``n_events`` events."""
        self.past.update(draft.past)
        self.texts.update(draft.texts)
        self.n_events += n_events

    def remember(self, user: Hashable, event: _Event, bound: int) -> None:
        """Add one event to the past of ``user``."""
        past = self.past.get(user)
        self.past[user] = past.and_then(event, bound) if past else _Past((), (event,))

    def text_of(self, item: Hashable, own: str, most: int) -> str:
        """Return the text of the row, else the first text of the item, else its id."""
        known = self.texts.get(item)
        text = " ".join((own if own.strip() else known or str(item)).split())[:most].rstrip()
        return (
            text if known is None or known != text else known
        )  # all events of an item share one string


def _time_of(event: _Event) -> float:
    return event.time


def _rows(events: Interactions, times: np.ndarray) -> Iterator[tuple[Any, Any, float, str]]:
    """Yield user, item, time and text (empty: none) of each row."""
    own = [""] * len(events) if events.text is None else [str(text) for text in events.text]
    assert events.item_ids is not None
    columns = (events.user_ids.tolist(), events.item_ids.tolist(), times.tolist(), own)
    return zip(*columns, strict=True)


def _rows_by_time(times: np.ndarray) -> Iterator[list[int]]:
    """Yield the rows of each timestamp, in time order."""
    order = np.argsort(times, kind="stable")
    starts = np.flatnonzero(np.diff(times[order], prepend=np.nan) != 0).tolist()
    listed = order.tolist()
    for start, stop in zip(starts, [*starts[1:], len(listed)], strict=True):
        yield listed[start:stop]


def _liked(events: Interactions, liked_from: float | None) -> list[bool | None]:
    if events.feedback is None:
        return [None] * len(events)
    return (events.feedback >= liked_from).tolist()


def _in_words(event: _Event, time: float, timed: bool) -> str:
    """Format an event with its feedback and age, if known."""
    words = [] if event.liked is None else ["liked" if event.liked else "disliked"]
    if timed:
        words.append(_age(time - event.time))
    return f"{' '.join(words) or 'before'}: {event.text}"


def _age(seconds: float) -> str:
    """Format an age in the largest unit that fits."""
    for unit, length in _UNITS:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "moments ago"
