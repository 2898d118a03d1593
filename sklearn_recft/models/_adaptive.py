"""A blend of recommenders whose weights learn from each event."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._adaptive_explain import Sums, own_reasons
from sklearn_recft.models._adaptive_final import Examples, examples, fitted_final, log_odds
from sklearn_recft.models._adaptive_parts import (
    N_SETS,
    Activity,
    Blend,
    Member,
    Members,
    PairTimes,
    Pools,
)
from sklearn_recft.models._adaptive_rows import (
    MemberRows,
    as_queries,
    codes_of,
    ids_of,
    in_time_order,
    joined,
    looked_up,
    parts_of,
    queries_of,
    steps,
    whole_lists,
    with_targets,
)
from sklearn_recft.models._adaptive_shown import Shown
from sklearn_recft.models._adaptive_tiles import Queries
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._explain import Explanation
from sklearn_recft.parallel import torch_threads
from sklearn_recft.ranking import TileScorer

# Share of the rows of `fit` that the members learn before the weights learn from the rest.
_WARM_UP = 0.8
# Queries of a call that the weights learn from: the last ones.
_MAX_QUERIES = 20_000
# Parts of the rows of `fit` that the weights learn from; members learn after each of them.
_PARTS = 5
# Times that the weights learn from the rows of `fit`.
_PASSES = 3
# Queries of a chunk, and numbers that its features may take.
_CHUNK, _CHUNK_FEATURES = 2000, 8_000_000
# Share of repeated pairs from which on seen items are ranked too.
_REPEATS = 0.1
# Weights of this size cannot be trusted, and their scores come near the range of float32.
_LARGEST = 1e30


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
    pair_times : PairTimes
    started : bool
        Whether members have learned.
    final_is_fitted : bool
        Whether the final estimator of the settings scores pools.
    repeat_share : float
        Share of events whose user had an earlier event with the item, with decay.
    user_codes, item_codes : tuple of ndarray
        Codes of each member for users and items, -1 for those that it does not know.
    other_codes : tuple of ndarray, or None
        The latter, None for a member whose items have the same codes.
    """

    kind = "AdaptiveRecommender"
    settings: AdaptiveSettings
    _DERIVED: ClassVar[tuple[str, ...]] = ("user_codes", "item_codes", "other_codes")

    def __init__(self, rows: Interactions, settings: AdaptiveSettings) -> None:
        super().__init__(rows, settings)
        given = rows.members if isinstance(rows, MemberRows) else (rows,) * len(settings.members)
        pairs = zip(settings.members, given, strict=True)
        self.members = Members(tuple(m.kind(their_rows, m.settings) for m, their_rows in pairs))
        self.blend = Blend(len(self.members), settings.context)
        self.activity, self.pair_times = Activity(), PairTimes()
        self.started, self.repeat_share, self.final_is_fitted = False, 0.0, False
        self.user_codes = self.item_codes = (np.empty(0, np.int64),) * len(self.members)
        self.other_codes: tuple[np.ndarray | None, ...] = self.item_codes

    # ------------------------------------------------------------------ learning

    def _learn_rows(self, rows: Interactions, undo: Transaction, call: Call) -> list[np.ndarray]:
        """Ask the members, learn the weights, then let the members learn."""
        undo.keep(self.activity)
        undo.keep(self.pair_times)
        undo.keep(self.blend)
        shown = rows.shown if isinstance(rows, MemberRows) else None
        rows = in_time_order(rows)
        if not call.weights:
            self.take_in(rows, undo, observing=True)
        elif shown is not None:
            self._learn_shown(shown)
            if len(rows):
                self.take_in(rows, undo)
        elif self.started:
            self._learn_weights(rows)
            self.take_in(rows, undo)
        else:
            cut = int(np.ceil(_WARM_UP * len(rows)))
            self.take_in(rows.take(np.arange(cut)), undo)
            self.repeat_share = 1.0 - len(self.seen.state()["user"]) / cut
            self.started = True
            self._start_weights(rows.take(np.arange(cut, len(rows))), undo)
        if not (np.abs(self.blend.weights) < _LARGEST).all():
            raise ValueError(
                "The weights of the blend are too large or not finite any more, so this call has "
                "learned nothing. Lower learning_rate."
            )
        return [np.empty(0)]

    def take_in(
        self, rows: Interactions, undo: Transaction | None = None, *, observing: bool = False
    ) -> None:
        """Register rows, and let the members learn or observe them."""
        users, items = self.users.extend(rows.user_ids), self.items.extend(rows.item_ids)
        self.seen.append(users, items, self.n_users)
        self.activity.append(users, items, rows.timestamps)
        if rows.timestamps is not None:
            self.pair_times.append(users, items, rows.timestamps)
        given = rows.members if isinstance(rows, MemberRows) else (rows,) * len(self.members)
        call = Call(weights=not observing)
        for member, model, theirs in zip(
            self.settings.members, self.members.models, given, strict=True
        ):
            if member.observes or not observing:
                model.learn(theirs, member.settings, call, undo)
        if not observing:
            self.activity.settle()
        self._translate()

    def _translate(self) -> None:
        """Look up the codes of new users and items in each member."""
        pairs = list(zip(self.members.models, self.user_codes, self.item_codes, strict=True))
        self.user_codes = tuple(looked_up(self.users, m.users, codes) for m, codes, _ in pairs)
        self.item_codes = tuple(looked_up(self.items, m.items, codes) for m, _, codes in pairs)
        same = np.arange(self.n_items)
        self.other_codes = tuple(
            None if m.n_items == len(same) and np.array_equal(codes, same) else codes
            for m, codes in zip(self.members.models, self.item_codes, strict=True)
        )

    def _derive(self) -> None:
        self.user_codes = self.item_codes = (np.empty(0, np.int64),) * len(self.members)
        self._translate()

    # ------------------------------------------------------------------ weights

    def _start_weights(self, rows: Interactions, undo: Transaction) -> None:
        """Learn the weights from rows part by part, as a stream; members learn after each part."""
        found = []
        for part, is_asked in parts_of(len(rows), _MAX_QUERIES, _PARTS):
            some = rows.take(part)
            if is_asked:
                found += self._learn_weights(some, _PASSES)
            self.take_in(some, undo)
        final = fitted_final(self.settings.final, found)
        if final is not None:
            self.settings, self.final_is_fitted = replace(self.settings, final=final), True

    def _learn_weights(self, rows: Interactions, n_passes: int = 1) -> list[Examples]:
        """Ask the members as they are for the user of each row, and learn the weights.

        Earlier events of the same call are part of a user's history: copies of the members that
        have `observe` take them in. Returns examples for a final estimator that is not fitted yet.
        """
        users = codes_of(rows.user_ids)
        asker = self._view() if len(np.unique(users)) < len(users) else self
        width = min(len(self.members) * self.settings.n_candidates, max(self.n_items, 1))
        n_features = self.blend.weights.shape[1]
        size = max(1, min(_CHUNK, _CHUNK_FEATURES // (width * n_features)))
        asked = np.ones(len(rows), bool) if rows.feedback is None else rows.feedback > 0
        asked &= np.cumsum(asked[::-1])[::-1] <= _MAX_QUERIES
        found = []
        for first in range(0, len(rows), size):
            chunk = np.arange(first, min(first + size, len(rows)))
            some = rows.take(chunk)
            if not asked[chunk].any():
                if asker is not self:
                    asker.take_in(some, observing=True)
                continue
            pools = self._ask_in_steps(asker, some, users[chunk], asked[chunk])
            self._learn_chunk(some.take(asked[chunk]), pools, n_passes)
            if self.settings.final is not None and not self.final_is_fitted:
                found.append(examples(pools, self._weigh_pools(pools)))
        return found

    def _ask_in_steps(
        self, asker: AdaptiveModel, rows: Interactions, users: np.ndarray, asked: np.ndarray
    ) -> Pools:
        """Return the pools of the rows that are ``asked``, while histories grow."""
        parts, places = [], []
        if asker is not self:
            asker.activity.settle()
        for step in steps(users):
            there = step[asked[step]]
            if len(there):
                parts.append(asker.ask(rows.take(there), self.repeat_share >= _REPEATS))
                places.append(there)
            if asker is not self:
                asker.take_in(rows.take(step), observing=True)
        return joined(parts, np.argsort(np.concatenate(places), kind="stable"))

    def _learn_chunk(self, rows: Interactions, pools: Pools, n_passes: int) -> None:
        """Learn the weights from one chunk of queries, and log what the first pass found."""
        settings, weight = self.settings, rows.sample_weight
        importance = np.ones(len(rows)) if weight is None else weight
        options = settings.learning_rate, settings.forgetting, settings.n_candidates
        events = replace(pools, contexts=pools.contexts % N_SETS)
        ranks = self.blend.learn(events, importance, options, n_passes=n_passes)
        whole = whole_lists(pools, codes_of(rows.user_ids), self.items.encode(rows.item_ids))
        if whole is not None:
            pooled, importance, lists = whole
            options = settings.learning_rate, 1.0, settings.n_candidates  # few lists: keep all
            self.blend.score_shares(pooled, lists)
            self.blend.learn(pooled, importance, options, lists=lists, n_passes=n_passes)
        time = np.nan if rows.timestamps is None else float(rows.timestamps.max())
        self.blend.log_chunk(time, events, ranks)
        self._count_repeats(rows)

    def _learn_shown(self, shown: Shown) -> None:
        """Learn the weights from displayed lists: the clicked item of those that were shown."""
        shown, items = shown.with_clicks(self.items.encode(shown.item_ids))
        if not len(items):
            return
        queries = shown.queries()
        asked = self._queries(self.users.encode(queries.user_ids), queries)
        with torch_threads(1):
            pools = shown.pools(asked, items)
        shown.learn(self.blend, pools, (self.settings.learning_rate, self.settings.forgetting))

    def ask(self, rows: Interactions, repeats: bool) -> Pools:
        """Return the pools of the user of each row, with the place of its item."""
        queries = as_queries(rows)
        users, items = self.users.encode(rows.user_ids), self.items.encode(rows.item_ids)
        with torch_threads(1):
            found = [b.pools() for b in self._queries(users, queries, repeats).blocks()]
        return with_targets(joined(found), items)

    def _count_repeats(self, rows: Interactions) -> None:
        """Update the decayed share of events of pairs that were seen before."""
        seen = self.seen.contains(
            self.users.encode(rows.user_ids), self.items.encode(rows.item_ids)
        )
        kept = self.settings.forgetting ** len(rows)
        self.repeat_share = kept * self.repeat_share + (1.0 - kept) * float(seen.mean())

    def _view(self) -> AdaptiveModel:
        """Return a copy whose histories may grow; members without `observe` are shared."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        for name in ("users", "items", "seen", "activity", "pair_times"):
            setattr(view, name, copy.deepcopy(getattr(self, name)))
        pairs = zip(self.settings.members, self.members.models, strict=True)
        view.members = Members(tuple(copy.deepcopy(x) if m.observes else x for m, x in pairs))
        return view

    # ------------------------------------------------------------------ scoring

    def _queries(
        self, users: np.ndarray, queries: Interactions, repeats: bool | None = None
    ) -> Queries:
        """Return queries as the members score them."""
        log = self.seen.last, self.seen.previous, self.seen.item
        times = self.activity.times(queries.timestamps, len(users))
        contexts = self.activity.contexts(users, times)
        models = self.members.models
        seen = kernels.gather_seen(users, *log, np.arange(self.n_items))
        if repeats is None:
            repeats = self.repeat_share >= _REPEATS
        seen_times = np.full(len(seen[1]), np.nan)
        if repeats:
            seen_times = self.pair_times.of(np.repeat(users, np.diff(seen[0])), seen[1])
        known = users >= 0
        scorers = []
        for model, codes in zip(models, self.user_codes, strict=True):
            theirs = np.full(len(users), -1, np.int64)
            theirs[known] = codes[users[known]]
            scorers.append(model.tile_scorer(theirs, np.arange(model.n_items), queries))
        return Queries(
            tuple(member.name for member in self.settings.members),
            tuple(scorers),
            self.other_codes,
            tuple(model.n_items for model in models),
            times,
            contexts if self.settings.context else np.zeros_like(contexts[:, :1]),
            seen,
            seen_times,
            repeats,
            self.activity.first,
            self.settings.n_candidates,
        )

    def _score_pools(self, pools: Pools) -> np.ndarray:
        """Return the scores (n, width) of the items of pools."""
        if self.final_is_fitted:
            return log_odds(self.settings.final, pools)
        return self._weigh_pools(pools)

    def _weigh_pools(self, pools: Pools) -> np.ndarray:
        """Return the weighted sums (n, width) of the features of pools."""
        out = np.empty(pools.items.shape)
        kernels.weigh_pool(pools.features, pools.sizes, pools.rows, self.blend.used, out)
        return out

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the scores of the blend, which need those of all items."""
        return self._queries(users, queries).tile_scorer(columns, self._score_pools)

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
            queries = queries_of(events, rows, self.users, self.context_names)
            for block in self._queries(events.user[rows], queries).blocks():
                out = np.empty((block.last - block.first, self.n_items), np.float32)
                unknown = block.write(self._score_pools, out)
                mine = order[bounds[block.first] : bounds[block.last]]
                place, items = query[mine] - block.first, events.item[mine]
                found[mine] = np.where(items >= 0, out[place, items], unknown[place])
        return found

    def explain(self, events: Events) -> Explanation:
        """Return the scores of rows as sums over members and their reasons."""
        queries = queries_of(events, np.arange(len(events)), self.users, self.context_names)
        weights = self.blend.used * (not self.final_is_fitted)
        with torch_threads(1):
            blocks = self._queries(events.user, queries).blocks()
            sums = Sums.joined(
                [
                    Sums.of(b, events.item[b.first : b.last], weights, self._score_pools)
                    for b in blocks
                ]
            )
        ids = ids_of(self.items, events.item)
        rows, settings = replace(queries, item_ids=ids), self.settings
        found = own_reasons(settings.members, self.members.models, self.item_codes, rows)
        return sums.explanation([member.name for member in settings.members], found)

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
