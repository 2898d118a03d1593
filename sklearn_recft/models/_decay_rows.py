"""Rows of the decay model: events, and negatives drawn for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_recft.interactions import Events


@dataclass(frozen=True)
class Rows:
    """Rows to learn.

    Attributes
    ----------
    events : Events of length n
        What each row is; ``feedback`` is the label, 0.0 or 1.0.
    source : ndarray of shape (n,), int64
        The event that each row comes from.
    real : ndarray of shape (n,), bool
        Whether the row happened; others were drawn as negatives.
    """

    events: Events
    source: np.ndarray
    real: np.ndarray


def draw_negatives(
    items: np.ndarray, known: np.ndarray, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Follow each row by ``n_draws`` rows of items drawn uniformly from those with events by then.

    Parameters
    ----------
    items : ndarray of shape (n,)
        Codes of the rows' items.
    known : ndarray of shape (m,)
        Codes of items with events before.
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    source : ndarray of shape (n * (1 + n_draws),)
        Rows that all columns but the item repeat.
    codes : ndarray of the same shape
        Item codes; the first of each group is the row itself.
    """
    new, first = np.unique(items, return_index=True)
    first = np.sort(first[~np.isin(new, known)])  # rows that bring an item
    n_known = len(known) + np.searchsorted(first, np.arange(len(items)), side="right")
    places = (rng.random((len(items), n_draws)) * n_known[:, None]).astype(np.int64)
    drawn = np.concatenate([known, items[first]])[places]
    codes = np.column_stack([items, drawn]).ravel()
    return np.repeat(np.arange(len(items)), 1 + n_draws), codes
