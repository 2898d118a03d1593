"""A recommender that the package does not know passes the contract, with nothing to register.

What a new deep model needs: a net, a fitted model around it, and an estimator with tags.
"""

from dataclasses import dataclass, replace
from numbers import Integral
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from sklearn_recft import training
from sklearn_recft.base import RecommenderMixin, RecommenderTags
from sklearn_recft.models import FittedModel, Net, RandomStream
from sklearn_recft.ranking import dot_tiles
from tests.contract.discovery import small
from tests.contract.test_common import OUR_CHECKS, expected_failures, n_checks


class TwoTowers(nn.Module):
    """Score of a pair: the product of the user's vector and the item's, and biases."""

    TABLES = ("users", "items", "user_bias", "item_bias")

    def __init__(self, width):
        super().__init__()
        for name in self.TABLES:
            shape = (0,) if "bias" in name else (0, width)
            self.register_parameter(name, nn.Parameter(torch.zeros(shape, dtype=torch.float32)))
        self.mean = nn.Parameter(torch.zeros(1, dtype=torch.float32))

    def forward(self, user, item):
        """Return scores (B,) and squared norms (B,) of what made them."""
        p, q = self.users[user], self.items[item]  # (B, k)
        biases = self.mean + self.user_bias[user] + self.item_bias[item]
        return biases + (p * q).sum(1), p.square().sum(1) + q.square().sum(1)

    def grow(self, n_users, n_items, rng):
        """Give users and items rows of small noise, and biases of zero."""
        for name, n_rows in zip(self.TABLES, (n_users, n_items) * 2, strict=True):
            table = getattr(self, name)
            new = rng.normal(0, 0.1, (n_rows - len(table), *table.shape[1:])).astype(np.float32)
            table.data = torch.cat([table.data, torch.from_numpy(new * ("bias" not in name))])

    def forget(self, users):
        """Erase rows of users (codes); the rows behind them move up."""
        kept = torch.from_numpy(np.setdiff1d(np.arange(len(self.users)), users))
        for table in (self.users, self.user_bias):
            table.data = table.data[kept]

    def rows(self, side, codes):
        """Vectors and biases of users (side 0) or items (1); of an unknown id, zeros."""
        known = codes >= 0
        vectors = np.zeros((len(codes), self.users.shape[1]), np.float32)
        bias = np.zeros(len(codes), np.float32)
        vectors[known] = getattr(self, self.TABLES[side]).detach().numpy()[codes[known]]
        bias[known] = getattr(self, self.TABLES[2 + side]).detach().numpy()[codes[known]]
        return vectors, bias


@dataclass(frozen=True)
class TowersSettings:
    """Settings of `TowersModel`."""

    n_factors: int
    max_epochs: int
    seed: int | None = None


class TowersModel(FittedModel):
    """The net, and the range of the feedback that it has seen."""

    kind = "TwoTowersRecommender"

    def __init__(self, rows, settings):
        super().__init__(rows, settings)
        self.rng = RandomStream(np.random.default_rng(settings.seed))
        self.range = np.inf, -np.inf
        self.net = Net(
            training.make_net(
                TwoTowers(settings.n_factors), training.PenalisedLoss("squared_error", 0.02),
                replace(training.PLAIN, learning_rate=0.02), max_epochs=settings.max_epochs,
                net_params={"batch_size": 64},
            )
        )  # fmt: skip

    def _learn(self, events, undo, call):
        undo.keep(self.net)  # a failure or an interrupt puts everything back
        module, first = self.net.module, not len(self.net.module.users)
        module.grow(self.n_users, self.n_items, self.rng.generator)
        if first:
            mean = np.average(events.feedback, weights=events.weight)
            module.mean.data = torch.tensor([mean], dtype=torch.float32)
        low, high = self.range
        self.range = min(low, events.feedback.min()), max(high, events.feedback.max())
        trainer = training.Trainer(self.settings.max_epochs if first else 1, self.rng.seed())
        columns = {"user": events.user, "item": events.item}
        target = np.column_stack([events.feedback, events.weight]).astype(np.float32)
        trainer.fit(self.net.net, columns, target)
        return np.empty(0)

    def score(self, events):
        module = self.net.module
        (p, b_u), (q, b_i) = module.rows(0, events.user), module.rows(1, events.item)
        return self.inverse_link(module.mean.item() + b_u + b_i + np.einsum("nk,nk->n", p, q))

    def inverse_link(self, scores):
        return np.clip(scores, *self.range).astype(np.float64)

    def tile_scorer(self, users, columns, queries):
        module = self.net.module
        (p, b_u), (q, b_i) = module.rows(0, users), module.rows(1, columns)
        return dot_tiles(p, q, b_i, b_u + module.mean.detach().numpy())


class TwoTowersRecommender(RecommenderMixin, RegressorMixin, BaseEstimator):
    """Parameters, tags and verbs around `TowersModel`."""

    _FIXED = ("n_factors",)
    _TAGS = RecommenderTags(
        partial_fit="warm start", keeps="a vector an id", learns="ratings by factors"
    )
    _parameter_constraints: ClassVar[dict] = {
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(self, n_factors=8, max_epochs=20, random_state=None):
        self.n_factors = n_factors
        self.max_epochs = max_epochs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        self._fit(X, y, sample_weight)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None, *, batch_id=None):
        self._update(X, y, sample_weight, batch_id=batch_id)
        return self

    def predict(self, X):
        return self._predict(X)

    def _settings(self):
        return TowersSettings(self.n_factors, self.max_epochs)

    def _make_model(self, rows):
        return TowersModel(rows, replace(self._settings(), seed=self._seed()))


@pytest.mark.parametrize("check", OUR_CHECKS, ids=lambda check: check.__name__)
def test_contract(check):
    check(small(TwoTowersRecommender))


def test_scikit_learn():
    estimator = small(TwoTowersRecommender)
    allowed = expected_failures(estimator)
    results = check_estimator(estimator, expected_failed_checks=allowed, on_skip=None)
    assert {r["check_name"] for r in results if r["status"] != "passed"} == set(allowed)
    assert len(results) >= n_checks(estimator)
