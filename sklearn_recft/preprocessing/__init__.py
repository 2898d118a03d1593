"""Transformers that turn a table of events into what other estimators read."""

from sklearn_recft.preprocessing._content import BehaviorText

__all__ = ["BehaviorText"]
