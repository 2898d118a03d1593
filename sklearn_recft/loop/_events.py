"""Events as they are stored: checked, typed, and with ids that keep their type."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np

from sklearn_recft.columns import LARGEST
from sklearn_recft.tables import Table, is_frame
from sklearn_recft.times import to_seconds

Id = int | str
_Value = TypeVar("_Value")

# Longest text of an id, of a kind and of a context, in characters: an event is a small row.
_LONGEST_ID = 1_024
_LARGEST_ID = 10**_LONGEST_ID
_LONGEST_KIND = 64
LONGEST_CONTEXT = 65_536


class Appended(NamedTuple):
    """What `FeedbackStore.append` did.

    Attributes
    ----------
    seq : list of int
        Number of each event in the log, in the order of the call. An event that was stored before
        has its old number.
    duplicates : int
        How many of the events were stored before, or stand twice in this call.
    """

    seq: list[int]
    duplicates: int


class Event(NamedTuple):
    """One event of a user: what is stored of it.

    Attributes
    ----------
    event_id : str
        The same event sent again has the same id, and is stored once.
    user_id, item_id : int or str
        ``user_id`` is None in a row of a new item, whose ``context`` describes it.
    timestamp : float or None
        Seconds since 1970; None is the time of arrival.
    kind : str
        Such as "click".
    value : float or None
        The feedback, if it is not given by the kind.
    list_id : str or None
        The list that the user saw the item in.
    context : dict
        Further columns by name: plain numbers and texts.
    clipped : int
        1 if the timestamp was too late and -1 if it lay in the future, and was moved; otherwise 0.
    """

    event_id: str
    user_id: Id
    item_id: Id
    timestamp: float | None = None
    kind: str = "click"
    value: float | None = None
    list_id: str | None = None
    context: Mapping[str, Any] = MappingProxyType({})
    clipped: int = 0


FIELDS = ("event_id", "user_id", "item_id", "timestamp", "kind", "value", "list_id", "context")


class Columns(NamedTuple):
    """What a model without context learns of events, n values each."""

    users: Sequence[Any]
    items: Sequence[Any]
    times: Sequence[Any]
    kinds: Sequence[str]
    values: Sequence[float | None]


@dataclass(frozen=True)
class EventBatch:
    """Events of the log, by column and in the order of ``seq``.

    Attributes
    ----------
    seq : ndarray of shape (n,), int64
    events : list of Event
    """

    seq: np.ndarray
    events: list[Event]

    def __len__(self) -> int:
        return len(self.seq)

    @property
    def users(self) -> Sequence[Id | None]:
        """The user of each row; None for a new item."""
        return [event.user_id for event in self.events]

    @property
    def columns(self) -> Columns:
        """What a model without context learns."""
        cells = [(e.user_id, e.item_id, e.timestamp, e.kind, e.value) for e in self.events]
        return Columns(*zip(*cells, strict=True)) if cells else Columns((), (), (), (), ())

    @classmethod
    def of(cls, pairs: Collection[tuple[int, Event]]) -> EventBatch:
        """Return a batch of numbers and their events."""
        seq = np.fromiter((number for number, _ in pairs), np.int64, len(pairs))
        return cls(seq, [event for _, event in pairs])

    def take(self, rows: Sequence[int] | np.ndarray | slice) -> EventBatch:
        """Return some of the events, by position."""
        if isinstance(rows, slice):
            return EventBatch(self.seq[rows], self.events[rows])
        places = np.arange(len(self))[rows]
        return EventBatch(self.seq[places], [self.events[j] for j in places.tolist()])

    def without(self, refused: Sequence[tuple[int, int]]) -> EventBatch:
        """Leave out the events of ranges ``(after, until]``."""
        if not refused:
            return self
        kept = np.ones(len(self), bool)
        for after, until in refused:
            kept &= (self.seq <= after) | (self.seq > until)
        return self if kept.all() else self.take(np.flatnonzero(kept))


class ColumnBatch(EventBatch):
    """Events of users by column, read without ids of events, lists and context.

    Parameters
    ----------
    seq : ndarray of shape (n,), int64
    columns : Columns
    """

    def __init__(self, seq: np.ndarray, columns: Columns) -> None:
        self.__dict__.update(seq=seq, _columns=columns)

    @property
    def events(self) -> list[Event]:
        """The events, as far as they were read."""
        own = self.columns
        rows = zip(own.users, own.items, own.times, own.kinds, own.values, strict=True)
        return [Event("", *row) for row in rows]

    @property
    def users(self) -> Sequence[Id | None]:
        """The user of each row."""
        return self.columns.users

    @property
    def columns(self) -> Columns:
        """What a model without context learns."""
        found: Columns = self.__dict__["_columns"]
        return found

    def take(self, rows: Sequence[int] | np.ndarray | slice) -> EventBatch:
        """Return some of the events, by position."""
        if isinstance(rows, slice):
            cells: list[Any] = [one[rows] for one in self.columns]
        else:
            places = np.asarray(rows).tolist()
            cells = [[one[place] for place in places] for one in self.columns]
        return ColumnBatch(self.seq[rows], Columns(*cells))


def check_stored_events(events: Any) -> list[Event]:
    """Check events before they are stored: all of them are sound, or one error names the fault.

    Parameters
    ----------
    events : iterable of dict or of Event, or data frame
        ``user_id`` and ``item_id``, and optionally ``event_id``, ``timestamp``, ``kind``,
        ``value``, ``list_id`` and ``context``. Further columns of a frame are context.

    Returns
    -------
    events : list of Event

    Examples
    --------
    >>> from sklearn_recft.loop._events import check_stored_events
    >>> event, = check_stored_events([{"user_id": "ann", "item_id": 7, "event_id": "e1"}])
    >>> event.user_id, event.item_id, event.kind
    ('ann', 7, 'click')
    """
    if is_frame(events):
        events = _rows_of(events)
    elif isinstance(events, (str, bytes, Mapping)):
        raise TypeError(f"events must be a list of dicts or a data frame, got a {_name(events)}.")
    return [_checked(event, row) for row, event in enumerate(events)]


def as_json(identity: Id) -> str:
    """Return the text of an id, which keeps its type: 7 and "7" differ."""
    return str(identity) if type(identity) is int else json.dumps(identity)


# In place of the user of a new item.
NOBODY = json.dumps(None)


@lru_cache(maxsize=1 << 16)
def from_json(text: str) -> Id:
    """Return what `as_json` was given."""
    found: Id = json.loads(text)
    return found


def check_id(value: Any, name: str, where: str = "") -> Id:
    """Return an id as a plain int or str; other types do not survive the log."""
    if isinstance(value, str):
        if not value or len(value) > _LONGEST_ID:
            raise ValueError(
                f"{where}{name} is a text of {len(value)} characters; give 1 to {_LONGEST_ID}."
            )
        if has_surrogate(value):
            raise ValueError(f"{where}{name} has a character that UTF-8 has not: {value!r}.")
        return str(value)
    if isinstance(value, Integral) and not isinstance(value, (bool, np.bool_, np.timedelta64)):
        number = int(value)
        if abs(number) >= _LARGEST_ID:
            raise ValueError(f"{where}{name} is an integer of more than {_LONGEST_ID} digits.")
        return number
    raise TypeError(
        f"{where}{name} must be an integer or a text, which the log can keep, got {value!r} of the "
        f"type {_name(value)}."
    )


def check_ids(values: Iterable[Any], name: str) -> list[Id]:
    """Return a list of ids; a single text is refused, since its letters are no ids."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of ids, such as [7], got a {_name(values)}.")
    return [check_id(one, name) for one in values]


def listed_id(value: Any, name: str) -> Id:
    """Return the id of a model as the log keeps it: 7.0 of an array of floats is 7."""
    is_whole = isinstance(value, float) and value.is_integer()
    return check_id(int(value) if is_whole else value, name)


# ---------------------------------------------------------------------- private


def _rows_of(frame: Any) -> list[dict[str, Any]]:
    """Return the rows of a data frame; columns that no event has by name are its context."""
    table = Table.of(frame)
    columns = {str(name): table.values[name].to_list() for name in table.names or ()}
    if "timestamp" in columns and len(table.values):
        columns["timestamp"] = to_seconds(table.values["timestamp"], "timestamp").tolist()
    absent = [name for name in ("user_id", "item_id") if name not in columns]
    if absent:
        raise ValueError(f"events: columns {absent} are missing; the frame has {list(columns)}.")
    names = list(columns)
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    own = [name for name in names if name not in FIELDS]
    for row in rows:
        context = {name: row.pop(name) for name in own}
        row["context"] = {**(row.get("context") or {}), **context}
    return rows


def _is_sound(event: Event) -> bool:
    """Whether an event is as `_checked` would return it; False where that takes a closer look."""
    event_id, user, item, timestamp, kind, value, list_id, context, clipped = event
    return (
        not (context or clipped)
        and _is_plain_id(user)
        and _is_plain_id(item)
        and (_is_short(event_id) and event_id.isprintable())
        and (_is_short(kind) and kind.isprintable())
        and (list_id is None or (_is_short(list_id) and list_id.isprintable()))
        and (timestamp is None or (type(timestamp) is float and 0 < timestamp < 1e11))
        and (value is None or (type(value) is float and 0 < abs(value) <= LARGEST))
    )


def _is_plain_id(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < _LARGEST_ID
    return _is_short(value) and bool(value.isprintable())


def _is_short(text: Any) -> bool:
    return type(text) is str and 0 < len(text) <= _LONGEST_KIND


def _checked(event: Any, row: int) -> Event:
    if type(event) is Event and _is_sound(event):
        return event
    if isinstance(event, Event):
        event = {name: getattr(event, name) for name in FIELDS}
    where = f"events, row {row}: "
    if not isinstance(event, Mapping):
        raise TypeError(f"{where}an event must be a dict, got a {_name(event)}.")
    unknown = sorted(map(str, set(event) - set(FIELDS)))
    if unknown:
        raise ValueError(f"{where}unknown names {unknown}; an event has {list(FIELDS)}.")
    absent = [name for name in ("user_id", "item_id") if event.get(name) is None]
    if absent:
        raise ValueError(f"{where}{absent} are missing.")
    return Event(
        _optional(event, "event_id", where, check_text) or uuid.uuid4().hex,
        check_id(event["user_id"], "user_id", where),
        check_id(event["item_id"], "item_id", where),
        _optional(event, "timestamp", where, _checked_time),
        _optional(event, "kind", where, _checked_kind) or "click",
        _optional(event, "value", where, checked_feedback),
        _optional(event, "list_id", where, check_text),
        _optional(event, "context", where, _checked_context) or {},
    )


def _optional(
    event: Mapping[str, Any], name: str, where: str, check: Callable[[Any, str], _Value]
) -> _Value | None:
    """Check a value unless it is missing: None, or the NaN that frames have in its place."""
    value = event.get(name)
    absent = value is None or (isinstance(value, float) and value != value)
    return None if absent else check(value, f"{where}{name}")


def check_text(value: Any, name: str) -> str:
    """Return the id of an event or of a list as a text."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = str(check_id(value, name))
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID or not _is_plain(value):
        raise ValueError(f"{name} must be a text of 1 to {_LONGEST_ID} characters, got {value!r}.")
    return value


def _checked_kind(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_KIND or not _is_plain(value):
        raise ValueError(
            f"{name} must be a text of 1 to {_LONGEST_KIND} characters, such as "
            f"'click', got {value!r}."
        )
    return value


def _is_plain(text: str) -> bool:
    """Whether each database takes a text: no zero character, and nothing that UTF-8 has not."""
    return "\0" not in text and not has_surrogate(text)


def has_surrogate(text: str) -> bool:
    """Whether a text has a character that UTF-8 has not."""
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def _checked_number(value: Any, name: str) -> float:
    try:
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        number = float(value) if is_number else math.nan
    except TypeError:  # a duration of numpy calls itself an integer
        raise TypeError(f"{name} must be a number, got {_name(value)}.") from None
    except OverflowError:
        raise ValueError(f"{name} is a number beyond the largest float.") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}.")
    return number + 0.0  # a zero without a sign, which SQLite does not keep


def checked_feedback(value: Any, name: str) -> float:
    """Return a number that a model can add up, else raise."""
    number = _checked_number(value, name)
    if abs(number) > LARGEST:
        raise ValueError(
            f"{name}={value!r} is beyond {LARGEST:.1e}, so that sums overflow; scale the numbers."
        )
    return number


def _checked_time(value: Any, name: str) -> float:
    if isinstance(value, Real) and not isinstance(value, bool):
        seconds = _checked_number(value, name)
    else:
        try:
            seconds = float(to_seconds([value], name)[0])
        except TypeError:
            raise TypeError(
                f"{name} must be seconds, a datetime or an ISO string, got {_name(value)}."
            ) from None
    if abs(seconds) >= 1e11:
        raise ValueError(f"{name}={value!r} lies beyond the year 5138: give seconds since 1970.")
    return seconds


def _checked_context(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of numbers and texts, got a {_name(value)}.")
    found = {}
    for key, cell in value.items():
        if not isinstance(key, str) or key in FIELDS:
            raise ValueError(f"{name} has the name {key!r}; give texts other than {list(FIELDS)}.")
        found[key] = cell.item() if isinstance(cell, np.generic) else cell
        if not isinstance(found[key], (int, float, str, bool, type(None))):
            raise TypeError(f"{name}: {key!r} must be a number or a text, got {_name(cell)}.")
        if isinstance(cell, int) and abs(cell) >= _LARGEST_ID:
            raise ValueError(f"{name}: {key!r} has more than {_LONGEST_ID} digits.")
        if any(isinstance(text, str) and has_surrogate(text) for text in (key, found[key])):
            raise ValueError(f"{name}: {key!r} has a character that UTF-8 has not.")
    if len(json.dumps(found)) > LONGEST_CONTEXT:
        raise ValueError(f"{name} takes more than {LONGEST_CONTEXT} characters.")
    return found


def _name(value: Any) -> str:
    return type(value).__name__


def json_of(context: Mapping[str, Any]) -> str | None:
    """Return the text of a context, None for an empty one."""
    return json.dumps(dict(context)) if context else None


def texts_of(ids: Iterable[Any], name: str) -> list[str]:
    """Return the texts of ids, each once."""
    return list(dict.fromkeys(map(as_json, check_ids(ids, name))))
