"""What the sequence model answers: states of queries, scores of rows, and what they looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.modules import SequenceNet
from sklearn_recft.parallel import n_threads, torch_threads

Columns = dict[str, np.ndarray]

_TOKENS, _CELLS = 16_384, 4_000_000  # of the sequences that are run at a time, and of attention
_QUERIES = 64  # of one sequence that are asked at a time
_FEW = 64  # queries that one thread answers sooner than several
_STEP = 16  # sequences are padded to a multiple of so many events


def states_of(
    module: SequenceNet, table: Any, log: Columns, queries: Columns, *, n_threads: int,
    weights: bool = False,
) -> np.ndarray:  # fmt: skip
    """States (N, d) of queries, zero where nothing came before; or what they looked at.

    Parameters
    ----------
    module : SequenceNet
    table : Tensor of shape (n_items, d)
    log : dict of arrays of shape (n,)
        ``item``, ``feedback`` and ``time`` of events, each sequence in order.
    queries : dict of arrays of shape (N,)
        ``start``, where the query's sequence begins in the log; ``n_before``, how many of its
        events the query knows; ``asked``, when; and ``context`` (N, c). Others are not read.
    n_threads : int
    weights : bool, default=False
        Return the last block's attention (N, n_heads, max_history) in place of the states,
        newest event first.

    Notes
    -----
    A sequence is run once for all of its queries, up to the last event that one of them knows.
    """
    depth = module.depth
    shape = (module.stack[0].attention.n_heads, depth) if weights else (module.query_width,)
    out = np.zeros((len(queries["start"]), *shape), np.float32)
    with torch_threads(1 if len(out) <= _FEW else n_threads):
        for rows, place, columns in _batches(log, queries):
            said = module.answer(table, columns, weights=weights)
            if not weights:
                out[rows] = said[place]
                continue
            last = columns["n_before"][place] - 1
            newest = last[:, None] - np.arange(depth)  # (N, L) places in the sequence
            its = said[place[0], :, place[1]]  # (N, H, n)
            its = np.take_along_axis(its, np.maximum(newest, 0)[:, None], axis=2)
            out[rows] = np.where(newest[:, None] >= 0, its, 0)
    return out


def _batches(
    log: Columns, queries: Columns
) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray], Columns]]:
    """Cut queries into batches of padded sequences.

    Yields the queries of a batch, their sequence and place in it, and the net's columns.
    """
    asks = np.flatnonzero(queries["n_before"] > 0)
    start, n_before = queries["start"][asks], queries["n_before"][asks]
    order = np.lexsort((n_before, start))
    asks, start, n_before = asks[order], start[order], n_before[order]
    first = np.ones(len(asks), bool)
    first[1:] = start[1:] != start[:-1]
    place = np.arange(len(asks))
    nth = place - np.maximum.accumulate(np.where(first, place, 0))
    piece = np.cumsum(first | (nth % _QUERIES == 0)) - 1
    slot = nth % _QUERIES
    ends = np.flatnonzero(np.diff(piece, append=piece[-1:] + 1))  # the last asks furthest on
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
        yield asks[rows], (sequence, slot[rows]), _columns(
            log, queries, asks[rows], sequence, slot[rows], start[ends[pieces]],
            n_before[ends[pieces]], n,
        )  # fmt: skip


def _columns(
    log: Columns, queries: Columns, asks: np.ndarray, sequence: np.ndarray, slot: np.ndarray,
    start: np.ndarray, size: np.ndarray, n: int,
) -> Columns:  # fmt: skip
    """Lay out the sequences (B, n) and the queries (B, Q) of a batch."""
    place = np.minimum(np.arange(n), size[:, None] - 1) + start[:, None]
    shape = len(start), int(slot.max()) + 1
    context = queries["context"]
    columns = {
        "item": log["item"][place].astype(np.int64), "feedback": log["feedback"][place],
        "time": log["time"][place], "n_before": np.ones(shape, np.int64),
        "asked": np.zeros(shape), "context": np.zeros((*shape, context.shape[1]), np.float32),
    }  # fmt: skip
    for name in ("n_before", "asked", "context"):
        columns[name][sequence, slot] = queries[name][asks]
    return columns


# ------------------------------------------------------------------------- queries


def queries_of(
    model: Any, users: np.ndarray, times: np.ndarray | None, items: np.ndarray | None,
    context: np.ndarray | None,
) -> tuple[Columns, Columns]:  # fmt: skip
    """Find what each query knows: the sorted log of its user, its place in there, and times.

    ``times`` None asks after all that is known; ``items`` None for none in particular.
    """
    distinct, owner = np.unique(users, return_inverse=True)
    log, start, stop = remembered(model, distinct)
    n_before = stop[owner] - start[owner]
    asked = np.full(len(users), model._newest + 1.0 if model._timed else 0.0)
    told = asked + model._trends.period  # of trends: of all that is known
    if model._timed and times is not None:
        asked = told = times
        none = np.full(len(users), -1) if items is None else items
        kernels.count_past(owner, times, none, start, stop, log["item"], log["time"], n_before)
    if context is None:
        mean = model.module_.scale_of_context[0].numpy(force=True)
        context = np.tile(mean, (len(users), 1))
    queries = {"start": start[owner], "n_before": n_before, "asked": asked, "told": told}
    return log, {**queries, "context": context.astype(np.float32)}


def remembered(model: Any, users: np.ndarray) -> tuple[Columns, np.ndarray, np.ndarray]:
    """Read the events of distinct users, in order of time, then arrival.

    Returns columns ``user, item, feedback, time``, one user after the other, and where each
    one's begin and end.
    """
    last, previous, *columns = model._history.log
    counts, limit = np.empty(len(users), np.int64), 2 * model.max_history
    kernels.latest_events(users, last, previous, limit, counts, np.empty(0, np.int64))
    place = np.empty(counts.sum(), np.int64)
    kernels.latest_events(users, last, previous, limit, counts, place)
    log = {name: c[place] for name, c in zip(("item", "feedback", "time"), columns, strict=True)}
    log["user"] = np.repeat(users, counts)
    order = np.lexsort((log["time"], np.repeat(np.arange(len(users)), counts)))
    stop = np.cumsum(counts)
    return {name: column[order] for name, column in log.items()}, stop - counts, stop


def popular(model: Any) -> np.ndarray:
    """Score (n_items + 1,) for strangers: the log of each item's share; last, of a new one."""
    counts = np.append(model._n_events, 0) + 1.0
    return np.log(counts / counts.sum()).astype(np.float32)


def trends_of(
    model: Any, states: np.ndarray, queries: Columns
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find what was popular when queries are asked, and what that weighs.

    Returns the weights (N, k), the moment (N,) of each query, and the trends (T, k, n_items + 1)
    of the moments, last of an item that nobody took. Strangers are told the quickest trend.
    """
    weights = model.module_.weights_of_trends(states)
    weights[queries["n_before"] == 0] = np.arange(weights.shape[1]) == 0
    return weights, *model._trends.known_at(queries["told"], model.n_items_)


def add_trends(out: np.ndarray, weights: np.ndarray, moment: np.ndarray, told: np.ndarray) -> None:
    """Add to scores (n, m) what items' trends (T, k, m) weigh (n, k) at each row's moment."""
    for place in np.unique(moment) if weights.shape[1] else ():
        rows = moment == place
        out[rows] += weights[rows] @ told[place]


def scores_of(model: Any, log: Columns, queries: Columns, table: Any, items: np.ndarray) -> Any:
    """Score (N,) of each query for the item at its place in ``table`` (m, d), float64."""
    threads = n_threads(model.n_jobs)
    states = states_of(model.module_, model._catalogue, log, queries, n_threads=threads)
    vectors, known = table.numpy(force=True), np.minimum(items, model.n_items_)
    scores = np.einsum("nd,nd->n", states, vectors[items], dtype=np.float64)
    weights, moment, told = trends_of(model, states, queries)
    scores += (weights * told[moment, :, known]).sum(1)
    if not weights.shape[1]:
        stranger = queries["n_before"] == 0
        scores[stranger] = popular(model)[known[stranger]]
    return scores


def next_item_ndcg(
    module: SequenceNet, log: Columns, asked: np.ndarray, *, n_threads: int
) -> float:
    """NDCG@10 of events of a sorted log, each to be found by what came before it.

    ``log["moment"]`` says which of the module's trends holds, if it is told any.
    """
    start = np.searchsorted(log["user"], log["user"][asked])
    queries = {
        "start": start, "n_before": asked - start, "asked": log["time"][asked],
        "context": log["context"][asked],
    }  # fmt: skip
    table = module.catalogue()
    states = states_of(module, table, log, queries, n_threads=n_threads)
    vectors, gain = table.numpy(force=True), 0.0
    weights = module.weights_of_trends(states)
    for part in np.array_split(np.arange(len(asked)), -(-len(asked) // 1024) or 1):
        scores = states[part] @ vectors.T
        if module.trends is not None:
            told = module.trends.numpy(force=True)
            add_trends(scores, weights[part], log["moment"][asked[part]], told)
        own = scores[np.arange(len(part)), log["item"][asked[part]]]
        rank = (scores > own[:, None]).sum(1)
        gain += float((1 / np.log2(rank + 2))[rank < 10].sum())
    return gain / max(len(asked), 1)
