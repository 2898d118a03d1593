"""The log a command works on, in order of time, whatever it came from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sklearn_recft.datasets import (
    fetch_movielens,
    load_complete_journey,
    load_interactions,
    make_interactions,
)


@dataclass(frozen=True)
class Log:
    """An interaction log in order of time.

    Attributes
    ----------
    name : str
    X : ndarray of shape (n_events, 2 or 3)
        User, item and, where known, seconds since 1970.
    y : ndarray of shape (n_events,) or None
        Feedback; None where every row is a positive.
    titles : dict
        What items are called.
    repeat : bool
        Users take the same item again, so it may be recommended again.
    """

    name: str
    X: np.ndarray
    y: np.ndarray | None
    titles: dict
    repeat: bool

    @property
    def has_times(self):
        """Whether times are known."""
        return self.X.shape[1] > 2

    @property
    def has_clicks(self):
        """Whether the feedback is 0 or 1."""
        return self.y is not None and set(np.unique(self.y)) <= {0.0, 1.0}

    def date(self, row):
        """Return the day of an event, such as 2024-05-01; None where times are not known."""
        return str(np.datetime64(int(self.X[row, 2]), "s"))[:10] if self.has_times else None

    def user(self, text):
        """Return the user id that a command line spells `text`."""
        if not isinstance(self.X[0, 0], int | np.integer):
            return text
        try:
            return int(text)
        except ValueError as error:
            raise ValueError(f"Users of {self.name} are whole numbers, not {text!r}.") from error


def read_log(path, feedback, repeat):
    """Read a user's file."""
    return _in_order(Path(path).name, load_interactions(path, feedback=feedback), repeat)


def _in_order(name, bunch, repeat):
    X, y = bunch.data, bunch.target
    if X.shape[1] > 2:
        order = np.argsort(X[:, 2].astype(np.float64), kind="stable")
        X, y = X[order], None if y is None else y[order]
    catalogue = bunch.get("catalogue")
    titles = {} if catalogue is None else zip(catalogue.item_id, catalogue.title, strict=True)
    return Log(name, X, y, dict(titles), repeat)


def _complete_journey():
    bunch = load_complete_journey()
    bunch.target = None  # the purchase itself is the feedback
    return _in_order("The Complete Journey", bunch, repeat=True)


def _movielens(name):
    return _in_order(f"MovieLens {name.upper()}", fetch_movielens(name), repeat=False)


def _synthetic():
    bunch = make_interactions(
        300, 400, 30_000, popularity=0.7, drift="abrupt", noise=0.7, random_state=0
    )
    return _in_order("Synthetic ratings (tastes change half-way)", bunch, repeat=False)


DATASETS = {
    "complete-journey": _complete_journey,
    "movielens-100k": lambda: _movielens("100k"),
    "movielens-1m": lambda: _movielens("1m"),
    "synthetic": _synthetic,
}
