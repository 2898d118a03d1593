"""Every model of the leaderboard and its settings: one table, one budget.

A grid with no more combinations than the budget is tried whole. From a larger one a seeded random
design is drawn that tries every value of every parameter about equally often. A few models have as
many settings written out, drawn up after trials on MovieLens 1M and Online Retail. A blend has
members: other models of the table, each with the setting that was chosen for it.
"""

from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

BUDGET = 8
OURS = "sklearn-recft"
HALF_LIVES = [None, 7, 30, 90, 365]  # half-lives, days
REG = [30, 100, 300, 1000, 3000, 10000, 30000, 100000]
NEIGHBOURS = [5, 10, 20, 50, 100, 200, 500, 1000]
FACTORS = [16, 32, 64, 128]


@dataclass(frozen=True)
class Model:
    """Who, by which function of `libraries`, with which parameters."""

    library: str
    name: str
    fit: str
    grid: dict[str, list[Any]] = field(default_factory=dict)
    stochastic: bool = False
    listed: tuple[dict[str, Any], ...] = ()  # settings written out, where a grid will not do
    repeating: tuple[dict[str, Any], ...] = ()  # those in their place where pairs repeat
    members: tuple[str, ...] = ()  # models of this package that a blend combines
    habits_only: bool = False  # left out where seen items are excluded
    given: dict[str, Any] = field(default_factory=dict)  # parameters that are not searched


def _listed(names: tuple[str, ...], *settings: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(zip(names, values, strict=True)) for values in settings)


MODELS = (
    Model(OURS, "Popularity", "ours_popularity"),
    Model(
        OURS, "Popularity, recent", "ours_popularity",
        listed=(
            *({"window": days} for days in (1, 3, 7, 30)),
            *({"half_life": days} for days in (1, 3, 7, 30)),
        ),
    ),
    Model(
        OURS, "IncrementalMF, bpr", "ours_mf",
        {"n_factors": FACTORS, "max_epochs": [5, 10, 20, 40], "half_life": HALF_LIVES},
        stochastic=True,
    ),
    Model(
        OURS, "IncrementalMF, softmax", "ours_softmax",
        listed=_listed(
            ("half_life", "reg", "history_half_life", "popularity_weight"),
            (None, None, None, None), (7, None, None, None), (30, None, None, 0.5),
            (7, None, None, 0.5), (7, 0.05, None, None), (30, 0.05, None, None),
            (None, None, 3, None), (30, None, 3, 1),
        ),
        repeating=_listed(
            ("half_life", "reg", "habit_half_life", "popularity_weight"),
            *((7, reg, days, weight) for days in (90, 365) for reg in (0.05, 0.1)
              for weight in (2, 4)),
        ),
        stochastic=True,
    ),
    Model(
        OURS, "ItemKNN, cosine", "ours_cosine",
        listed=_listed(
            ("n_neighbors", "shrinkage", "half_life", "history_half_life"),
            (20, 0, None, None), (100, 10, None, None), (1000, 100, None, None),
            (100, 10, 90, None), (1000, 100, 30, None), (1000, 1000, 7, None),
            (20, 0, None, 3), (100, 10, None, 3),
        ),
        repeating=_listed(
            ("n_neighbors", "shrinkage", "half_life", "history_half_life"),
            (20, 0, None, None), (100, 0, None, None), (100, 20, None, None),
            (20, 0, 90, None), (100, 20, 90, None), (20, 20, 30, None), (100, 20, 30, None),
            (100, 20, 90, 50),
        ),
    ),
    Model(
        OURS, "ItemKNN, BM25", "ours_bm25",
        {
            "n_neighbors": [20, 50, 100, 200, 500, 1000], "bm25_k1": [0.3, 1.2, 5, 20, 100, 500],
            "bm25_b": [0, 0.25, 0.5, 0.75], "half_life": HALF_LIVES,
        },
    ),
    Model(
        OURS, "EASE", "ours_ease",
        listed=_listed(
            ("reg", "half_life", "history_half_life"),
            (50, None, None), (500, None, None), (5000, None, None), (1000, 15, None),
            (3000, 30, None), (100, 90, None), (50, None, 3), (500, None, 3),
        ),
        repeating=_listed(
            ("zero_diagonal", "reg", "half_life", "history_half_life"),
            (True, 100, None, None), (True, 1000, None, None), (True, 500, 90, None),
            (True, 500, None, 20), (False, 200, 60, None), (False, 500, 60, None),
            (False, 500, 90, None), (False, 500, 60, 100),
        ),
    ),
    Model(
        OURS, "RP3beta", "ours_rp3beta",
        listed=_listed(
            ("alpha", "beta", "n_neighbors", "half_life", "decay_floor", "history_half_life"),
            (1, 0.1, 1000, None, 0, None), (1, 0.3, 1000, 30, 0, None),
            (1.4, 0.3, 1000, 15, 0, None), (1.4, 0.3, 1000, 7, 0, None),
            (1, 0.3, 1000, 7, 0.03, None), (1, 0.3, 1000, 7, 0.1, None),
            (0.6, 0.4, 100, None, 0, 3), (1, 0, 20, None, 0, 3),
        ),
        repeating=_listed(
            (
                "zero_diagonal", "alpha", "beta", "n_neighbors", "half_life", "decay_floor",
                "history_half_life",
            ),
            (False, 1, 0.3, 200, None, 0, None), (False, 1, 0.1, 200, 60, 0, 100),
            (False, 1, 0.3, 200, 60, 0, 100), (False, 1, 0.3, 1000, 90, 0, 100),
            (False, 1, 0.1, 200, 15, 0.1, 100), (False, 1, 0.1, 200, 30, 0.1, 100),
            (False, 1, 0.1, 200, 30, 0.3, 100), (False, 1, 0.1, 200, 7, 0.03, 100),
        ),
    ),
    Model(
        OURS, "Sequential rules", "ours_rules",
        listed=_listed(
            ("alpha", "beta", "max_distance", "half_life", "history_half_life"),
            (1, 0, 1, None, 1), (0.5, 0.1, 10, None, 1), (0.5, 0.1, 10, None, 3),
            (0.5, 0.3, 10, None, 3), (0.5, 0.1, 20, None, 10), (0.5, 0.1, 20, 30, 10),
            (0.5, 0.1, 20, 7, 30), (0.5, 0.1, 50, 30, None),
        ),
        repeating=_listed(
            ("alpha", "beta", "max_distance", "half_life", "history_half_life"),
            (1, 0, 1, None, 1), (0.5, 0.1, 10, None, 1), (0.5, 0.3, 10, None, 0.5),
            (0.5, 0.3, 10, None, 3), (0.5, 0.1, 20, None, 10), (0.5, 0.1, 20, 60, 30),
            (0.5, 0.1, 20, 60, 100), (0.5, 0.1, 50, 30, 100),
        ),
    ),
    Model(
        OURS, "Habits", "ours_habits",
        listed=_listed(
            ("habit_half_life", "half_life", "item_weights"),
            (None, None, False), (None, 28, True), (30, 28, True), (90, 28, True),
            (90, 7, True), (90, 28, False), (180, 28, True), (365, 28, True),
        ),
        habits_only=True,
    ),
    Model(
        OURS, "ALS", "ours_als",
        {
            "n_factors": FACTORS, "reg": [1, 10, 30, 100, 300], "alpha": [0.3, 1, 3, 10],
            "half_life": HALF_LIVES,
        },
        stochastic=True,
    ),
    Model(
        OURS, "BayesianMF, implicit", "ours_bayesian",
        listed=_listed(
            ("n_factors", "negatives", "half_life"),
            (12, 1, None), (12, 3, None), (32, 1, None), (32, 3, None), (12, 1, 30),
            (12, 3, 30), (32, 3, 30), (32, 3, 7),
        ),
        stochastic=True,
    ),
    Model(
        OURS, "Adaptive", "ours_adaptive",
        listed=_listed(
            ("learning_rate", "context"),
            (0.03, True), (0.01, True), (0.03, False), (0.01, False),
        ),
        members=("Popularity, recent", "EASE", "Sequential rules", "IncrementalMF, softmax"),
        stochastic=True,
    ),
    Model(
        "implicit", "ALS", "implicit_als",
        {
            "factors": FACTORS, "regularization": [1, 10, 30, 100, 300],
            "alpha": [0.3, 1, 3, 10],
        },
        stochastic=True,
    ),
    Model(
        "implicit", "BPR", "implicit_bpr",
        {
            "factors": FACTORS, "learning_rate": [0.001, 0.003, 0.01, 0.03, 0.1],
            "regularization": [0.001, 0.01, 0.03, 0.1, 0.3], "iterations": [20, 50, 100],
        },
        stochastic=True,
    ),
    Model("implicit", "ItemKNN, cosine", "implicit_cosine", {"K": NEIGHBOURS}),
    Model(
        "implicit", "ItemKNN, BM25", "implicit_bm25",
        {
            "K": [20, 50, 100, 200, 500, 1000], "K1": [0.3, 1.2, 5, 20, 100, 500],
            "B": [0, 0.25, 0.5, 0.75],
        },
    ),
    Model(
        "lenskit", "ItemKNN, implicit", "lenskit_knn",
        {"max_nbrs": [5, 10, 20, 50, 100, 300], "min_sim": [1e-6, 1e-2]},
    ),
    Model(
        "lenskit", "ImplicitMF", "lenskit_als",
        {
            "embedding_size": FACTORS, "regularization": [0.1, 1, 10, 30, 100, 300],
            "weight": [0.3, 1, 3, 10, 40],
        },
        stochastic=True,
    ),
    Model(
        "cornac", "BPR", "cornac_bpr",
        {
            "k": FACTORS, "learning_rate": [0.001, 0.003, 0.01, 0.03, 0.1],
            "lambda_reg": [0.0003, 0.001, 0.003, 0.01, 0.03], "max_iter": [20, 50, 100],
        },
        stochastic=True,
    ),
    Model(
        "rectools", "Popular, recent", "rectools_popular",
        {"days": [1, 3, 7, 14, 30, 60, 90, 365]},
    ),
    Model("rectools", "EASE", "rectools_ease", {"regularization": REG}),
    Model("rectools", "ItemKNN, TF-IDF", "rectools_knn", {"K": NEIGHBOURS}),
    Model(
        "rectools", "PureSVD", "rectools_svd",
        {"factors": [4, 8, 16, 24, 32, 64, 96, 128]},
    ),
    Model("skrecsys", "EASE", "skrecsys_ease", {"l2_reg": REG}),
    Model(
        "skrecsys", "SLIM", "skrecsys_slim",
        {
            "alpha": [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1], "l1_ratio": [0.003, 0.01, 0.03, 0.1],
            "n_neighbors": [100, 300],
        },
    ),
    Model(
        "skrecsys", "RP3beta", "skrecsys_rp3beta",
        {
            "n_neighbors": [20, 50, 100, 200, 500, 1000], "alpha": [0.1, 0.3, 0.6, 1.0, 1.4],
            "beta": [0, 0.1, 0.2, 0.4, 0.6],
        },
    ),
    Model(
        "skrecsys", "ItemKNN", "skrecsys_knn",
        {"n_neighbors": [10, 20, 50, 100, 200, 500, 1000], "shrink": [0, 10, 50, 100, 300, 1000]},
    ),
    Model(
        "irspack", "iALS", "irspack_ials",
        {
            "n_components": FACTORS, "alpha0": [0.03, 0.1, 0.3, 1],
            "reg": [0.001, 0.003, 0.01, 0.03, 0.1],
        },
        stochastic=True,
    ),
)  # fmt: skip


def settings(model: Model, repeating: bool) -> list[dict[str, Any]]:
    """List what is tried, at most `BUDGET` settings, the same ones at every call.

    Where pairs repeat (``repeating``), a model may also learn every pair ``once``.
    """
    if model.listed:
        listed = model.repeating if repeating and model.repeating else model.listed
        return [dict(setting) for setting in listed]
    grid = model.grid
    if repeating and grid:
        grid = grid | {"once": [False, True]}
    whole = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    if len(whole) <= BUDGET:
        return whole
    rng = np.random.default_rng(0)
    drawn: list[dict[str, Any]] = []
    while len(drawn) < BUDGET:
        # A column for each parameter: its values dealt in rounds, each round shuffled.
        columns = []
        for values in grid.values():
            rounds = -(-BUDGET // len(values))
            dealt = np.concatenate([rng.permutation(len(values)) for _ in range(rounds)])[:BUDGET]
            columns.append([values[place] for place in rng.permutation(dealt)])
        for values in zip(*columns, strict=True):
            setting = dict(zip(grid, values, strict=True))
            if setting not in drawn and len(drawn) < BUDGET:
                drawn.append(setting)
    return drawn


def at_edge(chosen: dict[str, Any], tried: list[dict[str, Any]]) -> list[str]:
    """Name the numeric parameters of which the smallest or largest value tried was chosen.

    Two values are no range, and None and 0 are no edges: they mean off, nothing lies beyond.
    """
    names = []
    for name, value in chosen.items():
        values = {setting[name] for setting in tried if name in setting}
        numbers = sorted(v for v in values if type(v) in (int, float))
        if value and len(numbers) > 2 and value in (numbers[0], numbers[-1]):
            names.append(name)
    return names


def with_members(model: Model, lines: list[dict[str, Any]]) -> Model | None:
    """Give a blend the settings that were chosen for its members; None if one has none.

    Parameters
    ----------
    model : Model
    lines : list of dict
        Lines of one data set and protocol.
    """
    chosen = {
        line["model"]: line["chosen"]
        for line in lines
        if line["library"] == OURS and line["status"] == "done"
    }
    if not chosen.keys() >= set(model.members):
        return None
    return replace(model, given={"members": {name: chosen[name] for name in model.members}})
