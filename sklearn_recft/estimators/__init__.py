"""Recommenders: parameters, checks, documentation and methods."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.estimators._adaptive import (
        AdaptiveRecommender,
    )
    from sklearn_recft.estimators._als import (
        ALSRecommender,
    )
    from sklearn_recft.estimators._baselines import (
        BiasRecommender,
        PopularityRecommender,
    )
    from sklearn_recft.estimators._bayesian import (
        BayesianMFRecommender,
    )
    from sklearn_recft.estimators._decay_bert import (
        DecayBertRecommender,
    )
    from sklearn_recft.estimators._ease import (
        EASERecommender,
    )
    from sklearn_recft.estimators._factorization import (
        IncrementalMFRecommender,
    )
    from sklearn_recft.estimators._factorization_classifier import (
        IncrementalMFClassifier,
    )
    from sklearn_recft.estimators._habit import (
        HabitRecommender,
    )
    from sklearn_recft.estimators._item_knn import (
        ItemKNNRecommender,
    )
    from sklearn_recft.estimators._realtime import (
        RealtimeTransformerRecommender,
    )

__all__ = [
    "ALSRecommender",
    "AdaptiveRecommender",
    "BayesianMFRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
    "HabitRecommender",
    "IncrementalMFClassifier",
    "IncrementalMFRecommender",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "RealtimeTransformerRecommender",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ALSRecommender": "_als",
        "AdaptiveRecommender": "_adaptive",
        "BayesianMFRecommender": "_bayesian",
        "BiasRecommender": "_baselines",
        "DecayBertRecommender": "_decay_bert",
        "EASERecommender": "_ease",
        "HabitRecommender": "_habit",
        "IncrementalMFClassifier": "_factorization_classifier",
        "IncrementalMFRecommender": "_factorization",
        "ItemKNNRecommender": "_item_knn",
        "PopularityRecommender": "_baselines",
        "RealtimeTransformerRecommender": "_realtime",
    },
)
