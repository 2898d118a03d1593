"""Cases of `record_results` without a net over sequences: factorizations, matrices, counts.

Every parameter of an estimator is given, so that another default changes no result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from skorch.callbacks import EarlyStopping

from benchmarks.common.params import merged


@dataclass(frozen=True)
class Case:
    """An estimator, its parameters, and the data it is fed.

    Parameters
    ----------
    name : str
    estimator : str
        Name of the class in `sklearn_recft`.
    params : dict
        A setting, see `benchmarks.common.params`.
    log, y : str
        Of `benchmarks.common.record_logs`.
    n_fit, n_stream, n_late : int
        Rows that are fitted, rows that follow, and rows behind these that are predicted.
    n_one_pass : int
        Rows that are predicted and learned in one call; with some solvers that is slow.
    n_users : int
        Users that get lists.
    weighted : bool
        Whether the rows have weights, some of them 0.
    items : bool
        Whether items without events are registered.
    fit_in_threads : bool
        Whether a fit with two threads is recorded too.
    brief : bool
        Whether only the fit, a pickle and two updates are recorded.
    fit_only : bool
        Whether only the fit is recorded.
    """

    name: str
    estimator: str
    params: dict[str, Any] = field(default_factory=dict)
    log: str = "synthetic"
    y: str = "rating"
    n_fit: int = 3000
    n_stream: int = 600
    n_late: int = 150
    n_one_pass: int = 600
    n_users: int = 40
    weighted: bool = False
    items: bool = False
    fit_in_threads: bool = False
    brief: bool = False
    fit_only: bool = False


# ---------------------------------------------------------------- factorizations

FACTORIZATION = {
    "n_factors": 16, "loss": "squared_error", "solver": "sgd", "learning_rate": 0.045,
    "reg": 0.045, "max_epochs": 6, "half_life": None, "replay_size": 0,
    "habit_half_life": None, "history_half_life": None, "popularity_weight": None,
    "drift": None, "n_jobs": None, "random_state": 0, "verbose": 0,
}  # fmt: skip
RATES = {  # learning_rate and reg
    ("squared_error", "sgd"): (0.045, 0.045), ("log_loss", "sgd"): (0.07, 0.02),
    ("bpr", "sgd"): (0.1, 0.1), ("squared_error", "adam"): (0.005, 0.1),
    ("log_loss", "adam"): (0.005, 0.02), ("bpr", "adam"): (0.005, 0.03),
}  # fmt: skip
PLAIN = {  # training without a schedule
    "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant", "clip": np.inf, "accumulate": 1,
    "bf16": False, "patience": None, "validation_fraction": 0.1, "update_rate": 1.0,
    "update_epochs": 1,
}  # fmt: skip


def factorization(loss: str, solver: str, *changes: dict[str, Any]) -> dict[str, Any]:
    """Return the setting of a loss and a solver, with changes."""
    rate, reg = RATES[loss, solver]
    own: dict[str, Any] = {"loss": loss, "solver": solver, "learning_rate": rate, "reg": reg}
    if solver == "adam":
        own |= {"max_epochs": 3, "training": {"update_epochs": 1}}
        own |= {"net_params": {"batch_size": 256, "device": "cpu"}}
    return merged(FACTORIZATION, own, *changes)


def of_factorization(name: str, loss: str, solver: str, *changes: dict, **plan: Any) -> Case:
    params = factorization(loss, solver, *changes)
    return Case(name, "IncrementalMFRecommender", params, **plan)


def factorizations() -> Iterator[Case]:
    """Yield every loss with every solver: plain, with decay and replay, with context."""
    for loss, solver in RATES:
        short = {"squared_error": "sq", "log_loss": "log", "bpr": "bpr"}[loss]
        name, y = f"mf_{short}_{solver}", {"squared_error": "rating", "log_loss": "like"}.get(loss)
        plan: dict[str, Any] = {"y": y or "none", "n_one_pass": 60 if solver == "adam" else 600}
        large = {"log": "movielens", "n_fit": 8000, "n_stream": 1500} if solver == "sgd" else {}
        yield of_factorization(name, loss, solver, **plan, **large)
        few = plan | ({"n_one_pass": 60} if loss == "bpr" else {})
        change = {"half_life": 7.0, "replay_size": 500}
        yield of_factorization(
            f"{name}_fading_replay", loss, solver, change, log="synthetic_str", **few
        )
        yield of_factorization(
            f"{name}_context", loss, solver, {"replay_size": 300, "random_state": 5},
            log="synthetic_context", weighted=loss == "squared_error", **plan,
        )  # fmt: skip
    yield from adam_factorizations()
    yield from sgd_factorizations()
    yield from softmax_factorizations()


def adam_factorizations() -> Iterator[Case]:
    def case(name: str, loss: str, params: dict, training: dict, **plan: Any) -> Case:
        policy = {"training": PLAIN | training}
        return of_factorization(name, loss, "adam", params, policy, **plan)

    policy = {"weight_decay": 0.1, "clip": 0.5, "accumulate": 2}
    yield case("mf_sq_adam_policy", "squared_error", {"max_epochs": 4}, policy, n_one_pass=20)
    policy = {"warmup": 0.2, "schedule": "linear"}
    yield case("mf_sq_adam_warmup", "squared_error", {"max_epochs": 4}, policy, fit_only=True)
    policy = {"patience": 1, "validation_fraction": 0.2}
    params: dict[str, Any] = {"max_epochs": 8, "learning_rate": 0.03}
    yield case("mf_log_adam_patience", "log_loss", params, policy, y="like", fit_only=True)
    stop = {"net_params": {"callbacks": [EarlyStopping(patience=1)]}}
    params = {"max_epochs": 12, "learning_rate": 0.02, **stop}
    yield of_factorization("mf_sq_adam_early", "squared_error", "adam", params, n_one_pass=20)


def sgd_factorizations() -> Iterator[Case]:
    def case(name: str, loss: str, params: dict, **plan: Any) -> Case:
        return of_factorization(name, loss, "sgd", params, **plan)

    large = {"log": "movielens_str", "n_fit": 6000, "n_stream": 1000}
    yield case("mf_sq_sgd_str", "squared_error", {"half_life": 10.0}, **large)
    yield case("mf_sq_sgd_notime", "squared_error", {"replay_size": 200}, log="movielens_no_time")
    yield case("mf_bpr_sgd_signed", "bpr", {}, y="signed", weighted=True)
    yield case("mf_bpr_sgd_baskets", "bpr", {"replay_size": 400}, log="baskets", y="none")
    params = {"random_state": np.random.RandomState(3), "learning_rate": 0.02, "reg": 0.1}
    yield case("mf_sq_sgd_random_state", "squared_error", params)


SOFTMAX = {
    "loss": "softmax", "learning_rate": 0.1, "max_epochs": 4, "reg": 0.1, "popularity_weight": 1.0,
}  # fmt: skip


def softmax_factorizations() -> Iterator[Case]:
    """Yield both forms of the sampled softmax: plain, with decay, with weights, with habits."""

    def case(name: str, params: dict, **plan: Any) -> Case:
        params = merged(FACTORIZATION, SOFTMAX, params)
        return Case(f"mf_softmax_{name}", "IncrementalMFRecommender", params, **plan)

    for form, history in (("bag", None), ("next", 3.0)):
        own = {"history_half_life": history}
        yield case(form, own, log="movielens", y="none", n_fit=8000, n_stream=1500)
        decay = {"half_life": 7.0, "popularity_weight": 0.5}
        yield case(f"{form}_fading", own | decay, log="synthetic_str", y="none")
        yield case(f"{form}_signed", own | {"random_state": 5}, y="signed", weighted=True)
        habits = {"habit_half_life": 2.0, "reg": 0.05}
        yield case(f"{form}_habits", own | habits, log="baskets", y="none")
    yield case("next_notime", {"history_half_life": 3.0}, log="movielens_no_time", y="none")


# ---------------------------------------------------------------------- matrices

NEIGHBORS = {
    "n_neighbors": 50, "similarity": "cosine", "shrinkage": 100.0, "bm25_k1": 1.2, "bm25_b": 0.75,
    "half_life": None, "history_half_life": None, "n_jobs": None,
}  # fmt: skip
EASE = {
    "reg": 100.0, "zero_diagonal": True, "half_life": None, "history_half_life": None,
    "n_jobs": None,
}  # fmt: skip
WALKS = {
    "alpha": 1.0, "beta": 0.3, "n_neighbors": 200, "zero_diagonal": True, "half_life": None,
    "history_half_life": None, "decay_floor": 0.0, "edges": None, "edge_weight": 1.0,
    "n_jobs": None,
}  # fmt: skip
RULES = {
    "max_distance": 10, "n_neighbors": 50, "alpha": 0.5, "beta": 0.1, "half_life": None,
    "gap_half_life": None, "history_half_life": 2.0, "max_history": 100, "n_jobs": None,
}  # fmt: skip
ALS = {
    "n_factors": 16, "reg": 30.0, "alpha": 3.0, "max_epochs": 5, "half_life": None,
    "random_state": 0, "n_jobs": None, "verbose": 0,
}  # fmt: skip
DECAYS = {  # by the ending of a name: the change, and the log
    "": ({}, "movielens"),
    "_half": ({"half_life": 5.0}, "movielens_str"),
    "_history": ({"history_half_life": 4.0}, "movielens"),
    "_both": ({"half_life": 5.0, "history_half_life": 4.0}, "synthetic"),
}
MATRIX_PLAN: dict[str, Any] = {"n_fit": 6000, "n_stream": 800, "fit_in_threads": True}


def matrix(name: str, **changes: Any) -> Case:
    """Return a case of an estimator of item or user matrices, by the beginning of its name.

    Changes are of the parameters, or else of the case.
    """
    estimator, base = {
        "knn": ("ItemKNNRecommender", NEIGHBORS),
        "ease": ("EASERecommender", EASE),
        "walks": ("RP3BetaRecommender", WALKS),
        "rules": ("SequentialRulesRecommender", RULES),
        "als": ("ALSRecommender", ALS),
    }[name.partition("_")[0]]
    params = {key: value for key, value in changes.items() if key in base}
    plan = {key: value for key, value in changes.items() if key not in base}
    return Case(name, estimator, base | params, **(MATRIX_PLAN | plan))


def matrices() -> Iterator[Case]:
    """Yield neighbours, EASE, walks, ALS and rules with decay, of ratings and of positives."""
    for ending, (decay, log) in DECAYS.items():
        small = {"n_fit": 3000} if log == "synthetic" else {}
        for y in ("rating", "none"):
            plan = {"log": log, "y": y, **decay}
            for similarity in ("cosine", "bm25"):
                name = f"knn_{similarity}{ending}_{y}"
                yield matrix(name, similarity=similarity, **plan, **small)
            if y == "none" or ending in ("", "_both"):
                yield matrix(f"ease{ending}_{y}", n_fit=3000, **plan)
                yield matrix(f"walks{ending}_{y}", n_fit=3000, **plan)
    for y in ("rating", "none", "signed"):
        yield matrix(f"als_{y}", log="movielens", y=y)
        yield matrix(
            f"als_half_{y}", log="movielens_str", y=y, weighted=y == "rating", half_life=5.0,
            random_state=4,
        )  # fmt: skip
    for y in ("rating", "none", "signed"):
        yield matrix(f"rules_{y}", log="movielens", y=y)
    yield matrix(
        "rules_decay_none", half_life=5.0, gap_half_life=1.0, log="movielens_str", y="none"
    )
    yield matrix("rules_notime", log="movielens_no_time", y="none")
    yield matrix("rules_baskets", max_distance=3, n_fit=3000, log="baskets", y="none")
    yield from special_matrices()


def special_matrices() -> Iterator[Case]:
    baskets: dict[str, Any] = {"log": "baskets", "y": "none"}
    yield matrix(
        "knn_weights", n_neighbors=300, shrinkage=10.0, history_half_life=2.0, weighted=True,
        n_fit=3000,
    )  # fmt: skip
    yield matrix(
        "knn_bm25_baskets", similarity="bm25", bm25_k1=0.6, bm25_b=0.3, half_life=1.0, n_fit=3000,
        **baskets,
    )  # fmt: skip
    yield matrix("knn_notime", history_half_life=3.0, log="movielens_no_time", y="signed")
    small = {"n_fit": 1000, "n_stream": 200}
    yield matrix("ease_baskets", reg=20.0, zero_diagonal=False, **baskets, **small)
    yield matrix("ease_weights", zero_diagonal=False, half_life=5.0, weighted=True, n_fit=3000)
    yield matrix("als_baskets", alpha=10.0, reg=5.0, n_factors=8, n_fit=3000, **baskets)


# ------------------------------------------------------------------------ counts


def counts() -> Iterator[Case]:
    """Yield biases, popularity and habits, with and without decay and window."""
    for y in ("rating", "none"):
        bias = {"damping": 5.0}
        yield Case(f"bias_{y}", "BiasRecommender", bias, log="movielens", y=y, n_fit=8000)
    bias = {"damping": 20.0}
    yield Case("bias_weights", "BiasRecommender", bias, log="movielens_str", weighted=True)
    for ending, half_life, window in (
        ("", None, None), ("_half", 3.0, None), ("_window", None, 2.0), ("_both", 3.0, 4.0)
    ):  # fmt: skip
        params, name = {"half_life": half_life, "window": window}, f"popularity{ending}"
        large: dict[str, Any] = {"log": "movielens", "n_fit": 8000, "weighted": True}
        yield Case(f"{name}_rating", "PopularityRecommender", params, **large)
        yield Case(f"{name}_none", "PopularityRecommender", params, log="movielens_str", y="none")
    habits = {"habit_half_life": 2.0, "half_life": 1.0, "item_weights": True}
    yield Case("habit_none", "HabitRecommender", habits, log="movielens", y="none", n_fit=8000)
    yield Case("habit_baskets", "HabitRecommender", habits, log="baskets", y="none")
    yield of_factorization(
        "mf_bpr_habits", "bpr", "sgd", {"habit_half_life": 2.0}, log="baskets", y="none"
    )
    params = {"half_life": 0.5, "window": None}
    yield Case("popularity_baskets", "PopularityRecommender", params, log="baskets", y="none")


# ------------------------------------------------------------------------ posteriors


def posteriors() -> Iterator[Case]:
    """Yield Bayesian factorizations of ratings and of positives, with and without decay."""
    base: dict[str, Any] = {
        "n_factors": 6, "max_epochs": 5, "loss": "squared_error", "negatives": 10.0,
        "user_features": None, "item_features": None, "backbone": None, "text_components": 32,
        "half_life": None, "n_jobs": None, "random_state": 3, "verbose": 0,
    }  # fmt: skip
    name, estimator = "bayes", "BayesianMFRecommender"
    yield Case(f"{name}_rating", estimator, base, log="movielens", fit_in_threads=True)
    decay = base | {"half_life": 3.0}
    yield Case(f"{name}_half", estimator, decay, log="movielens_str", weighted=True)
    implicit = base | {"loss": "implicit", "negatives": 4.0}
    yield Case(f"{name}_implicit", estimator, implicit, log="movielens", y="none")
