"""Recommenders that keep learning, as scikit-learn estimators."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.estimators import (
        AdaptiveRecommender,
        ALSRecommender,
        BayesianMFClassifier,
        BayesianMFRecommender,
        BiasRecommender,
        DecayBertRecommender,
        EASERecommender,
        HabitRecommender,
        IncrementalDCNClassifier,
        IncrementalDCNRecommender,
        IncrementalMFClassifier,
        IncrementalMFRecommender,
        ItemKNNRecommender,
        PopularityRecommender,
        RealtimeTransformerRecommender,
        RP3BetaRecommender,
        SequentialRulesRecommender,
    )
    from sklearn_recft.event_stream import EventStream
    from sklearn_recft.models import ForgetReceipt
    from sklearn_recft.persistence import load, save, trusted_types
    from sklearn_recft.training import FineTuning

__version__ = "0.2.0"

__all__ = [
    "ALSRecommender",
    "AdaptiveRecommender",
    "BayesianMFClassifier",
    "BayesianMFRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
    "EventStream",
    "FineTuning",
    "ForgetReceipt",
    "HabitRecommender",
    "IncrementalDCNClassifier",
    "IncrementalDCNRecommender",
    "IncrementalMFClassifier",
    "IncrementalMFRecommender",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "RP3BetaRecommender",
    "RealtimeTransformerRecommender",
    "SequentialRulesRecommender",
    "__version__",
    "load",
    "save",
    "trusted_types",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ALSRecommender": "estimators",
        "BayesianMFClassifier": "estimators",
        "AdaptiveRecommender": "estimators",
        "BayesianMFRecommender": "estimators",
        "BiasRecommender": "estimators",
        "DecayBertRecommender": "estimators",
        "EASERecommender": "estimators",
        "EventStream": "event_stream",
        "FineTuning": "training",
        "ForgetReceipt": "models",
        "HabitRecommender": "estimators",
        "IncrementalDCNClassifier": "estimators",
        "IncrementalDCNRecommender": "estimators",
        "IncrementalMFClassifier": "estimators",
        "IncrementalMFRecommender": "estimators",
        "ItemKNNRecommender": "estimators",
        "PopularityRecommender": "estimators",
        "RP3BetaRecommender": "estimators",
        "RealtimeTransformerRecommender": "estimators",
        "SequentialRulesRecommender": "estimators",
        "load": "persistence",
        "save": "persistence",
        "trusted_types": "persistence",
    },
)
