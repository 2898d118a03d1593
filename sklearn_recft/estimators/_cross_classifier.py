"""Deep & cross network for labels of two classes: `IncrementalDCNClassifier`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._cross_base import CrossMixin
from sklearn_recft.estimators._labels import BinaryLabelsMixin
from sklearn_recft.models import CrossSettings
from sklearn_recft.training import FineTuning


class IncrementalDCNClassifier(CrossMixin, BinaryLabelsMixin, ClassifierMixin, BaseEstimator):
    """Predict clicks."""

    _TAGS = RecommenderTags(
        predicts="probability",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's rates and factors",
        keeps="tables, features of ids, seen items, `replay_size` rows",
        learns="clicks or likes from any columns: crosses of features, online rates and factors",
    )

    def __init__(
        self,
        *,
        user_features: list[str] | None = None,
        item_features: list[str] | None = None,
        categorical: list[str] | None = None,
        lists: list[str] | None = None,
        use_ids: bool = True,
        n_factors: int = 16,
        embedding_dim: int = 8,
        hidden: Sequence[int] = (64, 32),
        id_dropout: float = 0.1,
        replay_size: int = 20_000,
        drift: str | None = "follow",
        max_epochs: int | None = None,
        training: FineTuning | None = None,
        random_state: Any = None,
        verbose: int = 0,
        net_params: dict[str, Any] | None = None,
    ) -> None:
        self.user_features = user_features
        self.item_features = item_features
        self.categorical = categorical
        self.lists = lists
        self.use_ids = use_ids
        self.n_factors = n_factors
        self.embedding_dim = embedding_dim
        self.hidden = hidden
        self.id_dropout = id_dropout
        self.replay_size = replay_size
        self.drift = drift
        self.max_epochs = max_epochs
        self.training = training
        self.random_state = random_state
        self.verbose = verbose
        self.net_params = net_params

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        users: Any = None,
        items: Any = None,
    ) -> IncrementalDCNClassifier:
        """Fit the model to a log of events."""
        self._fit(X, y, sample_weight, users=users, items=items)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        classes: Any = None,
        users: Any = None,
        items: Any = None,
        batch_id: Any = None,
    ) -> IncrementalDCNClassifier:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`."""
        self._update(
            X, y, sample_weight, batch_id=batch_id, classes=classes, users=users, items=items
        )
        return self

    def _settings(self) -> CrossSettings:
        return self._cross_settings("log_loss")
