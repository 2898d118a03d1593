"""Counts and damped means."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY, fade
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import PairSums, without
from sklearn_recft.models._base import Call, Transaction, numpy_defaults
from sklearn_recft.models._light_events import LightMixin, Steps
from sklearn_recft.models._receipt import ERASED, EXACT
from sklearn_recft.ranking import TileScorer


@dataclass(frozen=True)
class PopularitySettings:
    """Settings of `PopularityModel`: days, or None."""

    half_life: float | None = None
    window: float | None = None


class PopularityModel(LightMixin):
    """Decayed sums of each item's events.

    Attributes
    ----------
    weight, popularity : ndarray of shape (n_items,), float64
        Sums of weights, and of weights times feedback.
    latest : float
        Time of the newest event.
    recent : ndarray of shape (n, 5)
        Item, time, weight, feedback and user of the events inside the window.
    pairs : PairSums
        Without ``window``: sums by user and item, which `forget` subtracts.
    """

    kind = "PopularityRecommender"
    _IN_PLACE = ("weight", "popularity")
    settings: PopularitySettings

    def __init__(self, rows: Interactions, settings: PopularitySettings) -> None:
        super().__init__(rows, settings)
        self.weight, self.popularity = np.empty(0), np.empty(0)
        self.latest, self.recent = -np.inf, np.empty((0, 5))
        self.pairs = PairSums(settings.half_life)

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Add events and decay everything to the newest time."""
        columns = events.item, events.time, events.weight, events.feedback, events.user
        rows = np.column_stack(columns)
        half_life, window = self.settings.half_life, self.settings.window
        if window is None:
            undo.keep(self.pairs)
            total = events.weight * events.feedback
            self.pairs.append(events.user, events.item, events.time, events.weight, total)
        latest = max(self.latest, rows[:, 1].max())
        if window is not None:
            # Recount: subtracting expired events would accumulate rounding errors.
            rows = np.concatenate([self.recent, rows])
            rows = rows[rows[:, 1] > latest - window * SECONDS_PER_DAY]
            self.recent = rows
            self.weight, self.popularity = np.empty(0), np.empty(0)
        n_new = self.n_items - len(self.weight)
        weight, popularity = (np.pad(a, (0, n_new)) for a in (self.weight, self.popularity))
        now = rows[:, 2]
        if half_life is not None:
            if np.isfinite(self.latest):
                left = fade(latest - self.latest, half_life)
                weight, popularity = weight * left, popularity * left
            now = now * fade(latest - rows[:, 1], half_life)
        items = rows[:, 0].astype(np.int64)
        self.weight = weight + np.bincount(items, now, self.n_items)
        self.popularity = popularity + np.bincount(items, now * rows[:, 3], self.n_items)
        self.latest = latest
        return np.empty(0)

    def learn_event(
        self, user: int, item: int, target: float, time: float | None, steps: Steps, streams: bool
    ) -> float | None:
        """Add an event, and decay everything if it is the newest."""
        if self._add_event(user, item, target, time or 0.0, steps):
            return target
        return super().learn_event(user, item, target, time, steps, streams)

    def _add_event(self, user: int, item: int, target: float, seconds: float, steps: Steps) -> bool:
        """Add an event of known ids; False, and nothing is added, if that takes a row."""
        end = self.pairs.append_one(user, item, seconds, 1.0, target)
        if end is None or self.settings.window is not None or not self.weight.flags.writeable:
            return False
        latest, now = max(self.latest, seconds), 1.0
        half_life = self.settings.half_life
        if half_life is not None:
            weight, popularity, now = self._faded(latest, seconds, half_life)
            steps.write((vars(self), "weight", weight), (vars(self), "popularity", popularity))
        weight, popularity = self.weight, self.popularity
        steps.write(
            end,
            (weight, item, weight.item(item) + now),
            (popularity, item, popularity.item(item) + now * target),
            (vars(self), "latest", latest),
        )
        return True

    def _faded(
        self, latest: float, seconds: float, half_life: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Return copies of the sums at a time, and what an event counts then."""
        with numpy_defaults():
            # As arrays, since powers of arrays and of numbers may differ in the last digit.
            now = fade(latest - np.array([seconds]), half_life)[0]
            left = fade(latest - self.latest, half_life) if np.isfinite(self.latest) else 1.0
            return self.weight * left, self.popularity * left, now

    def score_event(self, user: int, item: int, time: float | None) -> float:
        """Return the mean feedback of an item."""
        weight = self.weight.item(item) if item >= 0 else 0.0
        if weight > 0:
            return float(self.popularity.item(item) / weight)
        return super().score_event(user, item, time)

    def score(self, events: Events) -> np.ndarray:
        """Return the mean feedback of each row's item."""
        items = events.item
        weight = self.weight[items]
        known = (items >= 0) & (weight > 0)
        mean = np.divide(self.popularity[items], weight, out=np.zeros(len(items)), where=known)
        if not known.all():
            n_events = self.weight.sum()  # 0 if all users were removed
            mean[~known] = self.popularity.sum() / n_events if n_events else 0.0
        return mean

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes the popularity of items."""
        scores = self.popularity[columns].astype(np.float32)

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = scores[c0:c1]

        return score

    def forget(self, users: np.ndarray) -> None:
        """Remove ``users`` (codes), and count the events of the others again."""
        super().forget(users)
        kept, moved = without(self.recent[:, 4].astype(np.int64), users)
        self._count_again(np.column_stack([self.recent[kept, :4], moved]))

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does."""
        return EXACT if self.settings.half_life is self.settings.window is None else ERASED

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes), and count the events of the others again."""
        super().forget_items(items)
        kept, moved = without(self.recent[:, 0].astype(np.int64), items)
        self._count_again(np.column_stack([moved, self.recent[kept, 1:]]))

    def _count_again(self, recent: np.ndarray) -> None:
        """Count the events that are kept: those inside the window, or the sums by pair."""
        if self.settings.window is not None:
            latest = float(recent[:, 1].max(initial=-np.inf))
            if np.isfinite(latest) and latest < self.latest:
                self.is_whole = False  # older events would be inside the window again
            self.latest = latest
            self._recount(recent, latest)
            return
        self.latest = self.pairs.latest
        self.weight, self.popularity = self.pairs.by_item(self.n_items, self.latest)

    def merge(self, *others: PopularityModel) -> None:
        """Add the counts of other models."""
        with ExitStack() as calls:
            for other in others:
                undo = calls.enter_context(self.transaction(other.known_users()))
                self._add(other, undo)

    def _add(self, other: PopularityModel, undo: Transaction, seconds: float = 0.0) -> None:
        """Add the ids and counts of another model, whose times are so many seconds later here."""
        half_life = self.settings.half_life
        rows, pairs = other.recent.copy(), other.pairs.state()
        undo.keep(self.pairs)
        users, items = self._merge_ids(other)
        times, sums_of_pairs = pairs["time"] + seconds, (pairs["weight"], pairs["total"])
        self.pairs.append(users[pairs["user"]], items[pairs["item"]], times, *sums_of_pairs)
        latest = max(self.latest, other.latest + seconds)
        sums = []
        for ours, theirs in ((self.weight, other.weight), (self.popularity, other.popularity)):
            if half_life is not None:
                ours = ours * fade(latest - self.latest, half_life)
                theirs = theirs * fade(latest - other.latest, half_life)
            grown = np.pad(ours, (0, self.n_items - len(ours)))
            sums.append(grown + np.bincount(items, theirs, self.n_items))
        self.weight, self.popularity = sums
        if self.settings.window is not None:
            rows[:, 0] = items[rows[:, 0].astype(np.int64)]
            rows[:, 4] = users[rows[:, 4].astype(np.int64)]
            self._recount(np.concatenate([self.recent, rows]), latest)
        self.latest = latest

    def _recount(self, rows: np.ndarray, latest: float) -> None:
        """Recount the events inside the window."""
        window, half_life = self.settings.window or 0.0, self.settings.half_life
        rows = rows[rows[:, 1] > latest - window * SECONDS_PER_DAY]
        now = rows[:, 2]
        if half_life is not None:
            now = now * fade(latest - rows[:, 1], half_life)
        items = rows[:, 0].astype(np.int64)
        self.recent = rows
        self.weight = np.zeros(self.n_items) + np.bincount(items, now, self.n_items)
        self.popularity = np.zeros(self.n_items) + np.bincount(
            items, now * rows[:, 3], self.n_items
        )


# Columns of `PairSums`.
_COLUMNS = ("user", "item", "time", "weight", "total")


@dataclass(frozen=True)
class BiasSettings:
    """Settings of `BiasModel`."""

    damping: float = 5.0


class BiasModel(LightMixin):
    """Damped means of users and items.

    Attributes
    ----------
    user_sums, item_sums : ndarray of shape (2, n), float64
        Weights, and weights times what is left of the feedback.
    mean : float
    pairs : PairSums
        Sums by user and item, which `forget` subtracts.
    """

    kind = "BiasRecommender"
    _IN_PLACE = ("user_sums",)
    settings: BiasSettings

    def __init__(self, rows: Interactions, settings: BiasSettings) -> None:
        super().__init__(rows, settings)
        self.user_sums, self.item_sums, self.mean = np.zeros((2, 0)), np.zeros((2, 0)), 0.0
        self.pairs = PairSums(None)

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Add events to the sums."""
        weight, feedback = events.weight, events.feedback
        undo.keep(self.pairs)
        none = np.zeros(len(events))
        self.pairs.append(events.user, events.item, none, weight, weight * feedback)
        self.item_sums = _added(self.item_sums, events.item, weight, feedback, self.n_items)
        self.mean = float(self.item_sums[1].sum() / self.item_sums[0].sum())
        rest = feedback - self._bias(self.item_sums, events.item)
        self.user_sums = _added(self.user_sums, events.user, weight, rest, self.n_users)
        return np.empty(0)

    def learn_event(
        self, user: int, item: int, target: float, time: float | None, steps: Steps, streams: bool
    ) -> float | None:
        """Add an event to the sums."""
        users, end = self.user_sums, self.pairs.append_one(user, item, 0.0, 1.0, target)
        if end is None or not users.flags.writeable:
            return super().learn_event(user, item, target, time, steps, streams)
        sums = self.item_sums.copy()
        weight, total = sums[0, item] + 1.0, sums[1, item] + target
        sums[0, item], sums[1, item] = weight, total
        n_events, of_events = np.add.reduce(sums, axis=1).tolist()
        mean = of_events / n_events
        rest = target - self._damped(weight, total, mean)
        steps.write(
            end,
            (vars(self), "item_sums", sums),
            (vars(self), "mean", mean),
            (users, (0, user), users[0, user] + 1.0),
            (users, (1, user), users[1, user] + rest),
        )
        return target

    def _damped(self, weight: float, total: float, mean: float) -> float:
        """Return the bias of one id, as `_bias` does."""
        return (total - weight * mean) / max(weight + self.settings.damping, 1e-12)

    def score_event(self, user: int, item: int, time: float | None) -> float:
        """Return ``mu + b_u + b_i``, as `score` does."""
        mean, score = self.mean, self.mean
        for code, (weight, total) in ((user, self.user_sums), (item, self.item_sums)):
            if code >= 0:
                score += self._damped(weight.item(code), total.item(code), mean)
        return float(score)

    def _bias(self, sums: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the biases (n,) of users or items, from their sums; 0 for unknown ids, -1."""
        bias, known = np.zeros(len(codes)), codes >= 0
        weight, total = sums[:, codes[known]]
        damped = np.maximum(weight + self.settings.damping, 1e-12)
        bias[known] = (total - weight * self.mean) / damped
        return bias

    def score(self, events: Events) -> np.ndarray:
        """Return ``mu + b_u + b_i``; an unknown id has a bias of 0."""
        b_u, b_i = self._bias(self.user_sums, events.user), self._bias(self.item_sums, events.item)
        return self.mean + b_u + b_i

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes ``mu + b_u + b_i``."""
        base, b_i = (
            self.mean + self._bias(self.user_sums, users),
            self._bias(self.item_sums, columns),
        )

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = base[r0:r1, None] + b_i[c0:c1]

        return score

    def forget(self, users: np.ndarray) -> None:
        """Remove ``users`` (codes), and compute all sums again, as one `fit` on the other events.

        The sums of a user are then taken after the item means of all events, which is what a fit
        does, and not after those at the arrival of each event.
        """
        super().forget(users)
        self._sum_again()

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does."""
        return EXACT

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes), and compute all sums again, as `forget` does."""
        super().forget_items(items)
        self._sum_again()

    def _sum_again(self) -> None:
        pairs, names = self.pairs, ("user", "item", "weight", "total")
        user, item, weight, total = (pairs.column(name) for name in names)
        self.item_sums = np.stack(pairs.by_item(self.n_items, 0.0))
        n_events = self.item_sums[0].sum()  # 0 if all users were removed
        self.mean = float(self.item_sums[1].sum() / n_events) if n_events else 0.0
        rest = total - weight * self._bias(self.item_sums, item)
        sums = [np.bincount(user, values, self.n_users) for values in (weight, rest)]
        self.user_sums = np.stack(sums).astype(
            np.float64, copy=False
        )  # integers if no user is left

    def merge(self, *others: BiasModel) -> None:
        """Add the sums of other models, and compute all biases again, as `forget` does."""
        with ExitStack() as calls:
            for other in others:
                undo = calls.enter_context(self.transaction(other.known_users()))
                undo.keep(self.pairs)
                users, items = self._merge_ids(other)
                pairs = other.pairs.state()
                user, item, *sums = (pairs[name] for name in _COLUMNS)
                self.pairs.append(users[user], items[item], *sums)
            self._sum_again()


def _added(
    sums: np.ndarray, codes: np.ndarray, weight: np.ndarray, values: np.ndarray, n: int
) -> np.ndarray:
    """Add rows to the sums (weight, weighted feedback) per code, for ``n`` codes."""
    grown = np.pad(sums, ((0, 0), (0, n - sums.shape[1])))
    return grown + np.stack([np.bincount(codes, weight, n), np.bincount(codes, weight * values, n)])
