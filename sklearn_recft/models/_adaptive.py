"""A blend of recommenders whose weights learn from each event."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.interactions import Events, Interactions
from sklearn_recft.models._adaptive_parts import Activity, Blend, Member, MemberRows, Members, Pools
from sklearn_recft.models._adaptive_tiles import Queries
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.parallel import torch_threads
from sklearn_recft.ranking import TileScorer
from sklearn_recft.vocabulary import Vocabulary

# Share of the rows of `fit` that the members learn before the weights learn from the rest.
_WARM_UP = 0.8
# Queries of `fit` that the weights learn from: the last ones.
_MAX_QUERIES = 20_000
# Queries of a chunk, and numbers that its features may take.
_CHUNK, _CHUNK_FEATURES = 2000, 8_000_000
# Steps of a chunk in which the history of a user grows. A user with more events in the chunk has
# several of them in one step.
_MAX_STEPS = 25
# Share of repeated pairs from which on seen items are ranked too.
_REPEATS = 0.1
_LIST = 10


@dataclass(frozen=True)
class AdaptiveSettings:
    """Settings of `AdaptiveModel`.

    Attributes
    ----------
    members : tuple of Member
    learning_rate, forgetting : float
    n_candidates : int
    context : bool
    final : object or None
        Classifier that scores pools, unfitted before the first call has ended.
    """

    members: tuple[Member, ...]
    learning_rate: float = 0.03
    forgetting: float = 0.999
    n_candidates: int = 40
    context: bool = True
    final: Any = None


class AdaptiveModel(FittedModel):
    """Members, and weights of their ranks and scores.

    Attributes
    ----------
    members : Members
    blend : Blend
    activity : Activity
    started : bool
        Whether members have learned.
    repeat_share : float
        Share of events whose user had an earlier event with the item, with decay.
    user_codes, item_codes : tuple of ndarray
        Codes of each member for users and items, -1 for those that it does not know.
    """

    kind = "AdaptiveRecommender"
    settings: AdaptiveSettings
    _DERIVED: ClassVar[tuple[str, ...]] = ("user_codes", "item_codes")

    def __init__(self, rows: Interactions, settings: AdaptiveSettings) -> None:
        super().__init__(rows, settings)
        given = rows.members if isinstance(rows, MemberRows) else (rows,) * len(settings.members)
        pairs = zip(settings.members, given, strict=True)
        self.members = Members(tuple(m.kind(their_rows, m.settings) for m, their_rows in pairs))
        self.blend = Blend(len(self.members), settings.context)
        self.activity = Activity()
        self.started, self.repeat_share = False, 0.0
        none = (np.empty(0, np.int64),) * len(self.members)
        self.user_codes, self.item_codes = none, none

    # ------------------------------------------------------------------ learning

    def _learn_rows(self, rows: Interactions, undo: Transaction, call: Call) -> list[np.ndarray]:
        """Ask the members, learn the weights, then let the members learn."""
        undo.keep(self.activity)
        undo.keep(self.blend)
        rows = _in_time_order(rows)
        if not call.weights:
            self._take_in(rows, undo, observing=True)
        elif self.started:
            self._learn_weights(rows)
            self._take_in(rows, undo)
        else:
            cut = int(np.ceil(_WARM_UP * len(rows)))
            before, after = np.arange(cut), np.arange(cut, len(rows))
            self._take_in(rows.take(before), undo)
            pairs = self.seen.state()["user"]
            self.repeat_share = 1.0 - len(pairs) / cut
            self.started = True
            if len(after):
                self._learn_weights(rows.take(after))
                self._take_in(rows.take(after), undo)
        return [np.empty(0)]

    def _take_in(
        self, rows: Interactions, undo: Transaction | None, *, observing: bool = False
    ) -> None:
        """Register rows, and let the members learn or observe them."""
        users, items = self.users.extend(rows.user_ids), self.items.extend(rows.item_ids)
        self.seen.append(users, items, self.n_users)
        self.activity.append(users, items, rows.timestamps)
        given = rows.members if isinstance(rows, MemberRows) else (rows,) * len(self.members)
        call = Call(weights=not observing)
        for member, model, theirs in zip(
            self.settings.members, self.members.models, given, strict=True
        ):
            if member.observes or not observing:
                model.learn(theirs, member.settings, call, undo)
        self._translate()

    def _translate(self) -> None:
        """Look up the codes of new users and items in each member."""
        pairs = list(zip(self.members.models, self.user_codes, self.item_codes, strict=True))
        self.user_codes = tuple(_looked_up(self.users, m.users, codes) for m, codes, _ in pairs)
        self.item_codes = tuple(_looked_up(self.items, m.items, codes) for m, _, codes in pairs)

    def _derive(self) -> None:
        none = (np.empty(0, np.int64),) * len(self.members)
        self.user_codes, self.item_codes = none, none
        self._translate()

    def _is_finite(self, events: Events) -> bool:
        return bool(np.isfinite(self.blend.weights).all())

    # ------------------------------------------------------------------ weights

    def _learn_weights(self, rows: Interactions) -> None:
        """Ask the members as they are for the user of each row, and learn the weights.

        Earlier events of the same call are part of a user's history: copies of the members that
        have `observe` take them in.
        """
        users = _codes(rows.user_ids)
        asker = self._view() if len(np.unique(users)) < len(users) else self
        width = min(len(self.members) * self.settings.n_candidates, max(self.n_items, 1))
        n_features = self.blend.weights.shape[1]
        size = max(1, min(_CHUNK, _CHUNK_FEATURES // (width * n_features)))
        asked = np.ones(len(rows), bool) if rows.feedback is None else rows.feedback > 0
        asked &= np.cumsum(asked[::-1])[::-1] <= _MAX_QUERIES
        for first in range(0, len(rows), size):
            chunk = np.arange(first, min(first + size, len(rows)))
            self._learn_chunk(asker, rows.take(chunk), users[chunk], asked[chunk])

    def _learn_chunk(
        self, asker: AdaptiveModel, rows: Interactions, users: np.ndarray, asked: np.ndarray
    ) -> None:
        """Learn the weights from one chunk of rows, and write it to the log."""
        parts, places = [], []
        for step in _steps(users):
            there = step[asked[step]]
            if len(there):
                parts.append(asker.ask(rows.take(there), self.repeat_share >= _REPEATS))
                places.append(there)
            if asker is not self:
                asker.take_in_view(rows.take(step))
        if not parts:
            return
        order = np.argsort(np.concatenate(places), kind="stable")
        pools = _joined(parts, order)
        weight = rows.sample_weight
        importance = np.ones(len(rows)) if weight is None else weight
        settings = self.settings
        options = settings.learning_rate, settings.forgetting, settings.n_candidates
        ranks = self.blend.learn(pools, importance[asked], options)
        self._log(rows, asked, pools, ranks)
        self._count_repeats(rows.take(asked))

    def ask(self, rows: Interactions, repeats: bool) -> Pools:
        """Return the pools of the user of each row, with the place of its item."""
        queries = _as_queries(rows)
        users, items = self.users.encode(rows.user_ids), self.items.encode(rows.item_ids)
        with torch_threads(1):
            found = [b.pools() for b in self._queries(users, queries, repeats).blocks()]
        pools = _joined(found)
        hits = (pools.items == items[:, None]) & (items >= 0)[:, None]
        pools.targets[:] = np.where(hits.any(axis=1), hits.argmax(axis=1), -1)
        return pools

    def _log(
        self, rows: Interactions, asked: np.ndarray, pools: Pools, ranks: np.ndarray
    ) -> None:
        n = len(self.members)
        there = pools.targets >= 0
        theirs = pools.features[np.flatnonzero(there), pools.targets[there], :n]
        gains = np.where(-theirs < np.log2(_LIST + 1.5), -1.0 / theirs, 0.0).sum(axis=0)
        own = (1.0 / np.log2(ranks[ranks < _LIST] + 2.0)).sum()
        times = rows.timestamps
        time = np.nan if times is None else times[asked].max()
        gains = np.r_[own, gains] / len(ranks)
        weights = self.blend.mean_weights(pools.contexts)
        self.blend.write(np.r_[time, len(ranks), gains, weights])

    def _count_repeats(self, rows: Interactions) -> None:
        """Update the decayed share of events of pairs that were seen before."""
        seen = self.seen.contains(self.users.encode(rows.user_ids), self.items.encode(rows.item_ids))
        kept = self.settings.forgetting ** len(rows)
        self.repeat_share = kept * self.repeat_share + (1.0 - kept) * float(seen.mean())

    def _view(self) -> AdaptiveModel:
        """Return a copy whose histories may grow; members without `observe` are shared."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        for name in ("users", "items", "seen", "activity"):
            setattr(view, name, copy.deepcopy(getattr(self, name)))
        pairs = zip(self.settings.members, self.members.models, strict=True)
        view.members = Members(tuple(copy.deepcopy(x) if m.observes else x for m, x in pairs))
        return view

    def take_in_view(self, rows: Interactions) -> None:
        """Add rows to the histories of a view."""
        self._take_in(rows, None, observing=True)

    # ------------------------------------------------------------------ scoring

    def _queries(
        self, users: np.ndarray, queries: Interactions, repeats: bool | None = None
    ) -> Queries:
        """Return queries as the members score them."""
        log = self.seen.last, self.seen.previous, self.seen.item
        times = self.activity.times(queries.timestamps, len(users))
        contexts = self.activity.contexts(users, times)
        models = self.members.models
        known = users >= 0
        scorers = []
        for model, codes in zip(models, self.user_codes, strict=True):
            theirs = np.full(len(users), -1, np.int64)
            theirs[known] = codes[users[known]]
            scorers.append(model.tile_scorer(theirs, np.arange(model.n_items), queries))
        return Queries(
            tuple(scorers),
            self.item_codes,
            tuple(model.n_items for model in models),
            times,
            contexts if self.settings.context else contexts[:, :1],
            kernels.gather_seen(users, *log, np.arange(self.n_items)),
            self.repeat_share >= _REPEATS if repeats is None else repeats,
            self.activity.first,
            self.settings.n_candidates,
        )

    def _score_pools(self, pools: Pools) -> np.ndarray:
        """Return the scores (n, width) of the items of pools."""
        out = np.empty(pools.items.shape)
        kernels.weigh_pool(pools.features, pools.sizes, pools.contexts, self.blend.weights, out)
        return out

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the scores of the blend, which need those of all items."""
        asked, whole = self._queries(users, queries), len(columns) == self.n_items

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            for block in asked.blocks(r0, r1):
                rows = slice(block.first - r0, block.last - r0)
                if whole and c1 - c0 == len(columns):
                    block.write(self._score_pools, out[rows])
                    continue
                scores = np.empty((block.last - block.first, self.n_items), np.float32)
                block.write(self._score_pools, scores)
                out[rows] = scores[:, columns[c0:c1]]

        return score

    def score(self, events: Events) -> np.ndarray:
        """Return the scores of `tile_scorer` for rows."""
        keys = np.column_stack([events.user, events.time, events.context])
        _, rows, query = np.unique(
            np.nan_to_num(keys, nan=-1.0), axis=0, return_index=True, return_inverse=True
        )
        query = query.ravel()
        order = np.argsort(query, kind="stable")
        bounds = np.searchsorted(query[order], np.arange(len(rows) + 1))
        found = np.empty(len(events))
        with torch_threads(1):
            for block in self._queries(events.user[rows], self._queries_of(events, rows)).blocks():
                out = np.empty((block.last - block.first, self.n_items), np.float32)
                unknown = block.write(self._score_pools, out)
                mine = order[bounds[block.first] : bounds[block.last]]
                place, items = query[mine] - block.first, events.item[mine]
                found[mine] = np.where(items >= 0, out[place, items], unknown[place])
        return found

    def _queries_of(self, events: Events, rows: np.ndarray) -> Interactions:
        """Return the queries of some events."""
        users, times = events.user[rows], events.time[rows]
        ids = np.empty(len(users), object)
        ids[users >= 0] = self.users.decode(users[users >= 0])
        return Interactions(
            ids,
            None,
            None,
            None if np.isnan(times).any() else times,
            None,
            events.context[rows],
            self.context_names,
            features={name: column.take(rows) for name, column in events.features.items()},
        )

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Return the times of rows; NaN without timestamps."""
        return np.full(len(rows), np.nan) if rows.timestamps is None else rows.timestamps

    # ------------------------------------------------------------------ removing users

    def forget(self, users: np.ndarray) -> None:
        """Remove users (codes) from the blend and from all members."""
        with self._lock.writing():
            for model, codes in zip(self.members.models, self.user_codes, strict=True):
                theirs = codes[users]
                model.forget(np.unique(theirs[theirs >= 0]))
            super().forget(users)
            self._derive()


def _looked_up(own: Vocabulary, other: Vocabulary, codes: np.ndarray) -> np.ndarray:
    """Return the code of each id in another vocabulary, given those known so far."""
    longer = np.full(len(own), -1, np.int64)
    longer[: len(codes)] = codes
    missing = np.flatnonzero(longer < 0)
    if len(missing) and len(other):
        longer[missing] = other.encode(own.decode(missing))
    return longer


def _in_time_order(rows: Interactions) -> Interactions:
    times = rows.timestamps
    if times is None or (times[1:] >= times[:-1]).all():
        return rows
    return rows.take(np.argsort(times, kind="stable"))


def _codes(ids: np.ndarray) -> np.ndarray:
    """Return one number for each distinct id."""
    return Vocabulary().extend(ids)


def _steps(users: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows so that the earlier rows of each user come in an earlier step."""
    order = np.argsort(users, kind="stable")
    grouped = users[order]
    nth = np.empty(len(users), np.int64)
    nth[order] = np.arange(len(users)) - np.searchsorted(grouped, grouped)
    counts = np.bincount(users)[users]
    nth = nth * _MAX_STEPS // np.maximum(counts, _MAX_STEPS)
    for step in range(int(nth.max(initial=0)) + 1):
        yield np.flatnonzero(nth == step)


def _as_queries(rows: Interactions) -> Interactions:
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
    )


def _joined(parts: list[Pools], order: np.ndarray | None = None) -> Pools:
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
