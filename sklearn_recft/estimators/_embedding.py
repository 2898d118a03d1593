"""Vectors of items that a recommender reads from the column ``embedding``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from sklearn_recft.estimators._new_items import NewItemsMixin
from sklearn_recft.features import feature_names
from sklearn_recft.interactions import check_items
from sklearn_recft.models import Call
from sklearn_recft.names import EMBEDDING

if TYPE_CHECKING:
    from sklearn_recft.models import ContentModel


class EmbeddingMixin(NewItemsMixin):
    """Mixin of recommenders that read vectors of items from ``X`` and from the table ``items``."""

    @property
    def feature_columns_(self) -> list[str]:
        """Columns of ``X`` that are no context: ``embedding``, if `fit` had vectors of items."""
        model: ContentModel = self._fitted("feature_columns_")  # type: ignore[attr-defined]
        return [EMBEDDING] if model.reads_vectors else []

    def add_items(self, items: Any) -> Any:
        """Register new items without events; they can be recommended at once.

        Weights, users and histories stay as they are. A known item keeps its text and its vector;
        an item that has none gets it. An item whose text is its id has no text.

        Parameters
        ----------
        items : table with columns ``item_id``, and ``text`` or ``embedding``
            As in `fit`.

        Returns
        -------
        self : object

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If columns are missing, or an item has another vector than before. Nothing changes.
        """
        self._register_items(catalogue_call(items))
        return self

    def _features_of_fit(self) -> Collection[str]:
        return {EMBEDDING: "vector"}

    def _features(self) -> Collection[str]:
        # A table without names has no such column.
        return {EMBEDDING: "vector"} if hasattr(self, "feature_names_in_") else {}


def reads_embedding(estimator: Any) -> bool:
    """Whether an estimator, or a member of a blend, reads the column ``embedding``."""
    members = getattr(estimator, "estimators", None) or ()
    return (
        isinstance(estimator, EmbeddingMixin)
        or EMBEDDING in feature_names(estimator)
        or any(reads_embedding(member) for _, member in members)
    )


def catalogue_call(items: Any, *, predict: bool = False) -> Call:
    """Return the options of a training call, with validated items."""
    return Call(predict=predict, catalogue=None if items is None else check_items(items))
