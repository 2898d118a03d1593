"""Rows and pools of a blend: in the order of time, by steps of users, joined."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._adaptive_parts import N_AHEAD, N_SETS, Pools
from sklearn_recft.models._adaptive_shown import Shown
from sklearn_recft.vocabulary import Vocabulary

# Steps of a chunk in which the history of a user grows. A user with more events in the chunk has
# several of them in one step.
_MAX_STEPS = 25


@dataclass(frozen=True)
class MemberRows(Interactions):
    """Rows of a blend, with the same rows as each member reads them, and displayed lists."""

    members: tuple[Interactions, ...] = ()
    shown: Shown | None = None

    def take(self, rows: np.ndarray) -> MemberRows:
        """Return the same columns at ``rows``, for all members too; the lists stay whole."""
        members = tuple(member.take(rows) for member in self.members)
        return replace(super().take(rows), members=members)


def looked_up(own: Vocabulary, other: Vocabulary, codes: np.ndarray) -> np.ndarray:
    """Return the code of each id in another vocabulary, given those known so far."""
    longer = np.full(len(own), -1, np.int64)
    longer[: len(codes)] = codes
    missing = np.flatnonzero(longer < 0)
    if len(missing) and len(other):
        longer[missing] = other.encode(own.decode(missing))
    return longer


def ids_of(vocabulary: Vocabulary, codes: np.ndarray) -> np.ndarray:
    """Return the ids of codes, None for -1."""
    ids = np.full(len(codes), None, object)
    ids[codes >= 0] = vocabulary.decode(codes[codes >= 0])
    return ids


def in_time_order(rows: Interactions) -> Interactions:
    """Return rows in the order of their times, if they have any."""
    times = rows.timestamps
    if times is None or (times[1:] >= times[:-1]).all():
        return rows
    return rows.take(np.argsort(times, kind="stable"))


def codes_of(ids: np.ndarray) -> np.ndarray:
    """Return one number for each distinct id."""
    return Vocabulary().extend(ids)


def steps(users: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows so that the earlier rows of each user come in an earlier step."""
    order = np.argsort(users, kind="stable")
    grouped = users[order]
    nth = np.empty(len(users), np.int64)
    nth[order] = np.arange(len(users)) - np.searchsorted(grouped, grouped)
    counts = np.bincount(users)[users]
    nth = nth * _MAX_STEPS // np.maximum(counts, _MAX_STEPS)
    for step in range(int(nth.max(initial=0)) + 1):
        yield np.flatnonzero(nth == step)


def parts_of(n: int, n_asked: int, n_parts: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Yield parts of n rows, and whether members are asked for them: for the last ``n_asked``."""
    first = max(n - n_asked, 0)
    for part in (np.arange(first), *np.array_split(np.arange(first, n), n_parts)):
        if len(part):
            yield part, bool(part[0] >= first)


def with_targets(pools: Pools, items: np.ndarray) -> Pools:
    """Return pools with the places of items (codes, -1 for unknown ones), one of each pool."""
    hits = (pools.items == items[:, None]) & (items >= 0)[:, None]
    return replace(pools, targets=np.where(hits.any(axis=1), hits.argmax(axis=1), -1))


def as_queries(rows: Interactions) -> Interactions:
    """Return the users, times and contexts of rows."""
    return Interactions(
        rows.user_ids,
        None,
        None,
        rows.timestamps,
        None,
        rows.context,
        rows.context_names,
        features=rows.features,
        query=rows.query,
    )


def joined(parts: list[Pools], order: np.ndarray | None = None) -> Pools:
    """Return the pools of all parts, each padded to the widest, in another order."""
    width = max(part.items.shape[1] for part in parts)

    def stacked(name: str, padding: float) -> np.ndarray:
        found = []
        for part in parts:
            values = getattr(part, name)
            if values.ndim > 1 and name != "contexts":
                wide = [(0, 0), (0, width - values.shape[1]), (0, 0)][: values.ndim]
                values = np.pad(values, wide, constant_values=padding)
            found.append(values)
        joined = found[0] if len(found) == 1 else np.concatenate(found)
        return joined if order is None else joined[order]

    return Pools(
        stacked("items", -1),
        stacked("sizes", 0),
        stacked("features", 0.0),
        stacked("contexts", 0),
        stacked("targets", -1),
    )


def whole_lists(
    pools: Pools, users: np.ndarray, items: np.ndarray
) -> tuple[Pools, np.ndarray, np.ndarray] | None:
    """Return the lists of users without news, with all items that each takes from then on.

    Parameters
    ----------
    pools : Pools of n queries
    users, items : ndarray of shape (n,)
        Codes of the row of each query, in the order of time; -1 for unknown items.

    Returns
    -------
    pools : Pools
        One for each of these items, in the order of queries and items.
    importance : ndarray
        The items of a list share a weight of 1.
    lists : ndarray
        Number of the list.
    """
    _, first = np.unique(users, return_index=True)
    if pools.contexts.shape[1] == 1:
        return None
    first = first[pools.contexts[first, 0] == N_SETS]
    width = int(max(pools.items.max(initial=0), items.max(initial=0))) + 1
    taken = (users * width + items)[items >= 0]
    hits = np.isin(users[first, None] * width + pools.items[first], taken)
    hits &= pools.items[first] >= 0
    query, place = np.nonzero(hits)
    if not len(query):
        return None
    order = np.lexsort((pools.items[first[query], place], query))
    query, place = query[order], place[order]
    rows = first[query]
    contexts = pools.contexts[rows, :N_AHEAD]
    found = Pools(pools.items[rows], pools.sizes[rows], pools.features[rows], contexts, place)
    return found, 1.0 / hits.sum(axis=1)[query], query


def queries_of(
    events: Events, rows: np.ndarray, users: Vocabulary, context_names: tuple[str, ...]
) -> Interactions:
    """Return the queries of some events."""
    times = events.time[rows]
    return Interactions(
        ids_of(users, events.user[rows]),
        None,
        None,
        None if np.isnan(times).any() else times,
        None,
        events.context[rows],
        context_names,
        features={name: column.take(rows) for name, column in events.features.items()},
        query=None if events.query is None else np.array(events.query, object)[rows],
    )
