"""Baselines of a few-shot evaluation: the item mean, a user offset, and ridge regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.columns import to_numbers
from sklearn_recft.events import Interactions
from sklearn_recft.interactions import items_of, users_of
from sklearn_recft.models import Call, FactorizationSettings, SGDFactorizationModel
from sklearn_recft.vocabulary import Vocabulary

# Events that the mean counts as, for items and for users: that of `BiasRecommender`.
_DAMPING = 5.0


class ItemMean:
    """Predict the damped mean of the item; users do not matter."""

    def fit(self, X: Any, y: Any) -> ItemMean:
        """Compute the means."""
        self.items = Vocabulary()
        codes, y = self.items.extend(items_of(X)), to_numbers(y, "y")
        self.mean = float(y.mean())
        self.item_bias = np.bincount(codes, y - self.mean) / (np.bincount(codes) + _DAMPING)
        return self

    def adapt(self, X: Any, y: Any) -> ItemMean:
        """Do nothing."""
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the mean of each row's item, and the mean of all rows for an unknown item."""
        return self.mean + np.append(self.item_bias, 0.0)[self.items.encode(items_of(X))]


class Bias(ItemMean):
    """Predict the damped mean of the item, plus the damped mean of what the user's rows leave."""

    def fit(self, X: Any, y: Any) -> Bias:
        """Compute the means of items; only new users get an offset."""
        super().fit(X, y)
        self.users, self.user_bias = Vocabulary(), np.empty(0)
        return self

    def adapt(self, X: Any, y: Any) -> Bias:
        """Compute the offsets of the users of rows."""
        self.users = Vocabulary()
        codes = self.users.extend(users_of(X))
        rest = to_numbers(y, "y") - super().predict(X)
        self.user_bias = np.bincount(codes, rest) / (np.bincount(codes) + _DAMPING)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the sum of both means."""
        return super().predict(X) + np.append(self.user_bias, 0.0)[self.users.encode(users_of(X))]


class Ridge:
    """Solve for new users by ridge regression on item factors: `IncrementalMFRecommender.adapt`.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.settings = FactorizationSettings(seed=seed)

    def fit(self, X: Any, y: Any) -> Ridge:
        """Fit a factorization with default settings."""
        rows = _ratings(X, y)
        self.model = SGDFactorizationModel(rows, self.settings)
        self.model.learn(rows, self.settings)
        return self

    def adapt(self, X: Any, y: Any) -> Ridge:
        """Solve for the users of rows."""
        self.model.learn(_ratings(X, y), self.settings, Call(weights=False, adapt=True))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of rows."""
        return self.model.score(self.model.encode(_ratings(X, np.zeros(len(users_of(X))))))


def _ratings(X: Any, y: Any) -> Interactions:
    """Return ids and feedback of rows, without other columns."""
    users = users_of(X)
    feedback, context = to_numbers(y, "y"), np.empty((len(users), 0))
    return Interactions(users, items_of(X), feedback, None, None, context, ())
