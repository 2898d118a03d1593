"""Smaller models: tables in few bits, and items and users that are dropped."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.compression._compress import compress, model_bytes
    from sklearn_recft.compression._prune import prune_items, prune_users

__all__ = ["compress", "model_bytes", "prune_items", "prune_users"]

__getattr__ = lazy_names(
    __name__,
    {
        "compress": "_compress",
        "model_bytes": "_compress",
        "prune_items": "_prune",
        "prune_users": "_prune",
    },
)
