"""Small logs of known events, and what is queried of them: the input of `record_results`."""

import os
from functools import cache

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from sklearn_recft.datasets import fetch_movielens, load_complete_journey, make_interactions

Table = np.ndarray | pd.DataFrame
COLUMNS = ["user_id", "item_id", "timestamp"]
DAY = 86_400.0
WORDS = [
    "red", "green", "blue", "tea", "coffee", "milk", "rye", "oat", "sweet", "bitter", "cold", "warm"
]  # fmt: skip
N_MOVIELENS, N_BASKETS, N_SYNTHETIC, N_SYNTHETIC_ITEMS = 12_000, 4_500, 4_500, 150
N_TEXTS = 60  # of synthetic items: few, so that a pretrained encoder is quick
VECTOR_WIDTH = 6


@cache
def load(name: str) -> tuple[Table, np.ndarray]:
    """Return the events of a log in time order, and ratings of about 1 to 5.

    The name is "movielens", "baskets" or "synthetic", with an ending that says what else it has
    or lacks: "_str" (ids are strings), "_no_time", "_text", "_vectors", "_context" or "_outcome".
    """
    source, _, ending = name.partition("_")
    make = {"movielens": _movielens, "baskets": _baskets, "synthetic": _synthetic}[source]
    return make(ending)


def feedback(ratings: np.ndarray, kind: str) -> np.ndarray | None:
    """Return the y of a kind: "rating", "like" (0 or 1), "signed" or "none"."""
    return {
        "rating": ratings,
        "like": (ratings > 3).astype(int),
        "signed": ratings - 3.0,
        "none": None,
    }[kind]


def _movielens(ending: str) -> tuple[Table, np.ndarray]:
    if not os.environ.get("SKLEARN_RECFT_DATA"):
        raise SystemExit("Set SKLEARN_RECFT_DATA to the folder that holds the data sets.")
    bunch = fetch_movielens("100k", download_if_missing=False)
    X, y = fetch_movielens("100k", download_if_missing=False, return_X_y=True)
    order = np.argsort(X[:, 2], kind="stable")[:N_MOVIELENS]
    X, y = X[order], y[order]
    if ending == "no_time":
        return np.ascontiguousarray(X[:, :2]), y
    if ending == "str":
        return _with_strings(X, "u", "film "), y
    if ending == "text":
        return _with_texts(X, bunch.catalogue), y
    return X, y


def _baskets(ending: str) -> tuple[Table, np.ndarray]:
    bunch = load_complete_journey()
    households = np.unique(bunch.data[:, 0])[::30]
    rows = np.flatnonzero(np.isin(bunch.data[:, 0], households))[:N_BASKETS]
    return _with_texts(bunch.data[rows], bunch.catalogue), np.minimum(bunch.target[rows], 5.0)


def _synthetic(ending: str) -> tuple[Table, np.ndarray]:
    X, y = make_interactions(
        200, N_SYNTHETIC_ITEMS, N_SYNTHETIC, n_factors=4, n_days=60, popularity=1.0, half_life=7.0,
        drift="none", noise=0.5, feedback="rating", random_state=0, return_X_y=True,
    )  # fmt: skip
    if not ending:
        return X, y
    if ending == "str":
        return _with_strings(X, "user ", "item "), y
    frame, rng = pd.DataFrame(X, columns=COLUMNS), np.random.default_rng(1)
    if ending == "context":
        mood = rng.normal(3, 2, len(X))
        frame = frame.assign(mood=mood, hour=rng.integers(0, 24, len(X)))
        return frame, y + 0.1 * (mood - 3)
    if ending == "vectors":
        vectors = rng.normal(2, 3, (N_SYNTHETIC_ITEMS, VECTOR_WIDTH))
        return frame.assign(embedding=list(vectors[X[:, 1] % N_SYNTHETIC_ITEMS])), y
    words = rng.integers(0, len(WORDS), (N_SYNTHETIC_ITEMS, 3))
    frame["text"] = [" ".join(WORDS[w] for w in words[item % N_TEXTS]) for item in X[:, 1].tolist()]
    if ending == "outcome":
        frame["stars"] = y + rng.normal(0, 0.2, len(y))
    return frame, y


def _with_strings(X: np.ndarray, user: str, item: str) -> pd.DataFrame:
    frame = pd.DataFrame(X, columns=COLUMNS)
    frame["user_id"] = user + frame["user_id"].astype(str)
    frame["item_id"] = item + frame["item_id"].astype(str)
    return frame.astype({"user_id": object, "item_id": object})


def _with_texts(X: np.ndarray, catalogue: Bunch) -> pd.DataFrame:
    texts = dict(zip(catalogue.item_id.tolist(), catalogue.text.tolist(), strict=True))
    return pd.DataFrame(X, columns=COLUMNS).assign(text=[texts[item] for item in X[:, 1].tolist()])


# ------------------------------------------------------------------------ tables


def take(X: Table, rows: slice | np.ndarray) -> Table:
    """Return some rows of a table."""
    return X[rows] if isinstance(X, np.ndarray) else X.iloc[rows].reset_index(drop=True)


def column(X: Table, name: str) -> np.ndarray | None:
    """Return a column by name, or None where the table has none."""
    if not isinstance(X, np.ndarray):
        return X[name].to_numpy() if name in X.columns else None
    place = COLUMNS.index(name)
    return X[:, place] if place < X.shape[1] else None


def changed(X: Table, **columns: object) -> Table:
    """Return a copy of a table with other values in some columns."""
    X = X.copy()
    for name, values in columns.items():
        if isinstance(X, np.ndarray):
            X[:, COLUMNS.index(name)] = values
        else:
            X[name] = values
    return X


def unknown(X: Table, name: str, number: int) -> str | int:
    """Return an id that no event has, of the type of the column."""
    ids = column(X, name)
    return f"unknown {number}" if ids.dtype.kind == "O" else 10_000_000 + number


def queried_rows(X: Table, stop: int, n_late: int) -> Table:
    """Return rows to predict: after ``stop``, before it, and with unknown users and items."""
    few = take(X, slice(stop, stop + 8))
    user, item = unknown(X, "user_id", 1), unknown(X, "item_id", 2)
    parts = [
        take(X, slice(stop, stop + n_late)),
        take(X, np.arange(0, stop, max(1, stop // 60))),
        changed(few, user_id=user),
        changed(few, item_id=[unknown(X, "item_id", 3 + row % 2) for row in range(8)]),
        changed(take(few, slice(0, 2)), user_id=user, item_id=item),
    ]
    if isinstance(X, np.ndarray):
        return np.concatenate(parts)
    return pd.concat(parts, ignore_index=True)


def queries_at(X: Table, users: list, now: float) -> Table:
    """Return queries at several times around ``now``, with context where the log has any."""
    place = np.arange(len(users))
    times = now + 3600.0 * place**2 - DAY * (place % 3)
    if isinstance(X, np.ndarray):
        return np.column_stack([np.asarray(users), times.astype(np.int64)])
    queries = pd.DataFrame({"user_id": users, "timestamp": times})
    for name in ("hour", "mood"):
        if name in X.columns:
            queries[name] = np.resize(X[name].to_numpy()[:97], len(users))
    return queries


def visitors(X: Table, users: list) -> tuple[Table, list]:
    """Return a history of eight users, four of them unknown, and the users to query."""
    guests = [*users[:4], *(unknown(X, "user_id", 20 + row) for row in range(4))]
    items = [
        unknown(X, "item_id", 50) if row % 13 == 12 else item
        for row, item in enumerate(column(X, "item_id").tolist())
    ]
    history = changed(X, user_id=[guests[row % 8] for row in range(len(X))], item_id=items)
    if isinstance(history, pd.DataFrame):
        history = history[COLUMNS]
    return history, [*guests, unknown(X, "user_id", 77)]


def new_items(X: Table) -> pd.DataFrame:
    """Return twelve items without events, with texts, and with vectors if the log has any."""
    ids = [unknown(X, "item_id", 100 + row) for row in range(len(WORDS))]
    texts = [f"{word} {other}" for word, other in zip(WORDS, reversed(WORDS), strict=True)]
    items = pd.DataFrame({"item_id": ids, "text": texts})
    if isinstance(X, pd.DataFrame) and "embedding" in X:
        vectors = np.random.default_rng(2).normal(2, 3, (len(ids), VECTOR_WIDTH))
        items["embedding"] = list(vectors)
    return items
