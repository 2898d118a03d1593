"""Training rows of the decay model: events and sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sklearn_recft.interactions import Events


@dataclass(frozen=True)
class Rows:
    """Training rows.

    Attributes
    ----------
    events : Events of length n
        Data of the rows; ``feedback`` is the label, 0.0 or 1.0.
    source : ndarray of shape (n,), int64
        Index of the event of each row.
    real : ndarray of shape (n,), bool
        True for events, False for sampled negatives.
    """

    events: Events
    source: np.ndarray
    real: np.ndarray


def draw_negatives(
    items: np.ndarray, known: np.ndarray, n_draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Sample ``n_draws`` negatives after each row, uniformly from the items known by then.

    Parameters
    ----------
    items : ndarray of shape (n,)
        Codes of the rows' items.
    known : ndarray of shape (m,)
        Codes of items with earlier events.
    n_draws : int
    rng : numpy.random.Generator

    Returns
    -------
    source : ndarray of shape (n * (1 + n_draws),)
        Index of the event of each row.
    codes : ndarray of the same shape
        Item codes; the first of each group is that of the event.
    """
    new, first = np.unique(items, return_index=True)
    first = np.sort(first[~np.isin(new, known)])  # rows with a new item
    n_known = len(known) + np.searchsorted(first, np.arange(len(items)), side="right")
    places = (rng.random((len(items), n_draws)) * n_known[:, None]).astype(np.int64)
    drawn = np.concatenate([known, items[first]])[places]
    codes = np.column_stack([items, drawn]).ravel()
    return np.repeat(np.arange(len(items)), 1 + n_draws), codes
