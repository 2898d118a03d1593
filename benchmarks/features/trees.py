"""Boosted trees on the timeline: learned on the first 80 %, scored on the last tenth."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.features.data import TEST, TRAIN, Log

BURNED_IN = 0.08  # of the timeline: trees do not learn from what was known that early
# The setting of the decay benchmark; not searched for.
TREES = {
    "max_iter": 200,
    "learning_rate": 0.05,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 200,
    "early_stopping": False,
}


def score_likes(log: Log, columns: list[np.ndarray], seed: int) -> dict[str, float]:
    """AUC and log-loss of the test tenth, and the AUC of the tenth before it."""
    features, y = np.column_stack(columns), log.liked
    rows = log.part(BURNED_IN, TRAIN)
    model = HistGradientBoostingClassifier(**TREES, random_state=seed).fit(features[rows], y[rows])
    validation, test = log.part(TRAIN, TEST), log.part(TEST, 1.0)
    found = model.predict_proba(features[log.part(TRAIN, 1.0)])[:, 1]
    middle = found[: validation.stop - validation.start]
    late = found[len(middle) :]
    return {
        "auc": roc_auc_score(y[test], late),
        "log_loss": log_loss(y[test], late),
        "validation_auc": roc_auc_score(y[validation], middle),
        "n_columns": features.shape[1],
    }


def score_ratings(
    features: np.ndarray, y: np.ndarray, learned: slice, tested: slice, seed: int
) -> float:
    """RMSE of the tested rows."""
    model = HistGradientBoostingRegressor(**TREES, random_state=seed)
    predicted = model.fit(features[learned], y[learned]).predict(features[tested])
    return float(np.sqrt(np.mean((predicted - y[tested]) ** 2)))
