"""Fit again without some users: what `forget` cannot take out of a model of gradient steps."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import _safe_indexing, check_consistent_length

from sklearn_recft.interactions import check_ids, items_of, users_of
from sklearn_recft.models import UNLEARNED, ForgetReceipt, utc_now
from sklearn_recft.vocabulary import Vocabulary, warn_of_other_types


def unlearn(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    user_ids: Any = (),
    item_ids: Any = (),
    sample_weight: Any = None,
    lengths: Sequence[int] | None = None,
) -> Any:
    """Replay a log without the rows of some users or items, and return the new model.

    The new model has the parameters of the given one, seeds included. It equals a model that has
    never seen these rows. The given model does not change: it can serve until the new one is ready.
    A ``random_state`` of None draws other numbers than before.

    Parameters
    ----------
    estimator : object
        A recommender, or a pipeline of one, fitted or not.
    X : table of events of shape (n, n_columns)
        All rows that the model has learned.
    y : array-like of shape (n,), default=None
        Their feedback, if there was any.
    user_ids, item_ids : array-like of ids, default=()
        Whose rows to leave out; at least one id. Ids without rows are ignored.
    sample_weight : array-like of shape (n,), default=None
    lengths : sequence of int, default=None
        Numbers of rows of the calls that the model has learned from: the first by `fit`, the others
        by `partial_fit`. Their sum is n. None: one `fit`.

    Returns
    -------
    estimator : object
        A new, fitted estimator with the attribute ``forget_receipt_``
        (`sklearn_recft.ForgetReceipt`) of the level "unlearned".

    Raises
    ------
    ValueError
        If no ids are given, ``lengths`` do not add up to n, or no row is left.

    See Also
    --------
    sklearn_recft.base.RecommenderMixin.forget : Erase users at once.

    Examples
    --------
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.model_selection import unlearn
    >>> X = [["ann", "tea"], ["ann", "rye"], ["bob", "tea"], ["cem", "rye"]]
    >>> model = IncrementalMFRecommender(n_factors=2, random_state=0).fit(X, [5, 4, 1, 2])
    >>> model = unlearn(model, X, [5, 4, 1, 2], user_ids=["bob"])
    >>> model.user_ids_.tolist(), model.forget_receipt_.level, model.forget_receipt_.n_rows
    (['ann', 'cem'], 'unlearned', 1)
    """
    start = time.perf_counter()
    users, items = check_ids(user_ids, "user_ids"), check_ids(item_ids, "item_ids")
    if not len(users) + len(items):
        raise ValueError("user_ids, item_ids: give at least one id to unlearn.")
    check_consistent_length(X, y, sample_weight)
    given = {name: ids for name, ids in (("user_ids", users), ("item_ids", items)) if len(ids)}
    known = {"user_ids": users_of(X), "item_ids": items_of(X)}
    warn_of_other_types(known, given)
    gone_users, n_users = _rows_of(known["user_ids"], users)
    gone_items, n_items = _rows_of(known["item_ids"], items)
    gone = gone_users | gone_items
    if gone.all():
        raise ValueError(
            f"X: all {len(gone)} rows belong to these ids, and a model needs one. Delete the model."
        )
    calls = _calls(gone, lengths)
    model = clone(estimator)
    for place, rows in enumerate(calls):
        learn = model.partial_fit if place else model.fit
        weight = {} if sample_weight is None else {"sample_weight": np.asarray(sample_weight)[rows]}
        feedback = None if y is None else _safe_indexing(y, rows)
        learn(_safe_indexing(X, rows), feedback, **weight)
    seconds, n_rows = time.perf_counter() - start, int(gone.sum())
    receipt = ForgetReceipt(UNLEARNED, n_users, n_items, {}, n_rows, utc_now(), seconds)
    model.forget_receipt_ = receipt
    return model


def _rows_of(ids: np.ndarray, gone: np.ndarray) -> tuple[np.ndarray, int]:
    """Return which rows (n,) have one of the ids ``gone``, and how many of these ids have rows."""
    if not len(gone):
        return np.zeros(len(ids), bool), 0
    known = Vocabulary()
    known.extend(gone)
    codes = known.encode(ids)
    return codes >= 0, len(np.unique(codes[codes >= 0]))


def _calls(gone: np.ndarray, lengths: Sequence[int] | None) -> list[np.ndarray]:
    """Return the rows to learn in each call; calls without rows are left out."""
    try:
        sizes = [len(gone)] if lengths is None else list(map(operator.index, lengths))
    except TypeError as error:
        raise TypeError(f"lengths must be a list of integers; got {lengths!r}.") from error
    if sum(sizes) != len(gone) or min(sizes, default=0) < 0:
        raise ValueError(
            f"lengths: {sum(sizes)} rows in {len(sizes)} calls, but X has {len(gone)} rows. Give "
            "the number of rows of each call of fit and partial_fit."
        )
    parts = np.split(np.arange(len(gone)), np.cumsum(sizes)[:-1])
    kept = [rows[~gone[rows]] for rows in parts]
    return [rows for rows in kept if len(rows)]
