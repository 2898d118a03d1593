"""Fitted models: what an estimator has learned, on integer codes and arrays."""

from sklearn_recft.models._als import ALSModel, ALSSettings
from sklearn_recft.models._base import Call, FittedModel, Part, RandomStream, Transaction
from sklearn_recft.models._baselines import (
    BiasModel,
    BiasSettings,
    PopularityModel,
    PopularitySettings,
)
from sklearn_recft.models._ease import EASEModel, EASESettings
from sklearn_recft.models._item_knn import ItemKNNModel, ItemKNNSettings

__all__ = [
    "ALSModel",
    "ALSSettings",
    "BiasModel",
    "BiasSettings",
    "Call",
    "EASEModel",
    "EASESettings",
    "FittedModel",
    "ItemKNNModel",
    "ItemKNNSettings",
    "Part",
    "PopularityModel",
    "PopularitySettings",
    "RandomStream",
    "Transaction",
]
