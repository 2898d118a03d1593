"""What all factorizations share: settings, random streams, and habits added to their scores."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._habit_term import HabitTerm
from sklearn_recft.models._light_events import LightMixin
from sklearn_recft.models._random import RandomStream
from sklearn_recft.ranking import TileScorer


@dataclass(frozen=True)
class FactorizationSettings:
    """Settings of a factorization: as the parameters of the estimator.

    ``learning_rate``, ``reg`` and ``max_epochs`` of None are the best measured for the loss and the
    solver; ``seed`` decides everything drawn.
    """

    n_factors: int = 64
    loss: str = "squared_error"
    learning_rate: float | None = None
    reg: float | None = None
    max_epochs: int | None = None
    half_life: float | None = None
    replay_size: int = 0
    habit_half_life: float | None = None
    drift: str | None = None
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None


class FactorizationBase(LightMixin):
    """A factorization with habits; subclasses learn and score its tables.

    Attributes
    ----------
    rng, noise_rng : RandomStream
        Separate, so that what one draws does not depend on how much another has drawn: how many
        rows follow must not change what is predicted now.
    habits : HabitTerm or None
    """

    settings: FactorizationSettings
    STREAMS = True
    LEARNING_RATE: ClassVar[dict[str, float]]
    REG: ClassVar[dict[str, float]]

    def __init__(self, rows: Interactions, settings: FactorizationSettings) -> None:
        super().__init__(rows, settings)
        streams = np.random.default_rng(settings.seed).spawn(2)
        self.rng, self.noise_rng = map(RandomStream, streams)
        half_life = settings.habit_half_life
        self.habits = None if half_life is None else HabitTerm(half_life)

    @property
    def learning_rate(self) -> float:
        """Learning rate in use."""
        given = self.settings.learning_rate
        return self.LEARNING_RATE[self.settings.loss] if given is None else given

    @property
    def reg(self) -> float:
        """L2 penalty in use."""
        return self.REG[self.settings.loss] if self.settings.reg is None else self.settings.reg

    @property
    def intercept(self) -> float:
        """Term of the score that all pairs share."""
        return 0.0

    @property
    def scale(self) -> float:
        """Unit of rates and penalties."""
        return 1.0

    def factors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return copies of the factors (n, f) and biases (n,) of users (side 0) or items (1)."""
        raise NotImplementedError

    def _pieces(self, rows: Interactions, call: Call) -> Iterator[Interactions]:
        """Split at rows of weight 0, which are predicted in their place, but not learned."""
        if rows.sample_weight is None or rows.sample_weight.all():
            yield rows
        else:
            turns = np.flatnonzero(np.diff(rows.sample_weight > 0)) + 1
            yield from map(rows.take, np.split(np.arange(len(rows)), turns))

    def _register(self, rows: Interactions) -> Events:
        """Assign codes to new ids, but not to those of rows of weight 0."""
        unlearned = rows.sample_weight is not None and not rows.sample_weight.any()
        return self.encode(rows) if unlearned else super()._register(rows)

    def _is_finite(self, events: Events) -> bool:
        """Whether what the events changed is finite; without a row that counts, nothing changed."""
        return not events.weight.any() or self._is_learned_finite(events)

    def _is_learned_finite(self, events: Events) -> bool:
        """Whether the rows of the tables of the events are finite."""
        raise NotImplementedError

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit the first events, and update by later ones; optionally predict row by row."""
        if not events.weight.any():
            return self.score(events)
        predicted = self._learn_factors(events, undo, call)
        if self.habits is not None:
            terms = self._learn_habits(self.habits, events, undo, call)
            predicted = predicted + terms[: len(predicted)]
        return predicted

    def _learn_habits(
        self, habits: HabitTerm, events: Events, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Count habits; return the terms of the rows before they are counted."""
        shape = self.n_users, self.n_items
        return habits.learn(events, undo, shape, by_time=not call.predict)

    def _learn_factors(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Fit or update the tables; return predictions without habits."""
        raise NotImplementedError

    def score(self, events: Events) -> np.ndarray:
        """Return ratings, probabilities or ("bpr", "softmax") scores of rows."""
        scores = self._factor_scores(events)
        return scores if self.habits is None else scores + self.habits.of_rows(events)

    def _factor_scores(self, events: Events) -> np.ndarray:
        """Return what `score` does, without habits."""
        raise NotImplementedError

    def explain(self, events: Events) -> Explanation:
        """Return the raw scores of rows as sums; habits are contributions of the item itself."""
        (row, item, value), terms = self._factor_parts(events)
        if self.habits is None:
            return Explanation.of_parts(len(events), (row, item, value), terms)
        rows, habit = np.arange(len(events)), self.habits.of_rows(events)
        parts = np.r_[row, rows], np.r_[item, events.item], np.r_[value, habit]
        return Explanation.of_parts(len(events), parts, terms).with_habits(self.habits, events)

    def _factor_parts(
        self, events: Events
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]:
        """Return the raw scores without habits as parts of past items, and terms.

        Parts are rows, item codes and contributions, as `Explanation.of_parts` takes them.
        """
        raise NotImplementedError

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes raw scores; the default context is the average one."""
        tiles = self._factor_tiles(users, columns, queries)
        if self.habits is None:
            return tiles
        return self.habits.on(tiles, users, columns, self._times_of(queries), self.n_items)

    def _factor_tiles(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return what `tile_scorer` does, without habits."""
        raise NotImplementedError

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Seconds of rows; where habits count, rows without a time come after all events."""
        if rows.timestamps is None and self.habits is not None:
            return np.full(len(rows), self.habits.after_all())
        return super()._times_of(rows)
