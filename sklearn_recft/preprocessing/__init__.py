"""Transformers that turn a table of events into what other estimators read."""

from sklearn_recft.preprocessing._behavior_text import BehaviorText

__all__ = ["BehaviorText"]
