"""Saving estimators: to folders without pickle, and in the formats of other packages."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.persistence._folder import inspect, load, save
    from sklearn_recft.persistence._mixin import SaveMixin as SaveMixin
    from sklearn_recft.persistence._store import ModelStore
    from sklearn_recft.persistence._trusted import trusted_types

__all__ = ["ModelStore", "inspect", "load", "save", "trusted_types"]

__getattr__ = lazy_names(
    __name__,
    {
        "ModelStore": "_store",
        "SaveMixin": "_mixin",
        "inspect": "_folder",
        "load": "_folder",
        "save": "_folder",
        "trusted_types": "_trusted",
    },
)
