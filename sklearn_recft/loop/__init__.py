"""A log of events, and a model that follows it: nothing is lost or learned twice."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.loop._errors import NotRunningError, QueueFullError, ServingError, StoreError
    from sklearn_recft.loop._events import (
        Appended,
        Event,
        EventBatch,
        check_stored_events,
        listed_id,
    )
    from sklearn_recft.loop._items import check_stored_items, is_item
    from sklearn_recft.loop._lists import Recommended, ShownList
    from sklearn_recft.loop._loop import Loop
    from sklearn_recft.loop._model import Served
    from sklearn_recft.loop._rekey import Rekeyed, change_key
    from sklearn_recft.loop._replay import replay
    from sklearn_recft.loop._rows import Predicted
    from sklearn_recft.loop._store import FeedbackStore, StoreReceipt
    from sklearn_recft.loop._versions import LoopReceipt

__all__ = [
    "Appended",
    "Event",
    "EventBatch",
    "FeedbackStore",
    "Loop",
    "LoopReceipt",
    "NotRunningError",
    "Predicted",
    "QueueFullError",
    "Recommended",
    "Rekeyed",
    "Served",
    "ServingError",
    "ShownList",
    "StoreError",
    "StoreReceipt",
    "change_key",
    "check_stored_events",
    "check_stored_items",
    "is_item",
    "listed_id",
    "replay",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Appended": "_events",
        "Event": "_events",
        "EventBatch": "_events",
        "FeedbackStore": "_store",
        "Loop": "_loop",
        "LoopReceipt": "_versions",
        "NotRunningError": "_errors",
        "Predicted": "_rows",
        "QueueFullError": "_errors",
        "Recommended": "_lists",
        "Rekeyed": "_rekey",
        "Served": "_model",
        "ServingError": "_errors",
        "ShownList": "_lists",
        "StoreError": "_errors",
        "StoreReceipt": "_store",
        "change_key": "_rekey",
        "check_stored_events": "_events",
        "check_stored_items": "_items",
        "is_item": "_items",
        "listed_id": "_events",
        "replay": "_replay",
    },
)
