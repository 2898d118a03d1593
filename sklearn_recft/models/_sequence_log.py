"""Match new events with stored events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_recft.events import Events


def with_defaults(stored: Events, *, weight: float, context: np.ndarray) -> Events:
    """Set the weight of positive stored events, and the average context (c,)."""
    n = len(stored)
    weights = np.where(stored.feedback > 0, weight, 0.0).astype(np.float32)
    return replace(stored, weight=weights, context=np.tile(context, (n, 1)).astype(np.float32))


def known_again(known: Events, new: Events) -> tuple[Events, Events]:
    """Split new events into unstored ones and ones that are stored already.

    Events with the same user, item and time match. An event that occurs three times and is stored
    twice is new once.

    Parameters
    ----------
    known, new : Events

    Returns
    -------
    known : Events
        Stored events, with weight and context of the matching new events, so that they are
        targets.
    new : Events
        The new events without a match.
    """
    names = ("user", "item", "time")
    both = [np.concatenate([getattr(known, name), getattr(new, name)]) for name in names]
    n_known = len(known)
    is_new = np.arange(len(both[0])) >= n_known
    order = np.lexsort((is_new, both[2], both[1], both[0]))
    first = np.ones(len(order), bool)
    first[1:] = np.logical_or.reduce([c[order][1:] != c[order][:-1] for c in both])
    group = np.cumsum(first) - 1
    n_before = np.bincount(group, ~is_new[order]).astype(np.int64)[group]  # stored matches
    nth = np.arange(len(order)) - np.flatnonzero(first)[group] - n_before
    again = np.flatnonzero((nth >= 0) & (nth < n_before))
    there, here = order[again - n_before[again]], order[again] - n_known
    weight, context = known.weight.copy(), known.context.copy()
    weight[there], context[there] = new.weight[here], new.context[here]
    kept = np.delete(np.arange(len(new)), here)
    return replace(known, weight=weight, context=context), new.take(kept)
