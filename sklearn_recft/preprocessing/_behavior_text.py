"""What a user did of late, and what is asked about now, told in words."""

from __future__ import annotations

from bisect import bisect_left, insort_right
from collections.abc import Hashable, Iterator
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.interactions import Interactions, check_events

_UNITS = (
    ("year", 365 * SECONDS_PER_DAY),
    ("month", 30 * SECONDS_PER_DAY),
    ("week", 7 * SECONDS_PER_DAY),
    ("day", SECONDS_PER_DAY),
    ("hour", 3600.0),
    ("minute", 60.0),
)


class _Event(NamedTuple):
    """One past event of a user, in the words that will be told."""

    time: float
    text: str
    liked: bool | None  # None: nothing is known of the feedback


class _Past(NamedTuple):
    """Past events of one user, oldest first: as many as any later question can need.

    Events of the latest instant stand apart. Asked about that very instant, they may not be
    told, and there must still be enough events before it; so each part is bounded by itself.
    """

    before: tuple[_Event, ...]
    latest: tuple[_Event, ...]

    def and_then(self, event: _Event, bound: int) -> _Past:
        """Return the past with one more event; whatever comes late takes its place in time."""
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


# What comes out is a sequence of strings, not a table: pandas output would break a tokenizer.
class BehaviorText(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Turn each event into a text: what the user did before it, then what it is about.

    The user's last events strictly earlier in time, newest first, each with its age and what
    the user thought of it, then the text of the row's own item:

    ``liked 3 days ago: green tea; disliked 2 weeks ago: instant coffee; now: oat milk``

    What comes out is what a tokenizer or a `TfidfVectorizer` takes in.

    Parameters
    ----------
    max_history : int, default=5
        Past events told, at most.
    liked_from : float, default=0.5
        Feedback ``y`` from here on is told as "liked", less as "disliked": 0.5 suits 0 and 1;
        for one to five stars give 4. None leaves ``y`` unread, whatever it is.
    max_characters : int, default=200
        Characters told of one text, at most. The row's own item stands last, where a tokenizer
        cuts what is too long: one endless text before it must not push it out.

    Attributes
    ----------
    n_features_in_ : int
        Columns of ``X``; ``feature_names_in_`` has their names where they have any.

    Notes
    -----
    Each row's text depends on events strictly earlier than the row alone; events of the same
    timestamp know nothing of each other. So `fit_transform` is for the rows that are learned,
    and `transform` for rows that come after them. They differ on purpose, as they do for
    :class:`sklearn.preprocessing.TargetEncoder`, and a `Pipeline` calls each where it belongs.

    Rows given to `transform` know nothing of each other either: a row to be judged did not
    happen yet, and its text is the same alone and among others. To follow users, hand what did
    happen to `partial_fit`.

    Kept for each user are the ``max_history`` latest events before the user's newest instant
    and as many of that instant: enough to answer exactly whatever is asked about that instant
    or a later one, however the events were dealt out to `fit` and `partial_fit`. Rows that lie
    further back are told less of what was before them, never anything from later. Also
    kept is one text for each item.

    Without ``timestamp`` the order of the rows is that of time, and ages are not told. Without
    ``text``, or where it is missing or blank, an item is told as it was when first met,
    and as its id if it never had a text. Context columns are checked, and not told.

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
        "max_history": [Interval(Integral, 1, None, closed="left")],
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
        """Remember the latest events of each user, and nothing of before.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            ``user_id``, ``item_id`` and, if it has them, ``timestamp`` and ``text``.
        y : array-like of shape (n,), default=None
            Feedback, told as "liked" or "disliked"; None tells neither.

        Returns
        -------
        self : BehaviorText
        """
        self._learn(X, y, reset=True)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> BehaviorText:
        """Remember further events; exact, the same as one `fit` on all of them in time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            With timestamps if `fit` had them, without if it had not.
        y : array-like of shape (n,), default=None
            Feedback, which this time may be known or not.

        Returns
        -------
        self : BehaviorText

        Raises
        ------
        ValueError
            Unsound input, or timestamps on one side alone. Nothing is remembered then.
        """
        self._learn(X, y, reset=not self.__sklearn_is_fitted__())
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Remember the events, and tell each one as of its own time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
            Feedback; a row is told that of earlier events, never its own.

        Returns
        -------
        texts : ndarray of shape (n,), object
            One string for each row, in the order of the rows.
        """
        return self._learn(X, y, reset=True, tell=True)

    def transform(self, X: Any) -> np.ndarray:
        """Tell each row by what was remembered from before its time.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
            Rows to be judged. Without timestamps, where `fit` had them or not, they come
            after all that is remembered, and ages are not told.

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
        for i, (user, item, time, own) in enumerate(_rows(events, times)):
            now = self._memory.text_of(item, own, self.max_characters)
            texts[i] = self._told(self._memory, user, time, now, timed)
        return texts

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the one thing that comes out.

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

    _memory: _Memory
    _timed: bool

    def _learn(self, X: Any, y: Any, *, reset: bool, tell: bool = False) -> np.ndarray:
        """Walk once through the events in time; the one place where state is born.

        All rows of an instant are told before any of them is remembered.
        """
        events = check_events(self, X, None if self.liked_from is None else y, reset=reset)
        timed = events.timestamps is not None
        if not reset and timed != self._timed:
            raise ValueError(
                f"timestamp: fit had {'it' if self._timed else 'none'}, this X has "
                f"{'it' if timed else 'none'}; give the column on both sides or on neither."
            )
        memory = _Memory() if reset else self._memory
        times = events.timestamps
        if times is None:
            times = memory.n_events + np.arange(float(len(events)))
        liked = _liked(events, self.liked_from)
        rows = list(_rows(events, times))
        draft = memory.draft(rows)  # so that no failure leaves half of X behind
        told = np.empty(len(rows), object)
        for instant in _instants(times):
            texts = [draft.text_of(rows[i][1], rows[i][3], self.max_characters) for i in instant]
            if tell:
                for i, text in zip(instant, texts, strict=True):
                    told[i] = self._told(draft, rows[i][0], rows[i][2], text, timed)
            for i, text in zip(instant, texts, strict=True):
                user, item, time, own = rows[i]
                draft.remember(user, _Event(time, text, liked[i]), self.max_history)
                if own.strip():
                    draft.texts.setdefault(item, text)
        memory.accept(draft, len(rows))
        self._memory, self._timed = memory, timed
        return told

    def _told(self, memory: _Memory, user: Hashable, time: float, text: str, timed: bool) -> str:
        """Say what ``user`` did before ``time``, then ``text``."""
        past = memory.past.get(user)
        events = past.earlier_than(time)[-self.max_history :] if past else ()
        said = [_in_words(event, time, timed) for event in reversed(events)]
        return "; ".join([*said, f"now: {text}"])

    def __sklearn_is_fitted__(self) -> bool:
        return "_memory" in vars(self)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = False
        tags.transformer_tags.preserves_dtype = []  # numbers in, strings out
        return tags


class _Memory:
    """The past of each user, and what items are called."""

    def __init__(self) -> None:
        self.past: dict[Hashable, _Past] = {}
        self.texts: dict[Hashable, str] = {}
        self.n_events = 0

    def draft(self, rows: list[tuple]) -> _Memory:
        """Return what is known of the users and items of ``rows``, to be learned from apart."""
        draft = _Memory()
        draft.past = {row[0]: self.past[row[0]] for row in rows if row[0] in self.past}
        draft.texts = {row[1]: self.texts[row[1]] for row in rows if row[1] in self.texts}
        return draft

    def accept(self, draft: _Memory, n_events: int) -> None:
        """Take over what a draft has learned from that many events."""
        self.past.update(draft.past)
        self.texts.update(draft.texts)
        self.n_events += n_events

    def remember(self, user: Hashable, event: _Event, bound: int) -> None:
        """Add one event to the past of ``user``."""
        past = self.past.get(user)
        self.past[user] = past.and_then(event, bound) if past else _Past((), (event,))

    def text_of(self, item: Hashable, own: str, most: int) -> str:
        """Return the row's own text, else that of the item when first met, else its id."""
        known = self.texts.get(item)
        text = " ".join((own if own.strip() else known or str(item)).split())[:most].rstrip()
        return text if known is None or known != text else known  # one copy for many events


def _time_of(event: _Event) -> float:
    return event.time


def _rows(events: Interactions, times: np.ndarray) -> Iterator[tuple[Any, Any, float, str]]:
    """Yield user, item, time and own text (empty: none) of each row."""
    own = [""] * len(events) if events.text is None else [str(text) for text in events.text]
    assert events.item_ids is not None
    columns = (events.user_ids.tolist(), events.item_ids.tolist(), times.tolist(), own)
    return zip(*columns, strict=True)


def _instants(times: np.ndarray) -> Iterator[list[int]]:
    """Yield the rows of each timestamp, in order of time and then of rows."""
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
    """Say what the user thought of it (if known) and how long ago it was (if known)."""
    words = [] if event.liked is None else ["liked" if event.liked else "disliked"]
    if timed:
        words.append(_age(time - event.time))
    return f"{' '.join(words) or 'before'}: {event.text}"


def _age(seconds: float) -> str:
    """Say how long ago, in whole units of the largest that fits."""
    for unit, length in _UNITS:
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "moments ago"
