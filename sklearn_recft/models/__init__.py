"""Fitted models: what an estimator has learned, on integer codes and arrays."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.models._adaptive import (
        AdaptiveModel,
        AdaptiveSettings,
    )
    from sklearn_recft.models._adaptive_parts import (
        ITEM_FEATURES,
        N_PLACES,
        RESERVED_NAMES,
        Member,
    )
    from sklearn_recft.models._adaptive_rows import (
        MemberRows,
    )
    from sklearn_recft.models._adaptive_shown import (
        Shown,
    )
    from sklearn_recft.models._als import (
        ALSModel,
        ALSSettings,
    )
    from sklearn_recft.models._base import (
        Call,
        FittedModel,
        Part,
        Transaction,
    )
    from sklearn_recft.models._baselines import (
        BiasModel,
        BiasSettings,
        PopularityModel,
        PopularitySettings,
    )
    from sklearn_recft.models._batches import (
        MAX_BATCHES,
        batch_code,
        warn_of_known_batch,
    )
    from sklearn_recft.models._bayesian import (
        BayesianMFModel,
        BayesianMFSettings,
    )
    from sklearn_recft.models._content_model import (
        ContentModel,
    )
    from sklearn_recft.models._cross import (
        OFFSET,
        CrossModel,
    )
    from sklearn_recft.models._cross_network import (
        CROSS_DEFAULTS,
        CROSS_OPTIONS,
        CrossSettings,
    )
    from sklearn_recft.models._decay import (
        DecayModel,
    )
    from sklearn_recft.models._decay_network import (
        DECAY_DEFAULTS,
        DECAY_OPTIONS,
        DecaySettings,
    )
    from sklearn_recft.models._ease import (
        EASEModel,
        EASESettings,
    )
    from sklearn_recft.models._explain import (
        Explanation,
    )
    from sklearn_recft.models._factorization import (
        FactorizationModel,
        SGDFactorizationModel,
    )
    from sklearn_recft.models._factorization_adam import (
        ADAM_DEFAULTS,
        ADAM_OPTIONS,
        AdamFactorizationModel,
        AdamFactorizationSettings,
    )
    from sklearn_recft.models._factorization_base import (
        FactorizationSettings,
    )
    from sklearn_recft.models._factorization_drift import (
        FollowingFactorizationModel,
    )
    from sklearn_recft.models._factorization_softmax import (
        SoftmaxFactorizationModel,
        SoftmaxFactorizationSettings,
    )
    from sklearn_recft.models._habit import (
        HabitModel,
        HabitSettings,
    )
    from sklearn_recft.models._item_knn import (
        ItemKNNModel,
        ItemKNNSettings,
    )
    from sklearn_recft.models._net import (
        Net,
    )
    from sklearn_recft.models._online_features import (
        OnlineFeatures,
    )
    from sklearn_recft.models._random import (
        RandomStream,
    )
    from sklearn_recft.models._receipt import (
        ERASED,
        EXACT,
        UNLEARNED,
        ForgetReceipt,
        copy_without,
        utc_now,
    )
    from sklearn_recft.models._rp3beta import (
        RP3BetaModel,
        RP3BetaSettings,
    )
    from sklearn_recft.models._sequence import (
        SequenceModel,
    )
    from sklearn_recft.models._sequence_network import (
        SEQUENCE_DEFAULTS,
        SEQUENCE_OPTIONS,
        SequenceNetwork,
        SequenceSettings,
    )
    from sklearn_recft.models._sequential_rules import (
        SequentialRulesModel,
        SequentialRulesSettings,
    )
    from sklearn_recft.models._side_features import (
        SideFeatures,
    )
    from sklearn_recft.models._softmax_lists import (
        Listing,
    )

__all__ = [
    "ADAM_DEFAULTS",
    "ADAM_OPTIONS",
    "CROSS_DEFAULTS",
    "CROSS_OPTIONS",
    "DECAY_DEFAULTS",
    "DECAY_OPTIONS",
    "ERASED",
    "EXACT",
    "ITEM_FEATURES",
    "MAX_BATCHES",
    "N_PLACES",
    "OFFSET",
    "RESERVED_NAMES",
    "SEQUENCE_DEFAULTS",
    "SEQUENCE_OPTIONS",
    "UNLEARNED",
    "ALSModel",
    "ALSSettings",
    "AdamFactorizationModel",
    "AdamFactorizationSettings",
    "AdaptiveModel",
    "AdaptiveSettings",
    "BayesianMFModel",
    "BayesianMFSettings",
    "BiasModel",
    "BiasSettings",
    "Call",
    "ContentModel",
    "CrossModel",
    "CrossSettings",
    "DecayModel",
    "DecaySettings",
    "EASEModel",
    "EASESettings",
    "Explanation",
    "FactorizationModel",
    "FactorizationSettings",
    "FittedModel",
    "FollowingFactorizationModel",
    "ForgetReceipt",
    "HabitModel",
    "HabitSettings",
    "ItemKNNModel",
    "ItemKNNSettings",
    "Listing",
    "Member",
    "MemberRows",
    "Net",
    "OnlineFeatures",
    "Part",
    "PopularityModel",
    "PopularitySettings",
    "RP3BetaModel",
    "RP3BetaSettings",
    "RandomStream",
    "SGDFactorizationModel",
    "SequenceModel",
    "SequenceNetwork",
    "SequenceSettings",
    "SequentialRulesModel",
    "SequentialRulesSettings",
    "Shown",
    "SideFeatures",
    "SoftmaxFactorizationModel",
    "SoftmaxFactorizationSettings",
    "Transaction",
    "batch_code",
    "copy_without",
    "utc_now",
    "warn_of_known_batch",
]

__getattr__ = lazy_names(
    __name__,
    {
        "ADAM_DEFAULTS": "_factorization_adam",
        "ADAM_OPTIONS": "_factorization_adam",
        "CROSS_DEFAULTS": "_cross_network",
        "CROSS_OPTIONS": "_cross_network",
        "DECAY_DEFAULTS": "_decay_network",
        "DECAY_OPTIONS": "_decay_network",
        "ERASED": "_receipt",
        "EXACT": "_receipt",
        "ITEM_FEATURES": "_adaptive_parts",
        "N_PLACES": "_adaptive_parts",
        "RESERVED_NAMES": "_adaptive_parts",
        "MAX_BATCHES": "_batches",
        "SEQUENCE_DEFAULTS": "_sequence_network",
        "SEQUENCE_OPTIONS": "_sequence_network",
        "UNLEARNED": "_receipt",
        "ALSModel": "_als",
        "ALSSettings": "_als",
        "AdamFactorizationModel": "_factorization_adam",
        "AdamFactorizationSettings": "_factorization_adam",
        "AdaptiveModel": "_adaptive",
        "AdaptiveSettings": "_adaptive",
        "BayesianMFModel": "_bayesian",
        "BayesianMFSettings": "_bayesian",
        "BiasModel": "_baselines",
        "BiasSettings": "_baselines",
        "Call": "_base",
        "ContentModel": "_content_model",
        "CrossModel": "_cross",
        "OFFSET": "_cross",
        "CrossSettings": "_cross_network",
        "DecayModel": "_decay",
        "DecaySettings": "_decay_network",
        "EASEModel": "_ease",
        "EASESettings": "_ease",
        "Explanation": "_explain",
        "FactorizationModel": "_factorization",
        "FactorizationSettings": "_factorization_base",
        "FollowingFactorizationModel": "_factorization_drift",
        "FittedModel": "_base",
        "ForgetReceipt": "_receipt",
        "HabitModel": "_habit",
        "HabitSettings": "_habit",
        "ItemKNNModel": "_item_knn",
        "ItemKNNSettings": "_item_knn",
        "Listing": "_softmax_lists",
        "Member": "_adaptive_parts",
        "MemberRows": "_adaptive_rows",
        "Net": "_net",
        "OnlineFeatures": "_online_features",
        "Part": "_base",
        "PopularityModel": "_baselines",
        "PopularitySettings": "_baselines",
        "RP3BetaModel": "_rp3beta",
        "RP3BetaSettings": "_rp3beta",
        "RandomStream": "_random",
        "SGDFactorizationModel": "_factorization",
        "SequenceModel": "_sequence",
        "SequenceNetwork": "_sequence_network",
        "SequenceSettings": "_sequence_network",
        "SequentialRulesModel": "_sequential_rules",
        "SequentialRulesSettings": "_sequential_rules",
        "Shown": "_adaptive_shown",
        "SideFeatures": "_side_features",
        "SoftmaxFactorizationModel": "_factorization_softmax",
        "SoftmaxFactorizationSettings": "_factorization_softmax",
        "Transaction": "_base",
        "batch_code": "_batches",
        "copy_without": "_receipt",
        "utc_now": "_receipt",
        "warn_of_known_batch": "_batches",
    },
)
