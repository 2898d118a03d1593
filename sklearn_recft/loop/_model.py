"""What the loop needs of a model: the public methods of an estimator."""

from __future__ import annotations

from typing import Any, Protocol


class Served(Protocol):
    """A recommender, or a pipeline of one; how it learns is the option ``learn`` of the loop."""

    def predict(self, X: Any) -> Any:
        """Predict the feedback of rows."""

    def recommend(self, X: Any, *, n_recommendations: int = 10, **options: Any) -> Any:
        """Recommend items."""

    def forget(self, user_ids: Any) -> Any:
        """Erase users."""
