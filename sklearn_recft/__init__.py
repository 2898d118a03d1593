"""Recommenders that keep learning, as scikit-learn estimators."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.estimators._als import (
        ALSRecommender,
    )
    from sklearn_recft.estimators._baselines import (
        BiasRecommender,
        PopularityRecommender,
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
    from sklearn_recft.estimators._item_knn import (
        ItemKNNRecommender,
    )
    from sklearn_recft.estimators._realtime import (
        RealtimeTransformerRecommender,
    )
    from sklearn_recft.training import (
        FineTuning,
    )

__version__ = "0.2.0"

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

__getattr__ = lazy_names(
    __name__,
    {
        "ALSRecommender": "estimators._als",
        "BiasRecommender": "estimators._baselines",
        "DecayBertRecommender": "estimators._decay_bert",
        "EASERecommender": "estimators._ease",
        "FineTuning": "training",
        "IncrementalMFRecommender": "estimators._factorization",
        "ItemKNNRecommender": "estimators._item_knn",
        "PopularityRecommender": "estimators._baselines",
        "RealtimeTransformerRecommender": "estimators._realtime",
    },
)
