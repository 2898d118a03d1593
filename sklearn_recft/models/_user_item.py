"""Models of the user-item matrix: sums of feedback by pair."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft.columns import fade
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import FeedbackMatrix, decay_by_order
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._item_based import ItemBasedModel
from sklearn_recft.models._receipt import ERASED, EXACT


@dataclass(frozen=True)
class UserItemSettings:
    """Settings that all models of the user-item matrix share.

    Attributes
    ----------
    half_life : float or None
        Days after which an event counts half.
    history_half_life : float or None
        Events of a user after which one counts half in that user's own list.
    n_threads : int
    """

    half_life: float | None = None
    history_half_life: float | None = None
    n_threads: int = 1


class UserItemModel(ItemBasedModel):
    """Sums of feedback by user and item, from which subclasses compute scores.

    Attributes
    ----------
    feedback : FeedbackMatrix
        Sums of all users' events, decayed by age.
    profiles : FeedbackMatrix
        What a user's list is made from: the same matrix or, with ``history_half_life``, one
        decayed by order too.
    popularity : ndarray of shape (n_items,), float64
        Mean feedback per user of each item, no event counting as 0.
    latest : float
        Time of the newest event.
    newest : ndarray of shape (n_users,), float64
        Time of each user's newest event; empty without ``half_life``.
    """

    settings: UserItemSettings
    _DERIVED: ClassVar[tuple[str, ...]] = ("popularity",)

    def __init__(self, rows: Interactions, settings: UserItemSettings) -> None:
        super().__init__(rows, settings)
        self.feedback = self.profiles = FeedbackMatrix()
        if settings.history_half_life is not None:
            self.profiles = FeedbackMatrix()
        self.popularity = np.empty(0)
        self.latest, self.newest = -np.inf, np.empty(0)

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Add events to the sums, then recompute the model; `observe` postpones the latter."""
        weight, left = self._decayed(events)
        matrix = self.feedback.added(
            events.user, events.item, weight=weight, feedback=events.feedback, left=left
        )
        by_order = self.settings.history_half_life
        if by_order is None:
            self.profiles = matrix
        else:
            share, rest = decay_by_order(events.user, events.time, by_order, self.n_users)
            self.profiles = self.profiles.added(
                events.user,
                events.item,
                weight=weight * share,
                feedback=events.feedback,
                left=left * rest,
            )
        self.feedback = matrix
        self._derive()
        if call.weights:
            self._refresh(events.user, events.item)
        else:
            self._extend(events.user)
        return np.empty(0)

    def _decayed(self, events: Events) -> tuple[np.ndarray, float]:
        """Compute weights of new events, and the decay of old sums, at the newest time."""
        half_life = self.settings.half_life
        if half_life is None:
            return events.weight, 1.0
        before, self.latest = self.latest, max(self.latest, float(events.time.max()))
        self.newest = self._grown_newest()
        np.maximum.at(self.newest, events.user, events.time)
        left = fade(self.latest - before, half_life) if np.isfinite(before) else 1.0
        return events.weight * fade(self.latest - events.time, half_life), left

    def _grown_newest(self) -> np.ndarray:
        """Return a copy of ``newest`` with -inf for new users."""
        n_new = self.n_users - len(self.newest)
        return np.pad(self.newest, (0, n_new), constant_values=-np.inf)

    def with_history(self, rows: Interactions) -> UserItemModel:
        """Return a view with the sums of these events alone; items keep what they learned.

        Events decay to the newest time of the log or of their own user, whichever is later. So the
        sums of a user equal those after `learn` of this user's events.
        """
        settings = self.settings
        if settings.half_life is not None and rows.timestamps is None:
            raise ValueError("history: half_life needs the column `timestamp`; add it to history.")
        view, events = self._with_users(rows)
        users, weight, shape = events.user, events.weight, (view.n_users, self.n_items)
        if settings.half_life is not None:
            latest = np.full(view.n_users, self.latest)
            np.maximum.at(latest, users, events.time)
            weight = weight * self._weight_by_age(latest[users] - events.time)
        given: dict[str, Any] = {"feedback": events.feedback, "shape": shape}
        view.feedback = FeedbackMatrix.of_events(users, events.item, weight=weight, **given)
        view.profiles = view.feedback
        if settings.history_half_life is not None:
            by_order = settings.history_half_life
            share, _ = decay_by_order(users, events.time, by_order, view.n_users)
            weight = weight * share
            view.profiles = FeedbackMatrix.of_events(users, events.item, weight=weight, **given)
        return view

    def _weight_by_age(self, seconds: np.ndarray) -> np.ndarray:
        """Return the weight of events of these ages in the lists of their users."""
        half_life = self.settings.half_life
        return np.ones(len(seconds)) if half_life is None else fade(seconds, half_life)

    def _weighted(self) -> FeedbackMatrix:
        """Return the sums of all users' events that the model is computed from."""
        return self.feedback

    def _weighted_profiles(self) -> FeedbackMatrix:
        """Return the sums that lists are computed from."""
        return self.profiles

    def _profiles_of(self, users: np.ndarray) -> FeedbackMatrix:
        return self._weighted_profiles().of_users(users)

    def _derive(self) -> None:
        total = self._weighted().sums.imag
        self.popularity = np.asarray(total.sum(axis=0)).ravel() / max(total.shape[0], 1)

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Compute the model from the sums, after events of ``users`` and ``items``."""
        raise NotImplementedError

    def _extend(self, users: np.ndarray) -> None:
        """Make room for new items, and update what is kept of ``users`` alone."""
        raise NotImplementedError

    def forget(self, users: np.ndarray) -> None:
        """Remove ``users`` (codes), and recompute the model as if they had never come."""
        super().forget(users)
        if self.settings.half_life is not None:
            self.newest = np.delete(self.newest, users)
            self._set_clock(float(self.newest.max(initial=-np.inf)))
        self._derive()
        self._refresh(np.arange(self.n_users), np.arange(self.n_items))

    def _set_clock(self, latest: float) -> None:
        """Undo the decay between ``latest`` and the newest event that was removed."""
        half_life = self.settings.half_life
        if half_life is not None and np.isfinite(latest) and latest < self.latest:
            left = fade(self.latest - latest, half_life)
            if left < np.finfo(np.float64).tiny:
                self.is_whole = False  # sums that have decayed to nothing do not come back
                return
            grown = 1.0 / left
            shared = self.profiles is self.feedback
            self.feedback = self.feedback.scaled(grown)
            self.profiles = self.feedback if shared else self.profiles.scaled(grown)
        self.latest = latest

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: the decay by time and by order goes on from all events."""
        settings = self.settings
        decays = settings.half_life is not None or settings.history_half_life is not None
        return ERASED if decays else EXACT

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes), and recompute the model without them."""
        super().forget_items(items)
        self._derive()
        self._refresh(np.arange(self.n_users), np.arange(self.n_items))

    def merge(self, *others: UserItemModel) -> None:
        """Add the sums of other models, and recompute the model once.

        Raises
        ------
        ValueError
            With ``history_half_life``, if two know a user: the order of that user's events is
            not kept.
        """
        with ExitStack() as calls:
            for other in others:
                calls.enter_context(self.transaction(other.known_users()))
                self._add(other)
            self._derive()
            self._refresh(np.arange(self.n_users), np.arange(self.n_items))

    def _add(self, other: UserItemModel) -> None:
        """Add the ids and sums of another model."""
        if (
            self.settings.history_half_life is not None
            and (self.users.encode(other.users.ids) >= 0).any()
        ):
            raise ValueError(
                "merge: with history_half_life the events of a user must all be in one model; "
                "split the log by users."
            )
        users, items = self._merge_ids(other)
        left, theirs = 1.0, 1.0
        if self.settings.half_life is not None:
            latest = max(self.latest, other.latest)
            left = fade(latest - self.latest, self.settings.half_life)
            theirs = fade(latest - other.latest, self.settings.half_life)
            self.latest, self.newest = latest, self._grown_newest()
            np.maximum.at(self.newest, users, other.newest)
        own_profiles = self.profiles is not self.feedback
        self.feedback = self.feedback.scaled(left).merged(
            other.feedback.scaled(theirs), users, items
        )
        self.profiles = (
            self.profiles.scaled(left).merged(other.profiles.scaled(theirs), users, items)
            if own_profiles
            else self.feedback
        )


def by_item(matrix: csr_array) -> csr_array:
    """Return the matrix of items by users, users ascending."""
    turned = csr_array(matrix.T)
    turned.sort_indices()
    return turned
