"""Transformers that turn a table of events into what other estimators read."""

from sklearn_recft.preprocessing._activity import ActivityFeatures
from sklearn_recft.preprocessing._behavior_text import BehaviorText
from sklearn_recft.preprocessing._pair_means import PairMeans

__all__ = ["ActivityFeatures", "BehaviorText", "PairMeans"]
