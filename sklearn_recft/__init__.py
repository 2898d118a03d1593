"""Recommenders that keep learning, as scikit-learn estimators."""

from sklearn_recft.estimators import (
    BiasRecommender,
    IncrementalMFRecommender,
    PopularityRecommender,
)

__version__ = "0.1.0"

__all__ = ["BiasRecommender", "IncrementalMFRecommender", "PopularityRecommender", "__version__"]
