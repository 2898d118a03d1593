"""Logs with planted shifts, and real logs that drift by themselves."""

from dataclasses import dataclass

import numpy as np

from benchmarks.common.events import load
from sklearn_recft.datasets import fetch_movielens, make_interactions


@dataclass(frozen=True)
class Stream:
    """Rows in time order; ``truth`` is what errors are measured against.

    ``turn`` is the first row after the shift (None without one), ``warm_up`` the rows of the fit.
    """

    X: np.ndarray
    y: np.ndarray
    truth: np.ndarray
    warm_up: int
    turn: int | None = None


def planted(kind, seed):
    """Make 100,000 ratings of 400 users and 300 items; tastes turn in the middle, or drift."""
    log = make_interactions(400, 300, 100_000, drift=kind, random_state=seed)
    turn = None
    if kind == "abrupt":
        turn = int(np.searchsorted(log.data[:, 2], log.drift_time))
    return Stream(log.data, log.target, log.expected, 30_000, turn)


def movielens(name, warm_up=0.3):
    """Read ratings of MovieLens in time order."""
    X, y = fetch_movielens(name.removeprefix("ml-"), return_X_y=True)
    X, y = np.asarray(X), np.asarray(y, dtype=float)
    order = np.argsort(X[:, 2], kind="stable")
    return Stream(X[order], y[order], y[order], int(warm_up * len(y)))


def swapped(column, seed):
    """Exchange half of the ids of MovieLens 100K (0: users, 1: items) from 65 % of the log on."""
    stream, rng = movielens("ml-100k"), np.random.default_rng(seed)
    X, turn = stream.X.copy(), int(0.65 * len(stream.y))
    half = rng.permutation(np.unique(X[:, column]))
    half = half[: len(half) // 2]
    renamed = dict(zip(half.tolist(), rng.permutation(half).tolist(), strict=True))
    X[turn:, column] = [renamed.get(value, value) for value in X[turn:, column].tolist()]
    return Stream(X, stream.y, stream.y, stream.warm_up, turn)


def retail(seed):
    """Read purchases of Online Retail, and draw for each an item that was bought before."""
    frame = load("online-retail").sort_values("timestamp", kind="stable")
    items = np.unique(frame["item_id"], return_inverse=True)[1]
    seconds = frame["timestamp"].astype("datetime64[s]").astype(np.int64)
    bought = np.column_stack([frame["user_id"], items, seconds])
    rng = np.random.default_rng(seed)
    drawn = bought.copy()
    drawn[:, 1] = items[(rng.random(len(items)) * np.arange(1, len(items) + 1)).astype(int)]
    X = np.stack([bought, drawn], axis=1).reshape(-1, 3)
    y = np.tile([1.0, 0.0], len(items))
    return Stream(X, y, y, int(0.3 * len(y)))


SHIFTS = {
    "abrupt": lambda seed: planted("abrupt", seed),
    "gradual": lambda seed: planted("gradual", seed),
    "half of the items": lambda seed: swapped(1, seed),
    "half of the users": lambda seed: swapped(0, seed),
}
STEADY = {
    "synthetic": lambda seed: planted("none", seed),
    "ml-100k": lambda seed: movielens("ml-100k"),
    "ml-1m": lambda seed: movielens("ml-1m"),
}
