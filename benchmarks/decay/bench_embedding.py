"""Vectors of titles, made beforehand, in the attention models: items that were not in the fit.

    python benchmarks/decay/bench_embedding.py
    python benchmarks/decay/bench_embedding.py --model decay --seeds 0

MovieLens 100K in time order. A tenth of the items, drawn by the seed, is hidden from the fit on the
first 80 % of the rows. ``items=`` gives the items, with vectors of title and genres by all-MiniLM
in the column ``embedding``, with texts, or without either. Decay: AUC of likes among the rows of
hidden items. Realtime: NDCG@10 of the liked hidden item among all hidden ones, where the user's
other events before it were observed. The tenth after the fit is validation, the last one is test.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.decay.log import Log, load
from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender
from sklearn_recft.text import load_encoder

WAYS = ("nothing", "vectors", "texts")
TRANSFORMER = {"width": 64, "n_layers": 1, "max_epochs": 4}  # smaller than the defaults, for time


def tables(log: Log) -> dict[str, pd.DataFrame | None]:
    """Return the table of items of each way."""
    texts = log.catalogue["text"].tolist()
    vectors = load_encoder("auto", texts=texts).encode(texts)
    given = log.catalogue[["item_id"]].assign(embedding=list(vectors))
    return {"nothing": None, "vectors": given, "texts": log.catalogue}


def columns(log: Log, way: str) -> pd.DataFrame:
    """Return ids and times, and texts if the way is by texts: the first text of an item counts."""
    return log.X.drop(columns=["rating", *([] if way == "texts" else ["text"])])


def decay(log: Log, way: str, items, hidden: np.ndarray, seed: int) -> dict[str, float]:
    """Figures of the likes of hidden items; the model does not learn after the fit."""
    X, n = columns(log, way), len(log.y)
    backbone = "auto" if way == "texts" else None
    model = DecayBertRecommender(backbone=backbone, random_state=seed)
    train = np.flatnonzero(~hidden[: log.start])
    known = None if items is None else items[~items["item_id"].isin(X["item_id"][hidden])]
    model.fit(X.iloc[train], log.y[train], items=known)
    if items is not None:
        model.partial_fit(X.iloc[train[-1:]], log.y[train[-1:]], items=items)
    found = {}
    for part, rows in (("validation_", range(log.start, log.middle)), ("", range(log.middle, n))):
        asked = np.array(rows)[hidden[rows.start : rows.stop]]
        said = model.predict_proba(X.iloc[asked])[:, 1]
        found[f"{part}auc"] = roc_auc_score(log.y[asked], said)
        found[f"{part}log_loss"] = log_loss(log.y[asked], said)
    return found


def realtime(log: Log, way: str, items, hidden: np.ndarray, seed: int) -> dict[str, float]:
    """NDCG@10 of liked hidden items among all hidden items."""
    X = columns(log, way)
    backbone = "auto" if way == "texts" else None
    model = RealtimeTransformerRecommender(backbone=backbone, random_state=seed, **TRANSFORMER)
    liked = log.y == 1
    train = np.flatnonzero((~hidden & liked)[: log.start])
    cold = np.unique(X["item_id"].to_numpy()[hidden])
    listed = log.catalogue[["item_id"]].assign(text="")
    known = listed if items is None else items
    model.fit(X.iloc[train], items=known[~known["item_id"].isin(cold)])
    rest = np.flatnonzero(~hidden & liked)
    model.partial_fit(X.iloc[train[-1:]], items=known)
    model.observe(X.iloc[rest[rest >= log.start]])
    found, history = {}, set(X["user_id"].to_numpy()[~hidden & liked])
    for part, start, stop in (("validation_", log.start, log.middle), ("", log.middle, len(liked))):
        asked = start + np.flatnonzero((hidden & liked)[start:stop])
        asked = asked[X["user_id"].iloc[asked].isin(history)]
        queries = X.iloc[asked][["user_id", "timestamp"]]
        lists, _ = model.recommend(queries, candidates=cold, exclude_seen=False)
        hits = lists == X["item_id"].to_numpy()[asked][:, None]
        found[f"{part}ndcg"] = float((hits / np.log2(np.arange(10) + 2)).sum(1).mean())
        found[f"{part}n"] = len(asked)
    return found


def main() -> None:
    """Read the options, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=["decay", "realtime"])
    parser.add_argument("--way", nargs="+", default=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    log = load("ml-100k")
    given, ids = tables(log), np.unique(log.catalogue["item_id"])
    for name in options.model:
        for seed in options.seeds:
            drawn = np.random.default_rng(seed).permutation(ids)[: len(ids) // 10]
            hidden = log.X["item_id"].isin(drawn).to_numpy()
            for way in options.way:
                start = time.process_time()
                figures = globals()[name](log, way, given[way], hidden, seed)
                seconds = time.process_time() - start
                row("embedding", "ml-100k", f"{name}, {way}", seed=seed, **figures, cpu_s=seconds)


if __name__ == "__main__":
    main()
