"""Will this customer buy this product now? Online Retail, against a product drawn by popularity."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.common.events import purchases
from benchmarks.common.report import row
from benchmarks.features.columns import IDS
from benchmarks.features.data import retail
from benchmarks.features.trees import TREES
from sklearn_recft import ALSRecommender
from sklearn_recft.preprocessing import ActivityFeatures

# The timeline is cut here: vectors of items, trees, validation, test.
VECTORS, TRAIN, TEST = 0.2, 0.6, 0.7
DRAWN = ("all", "train", "past")
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
    "+ repeats": ["user_repeat", "user_repeat_30d", "item_repeat", "item_repeat_30d"],
    "+ similarity to the past": ["user_item_similarity"],
}


def rows(seed: int, limit: int | None = None, drawn: str = "all") -> tuple[pd.DataFrame, Any]:
    """Return purchases and drawn products in the order of time, and which are which.

    Products are drawn from ``"all"`` purchases, from those of the first 70 % (``"train"``), or from
    those up to the purchase (``"past"``).
    """
    bought = purchases(retail())[IDS].sort_values("timestamp", kind="stable")[:limit]
    items, n = bought["item_id"].to_numpy(), len(bought)
    n_known = {"all": n, "train": int(TEST * n), "past": np.arange(1, n + 1)}[drawn]
    other = bought.copy()
    other["item_id"] = items[np.random.default_rng(seed).integers(n_known, size=n)]
    both = pd.concat([bought.assign(bought=True), other.assign(bought=False)])
    both = both.sort_values("timestamp", kind="stable").reset_index(drop=True)
    return both[IDS], both["bought"].to_numpy()


def vectors(X: pd.DataFrame, bought: np.ndarray) -> dict[Any, np.ndarray]:
    """Return factors of the items of the first purchases."""
    first = X[: int(VECTORS * len(X))][bought[: int(VECTORS * len(X))]]
    model = ALSRecommender(n_factors=32, random_state=0).fit(first)
    return dict(zip(model.item_ids_.tolist(), model.item_factors_, strict=True))


def report(seed: int, limit: int | None = None, drawn: str = "all") -> None:
    """Report the AUC of trees on more and more columns, on the last 30 % of the rows.

    Trees learn from the rows after those that vectors of items are learned from. The AUC of
    validation rows is that of trees which have not seen them.
    """
    X, bought = rows(seed, limit, drawn)
    model = ActivityFeatures(repeats=True, item_vectors=vectors(X, bought))
    # Drawn rows are described, and did not happen.
    A = model.set_output(transform="pandas").fit_transform(X, counted=bought)
    first, middle, start = (int(share * len(X)) for share in (VECTORS, TRAIN, TEST))
    names = []
    for label, added in GROUPS.items():
        names += added
        figures = {}
        for figure, stop, tested in (
            ("validation_auc", middle, slice(middle, start)),
            ("auc", start, slice(start, None)),
        ):
            trees = HistGradientBoostingClassifier(**TREES, random_state=seed)
            trees.fit(A[names][first:stop], bought[first:stop])
            found = trees.predict_proba(A[names][tested])[:, 1]
            figures[figure] = roc_auc_score(bought[tested], found)
        row("retail", "online-retail", label, seed=seed, drawn=drawn, **figures)
