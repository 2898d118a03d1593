"""Will this customer buy this product now? Online Retail, against a product drawn by popularity."""

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.common.events import purchases
from benchmarks.common.report import row
from benchmarks.features.columns import IDS
from benchmarks.features.data import retail
from benchmarks.features.trees import TREES
from sklearn_recft.preprocessing import ActivityFeatures

TRAIN = 0.7
GROUPS = {
    "item count": ["item_count"],
    "+ item recency and decayed counts": ["item_recency", "item_count_1d", "item_count_30d"],
    "+ user recency and counts": ["user_count", "user_recency", "user_count_1d", "user_count_30d"],
    "+ pair count": ["user_item_count"],
    "+ pair recency and decayed counts": [
        "user_item_recency",
        "user_item_count_1d",
        "user_item_count_30d",
    ],
}


def rows(seed: int, limit: int | None = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Return purchases and drawn products in the order of time, and which are which."""
    bought = purchases(retail())[IDS].sort_values("timestamp", kind="stable")[:limit]
    drawn = bought.copy()
    rng = np.random.default_rng(seed)
    drawn["item_id"] = rng.choice(bought["item_id"].to_numpy(), len(bought))
    both = pd.concat([bought.assign(bought=True), drawn.assign(bought=False)])
    both = both.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return both[IDS], both["bought"].to_numpy()


def report(seed: int, limit: int | None = None) -> None:
    """Report the AUC of trees on more and more columns, on the last 30 % of the rows."""
    X, bought = rows(seed, limit)
    model = ActivityFeatures().set_output(transform="pandas")
    A = model.fit_transform(X, counted=bought)  # drawn rows are described, and did not happen
    start, names = int(TRAIN * len(X)), []
    for label, added in GROUPS.items():
        names += added
        trees = HistGradientBoostingClassifier(**TREES, random_state=seed)
        trees.fit(A[names][:start], bought[:start])
        auc = roc_auc_score(bought[start:], trees.predict_proba(A[names][start:])[:, 1])
        row("retail", "online-retail", label, seed=seed, auc=auc)
