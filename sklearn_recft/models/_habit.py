"""What a user takes again, before what is popular."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import Habits
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._baselines import PopularityModel, PopularitySettings
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._light_events import LightMixin, Steps
from sklearn_recft.models._receipt import ERASED
from sklearn_recft.ranking import TileScorer

# Score of the most popular item without habits (chosen on the groceries, weeks before the tests).
_POPULARITY = 0.2


@dataclass(frozen=True)
class HabitSettings(PopularitySettings):
    """Settings of `HabitModel`: days, or None; whether items have weights of their own."""

    habit_half_life: float | None = None
    item_weights: bool = True


class HabitModel(PopularityModel):
    """Decayed counts of a user's own baskets, weighed by how often an item is taken again.

    Attributes
    ----------
    habits : Habits
    """

    kind = "HabitRecommender"
    settings: HabitSettings

    def __init__(self, rows: Interactions, settings: HabitSettings) -> None:
        super().__init__(rows, settings)
        self.habits = Habits(settings.habit_half_life if self.timed else None)
        self.n_rows = 0

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Count events, for everyone and for each user."""
        if not self.timed:  # nothing decays, and each row is a basket of its own
            self.settings = HabitSettings(item_weights=self.settings.item_weights)
            events = replace(events, time=self.n_rows + np.arange(len(events), dtype=float))
        self.n_rows += len(events)
        super()._learn(events, undo, call)
        undo.keep(self.habits, events.user, events.item)
        taken = (events.feedback > 0) & (events.weight > 0)
        self.habits.append(
            events.user[taken],
            events.item[taken],
            events.time[taken],
            self.n_users,
            self.n_items,
        )
        return np.empty(0)

    def learn_event(
        self, user: int, item: int, target: float, time: float | None, steps: Steps, streams: bool
    ) -> float | None:
        """Count an event, for everyone and for its user."""
        seconds = self.habits.after_all() if time is None else time
        if not (self.timed and self._add_event(user, item, target, seconds, steps)):
            return LightMixin.learn_event(self, user, item, target, time, steps, streams)
        steps.write((vars(self), "n_rows", self.n_rows + 1))
        if target > 0:
            users, items, times = np.array([user]), np.array([item]), np.array([seconds])
            steps.keep(self.habits, users, items)
            self.habits.append(users, items, times, self.n_users, self.n_items)
        return target

    def score_event(self, user: int, item: int, time: float | None) -> float:
        """Score an event as `score` does."""
        return LightMixin.score_event(self, user, item, time)

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Seconds of rows; those without a time come after all events."""
        if rows.timestamps is None:
            return np.full(len(rows), self.habits.after_all())
        return rows.timestamps

    def _base(self) -> np.ndarray:
        """Score (n_items,) of each item for users without habits."""
        largest = float(np.abs(self.popularity).max(initial=0.0)) or 1.0
        return _POPULARITY * self.popularity / largest

    def _weights(self) -> np.ndarray:
        """Weight (n_items,) of a habit of each item."""
        return self.habits.repeat_weight() if self.settings.item_weights else np.ones(self.n_items)

    def score(self, events: Events) -> np.ndarray:
        """Return the scores of `tile_scorer` for rows; an unknown item has none."""
        popular, habit = self._terms(events)
        return popular + habit

    def _terms(self, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """Return popularity and the weighted count (n,) of each row, 0 for unknown items."""
        known, items = events.item >= 0, events.item
        counts = self.habits.of_pairs(events.user, items, events.time)
        popular, habit = self._base()[items], self._weights()[items] * counts
        return np.where(known, popular, 0.0), np.where(known, habit, 0.0)

    def explain(self, events: Events) -> Explanation:
        """Return the scores of rows as popularity, and what the user's own baskets add."""
        popular, habit = self._terms(events)
        parts = np.arange(len(events)), events.item, habit
        found = Explanation.of_parts(len(events), parts, {"popularity": popular})
        return found.with_habits(self.habits, events, timed=self.timed)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes popularity and the weighted counts of each user."""
        base = self._base()[columns].astype(np.float32)
        weight = self._weights()[columns]
        indptr, places, counts = self.habits.of_users(
            users, self._times_of(queries), columns, self.n_items
        )
        values = (weight[places] * counts).astype(np.float32)

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = base[c0:c1]
            kernels.add_to_tile(indptr, places, values, r0, c0, out)

        return score

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: a basket of these items alone still counts for other items."""
        return ERASED

    def _add(self, other: PopularityModel, undo: Transaction, seconds: float = 0.0) -> None:
        """Add the counts and habits of another model.

        Raises
        ------
        ValueError
            If both know a user: what counts as taken again depends on earlier baskets.
        """
        assert isinstance(other, HabitModel)
        if (self.users.encode(other.users.ids) >= 0).any():
            raise ValueError(
                "merge: both models know some users. What counts as taken again depends on the "
                "earlier baskets of a user, which must all be in one model; split the log by users."
            )
        seconds = 0.0 if self.timed else float(self.n_rows)  # without times, rows are counted
        super()._add(other, undo, seconds)
        users, items = self.users.encode(other.users.ids), self.items.encode(other.items.ids)
        undo.keep(self.habits, users, items)
        self.habits.merge(other.habits.state(), users, items, seconds)
        self.n_rows += other.n_rows
