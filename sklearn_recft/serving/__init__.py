"""Serving with a feedback loop: events are stored, learned from, and change the next lists."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.loop import (
        Appended,
        Event,
        EventBatch,
        FeedbackStore,
        Loop,
        LoopReceipt,
        NotRunningError,
        QueueFullError,
        Recommended,
        Rekeyed,
        ServingError,
        ShownList,
        StoreError,
        StoreReceipt,
        change_key,
        replay,
    )
    from sklearn_recft.serving._app import create_app
    from sklearn_recft.serving._audit import AuditLog
    from sklearn_recft.serving._client import Client, ServedLists, ServiceError
    from sklearn_recft.serving._keys import KeyFile
    from sklearn_recft.serving._limits import Limits
    from sklearn_recft.serving._server import make_server
    from sklearn_recft.serving._tokens import TokenVerifier

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
        "Appended": "sklearn_recft.loop",
        "AuditLog": "_audit",
        "Client": "_client",
        "Event": "sklearn_recft.loop",
        "EventBatch": "sklearn_recft.loop",
        "FeedbackStore": "sklearn_recft.loop",
        "KeyFile": "_keys",
        "Limits": "_limits",
        "Loop": "sklearn_recft.loop",
        "LoopReceipt": "sklearn_recft.loop",
        "NotRunningError": "sklearn_recft.loop",
        "QueueFullError": "sklearn_recft.loop",
        "Recommended": "sklearn_recft.loop",
        "Rekeyed": "sklearn_recft.loop",
        "ServedLists": "_client",
        "ServiceError": "_client",
        "ServingError": "sklearn_recft.loop",
        "ShownList": "sklearn_recft.loop",
        "StoreError": "sklearn_recft.loop",
        "StoreReceipt": "sklearn_recft.loop",
        "TokenVerifier": "_tokens",
        "change_key": "sklearn_recft.loop",
        "create_app": "_app",
        "make_server": "_server",
        "replay": "sklearn_recft.loop",
    },
)
