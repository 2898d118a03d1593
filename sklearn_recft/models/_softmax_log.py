"""Events of a fit by sampled softmax, in pieces that are trained together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sklearn_recft.events import Events

# Events of a user whose inputs are moved together; negatives of an event.
_PIECE, _N_NEGATIVES = 100, 16
# Rows trained or scored at once, which bounds memory.
BLOCK = 16_384


@dataclass(frozen=True)
class Block:
    """Pieces of users' events that are trained together; arguments of the kernel."""

    starts: np.ndarray
    user: np.ndarray
    item: np.ndarray
    weight: np.ndarray
    negatives: np.ndarray


class SoftmaxLog:
    """Events of a fit, in pieces of at most 100 of one user.

    Parameters
    ----------
    events : Events
        In order of time.
    """

    def __init__(self, events: Events) -> None:
        self.order = np.argsort(events.user, kind="stable")
        self.user = events.user[self.order].astype(np.int32)
        self.item = events.item[self.order].astype(np.int32)
        self.weight = events.weight[self.order].astype(np.float32)
        counts = np.bincount(self.user)
        self.ends = np.cumsum(counts)
        n_pieces = -(-counts // _PIECE)
        # The events of a user are shared out evenly.
        nth = np.arange(n_pieces.sum()) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
        first, whole, n = (
            np.repeat(values, n_pieces) for values in (self.ends - counts, counts, n_pieces)
        )
        self.starts = first + whole * nth // n
        self.sizes = first + whole * (nth + 1) // n - self.starts

    def newest(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the last ``n`` events of each user: their rows, and their places, 0 for newest."""
        places = self.ends[self.user] - 1 - np.arange(len(self.user))
        kept = places < n
        return self.order[kept], places[kept]

    def blocks(self, rng: np.random.Generator, n_items: int, *, shuffled: bool) -> Iterator[Block]:
        """Visit all pieces in random order; ``shuffled``: of users whose events are so too."""
        order = np.arange(len(self.user))
        if shuffled:
            order = np.argsort(self.user + rng.random(len(order)), kind="stable")
        visits = rng.permutation(len(self.starts))
        ends = np.cumsum(self.sizes[visits])
        cuts = np.searchsorted(ends, np.arange(BLOCK, ends[-1], BLOCK))
        for pieces in np.split(visits, np.unique(cuts)):
            if not len(pieces):
                continue
            sizes = self.sizes[pieces]
            starts = np.append(0, np.cumsum(sizes))
            rows = order[
                np.repeat(self.starts[pieces] - starts[:-1], sizes) + np.arange(starts[-1])
            ]
            negatives = self._negatives(rng, len(rows), n_items)
            yield Block(starts, self.user[rows], self.item[rows], self.weight[rows], negatives)

    def _negatives(self, rng: np.random.Generator, n: int, n_items: int) -> np.ndarray:
        """Draw items (n, m): half of them uniformly, half as often as they occur."""
        half = _N_NEGATIVES // 2
        uniform = rng.integers(0, n_items, (n, half), dtype=np.int32)
        places = rng.integers(0, len(self.item), (n, _N_NEGATIVES - half))
        return np.concatenate([uniform, self.item[places]], axis=1)


def rows_of(table: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return a copy of the rows of codes, zeros for -1."""
    if not len(table):
        return np.zeros((len(codes), *table.shape[1:]), table.dtype)
    rows = table[codes]
    rows[codes < 0] = 0
    return rows


def positives(events: Events) -> Events:
    """Return the events with weight 0 where the feedback is not positive."""
    return replace(events, weight=np.where(events.feedback > 0, events.weight, 0.0))
