"""A linear head on titles: factors of items without events, from the words of their titles."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from sklearn_recft import IncrementalMFRecommender


class TitleHead:
    """Factorization with a ridge regression from titles to the factors of items.

    `IncrementalMFRecommender(loss="softmax")` is fitted to the events. The factors of its items are
    regressed on the TF-IDF vectors of their titles. A new item gets the factors that the regression
    predicts, and the lowest popularity term of the catalogue. As updates of this loss with a short
    half-life are worse than fits, `partial_fit` keeps the events, and the next list fits again.

    Parameters
    ----------
    penalty : float
        Of the regression.
    half_life : float
        Days, of the factorization.
    random_state : int
    """

    def __init__(
        self, penalty: float = 1.0, half_life: float | None = 7, random_state: int = 0
    ) -> None:
        self.penalty, self.half_life, self.random_state = penalty, half_life, random_state

    def fit(self, events: pd.DataFrame, items: pd.DataFrame) -> "TitleHead":
        """Keep events and titles of items."""
        self.events, self.items, self.stale = events, items, True
        return self

    def partial_fit(self, events: pd.DataFrame) -> "TitleHead":
        """Keep further events."""
        self.events = pd.concat([self.events, events], ignore_index=True)
        self.stale = True
        return self

    def add_items(self, items: pd.DataFrame) -> "TitleHead":
        """Keep titles of items without events."""
        self.items = pd.concat([self.items, items], ignore_index=True)
        self.stale = True
        return self

    def recommend(
        self, queries: pd.DataFrame, n_recommendations: int, candidates: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """List the best unseen items for each query, -1 where there is none, and their scores."""
        if self.stale:
            self._fit()
        users = self.user.reindex(queries["user_id"]).to_numpy()
        known = ~np.isnan(users)
        rows = users[known].astype(int)
        scores = np.tile(self.bias, (len(queries), 1))
        scores[known] += self.user_factors[rows] @ self.factors.T
        for row, user in zip(np.flatnonzero(known), rows, strict=True):
            scores[row, self.seen[user]] = -np.inf
        ids = self.items["item_id"].to_numpy()
        if candidates is not None:
            kept = np.isin(ids, candidates)
            ids, scores = ids[kept], scores[:, kept]
        n = min(n_recommendations, scores.shape[1])
        best = np.sort(np.argpartition(-scores, n - 1, axis=1)[:, :n], axis=1)
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1)
        scores = np.take_along_axis(scores, best, axis=1)
        return np.where(np.isfinite(scores), ids[best], -1), scores

    def _fit(self) -> None:
        model = IncrementalMFRecommender(
            loss="softmax", half_life=self.half_life, random_state=self.random_state
        ).fit(self.events)
        place = pd.Series(np.arange(len(self.items)), index=self.items["item_id"])
        learned = place.loc[model.item_ids_].to_numpy()
        vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(self.items["text"])
        head = Ridge(self.penalty, solver="sparse_cg", tol=1e-3)
        head.fit(vectors[learned], model.item_factors_)
        self.factors = head.predict(vectors)
        self.factors[learned] = model.item_factors_
        self.bias = np.full(len(self.items), model.item_biases_.min())
        self.bias[learned] = model.item_biases_
        self.user = pd.Series(np.arange(model.n_users_), index=model.user_ids_)
        self.user_factors = model.user_factors_
        grouped = self.events.groupby("user_id")["item_id"]
        taken = {user: place.loc[items].to_numpy() for user, items in grouped}
        self.seen = [taken[user] for user in model.user_ids_]
        self.stale = False
