"""Recommenders that keep learning, as scikit-learn estimators."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.estimators import (
        AdaptiveRecommender,
        ALSRecommender,
        BayesianMFRecommender,
        BiasRecommender,
        DecayBertRecommender,
        EASERecommender,
        HabitRecommender,
        IncrementalMFClassifier,
        IncrementalMFRecommender,
        ItemKNNRecommender,
        PopularityRecommender,
        RealtimeTransformerRecommender,
    )
    from sklearn_recft.persistence import trusted_types
    from sklearn_recft.training import FineTuning

__version__ = "0.2.0"

__all__ = [
    "ALSRecommender",
    "AdaptiveRecommender",
    "BayesianMFRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
    "FineTuning",
    "HabitRecommender",
    "IncrementalMFClassifier",
    "IncrementalMFRecommender",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "RealtimeTransformerRecommender",
    "__version__",
    "trusted_types",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ALSRecommender": "estimators",
        "AdaptiveRecommender": "estimators",
        "BayesianMFRecommender": "estimators",
        "BiasRecommender": "estimators",
        "DecayBertRecommender": "estimators",
        "EASERecommender": "estimators",
        "FineTuning": "training",
        "HabitRecommender": "estimators",
        "IncrementalMFClassifier": "estimators",
        "IncrementalMFRecommender": "estimators",
        "ItemKNNRecommender": "estimators",
        "PopularityRecommender": "estimators",
        "RealtimeTransformerRecommender": "estimators",
        "trusted_types": "persistence",
    },
)
