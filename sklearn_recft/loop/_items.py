"""New items without events: rows of the log that no user caused, and the verb that learns them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sklearn_recft.loop._events import (
    LONGEST_CONTEXT,
    Event,
    EventBatch,
    check_id,
    has_surrogate,
)
from sklearn_recft.loop._model import Served
from sklearn_recft.names import ITEM
from sklearn_recft.tables import Table, is_frame

# The method that learns new items, which is the verb of their step.
ADD_ITEMS = "add_items"
# The kind of their rows in the log, which have no user.
_KIND = "item"
_NOBODY: Any = None
_LARGEST = sys.float_info.max


def check_stored_items(items: Any, refused: Sequence[tuple[int, int]] = ()) -> list[Event]:
    """Check new items before they are stored: all of them are sound, or one error names the fault.

    Parameters
    ----------
    items : iterable of dict, or data frame
        ``item_id``, and what the model knows items by: ``text``, ``embedding`` or features. Values
        are numbers, texts, and lists of either.
    refused : sequence of (int, int), default=()
        Ranges that a rollback refused: an item among them may be stored again.

    Returns
    -------
    rows : list of Event
        Rows without a user; ``context`` has all but the id. The same item with the same content
        has the same ``event_id``, so the store keeps it once.

    Examples
    --------
    >>> from sklearn_recft.loop._items import check_stored_items
    >>> row, = check_stored_items([{"item_id": "oat", "text": "oat milk"}])
    >>> row.user_id, row.item_id, dict(row.context)
    (None, 'oat', {'text': 'oat milk'})
    """
    if is_frame(items):
        table = Table.of(items)
        columns = {str(name): table.values[name].to_list() for name in table.names or ()}
        items = [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ]
    elif isinstance(items, (str, bytes, Mapping)):
        raise TypeError("items must be a list of dicts or a data frame.")
    ranges = [list(pair) for pair in refused]
    return [_named(_checked(item, row), ranges) for row, item in enumerate(items)]


def check_takes_items(model: Served) -> None:
    """Refuse items for a model that cannot know one before its first event."""
    if not hasattr(model, ADD_ITEMS):
        raise ValueError(
            f"items: {type(model).__name__} has no add_items: it knows an item from its first "
            "event on. Send an event of the item, or serve a model with the method add_items, "
            "which reads texts, vectors or features of items."
        )


def is_item(event: Event) -> bool:
    """Whether a row of the log is a new item."""
    return event.user_id is None


def first_sort(batch: EventBatch) -> EventBatch:
    """Return the first rows, up to where events and items follow each other: one step."""
    return next(runs_of(batch), batch)


def runs_of(batch: EventBatch) -> Iterator[EventBatch]:
    """Yield the rows in order, events apart from items."""
    users = batch.users
    if None not in users:
        if users:
            yield batch
        return
    sorts = [user is None for user in users]
    ends = [*(np.flatnonzero(np.diff(sorts)) + 1).tolist(), len(sorts)]
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield batch.take(slice(start, end))


def of_sort(batch: EventBatch, *, items: bool) -> EventBatch:
    """Return all items, or all events, of some rows."""
    rows = [row for row, event in enumerate(batch.events) if is_item(event) == items]
    return batch if len(rows) == len(batch) else batch.take(rows)


def item_table(batch: EventBatch) -> Any:
    """Return the frame of items that `add_items` and `fit` take."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("New items need a data frame: install pandas to serve them.") from error
    names = dict.fromkeys(name for event in batch.events for name in event.context)
    columns = {name: [event.context.get(name) for event in batch.events] for name in names}
    return pandas.DataFrame({ITEM: [event.item_id for event in batch.events], **columns})


def _checked(item: Any, row: int) -> Event:
    where = f"items, row {row}: "
    if not isinstance(item, Mapping) or item.get(ITEM) is None:
        raise ValueError(f"{where}an item must be a dict with {ITEM}.")
    context = {name: _plain(value) for name, value in item.items() if name != ITEM}
    wrong = [name for name, value in context.items() if not _is_sound(name, value)]
    if wrong:
        raise ValueError(
            f"{where}{wrong} must be finite numbers, texts, or lists of either, under names that "
            "are texts."
        )
    if len(json.dumps(context)) > LONGEST_CONTEXT:
        raise ValueError(f"{where}the item takes more than {LONGEST_CONTEXT} characters.")
    described = {name: value for name, value in context.items() if value is not None}
    own = check_id(item[ITEM], ITEM, where)
    return Event("", _NOBODY, own, kind=_KIND, context=described)


def _named(row: Event, refused: list[list[int]]) -> Event:
    """Name a row after its content."""
    content = json.dumps([row.item_id, dict(row.context), refused], sort_keys=True)
    return Event(f"item-{hashlib.sha256(content.encode()).hexdigest()}", *row[1:])


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it; the NaN that frames have for a missing one is None."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and value != value else value


def _is_sound(name: Any, value: Any) -> bool:
    if not isinstance(name, str) or has_surrogate(name):
        return False
    cells = value if isinstance(value, list) else [value]
    return all(
        one is None
        or (isinstance(one, str) and not has_surrogate(one))
        or (isinstance(one, (int, float)) and abs(one) <= _LARGEST)
        for one in cells
    )
