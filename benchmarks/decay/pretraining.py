"""Measure pretraining on the texts of the log (`text.pretrain`), one JSON line per run.

    python benchmarks/decay/pretraining.py --data ml-100k online-retail

ml-100k: likes on the time line as in ``bench_decay.py``, each row predicted before it is learned.
``auc`` is of all test rows. For ``cold_auc`` a random tenth of the items is hidden: known by its
text, never learned. Other logs: purchases or reviews without labels; fitted once, on the first
80 % without the hidden items; then each test event against an item that is drawn at random: from
the catalogue for ``auc``, both hidden for ``cold_auc``. Choose on the validation figures.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.decay.log import TEST, TRAIN, evaluate, load, make_model
from sklearn_recft.text import pretrain

LIMIT = 100_000  # first events of a log without labels


def backbones(texts, seed, names):
    """Yield encoders as they are, and pretrained on the texts of the catalogue."""
    for name in names:
        backbone, _, epochs = name.partition("+")
        start = time.process_time()
        if epochs:
            backbone = pretrain(backbone, texts, max_epochs=int(epochs), random_state=seed)
        losses = list(backbone.losses) if epochs else []
        seconds = time.process_time() - start
        yield name, backbone, {"pretrain_seconds": seconds, "losses": losses[:1] + losses[-1:]}


def hidden_items(catalogue):
    """Draw a tenth of the items; the same for all seeds."""
    ids = np.unique(catalogue["item_id"])
    return np.random.default_rng(0).permutation(ids)[: len(ids) // 10]


def likes(name, seed, names, limit):
    """Yield the figures of each backbone on likes."""
    log = load(name, limit)
    X, rest = log.X, slice(log.start, None)
    hidden = X["item_id"].isin(hidden_items(log.catalogue)).to_numpy()
    for label, backbone, facts in backbones(log.catalogue["text"].tolist(), seed, names):
        model = make_model(backbone, seed).fit(X[: log.start], log.y[: log.start])
        figures = evaluate(log, model.partial_fit_predict_proba(X[rest], log.y[rest]))
        known = np.flatnonzero(~hidden[: log.start])
        model = make_model(backbone, seed)
        model.fit(X.iloc[known], log.y[known], items=log.catalogue)
        weight = (~hidden[rest]).astype(float)  # rows of weight 0 are predicted, not learned
        found = model.partial_fit_predict_proba(X[rest], log.y[rest], weight)
        for part, rows in parts(len(X), log.start, log.middle, hidden).items():
            auc = roc_auc_score(log.y[rows], found[rows - log.start])
            figures[f"{part}cold_auc"] = auc
        yield label, {**figures, **facts}


def parts(n, start, middle, wanted):
    """Return the wanted rows of validation and test."""
    rows = np.flatnonzero(wanted)
    return {
        "validation_": rows[(rows >= start) & (rows < middle)],
        "": rows[(rows >= middle) & (rows < n)],
    }


def positives(name, seed, names, limit):
    """Yield the figures of each backbone on a log without labels."""
    X, catalogue = read(name, limit or LIMIT)
    start, middle = int(TRAIN * len(X)), int(TEST * len(X))
    cold = hidden_items(catalogue)
    hidden = X["item_id"].isin(cold).to_numpy()
    known = np.flatnonzero(~hidden[:start])
    for label, backbone, facts in backbones(catalogue["text"].tolist(), seed, names):
        model = make_model(backbone, seed, {"outcome": None})
        model.fit(X.iloc[known], items=catalogue)
        figures = {}
        for kind, wanted, pool in (
            ("auc", np.ones(len(X), bool), catalogue["item_id"].to_numpy()),
            ("cold_auc", hidden, cold),
        ):
            for part, rows in parts(len(X), start, middle, wanted).items():
                drawn = np.random.default_rng(1).choice(pool, len(rows))
                true, other = X.iloc[rows], X.iloc[rows].assign(item_id=drawn)
                texts = catalogue.set_index("item_id")["text"].loc[drawn]
                other = other.assign(text=texts.to_numpy())
                score = model.predict_proba(pd.concat([true, other]))[:, 1]
                figures[part + kind] = roc_auc_score(np.repeat([1, 0], len(rows)), score)
        yield label, {**figures, "n_cold": int(hidden[middle:].sum()), **facts}


def read(name, limit):
    """Read events in the order of time, with the titles of their items, and the catalogue."""
    folder = Path(os.environ["SKLEARN_RECFT_DATA"], name)
    items = pd.read_parquet(folder / "items.parquet").rename(columns={"title": "text"})
    items = items[items["text"].notna() & (items["text"].str.strip() != "")]
    X = pd.read_parquet(folder / "interactions.parquet")
    X = X[X["user_id"].notna() & X["item_id"].isin(items["item_id"])]
    if "quantity" in X:
        X = X[X["quantity"] > 0]
    X = X.sort_values("timestamp", kind="stable")[["user_id", "item_id", "timestamp"]][:limit]
    return X.merge(items[["item_id", "text"]], on="item_id"), items[["item_id", "text"]]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["ml-100k"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--backbones", nargs="+", default=["scratch", "scratch+10", "auto", "auto+3"],
        help="a backbone, and + with the number of epochs of pretraining",
    )  # fmt: skip
    parser.add_argument("--limit", type=int, default=None, help="first rows of the timeline alone")
    options = parser.parse_args(argv)
    for name in options.data:
        measured = likes if name.startswith("ml-") else positives
        for seed in options.seeds:
            for label, figures in measured(name, seed, options.backbones, options.limit):
                row("pretraining", name, label, seed=seed, **figures)


if __name__ == "__main__":
    main()
