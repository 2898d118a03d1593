"""Transformers that turn a table of events into what other estimators read, and its cleaning."""

from sklearn_recft.preprocessing._activity import ActivityFeatures
from sklearn_recft.preprocessing._behavior_text import BehaviorText
from sklearn_recft.preprocessing._clean import Cleaned, CleaningReport, clean_interactions
from sklearn_recft.preprocessing._cleaner import InteractionCleaner
from sklearn_recft.preprocessing._geo import GeoFeatures
from sklearn_recft.preprocessing._mask import Masked, MaskingReport, mask_interactions
from sklearn_recft.preprocessing._pair_means import PairMeans
from sklearn_recft.preprocessing._pseudonymizer import Pseudonymizer
from sklearn_recft.preprocessing._secret_key import SecretKey

__all__ = [
    "ActivityFeatures",
    "BehaviorText",
    "Cleaned",
    "CleaningReport",
    "GeoFeatures",
    "InteractionCleaner",
    "Masked",
    "MaskingReport",
    "PairMeans",
    "Pseudonymizer",
    "SecretKey",
    "clean_interactions",
    "mask_interactions",
]
