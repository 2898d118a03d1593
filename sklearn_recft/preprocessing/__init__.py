"""Transformers that turn a table of events into what other estimators read, and its cleaning."""

from sklearn_recft.preprocessing._activity import ActivityFeatures
from sklearn_recft.preprocessing._behavior_text import BehaviorText
from sklearn_recft.preprocessing._clean import Cleaned, CleaningReport, clean_interactions
from sklearn_recft.preprocessing._cleaner import InteractionCleaner
from sklearn_recft.preprocessing._geo import GeoFeatures
from sklearn_recft.preprocessing._pair_means import PairMeans

__all__ = [
    "ActivityFeatures",
    "BehaviorText",
    "Cleaned",
    "CleaningReport",
    "GeoFeatures",
    "InteractionCleaner",
    "PairMeans",
    "clean_interactions",
]
