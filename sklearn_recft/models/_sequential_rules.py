"""Sequential rules: which items follow which in the events of a user."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft import kernels
from sklearn_recft.columns import SECONDS_PER_DAY, fade
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import EventHistory, FeedbackMatrix
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._item_based import ItemBasedModel
from sklearn_recft.models._receipt import ERASED, EXACT
from sklearn_recft.parallel import in_threads
from sklearn_recft.ranking import TileScorer

# Of the feedback of a row: float32 holds its product with rules.
_LARGEST = 1e12
# Of the factors of a rule: float64 holds the product of two.
_LARGEST_SCALE = 1e140


@dataclass(frozen=True)
class SequentialRulesSettings:
    """Settings of `SequentialRulesModel`: as the parameters of the estimator."""

    max_distance: int = 10
    n_neighbors: int = 1000
    alpha: float = 0.5
    beta: float = 0.1
    half_life: float | None = None
    gap_half_life: float | None = None
    history_half_life: float | None = None
    max_history: int = 500
    n_threads: int = 1


@dataclass(frozen=True)
class Sequences:
    """Positive events in the order of their time, one user after the other.

    Events of an item that come one after the other are one event with the sum of their values.

    Attributes
    ----------
    row, item : ndarray of shape (n,)
        Index of the user among those that were asked for, and item code.
    value : ndarray of shape (n,), float64
        Sum of the weighted feedback.
    time : ndarray of shape (n,), float64
        Seconds, of the newest of the events.
    n_later : ndarray of shape (n,), int64
        Number of later events of the same row.
    """

    row: np.ndarray
    item: np.ndarray
    value: np.ndarray
    time: np.ndarray
    n_later: np.ndarray


class SequentialRulesModel(ItemBasedModel):
    """Weights of rules "item j after item i", counted again from the stored events.

    Attributes
    ----------
    history : EventHistory
        The last positive events of each user; feedback is the weighted feedback.
    rules : csr_array of shape (n_items, n_items), float32
        Weight of the item of the column after that of the row.
    """

    kind = "SequentialRulesRecommender"
    settings: SequentialRulesSettings
    _DERIVED: ClassVar[tuple[str, ...]] = ("popularity",)

    def __init__(self, rows: Interactions, settings: SequentialRulesSettings) -> None:
        super().__init__(rows, settings)
        self.history = EventHistory(settings.max_history)
        self.rules = csr_array((0, 0), dtype=np.float32)
        self.popularity = np.empty(0)

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Store events, then count the rules; `observe` postpones the latter."""
        undo.keep(self.history, events.user)
        self._store(events)
        self._derive()
        if call.weights:
            self._refresh()
        else:
            self._extend()
        return np.empty(0)

    def _store(self, events: Events) -> None:
        """Append the positive events to the histories, in the order of their time."""
        value = events.weight * np.maximum(events.feedback, 0.0)
        kept = np.flatnonzero(value > 0)
        wrong = int((value > _LARGEST).sum())
        if wrong:
            raise ValueError(
                f"y: {wrong} of {len(value)} rows are too large for float32; scale y to at most "
                f"{_LARGEST:.0e}."
            )
        kept = kept[np.argsort(events.time[kept], kind="stable")]
        user, item, time = (column[kept] for column in (events.user, events.item, events.time))
        self.history.append(user, item, value[kept], time, self.n_users)

    def _sequences(self, users: np.ndarray) -> Sequences:
        """Return the last ``max_history`` events of ``users`` (n,), each a row of its own."""
        log, counts = self.history.events_of(users)
        row = np.repeat(np.arange(len(users)), counts)
        late = (np.diff(log.time) < 0) & (row[1:] == row[:-1])
        if late.any():
            order = np.lexsort((log.time, row))
            log = log.take(order)
        value = log.feedback.astype(np.float64)
        n_later = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(row))
        kept = n_later < self.settings.max_history
        row, item, time, value = row[kept], log.item[kept], log.time[kept], value[kept]
        first = np.ones(len(row), bool)
        first[1:] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        starts = np.flatnonzero(first)
        if len(starts):
            value = np.add.reduceat(value, starts)
            time = np.maximum.reduceat(time, starts)
        row, item = row[starts], item[starts]
        n_later = np.searchsorted(row, row, side="right") - 1 - np.arange(len(row))
        return Sequences(row, item, value, time, n_later)

    def _decayed(self, log: Sequences) -> np.ndarray:
        """Return the values of all users' events after decay by age, (n,)."""
        if self.settings.half_life is None or not len(log.time):
            return log.value
        decayed: np.ndarray = log.value * fade(log.time.max() - log.time, self.settings.half_life)
        return decayed

    def _profiles_of(self, users: np.ndarray) -> FeedbackMatrix:
        found, half_life = self._sequences(users), self.settings.history_half_life
        weight = (
            np.ones(len(found.row)) if half_life is None else 0.5 ** (found.n_later / half_life)
        )
        return FeedbackMatrix.of_events(
            found.row,
            found.item,
            weight=found.value * weight,
            feedback=np.ones(len(weight)),
            shape=(len(users), self.n_items),
        )

    def score(self, events: Events) -> np.ndarray:
        """Return the scores of `tile_scorer` for rows."""
        return self._item_scores(self.rules, events.user, events.item)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes sums of the weights of rules from the user's items."""
        return self._item_tiles(self.rules, users, columns)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes the weights of all items after ``items``."""
        near = self.rules[items]

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = 0
            kernels.add_to_tile(near.indptr, near.indices, near.data, r0, c0, out)

        return score

    def explain(self, events: Events) -> Explanation:
        """Return the scores of rows as sums over the user's items: which of them led here."""
        return self._item_explanation(self.rules, events)

    def with_history(self, rows: Interactions) -> SequentialRulesModel:
        """Return a view with these events as the histories; rules keep what they learned."""
        view, events = self._with_users(rows)
        view.history = EventHistory(self.settings.max_history)
        view._store(events)
        return view

    def _derive(self) -> None:
        """Compute the popularity from the stored events."""
        found = self._sequences(np.arange(self.n_users))
        total = np.bincount(found.item, self._decayed(found), self.n_items)
        self.popularity = total / max(self.n_users, 1)

    def _extend(self) -> None:
        """Make room for new items, which no rule leads to."""
        rules, n_new = self.rules, self.n_items - self.rules.shape[0]
        if n_new:
            indptr = np.pad(rules.indptr, (0, n_new), mode="edge")
            shape = self.n_items, self.n_items
            self.rules = csr_array((rules.data, rules.indices, indptr), shape)

    def _refresh(self) -> None:
        """Count the rules of all items."""
        settings, n_items = self.settings, self.n_items
        log = self._sequences(np.arange(self.n_users))
        taken = self._decayed(log)
        count = np.bincount(log.item, taken, n_items)
        places = np.argsort(log.item, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(log.item, minlength=n_items))])
        k = min(settings.n_neighbors, n_items)
        found, n_found = np.empty((n_items, k), np.int32), np.empty(n_items, np.int64)
        weights = np.empty((n_items, k), np.float32)
        columns = (log.row, log.item, log.value, taken, log.time)
        gap = (settings.gap_half_life or 0.0) * SECONDS_PER_DAY
        scales = (_power(count, -float(p)) for p in (settings.alpha, settings.beta))
        arrays = (starts, places, *columns, settings.max_distance, gap, *scales)

        def step(first: int, last: int) -> None:
            kernels.follow_items(first, last, *arrays, found, weights, n_found)

        in_threads(step, np.diff(starts), settings.n_threads)
        kept = np.arange(k) < n_found[:, None]
        kept &= weights > 0  # what has decayed to nothing
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        if starts[-1] < np.iinfo(np.int32).max:
            starts = starts.astype(np.int32)  # otherwise the codes would be converted to int64
        rules = csr_array((weights[kept], found[kept], starts), (n_items, n_items))
        rules.sum_duplicates()  # marks the matrix as free of duplicates
        self.rules = rules

    def forget(self, users: np.ndarray) -> None:
        """Remove ``users`` (codes), and count the rules as if they had never come."""
        super().forget(users)
        self._derive()
        self._refresh()

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: "exact", unless older events of a user were dropped."""
        _, counts = self.history.events_of(np.arange(self.n_users))
        return ERASED if counts.max(initial=0) > self.settings.max_history else EXACT

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes), and count the rules without them."""
        super().forget_items(items)
        self._derive()
        self._refresh()

    def merge(self, *others: SequentialRulesModel) -> None:
        """Add the events of other models, and count the rules again, once.

        Raises
        ------
        ValueError
            If two know a user: the order of that user's events is not known, or older ones were
            dropped.
        """
        with ExitStack() as calls:
            for other in others:
                self._add(other, calls.enter_context(self.transaction(other.known_users())))
            self._derive()
            self._refresh()

    def _add(self, other: SequentialRulesModel, undo: Transaction) -> None:
        """Add the ids and events of another model."""
        if (self.users.encode(other.users.ids) >= 0).any():
            raise ValueError(
                "merge: both models know some users. Rules come from the order of a user's last "
                "events, which must all be in one model; split the log by users."
            )
        users, items = self._merge_ids(other)
        undo.keep(self.history, users)
        log, _ = other.history.events_of(np.arange(other.n_users))
        self.history.append(users[log.user], items[log.item], log.feedback, log.time, self.n_users)


def _power(values: np.ndarray, exponent: float) -> np.ndarray:
    """Return powers of values, and 0 for 0; finite, also of what has decayed to almost nothing."""
    found = np.zeros(len(values))
    with np.errstate(over="ignore"):
        np.power(values, exponent, out=found, where=values > 0)
    return np.minimum(found, _LARGEST_SCALE)
