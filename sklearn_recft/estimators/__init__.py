"""Hyper-parameters and the order of the steps."""

from sklearn_recft.estimators._baselines import BiasRecommender, PopularityRecommender
from sklearn_recft.estimators._factorization import IncrementalMFRecommender

__all__ = ["BiasRecommender", "IncrementalMFRecommender", "PopularityRecommender"]
