"""Queries of the sequence model: the events that each one sees, and query states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from sklearn_recft import kernels, training
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.events import Events
from sklearn_recft.history import EventHistory, Past, sequences_of
from sklearn_recft.modules import SequenceNet
from sklearn_recft.parallel import torch_threads
from sklearn_recft.ranking import TileScorer

Columns = training.Columns

_TOKENS, _CELLS = 16_384, 4_000_000  # per batch: number of events, and of attention weights
_QUERIES = 64  # maximal number of queries per sequence in a batch
_FEW = 64  # up to this number of queries, one thread is faster than several
_N_HELD_OUT = 4096  # maximal number of events of the validation metric
_STEP = 16  # sequences are padded to a multiple of this length


@dataclass(frozen=True)
class Queries:
    """Queries: the events that each one sees, and its time.

    Attributes
    ----------
    start : ndarray of shape (n,)
        Start of the query's sequence in the log.
    n_before : ndarray of shape (n,)
        Number of events that the query sees.
    time : ndarray of shape (n,), float64
        Seconds.
    trend_time : ndarray of shape (n,), float64
        Time of the trends in seconds.
    context : ndarray of shape (n, n_context), float32
    """

    start: np.ndarray
    n_before: np.ndarray
    time: np.ndarray
    trend_time: np.ndarray
    context: np.ndarray

    def __len__(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class TrainingLog:
    """Events to train on, sorted by user and time, and the period of each one's trends.

    Attributes
    ----------
    events : Events
        Events of weight 0 are no targets.
    period : ndarray of shape (n,), int64, or None
        Index of each event's period in the module's trends; None without trends.
    """

    events: Events
    period: np.ndarray | None = None

    def columns(self) -> Columns:
        """Return the columns that `training.SequenceWindows` reads."""
        names = ("item", "feedback", "time", "weight", "context")
        columns = {name: getattr(self.events, name) for name in names}
        return columns if self.period is None else {**columns, "period": self.period}


def states_of(
    module: SequenceNet,
    table: Any,
    log: Events,
    queries: Queries,
    *,
    n_threads: int,
    weights: bool = False,
) -> np.ndarray:
    """Compute the states (N, d) of queries, zero without earlier events, or their attention.

    Parameters
    ----------
    module : SequenceNet
    table : Tensor of shape (n_items, d)
    log : Events
        Each sequence in order.
    queries : Queries of length N
    n_threads : int
    weights : bool, default=False
        Return the last block's attention (N, n_heads, max_history) in place of the states,
        newest event first.

    Notes
    -----
    A sequence is run once for all of its queries, up to the last event that one of them sees.
    """
    depth = module.depth
    shape = (module.stack[0].attention.n_heads, depth) if weights else (module.query_width,)
    out = np.zeros((len(queries), *shape), np.float32)
    with torch_threads(1 if len(out) <= _FEW else n_threads):
        for rows, place, columns in _batches(log, queries):
            answers = answer(module, table, columns, weights=weights)
            if not weights:
                out[rows] = answers[place]
                continue
            last = columns["n_before"][place] - 1
            newest = last[:, None] - np.arange(depth)  # (N, L) places in the sequence
            its = answers[place[0], :, place[1]]  # (N, H, n)
            its = np.take_along_axis(its, np.maximum(newest, 0)[:, None], axis=2)
            out[rows] = np.where(newest[:, None] >= 0, its, 0)
    return out


def _batches(
    log: Events, queries: Queries
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Columns]]:
    """Split queries into batches of padded sequences.

    Yields the queries of a batch, their sequence and position in it, and the columns of the net.
    """
    asks = np.flatnonzero(queries.n_before > 0)
    start, n_before = queries.start[asks], queries.n_before[asks]
    order = np.lexsort((n_before, start))
    asks, start, n_before = asks[order], start[order], n_before[order]
    first = np.ones(len(asks), bool)
    first[1:] = start[1:] != start[:-1]
    place = np.arange(len(asks))
    nth = place - np.maximum.accumulate(np.where(first, place, 0))
    piece = np.cumsum(first | (nth % _QUERIES == 0)) - 1
    slot = nth % _QUERIES
    # The last query of a piece sees the most events.
    ends = np.flatnonzero(np.diff(piece, append=piece[-1:] + 1))
    length = -(-n_before[ends] // _STEP) * _STEP
    by_length = np.argsort(length, kind="stable")
    bounds = np.searchsorted(piece, np.arange(len(ends) + 1))
    begin = 0
    while begin < len(by_length):
        n = int(length[by_length[begin]])
        stop = begin + max(1, min(_TOKENS // n, _CELLS // n**2))
        pieces = by_length[begin:stop]
        pieces = pieces[length[pieces] == n]
        begin += len(pieces)
        rows = np.concatenate([np.arange(bounds[p], bounds[p + 1]) for p in pieces])
        sequence = np.repeat(np.arange(len(pieces)), np.diff(bounds)[pieces])
        yield (
            asks[rows],
            (sequence, slot[rows]),
            _columns(
                log,
                queries,
                asks[rows],
                sequence,
                slot[rows],
                start[ends[pieces]],
                n_before[ends[pieces]],
                n,
            ),
        )


def _columns(
    log: Events,
    queries: Queries,
    asks: np.ndarray,
    sequence: np.ndarray,
    slot: np.ndarray,
    start: np.ndarray,
    size: np.ndarray,
    n: int,
) -> Columns:
    """Lay out the sequences (B, n) and the queries (B, Q) of a batch."""
    place = np.minimum(np.arange(n), size[:, None] - 1) + start[:, None]
    shape = len(start), int(slot.max()) + 1
    context = queries.context
    columns = {
        "item": log.item[place].astype(np.int64),
        "feedback": log.feedback[place],
        "time": log.time[place],
        "n_before": np.ones(shape, np.int64),
        "query_times": np.zeros(shape),
        "context": np.zeros((*shape, context.shape[1]), np.float32),
    }
    for name, column in (
        ("n_before", queries.n_before),
        ("query_times", queries.time),
        ("context", context),
    ):
        columns[name][sequence, slot] = column[asks]
    return columns


@torch.no_grad()
def answer(
    module: SequenceNet, table: Tensor, columns: Columns, *, weights: bool = False
) -> np.ndarray:
    """Compute the states (B, Q, d + 2 c) of queries, or their attention (B, H, Q, n).

    ``columns`` holds the arguments of `SequenceNet.event_states` and `SequenceNet.query_states` as
    arrays. No gradients are kept.
    """
    given = {name: torch.from_numpy(c).to(table.device) for name, c in columns.items()}
    # The first event that a query attends to; attention itself is given all of them.
    first = 0 if weights else max(0, int(columns["n_before"].min()) - module.depth)
    time, n_before = given["time"], given["n_before"] - first
    events = module.event_states(table, given["item"], given["feedback"], time, first=first)
    states = module.query_states(
        events,
        time[:, first:],
        n_before,
        given["query_times"],
        given.get("context"),
        weights=weights,
    )
    return states.float().numpy(force=True)


@torch.no_grad()
def weights_of_trends(module: SequenceNet, states: np.ndarray) -> np.ndarray:
    """Weights (n, k) of the trends for queries of these states (n, d + 2 c)."""
    if module.mix is None:
        return np.zeros((len(states), 0), np.float32)
    device = module.mix.weight.device
    with torch_threads(1):
        own = torch.from_numpy(states[..., : module.width]).to(device)
        weights: np.ndarray = module.mix(own).numpy(force=True)
    return weights


def read_queries(
    history: EventHistory,
    users: np.ndarray,
    times: np.ndarray | None,
    items: np.ndarray | None,
    context: np.ndarray,
    now: tuple[float, float],
) -> tuple[Events, Queries]:
    """Find the events that each query sees: the sorted log of its user, and their number.

    Parameters
    ----------
    history : EventHistory
    users : ndarray of shape (n,)
        Codes, -1 for unknown users.
    times : ndarray of shape (n,) or None
        Seconds; None means after all known events.
    items : ndarray of shape (n,) or None
        Items of the queries, or None. A query at the time of an event of its own item does not
        see that event.
    context : ndarray of shape (n, n_context)
    now : (float, float)
        Times after all known events, for queries and for trends.
    """
    distinct, owner = np.unique(users, return_inverse=True)
    log, spans = sequences_of(history, distinct)
    n_before = spans.size[owner]
    time, trend_time = (np.full(len(users), seconds) for seconds in now)
    if times is not None:
        time = trend_time = times
        none = np.full(len(users), -1) if items is None else items
        own = np.array(times, np.float64)  # one layout: each other one would be compiled
        kernels.count_past(owner, own, none, spans.start, spans.stop, log.item, log.time, n_before)
    start = spans.start[owner]
    return log, Queries(start, n_before, time, trend_time, context.astype(np.float32))


def past_of(log: Events, queries: Queries, max_history: int) -> Past:
    """Return the last events (n, max_history) that each query sees, newest first."""
    back = np.arange(max_history)
    there = back < queries.n_before[:, None]
    place = np.where(there, (queries.start + queries.n_before)[:, None] - 1 - back, 0)
    item, feedback, age = np.full(place.shape, -1), *np.zeros((2, *place.shape))
    if len(log):
        item[there], feedback[there] = log.item[place[there]], log.feedback[place[there]]
        age[there] = queries.time.repeat(there.sum(1)) - log.time[place[there]]
    return Past(item, feedback, age / SECONDS_PER_DAY)


def steps_of(
    log: Events, queries: Queries, max_history: int
) -> tuple[np.ndarray, np.ndarray, Queries]:
    """Let each query see its last events one after the other: first none of them, then all.

    Returns the row of each step, the item code of the event that it adds (-1 at the first step of a
    row), and the queries of the steps.
    """
    n_steps = np.minimum(queries.n_before, max_history) + 1
    row = np.repeat(np.arange(len(queries)), n_steps)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(n_steps) - n_steps, n_steps)
    start, n_before = queries.start[row], (queries.n_before - n_steps + 1)[row] + nth
    item = np.full(len(row), -1, np.int64)
    adds = nth > 0
    item[adds] = log.item[(start + n_before - 1)[adds]]
    own = queries.time[row], queries.trend_time[row], queries.context[row]
    return row, item, Queries(start, n_before, *own)


def log_shares(tiles: TileScorer, items: np.ndarray, n_items: int) -> np.ndarray:
    """Return ``log softmax`` (n,) over all items of the score of one item of each row."""
    out = np.empty(len(items))
    for start in range(0, len(items), _QUERIES):
        stop = min(start + _QUERIES, len(items))
        scores = np.empty((stop - start, n_items), np.float32)
        tiles(start, stop, 0, n_items, scores)
        own = scores[np.arange(stop - start), items[start:stop]]
        out[start:stop] = own - logsumexp(scores, axis=1)
    return out


def add_trends(
    out: np.ndarray, weights: np.ndarray, period: np.ndarray, shares: np.ndarray
) -> None:
    """Add to scores (n, m) the weighted (n, k) trends (T, k, m) of items in each row's period."""
    for place in np.unique(period) if weights.shape[1] else ():
        rows = period == place
        out[rows] += weights[rows] @ shares[place]


def next_item_ndcg(
    module: SequenceNet, log: TrainingLog, held_out: np.ndarray, *, n_threads: int
) -> float:
    """Compute NDCG@10 of held-out events of a sorted log, predicted from earlier events."""
    events = log.events
    start = np.searchsorted(events.user, events.user[held_out])
    queries = Queries(
        start,
        held_out - start,
        events.time[held_out],
        events.time[held_out],
        events.context[held_out],
    )
    table = module.catalogue()
    states = states_of(module, table, events, queries, n_threads=n_threads)
    vectors, gain = table.numpy(force=True), 0.0
    weights = weights_of_trends(module, states)
    for part in np.array_split(np.arange(len(held_out)), -(-len(held_out) // 1024) or 1):
        scores = states[part] @ vectors.T
        if log.period is not None and module.trends is not None:
            shares = module.trends.numpy(force=True)
            add_trends(scores, weights[part], log.period[held_out[part]], shares)
        own = scores[np.arange(len(part)), events.item[held_out[part]]]
        rank = (scores > own[:, None]).sum(1)
        gain += float((1 / np.log2(rank + 2))[rank < 10].sum())
    return gain / max(len(held_out), 1)


def next_item_scorer(
    module: SequenceNet,
    log: TrainingLog,
    until: float,
    rng: np.random.Generator,
    n_threads: int,
) -> training.Scorer:
    """Return a scorer: NDCG@10 of events after ``until``, predicted from earlier events.

    Raises
    ------
    ValueError
        If no event is later.
    """
    held_out = np.flatnonzero((log.events.time > until) & (log.events.weight > 0))
    if not len(held_out):
        raise ValueError(
            "patience holds out the newest events, and none is later than the rest: give X a "
            "timestamp, a larger validation_fraction, or patience=None."
        )
    if len(held_out) > _N_HELD_OUT:
        held_out = np.sort(rng.choice(held_out, _N_HELD_OUT, replace=False))
    return training.Scorer(
        "ndcg@10", lambda: next_item_ndcg(module, log, held_out, n_threads=n_threads)
    )
