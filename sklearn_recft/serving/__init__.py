"""Serving with a feedback loop: events are stored, learned from, and change the next lists."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.serving._app import create_app
    from sklearn_recft.serving._audit import AuditLog
    from sklearn_recft.serving._client import Client, ServedLists, ServiceError
    from sklearn_recft.serving._errors import (
        NotRunningError,
        QueueFullError,
        ServingError,
        StoreError,
    )
    from sklearn_recft.serving._events import Appended, Event, EventBatch
    from sklearn_recft.serving._keys import KeyFile
    from sklearn_recft.serving._limits import Limits
    from sklearn_recft.serving._lists import Recommended, ShownList
    from sklearn_recft.serving._loop import Loop
    from sklearn_recft.serving._rekey import Rekeyed, change_key
    from sklearn_recft.serving._replay import replay
    from sklearn_recft.serving._server import make_server
    from sklearn_recft.serving._store import FeedbackStore, StoreReceipt
    from sklearn_recft.serving._tokens import TokenVerifier
    from sklearn_recft.serving._versions import LoopReceipt

__all__ = [
    "Appended",
    "AuditLog",
    "Client",
    "Event",
    "EventBatch",
    "FeedbackStore",
    "KeyFile",
    "Limits",
    "Loop",
    "LoopReceipt",
    "NotRunningError",
    "QueueFullError",
    "Recommended",
    "Rekeyed",
    "ServedLists",
    "ServiceError",
    "ServingError",
    "ShownList",
    "StoreError",
    "StoreReceipt",
    "TokenVerifier",
    "change_key",
    "create_app",
    "make_server",
    "replay",
]

__getattr__ = lazy_names(
    __name__,
    {
        "make_server": "_server",
        "ServiceError": "_client",
        "ServedLists": "_client",
        "Client": "_client",
        "create_app": "_app",
        "TokenVerifier": "_tokens",
        "Limits": "_limits",
        "KeyFile": "_keys",
        "AuditLog": "_audit",
        "Appended": "_events",
        "Event": "_events",
        "EventBatch": "_events",
        "FeedbackStore": "_store",
        "Loop": "_loop",
        "LoopReceipt": "_versions",
        "NotRunningError": "_errors",
        "QueueFullError": "_errors",
        "Recommended": "_lists",
        "ServingError": "_errors",
        "ShownList": "_lists",
        "StoreError": "_errors",
        "StoreReceipt": "_store",
        "replay": "_replay",
        "change_key": "_rekey",
        "Rekeyed": "_rekey",
    },
)
