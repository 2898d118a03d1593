"""Labels of two classes, such as likes and dislikes, of new users: `--task labels`.

The split is that of MetaRec. A positive is a rating of at least 4, of 5, or of 1. The row
"squared error" is `BayesianMFRecommender` on 0 and 1, with predictions cut to .01 to .99. "Platt"
is the same behind a logistic regression on the predictions for validation users.
"""

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.common.report import row
from benchmarks.fewshot import score
from benchmarks.fewshot.data import load
from benchmarks.fewshot.protocols import Task, metarec
from sklearn_recft import BayesianMFClassifier, BayesianMFRecommender, IncrementalMFClassifier

POSITIVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rating >= 4": lambda y: y >= 4,
    "rating of 5": lambda y: y == 5,
    "rating of 1": lambda y: y == 1,
}
SHOTS = (0, 1, 3, 5, 10, None)
LEAST = 0.01  # probability of the rows of squared error
Predict = Callable[[Any, np.ndarray], np.ndarray]


def run(data: str, seeds: list[int], models: list[str]) -> None:
    """Print AUC, log loss and nDCG@5 at each number of labels, and a table."""
    ratings = load(data, text=False)
    found: dict[tuple[str, str, Any], list[pd.DataFrame]] = {}
    for name, is_positive in POSITIVES.items():
        labels = is_positive(ratings.y).astype(int)
        for seed in seeds:
            task, validation = metarec(ratings, seed), metarec(ratings, seed, part="validation")
            truth = labels[task.query]
            for model in models:
                answers = _answers(model, ratings.X[:, :2], labels, (task, validation), seed)
                for k, predicted in answers:
                    with np.errstate(invalid="ignore"):  # NaN for users without a positive
                        part = score.metrics(truth, (predicted, None), task.owner, ("ndcg@5",))
                    figures = {
                        "auc": roc_auc_score(truth, predicted),
                        "log_loss": log_loss(truth, predicted),
                        "ndcg": part["ndcg@5"].mean(),
                    }
                    found.setdefault((name, model, k), []).append(pd.DataFrame([figures]))
    for (name, model, k), parts in found.items():
        means = pd.concat(parts).mean()
        row(f"labels, {name}", data, model, k=k or "all" if k != 0 else 0, **means.to_dict())


def _answers(
    model: str, X: np.ndarray, labels: np.ndarray, tasks: tuple[Task, Task], seed: int
) -> Any:
    """Yield predictions for the query rows at each number of support rows."""
    task, validation = tasks
    estimator, verb, predict = _MODELS[model]
    start = time.process_time()
    fitted = estimator(random_state=seed).fit(X[task.train], labels[task.train])
    row("labels, fit", "", model, seed=seed, fit_s=time.process_time() - start)

    def after(part: Task, k: int | None) -> np.ndarray:
        learner, support = copy.deepcopy(fitted), part.first(k)
        if len(support):
            getattr(learner, verb)(X[support], labels[support])
        return predict(learner, X[part.query])

    link = None
    if model == "Platt":
        given = [after(validation, k)[:, None] for k in SHOTS]
        truth = np.tile(labels[validation.query], len(SHOTS))
        link = LogisticRegression(C=1e6).fit(np.concatenate(given), truth)
    for k in SHOTS:
        predicted = after(task, k)
        yield k, link.predict_proba(predicted[:, None])[:, 1] if link else predicted


def _cut(model: Any, X: np.ndarray) -> np.ndarray:
    return np.clip(model.predict(X), LEAST, 1 - LEAST)


def _positive(model: Any, X: np.ndarray) -> np.ndarray:
    return model.predict_proba(X)[:, 1]


_MODELS: dict[str, tuple[Any, str, Predict]] = {
    "squared error": (BayesianMFRecommender, "adapt", _cut),
    "Platt": (BayesianMFRecommender, "adapt", lambda model, X: model.predict(X)),
    "IncrementalMFClassifier": (IncrementalMFClassifier, "partial_fit", _positive),
    "BayesianMFClassifier": (BayesianMFClassifier, "adapt", _positive),
}
MODELS = tuple(_MODELS)
