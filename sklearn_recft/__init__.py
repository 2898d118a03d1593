"""Recommenders that keep learning, as scikit-learn estimators."""

from sklearn_recft.estimators import (
    ALSRecommender,
    BiasRecommender,
    DecayBertRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
)
from sklearn_recft.training import FineTuning

__version__ = "0.1.0"

__all__ = [
    "ALSRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
    "FineTuning",
    "IncrementalMFRecommender",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "RealtimeTransformerRecommender",
    "__version__",
]
