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
    from sklearn_recft.estimators._bayesian_classifier import (
        BayesianMFClassifier,
    )
    from sklearn_recft.estimators._cross import (
        IncrementalDCNRecommender,
    )
    from sklearn_recft.estimators._cross_classifier import (
        IncrementalDCNClassifier,
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
    from sklearn_recft.estimators._rp3beta import (
        RP3BetaRecommender,
    )
    from sklearn_recft.estimators._sequential_rules import (
        SequentialRulesRecommender,
    )

__all__ = [
    "ALSRecommender",
    "AdaptiveRecommender",
    "BayesianMFClassifier",
    "BayesianMFRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
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
]

__getattr__ = lazy_names(
    __name__,
    {
        "ALSRecommender": "_als",
        "BayesianMFClassifier": "_bayesian_classifier",
        "AdaptiveRecommender": "_adaptive",
        "BayesianMFRecommender": "_bayesian",
        "BiasRecommender": "_baselines",
        "DecayBertRecommender": "_decay_bert",
        "EASERecommender": "_ease",
        "HabitRecommender": "_habit",
        "IncrementalDCNClassifier": "_cross_classifier",
        "IncrementalDCNRecommender": "_cross",
        "IncrementalMFClassifier": "_factorization_classifier",
        "IncrementalMFRecommender": "_factorization",
        "ItemKNNRecommender": "_item_knn",
        "PopularityRecommender": "_baselines",
        "RP3BetaRecommender": "_rp3beta",
        "RealtimeTransformerRecommender": "_realtime",
        "SequentialRulesRecommender": "_sequential_rules",
    },
)
