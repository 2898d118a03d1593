"""Fitted models: what an estimator has learned, on integer codes and arrays."""

from sklearn_recft.models._als import ALSModel, ALSSettings
from sklearn_recft.models._base import Call, FittedModel, Part, RandomStream, Transaction
from sklearn_recft.models._baselines import (
    BiasModel,
    BiasSettings,
    PopularityModel,
    PopularitySettings,
)
from sklearn_recft.models._decay import (
    DECAY_DEFAULTS,
    DECAY_OPTIONS,
    DecayModel,
    DecaySettings,
)
from sklearn_recft.models._ease import EASEModel, EASESettings
from sklearn_recft.models._factorization import (
    FactorizationModel,
    FactorizationSettings,
    SGDFactorizationModel,
)
from sklearn_recft.models._factorization_adam import (
    ADAM_DEFAULTS,
    ADAM_OPTIONS,
    AdamFactorizationModel,
    AdamFactorizationSettings,
)
from sklearn_recft.models._item_knn import ItemKNNModel, ItemKNNSettings
from sklearn_recft.models._net import Net
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._sequence import (
    SEQUENCE_DEFAULTS,
    SEQUENCE_OPTIONS,
    SequenceModel,
    SequenceSettings,
)

__all__ = [
    "ADAM_DEFAULTS",
    "ADAM_OPTIONS",
    "DECAY_DEFAULTS",
    "DECAY_OPTIONS",
    "SEQUENCE_DEFAULTS",
    "SEQUENCE_OPTIONS",
    "ALSModel",
    "ALSSettings",
    "AdamFactorizationModel",
    "AdamFactorizationSettings",
    "BiasModel",
    "BiasSettings",
    "Call",
    "DecayModel",
    "DecaySettings",
    "EASEModel",
    "EASESettings",
    "FactorizationModel",
    "FactorizationSettings",
    "FittedModel",
    "ItemKNNModel",
    "ItemKNNSettings",
    "Net",
    "OnlineFeatures",
    "Part",
    "PopularityModel",
    "PopularitySettings",
    "RandomStream",
    "SGDFactorizationModel",
    "SequenceModel",
    "SequenceSettings",
    "Transaction",
]
