"""Features in a Bayesian factorization: they set the prior means of users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.features import FeatureColumn
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._bayesian_table import GaussianTable
from sklearn_recft.models._side_features import SideFeatures
from sklearn_recft.names import ITEM, USER
from sklearn_recft.vocabulary import Vocabulary

if TYPE_CHECKING:
    from sklearn_recft.text import TextEncoder

_ROWS_AT_ONCE = 16_384  # of features: bounds memory


@dataclass(frozen=True)
class Side:
    """What a model holds of users, or of items: ids, features and posteriors."""

    ids: Vocabulary
    features: SideFeatures
    table: GaussianTable


class BayesianFeaturesModel(FittedModel):
    """Base of models of Gaussian posteriors whose prior means depend on features.

    Attributes
    ----------
    user_table, item_table : GaussianTable
    user_side, item_side : SideFeatures
    noise : float
        Variance of the noise; 0 before `fit`.
    """

    noise: float

    def __init__(self, rows: Interactions, settings: Any) -> None:
        super().__init__(rows, settings)
        self.user_table = GaussianTable(settings.n_factors, of_users=True)
        self.item_table = GaussianTable(settings.n_factors, of_users=False)
        self.user_side = SideFeatures(per_user=True)
        self.item_side = SideFeatures(
            per_user=False,
            text_components=settings.text_components,
            make_encoder=self._make_encoder if settings.backbone else None,
        )

    def user_features(self, codes: np.ndarray) -> np.ndarray:
        """Return the features (n, n_features) of users; the first is the constant 1."""
        return self.user_side.matrix(codes)

    def item_features(self, codes: np.ndarray) -> np.ndarray:
        """Return the features (n, n_features) of items; the first is the constant 1."""
        return self.item_side.matrix(codes)

    def side(self, role: str) -> Side:
        """Return the side of ``"user_id"`` or ``"item_id"``."""
        if role == USER:
            return Side(self.users, self.user_side, self.user_table)
        return Side(self.items, self.item_side, self.item_table)

    @property
    def feature_columns(self) -> list[str]:
        """Columns that are features of users or of items, but not of both."""
        users, items = self.user_side.columns, self.item_side.columns
        return [n for n in users if n not in items] + [n for n in items if n not in users]

    def set_priors(
        self, means: np.ndarray, role: str, codes: np.ndarray, features: Mapping[str, FeatureColumn]
    ) -> np.ndarray:
        """Replace the means (n, D) of codes of -1 by the prior means of their features.

        Raises
        ------
        TypeError
            If a column is of another kind than in `fit`.
        """
        side, unknown = self.side(role), np.flatnonzero(codes < 0)
        names = [encoding.name for encoding in side.features.encodings]
        features = {name: features[name] for name in names if name in features}
        if not features:
            return means
        side.features.check(features)
        for start in range(0, len(unknown), _ROWS_AT_ONCE):
            rows = unknown[start : start + _ROWS_AT_ONCE]
            columns = _taken(features, rows)
            prior = side.features.transform(columns, len(rows), self.settings.n_threads)
            means[rows] = np.einsum("nf,fd->nd", prior, side.table.late_prior.weights)
        return means

    def _make_encoder(self, texts: list[str]) -> TextEncoder:
        from sklearn_recft.text import make_encoder  # loads torch

        backbone, seed = str(self.settings.backbone), self.settings.seed or 0
        return make_encoder(backbone, "all", texts, seed=seed, device="cpu", lora_rank=0)

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        """Check further features, and keep what they may change."""
        for role, given in rows.tables.items() if self.noise else ():
            side = self.side(role)
            side.features.check(given.columns)
            codes = side.ids.encode(given.ids)
            undo.keep(side.features, codes)
            undo.keep(side.table, codes[codes >= 0])

    def _register(self, rows: Interactions) -> Events:
        """Assign codes, also to ids that have features alone, and remember features."""
        events = super()._register(rows)
        for role, given in rows.tables.items():
            side, n_threads = self.side(role), self.settings.n_threads
            table, features = side.table, side.features
            codes = side.ids.extend(given.ids)
            if not self.noise:  # ids without events tell nothing of what features mean
                trained = np.isin(codes, events.user if role == USER else events.item)
                features.fit(_taken(given.columns, trained), n_threads)
            places = np.arange(len(codes))
            if role == ITEM:  # features would move an item with events; profiles may come late
                places = places[~np.isin(codes, np.flatnonzero(table.sums[:, 0]))]
            columns = _taken(given.columns, places)
            learned = features.learn(codes[places], columns, len(side.ids), n_threads)
            learned = learned[learned < len(table)]
            if len(learned):
                table.solve(learned, features.matrix(learned), self.noise, n_threads)
        return events


def _taken(columns: Mapping[str, FeatureColumn], rows: np.ndarray) -> dict[str, FeatureColumn]:
    """Return columns at ``rows`` (places or a mask)."""
    return {name: column.take(rows) for name, column in columns.items()}
