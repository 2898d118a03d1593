"""The log a command works on, in order of time, whatever it came from."""

import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np

from sklearn_recft.datasets import (
    fetch_movielens,
    load_complete_journey,
    load_interactions,
    make_interactions,
)
from sklearn_recft.vocabulary import Vocabulary

_MANY_REPEATS = 0.1  # share of events that repeat an earlier pair of user and item


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
        Lists may hold items that the user has taken before.
    texts : ndarray of shape (n_items, 2) or None
        Item and its text, for models that read texts.
    user_word, verb : str
        What a user is called, and what a user has done with an item.
    """

    name: str
    X: np.ndarray
    y: np.ndarray | None
    titles: dict
    repeat: bool
    texts: np.ndarray | None = None
    user_word: str = "user"
    verb: str = "taken"

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
        """Return the user id that a command line spells `text`, known or not."""
        return spelled_id(text, Vocabulary(self.X[:, 0]).ids.tolist(), self.name)


def spelled_id(text, known, name):
    """Return the one of the ``known`` ids that is spelled `text`, or a new id of their type."""
    spelled = {str(user): user for user in known}
    if text in spelled:
        return spelled[text]
    number = _number(text)
    equal = [user for user in known if number is not None and _number(user) == number]
    # 2 is 2.0, be it a number or a text; 007 is another id than 7.
    if len(equal) == 1 and not _is_padded(text) and not _is_padded(equal[0]):
        return equal[0]
    if not all(isinstance(user, int) for user in known):
        return text
    if number is None or number != int(number):
        raise ValueError(f"Users of {name} are whole numbers, not {text!r}.")
    return int(number)


def _number(spelled):
    """Return the finite number that an id is or spells, else None."""
    if isinstance(spelled, str) and not re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?", spelled):
        return None
    try:
        number = Decimal(spelled)
    except (InvalidOperation, TypeError, ValueError):
        return None
    return number if number.is_finite() else None


def _is_padded(spelled):
    return isinstance(spelled, str) and re.match(r"\+|-?0[0-9]", spelled) is not None


def read_log(path, feedback, repeat, **options):
    """Read a user's file.

    Parameters
    ----------
    path : str or Path
    feedback : str or None
        Column with the feedback.
    repeat : bool or None
        Whether lists may hold what the user has taken before. None: where enough events of the
        file repeat an earlier one.
    **options : dict
        Those of :func:`load_interactions`.
    """
    bunch = load_interactions(path, feedback=feedback, **options)
    return _in_order(Path(path).name, bunch, repeat)


def repeat_share(X):
    """Return the share of events whose user took the item before, at another time if known."""
    users, items = Vocabulary().extend(X[:, 0]), Vocabulary().extend(X[:, 1])
    pairs = users.astype(np.int64) * (int(items.max()) + 1) + items
    if X.shape[1] == 2:
        return 1 - len(np.unique(pairs)) / len(X)
    times = X[:, 2].astype(np.float64)
    order = np.lexsort((times, pairs))
    same_pair = np.diff(pairs[order]) == 0
    return int((same_pair & (np.diff(times[order]) > 0)).sum()) / len(X)


def _in_order(name, bunch, repeat):
    X, y = bunch.data, bunch.target
    if X.shape[1] > 2:
        order = np.argsort(X[:, 2].astype(np.float64), kind="stable")
        X, y = X[order], None if y is None else y[order]
    catalogue = bunch.get("catalogue")
    titles, texts = {}, None
    if catalogue is not None:
        titles = dict(zip(catalogue.item_id, catalogue.title, strict=True))
        given = catalogue.get("text", catalogue.title)
        texts = np.column_stack([np.asarray(c, object) for c in (catalogue.item_id, given)])
    if repeat is None:
        repeat = y is None and repeat_share(X) >= _MANY_REPEATS
    return Log(name, X, y, titles, repeat, texts)


def _complete_journey():
    bunch = load_complete_journey()
    bunch.target = None  # the purchase itself is the feedback
    log = _in_order("The Complete Journey", bunch, repeat=True)
    return replace(log, user_word="household", verb="bought")


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
