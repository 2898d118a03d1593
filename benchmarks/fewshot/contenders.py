"""Models of ratings that adapt to a few examples: baselines, the product's, the Bayesian ones.

A contender is fitted once. `answer` then predicts query rows after some support rows and leaves the
fitted model as it was. It returns predictions, and their standard deviations or None.
"""

import copy
from typing import Any

import numpy as np
import pandas as pd

import sklearn_recft
from benchmarks.fewshot.data import Ratings
from sklearn_recft import IncrementalMFRecommender

Answer = tuple[np.ndarray, np.ndarray | None]
PRIOR = 3.0  # ratings that the mean of an item is shrunk by
OFFSET = 5.0  # of a user
LAMBDAS = (1.0, 3.0, 10.0, 30.0, 100.0)  # of the ridge regression; chosen on validation users


class Contender:
    """A model with `fit` and `answer`."""

    def __init__(self, ratings: Ratings, seed: int) -> None:
        self.ratings, self.seed = ratings, seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Contender":
        raise NotImplementedError

    def answer(self, X: np.ndarray, y: np.ndarray, query: np.ndarray) -> Answer:
        raise NotImplementedError


class ItemMean(Contender):
    """The mean of the item, shrunk to the mean of all; ``user`` adds the user's shrunk offset."""

    user = False

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Contender":
        self.mean = float(y.mean())
        self.low, self.high = y.min(), y.max()
        self.items = _offsets(X[:, 1], y - self.mean, PRIOR)
        self.users = _offsets(X[:, 0], y - self.mean - _take(self.items, X[:, 1]), OFFSET)
        return self

    def answer(self, X: np.ndarray, y: np.ndarray, query: np.ndarray) -> Answer:
        users, items = self.users, self.items
        if len(X):
            rest = y - self.mean - (_take(users, X[:, 0]) if self.user else 0)
            new = ~np.isin(X[:, 1], list(items))
            items = items | _offsets(X[new, 1], rest[new], PRIOR)
            rest = y - self.mean - _take(items, X[:, 1])
            new = ~np.isin(X[:, 0], list(users))
            users = users | _offsets(X[new, 0], rest[new], OFFSET)
        found = self.mean + _take(items, query[:, 1])
        if self.user:
            found = found + _take(users, query[:, 0])
        return np.clip(found, self.low, self.high), None


class Bias(ItemMean):
    """The mean of the item and the user's shrunk offset."""

    user = True


class Product(Contender):
    """`IncrementalMFRecommender`: `fit`, then `partial_fit` on the support rows."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Contender":
        self.model = IncrementalMFRecommender(random_state=self.seed).fit(X, y)
        return self

    def answer(self, X: np.ndarray, y: np.ndarray, query: np.ndarray) -> Answer:
        model = self.model
        if len(X):
            model = copy.deepcopy(model).partial_fit(X, y)
        return model.predict(query), None


class Ridge(Contender):
    """Vectors of `IncrementalMFRecommender`; a ridge regression for each new user and item.

    The prior mean of a new entity is the mean of the known ones, biases included. Where users and
    items are both new, items are solved first, for users at their mean, then users, twice over.
    """

    penalty = 3.0  # the best of `LAMBDAS`
    bias_penalty = OFFSET

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Contender":
        self.model = IncrementalMFRecommender(random_state=self.seed).fit(X, y)
        self.low, self.high = y.min(), y.max()
        m = self.model
        self.mean = m.intercept_
        self.sides = [
            _Side(m.user_ids_, np.column_stack([m.user_biases_, m.user_factors_])),
            _Side(m.item_ids_, np.column_stack([m.item_biases_, m.item_factors_])),
        ]
        return self

    def answer(self, X: np.ndarray, y: np.ndarray, query: np.ndarray) -> Answer:
        users, items = (side.copy() for side in self.sides)
        for _ in range(2 if len(X) else 0):
            self._solve(items, X[:, 1], users.rows(X[:, 0]), y)
            self._solve(users, X[:, 0], items.rows(X[:, 1]), y)
        u, i = users.rows(query[:, 0]), items.rows(query[:, 1])
        found = self.mean + u[:, 0] + i[:, 0] + (u[:, 1:] * i[:, 1:]).sum(axis=1)
        return np.clip(found, self.low, self.high), None

    def _solve(self, side: "_Side", ids: np.ndarray, other: np.ndarray, y: np.ndarray) -> None:
        design = other.copy()
        design[:, 0] = 1
        target = y - self.mean - other[:, 0] - design @ side.mean
        penalty = np.full(design.shape[1], self.penalty)
        penalty[0] = self.bias_penalty
        new = ~np.isin(ids, side.known)
        for one in np.unique(ids[new]).tolist():
            its = ids == one
            A = design[its].T @ design[its] + np.diag(penalty)
            side.new[one] = side.mean + np.linalg.solve(A, design[its].T @ target[its])


class _Side:
    """Rows of numbers by id; an unknown id has the mean."""

    def __init__(self, ids: np.ndarray, table: np.ndarray) -> None:
        self.known, self.table, self.mean = ids, table.astype(float), table.mean(axis=0)
        self.place = {one: n for n, one in enumerate(ids.tolist())}
        self.new: dict[int, np.ndarray] = {}

    def copy(self) -> "_Side":
        twin = copy.copy(self)
        twin.new = {}
        return twin

    def rows(self, ids: np.ndarray) -> np.ndarray:
        found = np.empty((len(ids), self.table.shape[1]))
        for n, one in enumerate(ids.tolist()):
            place = self.place.get(one)
            found[n] = self.new.get(one, self.mean) if place is None else self.table[place]
        return found


class Bayes(Contender):
    """`BayesianMFRecommender`: `fit`, then `adapt`; which side tables it gets is in the name."""

    tables: tuple[str, ...] = ()
    params: dict[str, Any] = {}

    def fit(self, X: np.ndarray, y: np.ndarray) -> "Contender":
        estimator = sklearn_recft.BayesianMFRecommender
        self.model = estimator(**self.params, random_state=self.seed)
        self.model.fit(X, y, **self.side_tables())
        return self

    def side_tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of all users and items; those without events keep their prior."""
        return {name: getattr(self.ratings, name) for name in self.tables}

    def adapted(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Return a copy of the model, adapted to the support rows."""
        model = copy.deepcopy(self.model)
        return model.adapt(X, y) if len(X) else model

    def answer(self, X: np.ndarray, y: np.ndarray, query: np.ndarray) -> Answer:
        return self.adapted(X, y).predict(query, return_std=True)


class BayesItems(Bayes):
    """With features of items."""

    tables = ("items",)


class BayesAll(Bayes):
    """With features of items and profiles of users."""

    tables = ("items", "users")


CONTENDERS: dict[str, type[Contender]] = {
    "item mean": ItemMean,
    "bias": Bias,
    "ridge": Ridge,
    "IncrementalMF": Product,
    "Bayes": Bayes,
    "Bayes + items": BayesItems,
    "Bayes + items, profile": BayesAll,
}


def _offsets(ids: np.ndarray, values: np.ndarray, prior: float) -> dict[int, float]:
    """Return the sum of the values of each id over its count plus `prior`."""
    known, codes = np.unique(ids, return_inverse=True)
    sums = np.bincount(codes, values, len(known))
    return dict(zip(known.tolist(), (sums / (np.bincount(codes) + prior)).tolist(), strict=True))


def _take(offsets: dict[int, float], ids: np.ndarray) -> np.ndarray:
    return np.array([offsets.get(one, 0.0) for one in ids.tolist()])
