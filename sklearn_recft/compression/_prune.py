"""Drop items and users that are rare or idle, which bounds the memory of a stream."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.compression._compress import fitted_model
from sklearn_recft.events import Interactions
from sklearn_recft.history import EventHistory
from sklearn_recft.interactions import check_log
from sklearn_recft.models import FittedModel

Recommender = TypeVar("Recommender", bound=RecommenderMixin)


def prune_items(
    model: Recommender,
    X: Any = None,
    *,
    min_events: int | None = None,
    older_than: float | None = None,
) -> Recommender:
    """Return a copy of a fitted recommender without rare or old items.

    The items leave the catalogue as by `forget_items`, whose docstring says what is left of their
    influence. They may come back later, as new items.

    Parameters
    ----------
    model : estimator
        A fitted recommender that has `forget_items` for its model. It does not change.
    X : table of events, default=None
        The log to count in, such as that of the last months. An item that is not in it has no
        events. None counts the users who interacted with an item, as the model knows them.
    min_events : int, default=None
        Drop items with fewer events.
    older_than : float, default=None
        Drop items whose newest event is more than so many days before the newest event of ``X``,
        which needs the column ``timestamp``.

    Returns
    -------
    pruned : estimator
        With ``forget_receipt_``: what was removed.

    Raises
    ------
    TypeError
        If ``model`` is no recommender of this package.
    ValueError
        If neither option is given, or one is invalid; if all items would be dropped; if the model
        cannot remove items; or if ``older_than`` comes without times.
    NotFittedError
        Before `fit`.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.compression import prune_items
    >>> X = [["ann", "tea"], ["bob", "tea"], ["bob", "rice"]]
    >>> model = PopularityRecommender().fit(X)
    >>> prune_items(model, min_events=2).item_ids_.tolist(), model.item_ids_.tolist()
    (['tea'], ['tea', 'rice'])
    """
    fitted = fitted_model(model)
    _check_given(min_events=min_events, older_than=older_than)
    rows = None if X is None else check_log(X)
    if older_than is not None and (rows is None or rows.timestamps is None):
        raise ValueError(
            "older_than: models keep no times of items. Give X, a log with the column `timestamp`."
        )
    with fitted.reading():
        if rows is not None:
            items = fitted.items.encode(rows.item_ids)
        else:
            items = fitted.seen.state()["item"]
        dropped = np.zeros(fitted.n_items, bool)
        if min_events is not None:
            known = items[items >= 0]
            dropped |= np.bincount(known, minlength=fitted.n_items) < min_events
        if older_than is not None and rows is not None and rows.timestamps is not None:
            dropped |= _are_old(items, rows.timestamps, fitted.n_items, older_than)
        ids = fitted.items.ids[dropped]
    return copy.copy(model).forget_items(ids)


def prune_users(
    model: Recommender, X: Any = None, *, idle_for: float, return_history: bool = False
) -> Any:
    """Return a copy of a fitted recommender without the users that are idle.

    The users are erased as by `forget`, whose docstring says what is left of their influence. They
    may come back later, as new users; with their ``history``, they need not start from nothing.

    Parameters
    ----------
    model : estimator
        A fitted recommender. It does not change.
    X : table of events with ``timestamp``, default=None
        The log to look in, such as that of the last months. A user who is not in it is idle. None
        takes the times of the model: those of `RealtimeTransformerRecommender` and
        `DecayBertRecommender`, and of models of sums with a ``half_life``.
    idle_for : float
        Days, above 0. Drop users whose newest event is more than so many days before the newest of
        all.
    return_history : bool, default=False
        Return what the model knows of the users' events as well.

    Returns
    -------
    pruned : estimator
        With ``forget_receipt_``: what was removed.
    history : ndarray of shape (n, 2), object
        User and item ids of the seen pairs of the dropped users; only if ``return_history``. When
        a user is back, pass the rows to `partial_fit` or `observe`, or to ``recommend(history=)``.

    Raises
    ------
    TypeError
        If ``model`` is no recommender of this package, or ``return_history`` no bool.
    ValueError
        If ``idle_for`` is not above 0, or no times are known.
    NotFittedError
        Before `fit`.

    Examples
    --------
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.compression import prune_users
    >>> X = [["ann", "tea", "2026-01-01"], ["bob", "tea", "2026-06-01"]]
    >>> import pandas as pd
    >>> log = pd.DataFrame(X, columns=["user_id", "item_id", "timestamp"])
    >>> model = PopularityRecommender().fit(log)
    >>> pruned, history = prune_users(model, log, idle_for=30, return_history=True)
    >>> pruned.user_ids_.tolist(), history.tolist()
    (['bob'], [['ann', 'tea']])
    """
    fitted = fitted_model(model)
    _check_given(idle_for=idle_for)
    if not isinstance(return_history, (bool, np.bool_)):
        raise TypeError(f"return_history={return_history!r}: give True or False.")
    rows = None if X is None else check_log(X)
    with fitted.reading():
        users, times = _times_of_users(fitted, rows)
        codes = np.flatnonzero(_are_old(users, times, fitted.n_users, idle_for))
        ids, history = fitted.users.ids[codes], _history(fitted, codes)
    pruned = copy.copy(model).forget(ids)
    return (pruned, history) if return_history else pruned


def _check_given(**options: Any) -> None:
    """Raise unless an option is given, and all that are given are numbers above 0."""
    given = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise ValueError(f"Give {' or '.join(options)}: what is to be dropped?")
    for name, value in given.items():
        kind = Integral if name == "min_events" else Real
        if (
            isinstance(value, (bool, np.bool_))
            or not isinstance(value, kind)
            or not float(value) > 0
        ):
            what = "an integer of at least 1" if kind is Integral else "a number above 0"
            raise ValueError(f"{name}={value!r}: give {what}.")


def _are_old(codes: np.ndarray, times: np.ndarray, n: int, days: float) -> np.ndarray:
    """Return which of n ids have no event within so many days of the newest one."""
    newest, known = np.full(n, -np.inf), codes >= 0
    np.maximum.at(newest, codes[known], times[known])
    return newest < times.max(initial=-np.inf) - days * SECONDS_PER_DAY


def _times_of_users(model: FittedModel, rows: Interactions | None) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of users and times of their events, of a log or as the model knows them."""
    if rows is not None:
        if rows.timestamps is None:
            raise ValueError("X: idle_for needs the column `timestamp`.")
        return model.users.encode(rows.user_ids), rows.timestamps
    newest = getattr(model, "newest", None)
    if isinstance(newest, np.ndarray) and len(newest) == model.n_users:
        return np.arange(len(newest)), newest
    histories = (part for part in model.parts().values() if isinstance(part, EventHistory))
    history = next(histories, None)
    if history is None or not model.timed:
        raise ValueError(
            "idle_for: this model keeps no times of users. Give X, a log with the column "
            "`timestamp`."
        )
    state = history.state()
    return state["user"], state["time"]


def _history(model: FittedModel, users: np.ndarray) -> np.ndarray:
    """Return the ids (n, 2) of the seen pairs of users."""
    pairs = model.seen.state()
    there = np.isin(pairs["user"], users)
    found = np.empty((int(there.sum()), 2), object)
    found[:, 0] = model.users.decode(pairs["user"][there])
    found[:, 1] = model.items.decode(pairs["item"][there])
    return found
