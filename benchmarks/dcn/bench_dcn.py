"""`IncrementalDCNClassifier` beside trees and linear models; counts whose weights turn.

Prints one line of JSON for each result. Costs are CPU seconds of one thread.
"""

import argparse
import copy
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common.report import row
from benchmarks.dcn.data import Counts, load
from benchmarks.features import columns as made
from benchmarks.features.data import movielens
from benchmarks.features.trees import BURNED_IN, TREES
from sklearn_recft import IncrementalDCNClassifier, IncrementalDCNRecommender

TRAIN, TEST = 0.8, 0.9
CATEGORIES = ["gender", "age", "occupation", "decade", "hour", "genres"]


def rich(data: str) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return ids, profile and streamed columns (activity, factorizations, pairs), and likes.

    The logit of the streamed factorization is the column ``offset``.
    """
    log = movielens(data)
    X, like, _ = load(data)
    assert (X["item_id"].to_numpy() == log.X["item_id"].to_numpy()).all()
    factors = made.factorized(log, 0)
    streamed = [
        made.activity(log, log.liked),
        factors,
        made.residual_means(log, log.liked, made.probability(factors)),
    ]
    table = np.nan_to_num(np.column_stack(streamed))
    names = [f"s{j}" for j in range(table.shape[1])]
    X = X.join(pd.DataFrame(table, columns=names)).assign(offset=factors[:, -2])
    return X, like, names


def bare(data: str) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return ids and profile, and likes."""
    X, like, _ = load(data)
    return X, like, []


def one_hot(X: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Return the columns of linear models and trees: categories as 0 and 1, and numbers."""
    parts = [X["genres"].str.get_dummies("|"), pd.get_dummies(X[CATEGORIES[:-1]]), X[names]]
    return np.column_stack(parts).astype(np.float32)


def dcn(seed: int, **params) -> IncrementalDCNClassifier:
    """Return a classifier."""
    return IncrementalDCNClassifier(lists=["genres"], random_state=seed, **params)


def likes(data: str, source: Callable, seeds: list[int], peers: bool) -> None:
    """Learn the first 80 % of the timeline, and predict the last tenth."""
    X, y, names = source(data)
    n = len(X)
    train = slice(int((BURNED_IN if names else 0) * n), int(TRAIN * n))
    test = slice(int(TEST * n), n)
    given = {"n_factors": 0}
    own = dcn(0, **given)
    own.fit(X[:3000], y[:3000])  # compiles
    answers = []
    for seed in seeds:
        start = time.process_time()
        own = dcn(seed, **given).fit(X[train], y[train])
        name = "IncrementalDCNClassifier"
        answers.append(report("likes", source, data, name, own, X[test], y[test], start))
        if not names:
            start = time.process_time()
            online = dcn(seed).fit(X[train], y[train])
            report("likes", source, data, "with online features", online, X[test], y[test], start)
    if not peers:
        return
    table = one_hot(X, names)
    for name, model in {
        "boosted trees": HistGradientBoostingClassifier(**TREES, random_state=0),
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
    }.items():
        start = time.process_time()
        model.fit(table[train], y[train])
        found = report("likes", source, data, name, model, table[test], y[test], start)
        if name != "boosted trees":
            continue
        for seed, answer in zip(seeds, answers, strict=True):
            both = expit((logit(answer) + logit(found)) / 2)
            figures = {"auc": roc_auc_score(y[test], both), "log_loss": log_loss(y[test], both)}
            row(f"likes {source.__name__}", data, "mean of both logits", seed=seed, **figures)
    if names:
        probability = 1 / (1 + np.exp(-X["offset"].to_numpy()[test]))
        figures = {"auc": roc_auc_score(y[test], probability)}
        row("likes rich", data, "streamed MF", **figures, log_loss=log_loss(y[test], probability))


def report(task, source, data, name, model, X, y, start) -> np.ndarray:
    """Print AUC, log-loss and CPU seconds of a fitted model; return its probabilities."""
    seconds = time.process_time() - start
    found = model.predict_proba(X)[:, 1]
    figures = {"auc": roc_auc_score(y, found), "log_loss": log_loss(y, found)}
    row(f"{task} {source.__name__}", data, name, **figures, fit_cpu_s=seconds)
    return found


def stream(data: str, source: Callable, seeds: list[int], refits: bool) -> None:
    """Fit the first half; the second comes in 10 chunks: predict, then learn."""
    X, y, _ = source(data)
    half = len(X) // 2
    chunks = np.array_split(np.arange(half, len(X)), 10)
    old = np.random.default_rng(0).choice(half, min(10_000, half), replace=False)
    for seed in seeds:
        fitted = dcn(seed, n_factors=0).fit(X[:half], y[:half])

        def learn(model, chunk):
            return model.partial_fit(X.iloc[chunk], y[chunk])

        def refit(model, chunk, seed=seed):
            return dcn(seed, n_factors=0).fit(X[: chunk[-1] + 1], y[: chunk[-1] + 1])

        ways = {"never": lambda model, chunk: model, "partial_fit": learn}
        if refits:
            ways["refit"] = refit
        for name, way in ways.items():
            model, found, seconds = copy.deepcopy(fitted), [], 0.0
            before = log_loss(y[old], model.predict_proba(X.iloc[old])[:, 1])
            for chunk in chunks:
                found.append(model.predict_proba(X.iloc[chunk])[:, 1])
                start = time.process_time()
                model = way(model, chunk)
                seconds += time.process_time() - start
            after = log_loss(y[old], model.predict_proba(X.iloc[old])[:, 1])
            said = np.concatenate(found)
            row(
                f"stream {source.__name__}", data, name, seed=seed,
                auc=roc_auc_score(y[half:], said), log_loss=log_loss(y[half:], said),
                learning_cpu_s=seconds, forgetting=after - before,
            )  # fmt: skip


def counts(seeds: list[int]) -> None:
    """Fit 20,000 rows of one world; 20 chunks of 500 of another follow, or of the same."""
    names = ["clicks", "views", "purchases"]
    for seed in seeds:
        for way in ("follow", None, "trees refit"):
            for world in (1, 0):
                log = Counts(seed)
                X, y, _ = log.rows(20_000)
                asked, _, truth = log.rows(5000, world)
                start = time.process_time()
                model = IncrementalDCNRecommender(use_ids=False, max_epochs=10, random_state=seed)
                if way == "trees refit":
                    model = HistGradientBoostingRegressor(random_state=seed)
                    X, asked = X[names], asked[names]
                else:
                    model.set_params(drift=way)
                model.fit(X, y)
                fit, errors, seconds = time.process_time() - start, [], 0.0
                for number in range(21):
                    if number in (0, 1, 2, 5, 20):
                        errors.append(np.sqrt(np.mean((model.predict(asked) - truth) ** 2)))
                    more, target, _ = log.rows(500, world)
                    start = time.process_time()
                    if way == "trees refit":
                        X, y = pd.concat([X, more[names]]), np.concatenate([y, target])
                        model.fit(X, y)
                    else:
                        model.partial_fit(more, target)
                    seconds += (time.process_time() - start) / 21
                what = "turned" if world else "same"
                row(
                    f"counts {what}", "made", f"{'DCN ' if way != 'trees refit' else ''}{way}",
                    seed=seed, rmse_after_0_500_1000_2500_10000=errors, update_share=seconds / fit,
                )  # fmt: skip


def main() -> None:
    """Read the options, and run the tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = ["bare", "rich", "stream", "counts"]
    parser.add_argument("--task", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--data", nargs="+", default=["ml-100k"], choices=["ml-100k", "ml-1m"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    for data in options.data:
        for task, source in (("bare", bare), ("rich", rich)):
            if task in options.task:
                likes(data, source, options.seeds, peers=True)
        if "stream" in options.task:
            stream(data, bare, options.seeds, refits=data == "ml-100k")
            stream(data, rich, options.seeds, refits=data == "ml-100k")
    if "counts" in options.task:
        counts(options.seeds)


if __name__ == "__main__":
    main()
