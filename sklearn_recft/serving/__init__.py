"""Service: events in, learned once, better lists out."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.serving._audit import AuditLog
    from sklearn_recft.serving._keys import KeyFile
    from sklearn_recft.serving._limits import Limits
    from sklearn_recft.serving._tokens import TokenVerifier

__all__ = ["AuditLog", "KeyFile", "Limits", "TokenVerifier"]

__getattr__ = lazy_names(
    __name__,
    {
        "AuditLog": "_audit",
        "KeyFile": "_keys",
        "Limits": "_limits",
        "TokenVerifier": "_tokens",
    },
)
