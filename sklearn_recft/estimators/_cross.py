"""Deep & cross network over any columns: `IncrementalDCNRecommender`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from sklearn.base import BaseEstimator, RegressorMixin, _fit_context
from sklearn.utils._param_validation import StrOptions

from sklearn_recft.base import RecommenderTags
from sklearn_recft.estimators._cross_base import CrossMixin, labels_within
from sklearn_recft.interactions import Interactions
from sklearn_recft.models import CrossSettings
from sklearn_recft.training import FineTuning


class IncrementalDCNRecommender(CrossMixin, RegressorMixin, BaseEstimator):
    """Predict ratings, shares or counts."""

    _FIXED = ("loss", *CrossMixin._FIXED)
    _TAGS = RecommenderTags(
        predicts="feedback",
        partial_fit="warm start",
        reads=("time", "context"),
        adapts="the user's rates and factors",
        keeps="tables, features of ids, seen items, `replay_size` rows",
        learns="ratings, shares or counts from any columns: crosses of features, online rates and "
        "factors",
    )
    _parameter_constraints: ClassVar[dict] = {
        "loss": [StrOptions({"squared_error", "log_loss", "poisson"})],
        **CrossMixin._parameter_constraints,
    }

    def __init__(
        self,
        *,
        loss: str = "squared_error",
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
        self.loss = loss
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
    ) -> IncrementalDCNRecommender:
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
        users: Any = None,
        items: Any = None,
        batch_id: Any = None,
    ) -> IncrementalDCNRecommender:
        """Update the model with further rows; on an unfitted estimator, the same as `fit`."""
        self._update(X, y, sample_weight, batch_id=batch_id, users=users, items=items)
        return self

    def predict(self, X: Any) -> Any:
        """Predict the feedback of each row."""
        return self._predict(X)

    # ------------------------------------------------------------------ private

    def _check(self, X: Any, y: Any, sample_weight: Any, **check: Any) -> Interactions:
        rows = super()._check(X, y, sample_weight, **check)
        labels_within(rows.feedback, self.loss)
        return rows

    def _settings(self) -> CrossSettings:
        return self._cross_settings(self.loss)
