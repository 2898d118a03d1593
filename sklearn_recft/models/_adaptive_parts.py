"""Parts of an adaptive blend: its members, its weights, and how active users are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.history import without
from sklearn_recft.models._adaptive_drift import alarms
from sklearn_recft.models._adaptive_shares import SHARES, best_share, decayed_sum, list_quality
from sklearn_recft.models._base import FittedModel

# Upper ends of the buckets of time since the last event, in seconds.
_GAPS = np.array([60.0, 3600.0, SECONDS_PER_DAY, 7 * SECONDS_PER_DAY, 30 * SECONDS_PER_DAY])
_GAP_NAMES = ("unknown", "< 1 minute", "< 1 hour", "< 1 day", "< 7 days", "< 30 days", "longer")
# Bucket k > 0 has users with 2^k - 1 to 2^(k + 1) - 2 events.
_LENGTH_NAMES = ("0", "1-2", "3-6", "7-14", "15-30", "31-62", "63-126", "127 or more")
# Users without an event since `partial_fit` have other codes of contexts, behind these: their lists
# are for all that comes until the next call. Such lists are few, so there are four sets: one for
# all of them, one for new users, one for users of the last day, and one for the others.
N_SETS = 1 + len(_LENGTH_NAMES) + len(_GAP_NAMES)
_AHEAD_NAMES = ("ahead", "ahead, new user", "ahead, known user", "ahead, user of the last day")
# Row of the table of weights of each code; the last row stays zero. The lengths of users of the
# last day have codes behind all others.
_ROWS = np.r_[
    np.arange(N_SETS + 2),
    np.full(len(_LENGTH_NAMES) - 1, N_SETS + 2),
    np.full(len(_GAP_NAMES), 2 * N_SETS - 1),
    np.full(1 + len(_LENGTH_NAMES), N_SETS + 3),
]
# Codes of a list ahead of time that its sets learn by.
N_AHEAD = 2
# Weights of ranks and of scores at the start, divided by the number of members.
_FIRST = 1.0, 0.1
# Least weights without context.
_LEAST = 1e-3
# Features of items, beside those of members.
ITEM_FEATURES = ("item age", "seen before", "seen just now", "time since seen")
# Names of the terms of a blend, which no member can have.
BEHIND, FINAL = "behind the pool", "final estimator"
RESERVED_NAMES = frozenset({*ITEM_FEATURES, BEHIND, FINAL, "the blend"})
# New pairs of user and item that are kept unsorted, at least and as a share of all.
_NEW_PAIRS, _NEW_SHARE = 1024, 0.05
# Places of a displayed list with a weight each; later places share the last one.
N_PLACES = 20
# Length of the lists whose NDCG is logged.
_LIST = 10
# Chunks of queries that the log keeps.
_LOGGED = 200


@dataclass(frozen=True)
class Member:
    """One member of a blend.

    Attributes
    ----------
    name : str
    kind : subclass of FittedModel
    settings : dataclass
        Settings of its model.
    observes, explains : bool
        Whether its estimator has `observe` and `explain`.
    """

    name: str
    kind: type[FittedModel]
    settings: Any
    observes: bool
    explains: bool


class Members:
    """The fitted models of the members, as one part of a blend.

    Parameters
    ----------
    models : tuple of FittedModel
    """

    def __init__(self, models: tuple[FittedModel, ...]) -> None:
        self.models = models

    def __len__(self) -> int:
        return len(self.models)

    def mark(self, *rows: Any) -> tuple[dict[str, Any], ...]:
        """Return the states of all models; `FittedModel.learn` marks less (``within``)."""
        return tuple(model.state() for model in self.models)

    def restore(self, mark: tuple[dict[str, Any], ...]) -> None:
        """Load the states of `mark`."""
        for model, state in zip(self.models, mark, strict=True):
            model.load_state(state)

    def state(self) -> dict[str, Any]:
        """Return the states of all models by their place."""
        return {str(place): state for place, state in enumerate(self.mark())}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.restore(tuple(state[str(place)] for place in range(len(self))))

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: the blend translates the codes of users for each model."""


class Activity:
    """Number of events and time of the last one by user, and of the first one by item.

    Attributes
    ----------
    counts, news : ndarray of shape (n_users,), int64
        Number of all events, and of those since `settle`.
    last : ndarray of shape (n_users,), float64
        Seconds; NaN if unknown.
    first : ndarray of shape (n_items,), float64
    now : float
        Time of the newest event, NaN if unknown.
    """

    def __init__(self) -> None:
        self.counts = self.news = np.empty(0, np.int64)
        self.last, self.first = np.empty(0), np.empty(0)
        self.now = np.nan

    def append(self, users: np.ndarray, items: np.ndarray, times: np.ndarray | None) -> None:
        """Append events (codes) in the order of time; without ``times``, users are counted."""
        self.counts, self.news = _grown(self.counts, users, 0), _grown(self.news, users, 0)
        self.last, self.first = _grown(self.last, users, np.nan), _grown(self.first, items, np.nan)
        np.add.at(self.counts, users, 1)
        np.add.at(self.news, users, 1)
        if times is not None:
            np.fmax.at(self.last, users, times)
            np.fmin.at(self.first, items, times)
            self.now = float(np.fmax(self.now, times.max()))

    def settle(self) -> None:
        """Count no event as news any more."""
        self.news = np.zeros_like(self.news)

    def contexts(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return codes of the sets of weights of each query, (n, 3): all, by length, by gap."""
        found = np.zeros((len(users), 3), np.int64)
        known = (users >= 0) & (users < len(self.counts))
        counts, gaps = np.zeros(len(users)), np.full(len(users), np.nan)
        counts[known] = self.counts[users[known]]
        gaps[known] = times[known] - self.last[users[known]]
        lengths = np.minimum(np.log2(1.0 + counts).astype(np.int64), len(_LENGTH_NAMES) - 1)
        found[:, 1] = 1 + lengths
        bucket = np.where(np.isnan(gaps), 0, 1 + np.searchsorted(_GAPS, gaps, side="right"))
        found[:, 2] = 1 + len(_LENGTH_NAMES) + bucket
        ahead = np.ones(len(users), bool)
        ahead[known] = self.news[users[known]] == 0
        found[ahead] += N_SETS
        found[ahead & (gaps >= 0) & (gaps < SECONDS_PER_DAY), 1] += N_SETS
        return found

    def times(self, times: np.ndarray | None, n: int) -> np.ndarray:
        """Return the times of n queries, by default that of the newest event."""
        return np.full(n, self.now) if times is None else np.array(times, np.float64)

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return copies of all arrays."""
        arrays = self.counts, self.news, self.last, self.first
        return *(array.copy() for array in arrays), self.now

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Restore what `mark` returned."""
        self.counts, self.news, self.last, self.first, self.now = mark

    def state(self) -> dict[str, Any]:
        """Return the arrays by name."""
        return dict(zip(("counts", "news", "last", "first", "now"), self.mark(), strict=True))

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        arrays = (np.array(state[name]) for name in ("counts", "news", "last", "first"))
        self.restore((*arrays, float(state["now"])))

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes)."""
        kept, _ = without(np.arange(len(self.counts)), users)
        self.counts, self.news, self.last = self.counts[kept], self.news[kept], self.last[kept]


class PairTimes:
    """Time of the last event of each pair of user and item, in two sorted tables.

    New pairs go to the small table, which joins the large one as it grows.

    Attributes
    ----------
    keys, times : list of two ndarrays
        ``user << 32 | item``, ascending, and seconds.
    """

    def __init__(self) -> None:
        self.keys = [np.empty(0, np.int64), np.empty(0, np.int64)]
        self.times = [np.empty(0), np.empty(0)]

    def append(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Set the times of pairs (codes); of equal pairs, the latest counts."""
        keys, new = _last_of_each(
            np.concatenate([self.keys[1], _pairs(users, items)]),
            np.concatenate([self.times[1], times]),
        )
        if len(keys) > max(_NEW_PAIRS, _NEW_SHARE * len(self.keys[0])):
            keys, new = _last_of_each(
                np.concatenate([self.keys[0], keys]), np.concatenate([self.times[0], new])
            )
            self.keys, self.times = [keys, keys[:0]], [new, new[:0]]
        else:
            self.keys, self.times = [self.keys[0], keys], [self.times[0], new]

    def of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the time (n,) of the last event of pairs, NaN without any."""
        wanted, found = _pairs(users, items), np.full(len(users), np.nan)
        for keys, times in zip(self.keys, self.times, strict=True):
            if len(keys):
                near = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
                found = np.where(keys[near] == wanted, times[near], found)
        return found

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return the tables, which are replaced and never written to."""
        return self.keys, self.times

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Restore what `mark` returned."""
        self.keys, self.times = mark

    def state(self) -> dict[str, Any]:
        """Return one table of all pairs."""
        keys, times = _last_of_each(np.concatenate(self.keys), np.concatenate(self.times))
        return {"keys": keys, "times": times}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.keys = [state["keys"], state["keys"][:0]]
        self.times = [state["times"], state["times"][:0]]

    def forget(self, users: np.ndarray) -> None:
        """Remove the pairs of ``users`` (codes), and renumber the others."""
        table = self.state()
        kept, moved = without(table["keys"] >> 32, users)
        items = table["keys"][kept] & 0xFFFFFFFF
        self.load_state({"keys": _pairs(moved, items), "times": table["times"][kept]})


class Blend:
    """Weights of a blend by context, their sums of squared gradients, and a log of chunks.

    Parameters
    ----------
    n_members : int
    context : bool
        Whether there are weights by context, for the age of items and for items seen before.

    Attributes
    ----------
    weights, squares : ndarray of shape (n_contexts, n_features), float64
    quality : ndarray of shape (len(SHARES),), float64
        Decayed sums of NDCG@10 of lists ahead, with each share of the first weights added.
    places : ndarray of shape (2, n_contexts, N_PLACES), float64
        Weights of the places of displayed lists, and their sums of squared gradients.
    log : ndarray of shape (200, 3 + n_members + n_features), float64
        Of each chunk of queries, in turn: time, number of queries, NDCG@10 of the blend and of each
        member, and the mean weights of its queries.
    n_logged : int
        Number of chunks so far.
    """

    def __init__(self, n_members: int, context: bool) -> None:
        n_features = 2 * n_members + len(ITEM_FEATURES) * context
        n_contexts = 2 * N_SETS if context else 1
        self.weights = np.zeros((n_contexts, n_features))
        self.weights[::N_SETS, : 2 * n_members] = _first_weights(n_members)
        self.squares = np.zeros((n_contexts, n_features))
        self.quality = np.zeros(len(SHARES))
        self.places = np.zeros((2, n_contexts, N_PLACES))
        self.log = np.full((_LOGGED, 3 + n_members + n_features), np.nan)
        self.n_logged = 0

    @property
    def context_names(self) -> tuple[str, ...]:
        """Names of the sets of weights."""
        names = ["all"]
        if len(self.weights) > 1:
            names += [f"events: {name}" for name in _LENGTH_NAMES]
            names += [f"last event: {name}" for name in _GAP_NAMES]
            names += _AHEAD_NAMES
        return tuple(names)

    @property
    def n_members(self) -> int:
        """Number of members."""
        return (self.weights.shape[1] - len(ITEM_FEATURES) * (len(self.weights) > 1)) // 2

    @property
    def used(self) -> np.ndarray:
        """Weights that lists are scored by: the best share of the first is added to those ahead."""
        return self._with(best_share(self.quality))

    def _with(self, share: float) -> np.ndarray:
        if len(self.weights) == 1:
            return self.weights
        used, n = self.weights.copy(), self.n_members
        used[N_SETS, : 2 * n] += share * _first_weights(n)
        return used

    def score_shares(self, pools: Pools, lists: np.ndarray) -> None:
        """Add the quality of lists ahead with each share of the first weights; learn nothing."""
        none, options = np.zeros(len(lists)), (0.0, 1.0, _LIST)
        tables = [(self._with(share), self.squares) for share in SHARES]
        ranks = [_learned(pools, none, lists, table, options) for table in tables]
        self.quality = decayed_sum(self.quality, np.stack([list_quality(r, lists) for r in ranks]))

    def alarms(self) -> list[tuple[float, int, float, float]]:
        """Return changes of what each member is worth beside the blend, from the log.

        Each has the time, the member, and the means of its NDCG less the blend's before and after.
        """
        log = self.chunks()
        log = log[~np.isnan(log[:, 2])]
        return alarms(log[:, 0], log[:, 1], log[:, 3 : 3 + self.n_members] - log[:, 2:3])

    def chunks(self) -> np.ndarray:
        """Return the log of the last chunks, oldest first."""
        order = np.arange(max(self.n_logged - _LOGGED, 0), self.n_logged) % _LOGGED
        return self.log[order]

    def write(self, row: np.ndarray) -> None:
        """Add a chunk to the log, in place of the oldest one if it is full."""
        self.log[self.n_logged % _LOGGED] = row
        self.n_logged += 1

    def log_chunk(self, time: float, pools: Pools, ranks: np.ndarray) -> None:
        """Write the quality of a chunk of queries, and its mean weights, to the log."""
        n = self.n_members
        there = pools.targets >= 0
        theirs = pools.features[np.flatnonzero(there), pools.targets[there], :n]
        gains = np.where(-theirs < np.log2(_LIST + 1.5), -1.0 / theirs, 0.0).sum(axis=0)
        own = (1.0 / np.log2(ranks[ranks < _LIST] + 2.0)).sum()
        gains = np.r_[own, gains] / len(ranks)
        self.write(np.r_[time, len(ranks), gains, self.mean_weights(pools.rows)])

    def mean_weights(self, rows: np.ndarray) -> np.ndarray:
        """Return the mean over queries of the sums of their sets of weights."""
        return self.weights[rows].sum(axis=1).mean(axis=0)

    def learn(
        self,
        pools: Pools,
        importance: np.ndarray,
        options: tuple[float, float, int],
        *,
        lists: np.ndarray | None = None,
        n_passes: int = 1,
    ) -> np.ndarray:
        """Rank the target of each query, then learn from it; return the ranks (n,).

        Queries of the same list (its number, in ``lists``) share a step; by default each has its
        own. The ranks are those of the first of ``n_passes`` over all queries.
        """
        if lists is None:
            lists = np.arange(len(importance))
        tables = self.weights, self.squares
        ranks = _learned(pools, importance, lists, tables, options)
        for _ in range(1, n_passes):
            _learned(pools, importance, lists, tables, options)
        self._keep_order()
        return np.where(pools.targets >= 0, ranks, np.iinfo(np.int64).max)

    def learn_places(
        self,
        pools: Pools,
        importance: np.ndarray,
        lists: np.ndarray,
        options: tuple[float, float, int],
    ) -> None:
        """Learn from pools whose last features are the places of a displayed list."""
        n = self.weights.shape[1]
        tables = [
            np.hstack(pair) for pair in zip((self.weights, self.squares), self.places, strict=True)
        ]
        _learned(pools, importance, lists, (tables[0], tables[1]), options)
        self.weights, self.squares = (np.ascontiguousarray(table[:, :n]) for table in tables)
        self.places = np.stack([table[:, n:] for table in tables])
        self._keep_order()
        row = np.full(self.log.shape[1], np.nan)
        row[1], row[-n:] = len(pools.sizes), self.mean_weights(pools.rows)
        self.write(row)

    def _keep_order(self) -> None:
        """Without context, let no item be worse for a better rank or score."""
        if len(self.weights) == 1:
            np.maximum(self.weights, _LEAST, out=self.weights)

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return copies of all arrays."""
        arrays = self.weights, self.squares, self.quality, self.places, self.log
        return *(array.copy() for array in arrays), self.n_logged

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Restore what `mark` returned."""
        self.weights, self.squares, self.quality, self.places, self.log, self.n_logged = mark

    def state(self) -> dict[str, Any]:
        """Return the arrays by name."""
        names = "weights", "squares", "quality", "places", "log", "n_logged"
        return dict(zip(names, self.mark(), strict=True))

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        names = "weights", "squares", "quality", "places", "log"
        self.restore((*(np.array(state[name]) for name in names), int(state["n_logged"])))

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: there is no state per user."""


@dataclass(frozen=True)
class Pools:
    """The best items of all members for n queries, with what the blend knows of them.

    Attributes
    ----------
    items : ndarray of shape (n, width), int64
        Codes; -1 behind the end of a pool.
    sizes : ndarray of shape (n,), int64
    features : ndarray of shape (n, width, n_features), float32
    contexts : ndarray of shape (n, n_sets), int64
        Codes of the sets of weights of each query.
    targets : ndarray of shape (n,), int64
        Place of the item of the query's row in its pool, -1 for none.
    """

    items: np.ndarray
    sizes: np.ndarray
    features: np.ndarray
    contexts: np.ndarray
    targets: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Rows (n, n_sets) of the table of weights, whose sum is the weights of a query."""
        return _ROWS[self.contexts]

    @classmethod
    def empty(cls, n: int, width: int, shape: tuple[int, int]) -> Pools:
        """Return pools of n queries to be filled; ``shape`` is that of the features and sets."""
        return cls(
            np.full((n, width), -1, np.int64),
            np.zeros(n, np.int64),
            np.zeros((n, width, shape[0]), np.float32),
            np.zeros((n, shape[1]), np.int64),
            np.full(n, -1, np.int64),
        )


def _first_weights(n_members: int) -> np.ndarray:
    """Return the weights of ranks and then of scores that a blend starts with."""
    return np.repeat(_FIRST, n_members) / n_members


def _learned(
    pools: Pools,
    importance: np.ndarray,
    lists: np.ndarray,
    tables: tuple[np.ndarray, np.ndarray],
    options: tuple[float, float, int],
) -> np.ndarray:
    """Learn weights and sums of squares in place; return the rank of each target."""
    ranks = np.empty(len(pools.sizes), np.int64)
    kernels.learn_blend(
        pools.features,
        pools.sizes,
        pools.targets,
        pools.rows,
        np.ascontiguousarray(importance, np.float64),
        np.ascontiguousarray(lists, np.int64),
        *tables,
        np.array(options, np.float64),
        ranks,
    )
    return ranks


def _pairs(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return one number for each pair of codes."""
    return users.astype(np.int64) << 32 | items.astype(np.int64)


def _last_of_each(keys: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct keys, ascending, and the latest time of each."""
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    last = np.ones(len(keys), bool)
    last[:-1] = keys[1:] != keys[:-1]
    return keys[last], times[last]


def _grown(values: np.ndarray, codes: np.ndarray, padding: float) -> np.ndarray:
    """Return an array with a place for each code."""
    n = int(codes.max(initial=-1)) + 1
    missing = n - len(values)
    if missing <= 0:
        return values
    return np.concatenate([values, np.full(missing, padding, values.dtype)])
