"""Scores of all items by all members of a blend, for blocks of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import get_ident

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.models._adaptive_parts import ITEM_FEATURES, Pools
from sklearn_recft.ranking import TileScorer

# Scores of a member that are held at once: 2 MiB of float32.
_SCORES_AT_ONCE, _MAX_ROWS = 128 * 4096, 128

# Scores (n, width) of pools.
PoolScorer = Callable[[Pools], np.ndarray]


@dataclass(frozen=True)
class Queries:
    """Queries of a blend, as its members score them.

    Attributes
    ----------
    names : tuple of str
        Names of the members.
    scorers : tuple of TileScorer
        One for each member, over the items that it knows.
    codes : tuple of ndarray of shape (n_items,), or None
        Code of each item for each member, -1 for items that it does not know; None if all its codes
        are the same.
    n_known : tuple of int
        Number of items that each member knows.
    times : ndarray of shape (n,)
        NaN if unknown.
    contexts : ndarray of shape (n, n_sets)
        Sets of weights of each query.
    seen : tuple of ndarrays
        Seen items of each query in the layout of CSR: ``indptr`` and codes.
    seen_times : ndarray
        Time of the last event of each of them, NaN if unknown.
    repeats : bool
        Whether seen items are ranked among all others, and are told by a feature.
    first : ndarray of shape (n_items,)
        Time of the first event of each item.
    n_best : int
        Length of the best list of each member.
    """

    names: tuple[str, ...]
    scorers: tuple[TileScorer, ...]
    codes: tuple[np.ndarray | None, ...]
    n_known: tuple[int, ...]
    times: np.ndarray
    contexts: np.ndarray
    seen: tuple[np.ndarray, np.ndarray]
    seen_times: np.ndarray
    repeats: bool
    first: np.ndarray
    n_best: int

    def __len__(self) -> int:
        return len(self.times)

    @property
    def n_items(self) -> int:
        """Number of items of the catalogue."""
        return len(self.first)

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[Block]:
        """Yield the scores of queries, some at a time."""
        last = len(self) if last is None else last
        step = max(1, min(_MAX_ROWS, _SCORES_AT_ONCE // max(self.n_items, 1)))
        for start in range(first, last, step):
            yield Block.of(self, start, min(start + step, last))

    def tile_scorer(self, columns: np.ndarray, score_pools: PoolScorer) -> TileScorer:
        """Return a function that writes the scores of ``columns``, from those of all items."""
        whole = len(columns) == self.n_items
        last: dict[int, tuple[int, int, np.ndarray]] = {}  # of each thread: rows, and their scores

        def write(r0: int, r1: int, out: np.ndarray) -> None:
            for block in self.blocks(r0, r1):
                block.write(score_pools, out[block.first - r0 : block.last - r0])

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            if whole and c1 - c0 == self.n_items:
                write(r0, r1, out)
                return
            held = last.get(get_ident())
            if held is None or held[:2] != (r0, r1):
                scores = np.empty((r1 - r0, self.n_items), np.float32)
                write(r0, r1, scores)
                held = last[get_ident()] = r0, r1, scores
            out[:] = held[2][:, columns[c0:c1]]

        return score

    def hidden_of(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the items that are left out of the best lists: the seen ones, or none."""
        indptr, seen = self.seen_of(first, last)
        return (np.zeros_like(indptr), seen[:0]) if self.repeats else (indptr, seen)

    def seen_of(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the seen items of the queries ``first`` to ``last`` as CSR."""
        indptr, codes = self.seen
        return indptr[first : last + 1] - indptr[first], codes[indptr[first] : indptr[last]]


@dataclass(frozen=True)
class Block:
    """Scores of all items by all E members, for the queries ``first`` to ``last``.

    Attributes
    ----------
    tiles : ndarray of shape (E, rows, n_items), float32
    best_scores, best_items : ndarray of shape (E, rows, n_best)
    center, scale : ndarray of shape (E, rows)
        Mean and inverse standard deviation of the scores.
    """

    queries: Queries
    first: int
    last: int
    tiles: np.ndarray
    best_scores: np.ndarray
    best_items: np.ndarray
    center: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, queries: Queries, first: int, last: int) -> Block:
        """Score all items for some queries."""
        n_members, n_rows, n_items = len(queries.scorers), last - first, queries.n_items
        tiles = np.empty((n_members, n_rows, n_items), np.float32)
        shape = n_members, n_rows, min(queries.n_best, n_items)
        best_scores = np.full(shape, -np.inf, np.float32)
        best_items = np.full(shape, -1, np.int64)
        center, scale = np.zeros((n_members, n_rows)), np.zeros((n_members, n_rows))
        indptr, hidden = queries.hidden_of(first, last)
        for e, tile in enumerate(tiles):
            _write_scores(queries, e, first, last, tile)
            kernels.rank_tile(
                tile, indptr, hidden, best_scores[e], best_items[e], center[e], scale[e]
            )
            _refuse_infinite(queries.names[e], center[e])
        return cls(queries, first, last, tiles, best_scores, best_items, center, scale)

    def pools(self, *, with_hidden: bool = False) -> Pools:
        """Return the best items of all members, with their features.

        ``with_hidden`` also seen items that no list of the best has, where a member scores them as
        high.
        """
        n_members, n_rows, n_best = self.best_items.shape
        indptr, hidden = self.queries.hidden_of(self.first, self.last)
        if not with_hidden:
            indptr, hidden = np.zeros_like(indptr), hidden[:0]
        longest = n_members * n_best + int(np.diff(indptr).max(initial=0))
        items, sizes = np.empty((n_rows, longest), np.int64), np.empty(n_rows, np.int64)
        best = self.tiles, self.best_scores, self.best_items
        kernels.gather_pool(*best, indptr, hidden, items, sizes)
        width = int(sizes.max(initial=1))
        items = np.ascontiguousarray(items[:, :width])
        contexts = self.queries.contexts[self.first : self.last]
        none = np.full(n_rows, -1, np.int64)
        return Pools(items, sizes, self.features(items), contexts, none)

    def features(self, items: np.ndarray) -> np.ndarray:
        """Return the features (rows, width, n_features) of listed items, -1 for none."""
        queries, n_members = self.queries, len(self.tiles)
        with_context = queries.contexts.shape[1] > 1
        out = np.empty(
            (*items.shape, 2 * n_members + len(ITEM_FEATURES) * with_context), np.float32
        )
        best = self.best_scores, self.best_items, self.center, self.scale
        kernels.blend_features(self.tiles, *best, items, out)
        if with_context:
            indptr, seen = queries.seen_of(self.first, self.last)
            seen_times = queries.seen_times[queries.seen[0][self.first] :]
            if not queries.repeats:
                indptr = np.zeros_like(indptr)
            times = queries.times[self.first : self.last]
            given = queries.first, times, indptr, seen, seen_times
            kernels.context_features(items, *given, n_members, out)
        return out

    def write(self, score_pools: PoolScorer, out: np.ndarray) -> np.ndarray:
        """Write the scores (rows, n_items) of all items; return those of unknown items (rows,)."""
        pools = self.pools(with_hidden=True)
        spread = self.tiles, self.center, self.scale, pools.items, pools.sizes
        return kernels.spread_pool(*spread, score_pools(pools), out)


def _refuse_infinite(name: str, center: np.ndarray) -> None:
    """Raise where the mean score of a member for a query is not finite."""
    wrong = int((~np.isfinite(center)).sum())
    if wrong:
        raise ValueError(
            f"estimators: {name!r} has scores that are NaN or infinite for {wrong} of "
            f"{len(center)} queries; fit it to moderate values, or drop it."
        )


def _write_scores(queries: Queries, e: int, first: int, last: int, out: np.ndarray) -> None:
    """Write the scores of member e; items that it does not know get its lowest score."""
    score, codes, n_known = queries.scorers[e], queries.codes[e], queries.n_known[e]
    if codes is None:
        score(first, last, 0, n_known, out)
        return
    known = np.zeros((last - first, n_known), np.float32)
    if n_known:
        score(first, last, 0, n_known, known)
    lowest = known.min(axis=1, initial=np.inf) if n_known else np.zeros(last - first)
    there = codes >= 0
    out[:, there] = known[:, codes[there]]
    out[:, ~there] = lowest[:, None]
