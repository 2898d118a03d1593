"""Cases of `record_results` with a net over histories: the decay model and the transformer.

Every parameter and every option of training is given, so that another default changes no result.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.common.params import merged
from benchmarks.common.record_cases import Case
from sklearn_recft import EASERecommender, IncrementalMFRecommender, PopularityRecommender

PRETRAINED = "all-MiniLM-L6-v2"  # stands for the folder of the installed package
POLICY = {
    "learning_rate": 2e-3, "decay_rate": 5.0, "schedule": "linear", "clip": 1.0, "accumulate": 1,
    "bf16": False, "adversarial": 0.0, "patience": None, "validation_fraction": 0.1,
}  # fmt: skip
UNUSUAL = {
    "accumulate": 2, "adversarial": 0.05, "schedule": "constant", "clip": np.inf, "warmup": 0.0,
    "decay_rate": 1.0, "embedding_rate": 2.0,
}  # fmt: skip

# ------------------------------------------------------------------------- decay

DECAY = {
    "backbone": None, "decay": "exponential", "n_heads": 2, "max_history": 20, "freeze": "all",
    "outcome": None, "width": 16, "n_factors": 16, "cold_dropout": 0.3, "n_negatives": 4,
    "replay_size": 512, "max_epochs": 2, "class_weight": None, "n_jobs": None, "random_state": 0,
    "verbose": 0,
    "training": POLICY | {
        "backbone_rate": 0.01, "embedding_rate": 10.0, "weight_decay": 0.01, "warmup": 0.1,
        "update_rate": 0.0, "update_epochs": 1, "lora_rank": 0,
    },
    "net_params": {"batch_size": 64, "device": "cpu"},
}  # fmt: skip
DECAY_PLAN: dict[str, Any] = {
    "y": "like", "n_fit": 1500, "n_stream": 300, "n_users": 6, "n_one_pass": 300
}  # fmt: skip
SMALL: dict[str, Any] = {"n_fit": 500, "n_stream": 100, "n_one_pass": 100, "n_users": 4}
PRETRAINED_PLAN: dict[str, Any] = {"n_fit": 800, "n_stream": 150}


def updates(rate: float, **others: Any) -> dict[str, Any]:
    """Return the change after which `partial_fit` trains the net, at this rate."""
    return {"training": {"update_rate": rate, **others}}


def decay(name: str, *changes: dict[str, Any], **plan: Any) -> Case:
    params = merged(DECAY, *changes)
    return Case(f"decay_{name}", "DecayBertRecommender", params, **(DECAY_PLAN | plan))


def decays() -> Iterator[Case]:
    """Yield the decay model without texts, then with random and with pretrained encoders."""
    yield from decays_of_ids()
    yield from decays_of_texts()


def decays_of_ids() -> Iterator[Case]:
    yield decay("ids", log="movielens")
    yield decay("ids_positives", y="none")
    yield decay("ids_positives_moving", updates(0.2), y="none")
    change = {"decay": "log", "replay_size": 300}
    yield decay("ids_moving", updates(0.2), change, log="synthetic_str")
    change = {"decay": "none", "max_history": 5, "class_weight": "balanced"}
    yield decay("ids_none", updates(0.5), change, log="movielens_str")
    change = {"n_heads": 1}
    context = "synthetic_context"
    yield decay("ids_context_weights", updates(0.1), change, log=context, weighted=True)
    yield decay("ids_notime", log="movielens_no_time")
    policy = updates(0.1, weight_decay=0.1, **UNUSUAL)
    yield decay("ids_policy", {"cold_dropout": 0.0}, policy)
    policy = {"training": {"patience": 1, "validation_fraction": 0.2, "learning_rate": 0.02}}
    yield decay("ids_patience", {"max_epochs": 6}, policy)
    yield decay("ids_bf16", updates(0.1, bf16=True))
    change = {"n_factors": 8, "width": 8, "class_weight": {0: 1.0, 1: 3.0}}
    yield decay("ids_class_weight", change, log="movielens")
    yield Case(
        "decay_ids_auto_batch", "DecayBertRecommender", DECAY | {"net_params": {"device": "cpu"}},
        fit_only=True, **DECAY_PLAN,
    )  # fmt: skip
    yield decay("vectors", updates(0.2), log="synthetic_vectors", items=True)
    yield decay("outcome", updates(0.2), {"outcome": "stars"}, log="synthetic_outcome")


def decays_of_texts() -> Iterator[Case]:
    text: dict[str, Any] = {"log": "synthetic_text"}
    scratch = {"backbone": "scratch"}
    yield decay("outcome_scratch", scratch, {"outcome": "stars"}, log="synthetic_outcome")
    yield decay("scratch_items", scratch, items=True, **text)
    yield decay("scratch_positives", scratch, updates(0.2), items=True, y="none", **text)
    films = {"log": "movielens_text", "n_fit": 300, "n_stream": 40, "n_late": 20}
    yield decay("scratch_films", scratch, updates(0.1), **films)
    scratch |= {"max_epochs": 1}
    one = {"freeze": 1}
    yield decay("scratch_freeze_1", scratch, updates(0.2), one, items=True, **text, **SMALL)
    policy = updates(0.2, accumulate=2)
    yield decay("scratch_freeze_none", scratch, policy, {"freeze": "none"}, **text, **SMALL)
    policy = updates(0.2, lora_rank=2)
    yield decay("scratch_lora", scratch, policy, one, brief=True, **text, **SMALL)
    minilm = {"backbone": PRETRAINED}
    yield decay("minilm", minilm, **text, **PRETRAINED_PLAN)
    change = minilm | {"outcome": "stars"}
    yield decay("minilm_moving", change, updates(0.2), log="synthetic_outcome", **PRETRAINED_PLAN)
    few = {"n_fit": 100, "n_stream": 20, "n_one_pass": 20, "n_users": 2}
    change = minilm | {"freeze": 5, "max_epochs": 1}
    yield decay("minilm_freeze_5", change, updates(0.1), brief=True, **text, **few)
    change = {"backbone": "scratch", "n_negatives": 2}
    few = {"n_fit": 250, "n_stream": 40, "n_late": 20}
    yield decay("baskets", change, log="baskets", y="none", **few)


# ------------------------------------------------------------------- transformer

REALTIME = {
    "backbone": None, "n_layers": 2, "n_heads": 2, "max_history": 50, "decay": "log",
    "query_time": True, "width": 32, "dropout": 0.2, "trend_half_lives": (3.0, 30.0, np.inf),
    "history_dropout": 0.3, "n_negatives": 0, "replay_size": 0, "max_epochs": 2, "n_jobs": None,
    "random_state": 0, "verbose": 0,
    "training": POLICY | {
        "embedding_rate": 1.0, "weight_decay": 0.0, "warmup": 0.05, "update_rate": 0.1,
        "update_epochs": 2, "freeze_blocks": 0,
    },
    "net_params": {"batch_size": 256, "device": "cpu", "optimizer__betas": (0.9, 0.98)},
}  # fmt: skip
REALTIME_PLAN: dict[str, Any] = {"y": "none", "n_fit": 1600, "n_stream": 240, "n_users": 20}
TEXT_PLAN: dict[str, Any] = {"n_fit": 1200, "n_stream": 200}


def realtime(name: str, *changes: dict[str, Any], **plan: Any) -> Case:
    params = merged(REALTIME, *changes)
    name = f"realtime_{name}".rstrip("_")
    return Case(name, "RealtimeTransformerRecommender", params, **(REALTIME_PLAN | plan))


def transformers() -> Iterator[Case]:
    """Yield the transformer by logs, by parameters, by training, then with texts."""
    yield from transformers_by_log()
    yield from transformers_by_parameter()
    yield from transformers_by_training()
    yield from transformers_of_texts()


def transformers_by_log() -> Iterator[Case]:
    yield realtime("", log="movielens")
    yield realtime("str_y", log="movielens_str", y="signed")
    yield realtime("syn")
    yield realtime("notime", log="movielens_no_time")
    change = {"replay_size": 4, "training": {"freeze_blocks": 1}}
    yield realtime("notime_y", change, log="movielens_no_time", y="signed")
    yield realtime("context", log="synthetic_context", weighted=True)
    yield realtime("context_y", {"replay_size": 10}, log="synthetic_context", y="rating")
    yield realtime("baskets", log="baskets")
    yield realtime("vectors", log="synthetic_vectors", items=True)


def transformers_by_parameter() -> Iterator[Case]:
    yield realtime("exponential", {"decay": "exponential"})
    yield realtime("decay_none", {"decay": "none"})
    yield realtime("query_time_false", {"query_time": False})
    yield realtime("no_trends", {"trend_half_lives": (), "history_dropout": 0.0})
    yield realtime("negatives", {"n_negatives": 64}, log="movielens")
    yield realtime("replay", {"replay_size": 20})
    change = {"replay_size": 7, "n_negatives": 32, "trend_half_lives": (1.0,)}
    yield realtime("replay_negatives", change, y="signed")
    change = {"width": 24, "dropout": 0.0, "n_layers": 1, "n_heads": 4, "max_history": 7}
    yield realtime("short", change, log="movielens")
    change = {"history_dropout": 1.0, "n_layers": 3, "n_heads": 1, "max_history": 10}
    yield realtime("deep", change, {"random_state": 7})


def transformers_by_training() -> Iterator[Case]:
    for blocks in (0, 1, "all"):
        change = {"training": {"freeze_blocks": blocks}}
        yield realtime(f"freeze_{blocks}", change, log="synthetic_str")
    policy = {"training": {"patience": 1, "learning_rate": 0.02}}
    yield realtime("patience", {"max_epochs": 6}, policy)
    yield realtime("policy", updates(1.0, weight_decay=0.05, **UNUSUAL))
    yield realtime("bf16", {"training": {"bf16": True}})
    yield realtime("still", updates(0.0))
    rest = {name: value for name, value in REALTIME["net_params"].items() if name != "batch_size"}
    yield Case(
        "realtime_auto_batch", "RealtimeTransformerRecommender", REALTIME | {"net_params": rest},
        fit_only=True, **REALTIME_PLAN,
    )  # fmt: skip


def transformers_of_texts() -> Iterator[Case]:
    text: dict[str, Any] = {"log": "synthetic_text", **TEXT_PLAN}
    scratch = {"backbone": "scratch"}
    yield realtime("scratch", scratch, items=True, **text)
    yield realtime("scratch_y", scratch, {"replay_size": 10}, y="signed", **text)
    few = {"n_fit": 300, "n_stream": 40, "n_late": 20}
    change = {"n_negatives": 32, "training": {"freeze_blocks": 1}}
    yield realtime("scratch_negatives", scratch, change, log="movielens_text", **few)
    few |= {"n_fit": 250}
    change = {"trend_half_lives": (), "training": {"freeze_blocks": "all"}}
    yield realtime("scratch_baskets", scratch, change, log="baskets", **few)
    yield realtime("minilm", {"backbone": PRETRAINED}, items=True, **text)


# ------------------------------------------------------------- cross networks and blends


def crosses() -> Iterator[Case]:
    """Yield the deep & cross network of ratings, counts and context."""
    base: dict[str, Any] = {
        "user_features": None, "item_features": None, "categorical": None, "lists": None,
        "use_ids": True, "n_factors": 8, "embedding_dim": 4, "hidden": (16, 8), "id_dropout": 0.1,
        "replay_size": 500, "drift": "follow", "max_epochs": 2, "loss": "squared_error",
        "module": None, "random_state": 0, "verbose": 0, "training": {"learning_rate": 1e-3},
        "net_params": {"batch_size": 128, "device": "cpu"},
    }  # fmt: skip
    estimator, plan = "IncrementalDCNRecommender", {"n_fit": 1500, "n_stream": 300, "n_users": 6}
    yield Case("cross_rating", estimator, base, **plan)
    counted = base | {"loss": "poisson", "drift": None}
    yield Case("cross_counts", estimator, counted, log="synthetic_context", y="like", **plan)
    yield Case("cross_columns", estimator, base | {"n_factors": 0}, log="synthetic_str", **plan)


def blends() -> Iterator[Case]:
    """Yield blends of counts, items and factors."""
    members = [
        ("popularity", PopularityRecommender(half_life=5.0)),
        ("ease", EASERecommender(reg=50.0)),
        ("factors", IncrementalMFRecommender(n_factors=8, loss="bpr", max_epochs=5)),
    ]
    base: dict[str, Any] = {
        "estimators": members, "learning_rate": 0.03, "forgetting": 0.999, "n_candidates": 40,
        "context": True, "final_estimator": None, "n_jobs": None, "random_state": 0,
    }  # fmt: skip
    yield Case("blend_none", "AdaptiveRecommender", base, log="movielens", y="none")
    plain = base | {"context": False}
    yield Case("blend_plain", "AdaptiveRecommender", plain, log="synthetic_str", y="none")
    yield Case("blend_baskets", "AdaptiveRecommender", base, log="baskets", y="none")
