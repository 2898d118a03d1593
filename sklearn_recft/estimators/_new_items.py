"""New items without events: what the estimators share that read texts, vectors or features."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_recft.events import Interactions
from sklearn_recft.features import FeatureTable
from sklearn_recft.models import Call, FittedModel


class NewItemsMixin:
    """Mixin of recommenders with the method ``add_items``: `_register_items` does its work."""

    _model: FittedModel

    def _register_items(self, call: Call, **tables: FeatureTable) -> None:
        """Learn items of a call, or of tables of features, and no events."""
        check_is_fitted(self)
        model = self._model
        if not model.n_items:
            raise ValueError("items: the model was fitted without ids of items, and ranks none.")
        ids, context = np.empty(0, object), np.zeros((0, len(model.context_names)))
        feedback = None if model.positives_only else np.empty(0)
        rows = Interactions(ids, ids, feedback, None, None, context, model.context_names)
        rows = replace(rows, tables=tables)
        self._update(rows, None, None, replace(call, weights=False))  # type: ignore[attr-defined]

    def __recommender_resume__(
        self, X: Any, y: Any, sample_weight: Any = None, **check: Any
    ) -> Interactions:
        """Check an update, whose rows are checked already where it is one of items alone."""
        if not isinstance(X, Interactions):
            return super().__recommender_resume__(X, y, sample_weight, **check)  # type: ignore[misc]
        self._check_parameters()  # type: ignore[attr-defined]
        self._check_fixed()  # type: ignore[attr-defined]
        return X
