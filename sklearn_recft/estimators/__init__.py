"""Hyper-parameters and the order of the steps."""

from sklearn_recft.estimators._als import ALSRecommender
from sklearn_recft.estimators._baselines import BiasRecommender, PopularityRecommender
from sklearn_recft.estimators._decay_bert import DecayBertRecommender
from sklearn_recft.estimators._ease import EASERecommender
from sklearn_recft.estimators._factorization import IncrementalMFRecommender
from sklearn_recft.estimators._item_knn import ItemKNNRecommender
from sklearn_recft.estimators._realtime import RealtimeTransformerRecommender

__all__ = [
    "ALSRecommender",
    "BiasRecommender",
    "DecayBertRecommender",
    "EASERecommender",
    "IncrementalMFRecommender",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "RealtimeTransformerRecommender",
]
