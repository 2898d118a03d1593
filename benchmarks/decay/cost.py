"""Measure seconds, rows per second and memory of the decay model and the plain recipe; and grids.

Every cost is measured in a fresh process, by default on one thread. A small fit compiles what is
needed before the clock starts.
"""

import os
import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from benchmarks.common.backbone import minilm_folder
from benchmarks.common.process import in_fresh_process, peak_memory
from benchmarks.common.report import row
from benchmarks.decay.log import Log, load, make_model
from benchmarks.decay.plain_recipe import evaluate, make_recipe
from sklearn_recft.text import TextEncoder, load_encoder

WARM_UP = 400  # rows
N_QUERIED = 50  # users, one a call
RECIPE_ROWS = 2000  # test rows that the recipe and ours predict
EPOCHS = 2


def cost(name: str, limit: int | None, backbone: str, recipe_seconds: float, seed: int) -> None:
    """Print what encoding, learning, predicting and recommending cost."""
    folder = minilm_folder() if recipe_seconds and backbone == "auto" else backbone
    if recipe_seconds and backbone == "scratch":
        raise SystemExit("The plain recipe reads a folder: give one, or --recipe-seconds 0.")
    texts = list(dict.fromkeys(load(name, limit).X["text"]))
    row("cost", name, "encoding", **in_fresh_process(encoding, texts, backbone))
    found = in_fresh_process(own_cost, name, limit, backbone, seed)
    row("cost", name, "ours", **found)
    if not recipe_seconds:
        return
    recipe = in_fresh_process(recipe_cost, name, limit, folder, seed, recipe_seconds)
    row("cost", name, "plain recipe", **recipe)
    row(
        "cost", name, "ours against the plain recipe",
        training=found["rows_per_second_training"] / recipe["rows_per_second_training"],
        predicting=found["rows_per_second_predicting"] / recipe["rows_per_second_scoring"],
        auc_more=found["auc_of_recipe_rows"] - recipe["auc"],
    )  # fmt: skip


def encoding(texts: list[str], backbone: str) -> dict[str, Any]:
    """Load the backbone and encode every text once, as a first fit does."""
    before = peak_memory()
    start = time.perf_counter()
    encoder = load_encoder(backbone, texts=texts)
    loaded = time.perf_counter()
    encoder.encode(texts, n_threads=1)
    done = time.perf_counter()
    return {
        "n_texts": len(texts), "load_seconds": loaded - start, "encode_seconds": done - loaded,
        "texts_per_second": len(texts) / (done - loaded),
        "peak_mib": peak_memory(), "peak_mib_before": before,
    }  # fmt: skip


def own_cost(name: str, limit: int | None, backbone: str, seed: int) -> dict[str, Any]:
    return measure(load(name, limit), backbone, seed)


def measure(log: Log, backbone: str | None, seed: int) -> dict[str, Any]:
    """Measure the cost of our model, and its AUC on the rows that the recipe predicts."""
    warm_up(log, seed)
    before, n = peak_memory(), log.start
    model = make_model(backbone, seed, {"max_epochs": EPOCHS})
    start = time.perf_counter()
    model.fit(log.X[:n], log.y[:n])
    whole = time.perf_counter() - start
    epochs = np.array(model.net_.history[:, "dur"])
    # Only the vectors of a folder's own weights are kept: here the second fit encodes nothing.
    start = time.perf_counter()
    model.fit(log.X[:n], log.y[:n])
    again = time.perf_counter() - start
    peak_of_fit = peak_memory()
    rest = log.X[n:]
    model.predict_proba(rest)  # reads the texts of items that are new
    start = time.perf_counter()
    model.predict_proba(rest)
    predicting = time.perf_counter() - start
    listing = recommend_cost(model, log.X["user_id"][:n].unique(), seed)
    start = time.perf_counter()
    predicted = model.partial_fit_predict_proba(rest, log.y[n:])
    following = time.perf_counter() - start
    chosen = recipe_rows(log, seed)
    return {
        "n_rows": n, "fit_seconds": whole, "fit_seconds_texts_known": again,
        "epoch_seconds": epochs, "rows_per_second_training": n / float(np.median(epochs)),
        "rows_per_second_predicting": len(rest) / predicting,
        "rows_per_second_partial_fit_predict_proba": len(rest) / following, **listing,
        "n_items": model.n_items_, "peak_mib_before": before, "peak_mib_of_fit": peak_of_fit,
        "peak_mib": peak_memory(),
        "auc_of_recipe_rows": float(roc_auc_score(log.y[chosen], predicted[chosen - n])),
    }  # fmt: skip


def warm_up(log: Log, seed: int) -> None:
    """Compile everything that `measure` calls."""
    rows = slice(0, WARM_UP)
    model = make_model(None, seed, {"max_epochs": 1}).fit(log.X[rows], log.y[rows])
    model.predict_proba(log.X[rows])
    model.partial_fit_predict_proba(log.X[rows], log.y[rows])
    model.recommend(log.X["user_id"][:1], n_recommendations=1, exclude_seen=False)


def recommend_cost(model, users: np.ndarray, seed: int) -> dict[str, float]:
    """Median milliseconds of a top 10 of the whole catalogue for one user."""
    chosen = np.random.default_rng(seed).permutation(users)[:N_QUERIED]
    found = {}
    for n_jobs in (None, 2):
        model.set_params(n_jobs=n_jobs)
        seconds = []
        for user in chosen:
            start = time.perf_counter()
            model.recommend([user], exclude_seen=False)
            seconds.append(time.perf_counter() - start)
        found[f"recommend_ms_n_jobs_{n_jobs}"] = 1e3 * float(np.median(seconds))
    model.set_params(n_jobs=None)
    return found


def recipe_rows(log: Log, seed: int) -> np.ndarray:
    """Test rows on which both are evaluated."""
    test = np.arange(log.middle, len(log.y))
    return np.sort(np.random.default_rng(seed).permutation(test)[:RECIPE_ROWS])


def recipe_cost(
    name: str, limit: int | None, backbone: str, seed: int, seconds: float
) -> dict[str, Any]:
    """Train the plain recipe for its seconds on one thread, and evaluate it."""
    log = load(name, limit)
    torch.set_num_threads(1)
    recipe = make_recipe(backbone, seconds)
    train, X = np.arange(log.start), log.columns(None)
    found = evaluate(recipe, X, log.y, train, recipe_rows(log, seed), seed=seed)
    return {**found, "peak_mib": peak_memory()}


# ------------------------------------------------------------------------- grid


def scored(estimator: Pipeline, X: pd.DataFrame, y: np.ndarray) -> dict[str, float]:
    """AUC, and how many texts were read: for this fit, and by this process so far."""
    encoder = estimator[-1]._model.network.reader
    return {
        "auc": float(roc_auc_score(y, estimator.predict_proba(X)[:, 1])),
        "n_encoded": 0 if encoder is None else encoder.n_encoded,
        "n_encoded_by_all": TextEncoder.n_encoded_by_all, "process": os.getpid(),
    }  # fmt: skip


def grid(log: Log, backbone: str, seed: int, n_jobs: int = 2) -> None:
    """Search over decay, heads and frozen layers, and count the texts that were read.

    First over frozen backbones alone, where a process reads each text once; then over one with
    its top layer trained too, whose lower layers run again in every fit.
    """
    texts = list(dict.fromkeys(log.X["text"]))
    n_layers = load_encoder(backbone, texts=texts).n_layers
    # In another process: this one is to search without any vectors.
    one_reading = in_fresh_process(encoding, texts, backbone)["encode_seconds"]
    space = {"model__decay": ["exponential", "none"], "model__n_heads": [2, 4]}
    for label, freeze in (("frozen", ["all"]), ("top layer trained too", ["all", n_layers - 1])):
        counted = TextEncoder.n_encoded_by_all
        model = make_model(backbone, seed, {"max_epochs": 1, "net_params": {"batch_size": 512}})
        search = GridSearchCV(
            Pipeline([("rows", FunctionTransformer()), ("model", model)]),
            {**space, "model__freeze": freeze}, scoring=scored, refit="auc", n_jobs=n_jobs,
            cv=TimeSeriesSplit(2),
        )  # fmt: skip
        start = time.perf_counter()
        search.fit(log.X, log.y)
        seconds = time.perf_counter() - start
        row(
            "grid", log.name, label, seconds=seconds, **readings(search), n_texts=len(texts),
            n_encoded_by_refit=TextEncoder.n_encoded_by_all - counted,
            seconds_of_one_reading=one_reading, auc=search.best_score_,
            best=str(search.best_params_),
        )  # fmt: skip


def readings(search: GridSearchCV) -> dict[str, Any]:
    """How many texts each process of a search had read at the end, and each kind of fit."""
    results = search.cv_results_
    folds = range(search.n_splits_)

    def column(name):
        return np.concatenate([results[f"split{fold}_test_{name}"] for fold in folds])

    frozen = np.tile(np.array([p["model__freeze"] == "all" for p in results["params"]]), len(folds))
    process, read = column("process").astype(int), column("n_encoded").astype(int)
    by_all = column("n_encoded_by_all").astype(int)
    found = {
        "n_fits": len(frozen), "n_processes": len(np.unique(process)),
        "n_encoded_by_process": [int(by_all[process == one].max()) for one in np.unique(process)],
        "n_fits_frozen_that_read": int((read[frozen] > 0).sum()),
        "n_encoded_frozen": int(read[frozen].sum()),
    }  # fmt: skip
    if not frozen.all():
        found["n_encoded_trained"] = int(read[~frozen].sum())
    return found
