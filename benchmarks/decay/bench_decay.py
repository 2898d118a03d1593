"""Measure accuracy, freshness, half-lives and cost of DecayBertRecommender, one JSON line per row.

    python benchmarks/decay/bench_decay.py
    python benchmarks/decay/bench_decay.py --task quality --data ml-1m --seeds 0

MovieLens 100K and 1M are sorted by time (stable sort); a rating of 4 or 5 is a like. The first 80 %
are fitted, then the model follows validation and test, a tenth each. AUC and log-loss are of all
rows of the test part; user_auc is the mean over its users with both labels. Figures are means over
the seeds, with the spread between the largest and the smallest. Only the training part is fitted.

Tasks. quality: ours beside rates, trees, factorizations and a bag of words. cold: a tenth of the
items, drawn at random, is known by text only. ablation: one thing changed at a time. planted: logs
with a known half-life of interests; no texts. cost: seconds, memory, and the plain recipe that
fine-tunes a BERT on texts of behaviour. grid: GridSearchCV over a pipeline.
"""

import argparse
import copy
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import log_loss, roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.decay.baselines import (
    CHUNK,
    cold_baselines,
    factorization_in_chunks,
    factorizations,
    factorizations_of_ratings,
    in_chunks,
    online_factorization,
    rates,
    trees,
    words,
)
from benchmarks.decay.cost import cost, grid, warm_up
from benchmarks.decay.log import Log, evaluate, load, make_model, spread, user_aucs
from sklearn_recft.datasets import make_interactions
from sklearn_recft.text import load_encoder

SEEDS = (0, 1, 2)
RULES = {
    "exponential": {},
    "log": {"decay": "log"},
    "none": {"decay": "none"},
    "fixed half-lives": {"training": {"decay_rate": 0.0}},
}
PLANTED = {"n_users": 300, "n_items": 500, "n_factors": 8, "noise": 1.0, "feedback": "click"}


FEW_ROWS = 200_000  # largest log that is also predicted in chunks


def ours(log, seed, backbone):
    """Yield the decay model frozen, observing and updated; with past ratings and without."""
    factorization = online_factorization(log, seed)
    for outcome, known in (("rating", ""), (None, ", labels only")):
        X, rest = log.columns(outcome), slice(log.start, None)
        model = make_model(backbone, seed, {"outcome": outcome})
        model.fit(X[: log.start], log.y[: log.start])
        yield f"ours, never updated{known}", model.predict_proba(X[rest])[:, 1]
        predicted = copy.deepcopy(model).observe_predict_proba(X[rest], log.y[rest])
        yield f"ours, observe{known}", predicted
        predicted = copy.deepcopy(model).partial_fit_predict_proba(X[rest], log.y[rest])
        yield f"ours, partial_fit{known}", predicted
        both = expit((logit(predicted) + logit(factorization)) / 2)
        yield f"ours, partial_fit{known}, averaged with MF online, ties excluded", both
        if len(log.y) <= FEW_ROWS:
            predicted = in_chunks(log, X, positive(model), model.partial_fit)
            yield f"ours, partial_fit{known}, chunks of {CHUNK}", predicted


def positive(model):
    return lambda X: model.predict_proba(X)[:, 1]


def quality(log: Log, seeds, backbone):
    drawn = [trees, factorizations, factorizations_of_ratings]
    if len(log.y) <= FEW_ROWS:
        drawn.append(factorization_in_chunks)
    baselines = {rates: 1, words: 1, **dict.fromkeys(drawn)}

    def decay(log, seed):
        return ours(log, seed, backbone)

    for contender, n_seeds in {**baselines, decay: None}.items():
        found = defaultdict(list)
        for seed in seeds[:n_seeds]:  # models without randomness have one seed
            for label, predicted in contender(log, seed):
                found[label].append(evaluate(log, predicted))
        for label, runs in found.items():
            row("quality", log.name, label, **spread(runs))


# ------------------------------------------------------------------------- cold


def cold(log: Log, seeds, backbone):
    ids = np.unique(log.catalogue["item_id"])
    hidden_ids = np.random.default_rng(0).permutation(ids)[: len(ids) // 10]
    hidden = log.X["item_id"].isin(hidden_ids).to_numpy()
    tested = hidden & (np.arange(len(log.y)) >= log.middle)

    def evaluated(predicted):
        users = log.X["user_id"].to_numpy()[tested]
        aucs = user_aucs(users, log.y[tested], predicted)
        return {
            "auc": float(roc_auc_score(log.y[tested], predicted)),
            "log_loss": float(log_loss(log.y[tested], predicted)),
            "user_auc": float(np.mean(aucs)), "n_users": len(aucs), "n_rows": int(tested.sum()),
        }  # fmt: skip

    baselines = defaultdict(list)
    for label, predicted in cold_baselines(log, hidden):
        baselines[label].append(evaluated(predicted[tested[log.start :]]))
    for label, runs in baselines.items():
        row("cold", log.name, label, **spread(runs))
    for dropout in (0.3, 0.0):
        runs = []
        for seed in seeds:
            model = make_model(backbone, seed, {"cold_dropout": dropout})
            runs.append(evaluated(follow_around(log, model, hidden)))
        row("cold", log.name, f"ours, cold_dropout={dropout}", **spread(runs))


def follow_around(log: Log, model, hidden):
    """Probabilities of the hidden test rows; all other rows are learned, one after the other.

    Hidden items are registered by their text and never learned, counted or remembered. Each
    row is predicted after all earlier rows were learned.
    """
    X, y = log.X, log.y
    seen = np.flatnonzero(~hidden)
    train = seen[seen < log.start]
    model.fit(X.iloc[train], y[train], items=log.catalogue)
    between = seen[(seen >= log.start) & (seen < log.middle)]
    model.partial_fit(X.iloc[between], y[between])
    predicted = []
    test = np.arange(log.middle, len(y))
    for rows in np.split(test, np.flatnonzero(np.diff(hidden[test])) + 1):
        if hidden[rows[0]]:
            predicted.append(model.predict_proba(X.iloc[rows])[:, 1])
        else:
            model.partial_fit(X.iloc[rows], y[rows])
    return np.concatenate(predicted)


# --------------------------------------------------------------------- ablation


def variants(log: Log, backbone):
    """Yield what is changed, by name; the first is nothing."""
    yield "default", {}
    for name in ("log", "none", "fixed half-lives"):
        yield f"decay: {name}", RULES[name]
    for n_heads in (1, 2, 8):
        yield f"n_heads={n_heads}", {"n_heads": n_heads}
    for max_history in (10, 100):
        yield f"max_history={max_history}", {"max_history": max_history}
    yield "ids only", {"backbone": None}
    yield "cold_dropout=0", {"cold_dropout": 0.0}
    yield "without outcome", {"outcome": None}
    if log.name != "ml-1m" and backbone is not None:
        n_layers = load_encoder(backbone, texts=log.catalogue["text"]).n_layers
        yield "1 epoch", {"max_epochs": 1}
        for n_free in (1, 2):
            changed = {"max_epochs": 1, "freeze": n_layers - n_free}
            yield f"1 epoch, top {n_free} of {n_layers} layers trained", changed


def ablation(log: Log, seeds, backbone):
    warm_up(log, 0)
    if backbone is not None:  # the seconds of fits are then without those of reading texts
        encoder = load_encoder(backbone, texts=log.catalogue["text"])
        encoder.encode(log.catalogue["text"])
    for label, changed in variants(log, backbone):
        few = seeds[:1] if "freeze" in changed else seeds  # minutes an epoch
        row("ablation", log.name, label, **spread([run(log, s, backbone, changed) for s in few]))


def run(log: Log, seed, backbone, changed):
    """Fit, update, and evaluate one variant."""
    model = make_model(backbone, seed, changed)
    X = log.columns(model.outcome)
    start = time.perf_counter()
    model.fit(X[: log.start], log.y[: log.start])
    seconds = time.perf_counter() - start
    predicted = model.partial_fit_predict_proba(X[log.start :], log.y[log.start :])
    return {
        **evaluate(log, predicted),
        "fit_seconds": seconds,
        "half_lives": np.sort(model.half_lives_),
    }


# ---------------------------------------------------------------------- planted


def planted(seeds, half_lives=(1, 3, 10), n_interactions=200_000):
    for half_life in half_lives:
        runs = defaultdict(list)
        for seed in seeds:
            for label, figures in planted_runs(half_life, n_interactions, seed):
                runs[label].append(figures)
        for label, found in runs.items():
            row("planted", "synthetic", label, half_life=half_life, **spread(found))


def planted_runs(half_life, n_interactions, seed):
    """Yield the truth, and what models find of it, with 64 factors to lean on or one."""
    truth = make_interactions(
        half_life=half_life, n_interactions=n_interactions, random_state=seed, **PLANTED
    )
    X, y = truth.data, truth.target.astype(np.int64)
    start, middle = int(0.8 * len(y)), int(0.9 * len(y))

    def evaluated(probability):
        return {
            "auc": float(roc_auc_score(y[middle:], probability[middle:])),
            "log_loss": float(log_loss(y[middle:], probability[middle:])),
        }

    yield "truth", evaluated(truth.expected)
    users, items, _ = X.T
    taste = np.einsum("nk,nk->n", truth.user_factors[users], truth.item_factors[items])
    yield "truth without interests of the moment", evaluated(expit(taste / PLANTED["noise"]))
    for known, factors in (("", {}), (", n_factors=1", {"n_factors": 1})):
        for rule, changed in RULES.items():
            model = make_model(None, seed, {"outcome": None}, changed, factors)
            model.fit(X[:start], y[:start])
            predicted = model.partial_fit_predict_proba(X[start:], y[start:])
            figures = evaluated(np.r_[np.zeros(start), predicted])
            yield f"{rule}{known}", {**figures, "half_lives": np.sort(model.half_lives_)}


# ------------------------------------------------------------------------ tasks

DATA = {
    "quality": ("ml-100k", "ml-1m"), "cold": ("ml-1m",), "ablation": ("ml-100k", "ml-1m"),
    "planted": (), "cost": ("ml-100k", "ml-1m"), "grid": ("ml-100k",),
}  # fmt: skip
GRID_ROWS = 20_000


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--data", nargs="+", choices=("ml-100k", "ml-1m"), default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=None, help="default: 0 1 2")
    parser.add_argument("--backbone", default="auto", help="a folder, a name, 'auto' or 'scratch'")
    parser.add_argument("--limit", type=int, default=None, help="first rows of the timeline alone")
    parser.add_argument("--recipe-seconds", type=float, default=300.0)
    options = parser.parse_args(argv)
    for task in options.task:
        if task == "planted":
            planted(options.seeds or SEEDS, n_interactions=options.limit or 200_000)
        for name in options.data or DATA[task] if task != "planted" else ():
            measure(task, name, options)


def measure(task, name, options):
    backbone, seeds = options.backbone, options.seeds
    if task == "cost":
        cost(name, options.limit, backbone, options.recipe_seconds, (seeds or SEEDS)[0])
        return
    if task == "grid":
        log = load(name, min(options.limit or GRID_ROWS, GRID_ROWS))
        grid(log, backbone, (seeds or SEEDS)[0])
        return
    log = load(name, options.limit)
    few = task == "ablation" and name == "ml-1m"
    evaluate_all = {"quality": quality, "cold": cold, "ablation": ablation}[task]
    evaluate_all(log, seeds or (SEEDS[:1] if few else SEEDS), backbone)


if __name__ == "__main__":
    main()
