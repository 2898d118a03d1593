"""ALS with compressed factors."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft.compression._factorization import CompactIdTables
from sklearn_recft.compression._models import CompactModel
from sklearn_recft.events import Interactions
from sklearn_recft.models import ALSModel, ALSSettings, Call, FittedModel
from sklearn_recft.parallel import blas_threads
from sklearn_recft.ranking import TileScorer


class CompactFactors(CompactIdTables):
    """Compressed factors of users and items, and nothing else."""

    FACTORS: ClassVar[dict[str, int]] = {"user_factors": 0, "item_factors": 1}
    COLUMNS: ClassVar[dict[str, int]] = {}
    LEARNED = ()


class CompactALSModel(CompactModel, ALSModel):
    """ALS with compressed factors; the sums stay as they are.

    Attributes
    ----------
    tables : CompactFactors
    visitors : ndarray of shape (n_users, n_factors) or None
        Factors of users in a view by `with_history`.
    """

    kind = "ALSRecommender (compact)"
    original = ALSModel
    visitors: np.ndarray | None = None

    def __init__(self, rows: Interactions, settings: ALSSettings) -> None:
        super().__init__(rows, settings)
        self.tables = CompactFactors(
            {"user_factors": self.user_factors, "item_factors": self.item_factors}
        )
        del self.user_factors, self.item_factors

    # ------------------------------------------------------------------ learning

    def _observes(self, call: Call) -> bool:
        return not call.weights

    def _extend(self, users: np.ndarray) -> None:
        """Solve for the factors of ``users``, given those of the items; new items have zeros."""
        users, tables = np.unique(users), copy.copy(self.tables)
        tables.factors = {
            "user_factors": tables.factors["user_factors"].grown(self.n_users),
            "item_factors": tables.factors["item_factors"].grown(self.n_items),
        }
        self.tables = tables
        rows = tables.factors["user_factors"].rows(users)
        self._fold_in(np.arange(len(users)), self.feedback.total()[users], rows)
        tables.factors["user_factors"] = tables.factors["user_factors"].replaced(
            users, rows, in_full=self.keep == "learn"
        )

    def _fold_in(self, users: np.ndarray, matrix: csr_array, factors: np.ndarray) -> None:
        """Solve for ``users``, rows of ``factors``, given their items alone in float32."""
        table = self.tables.factors["item_factors"]
        items, places = np.unique(matrix.indices, return_inverse=True)
        near = csr_array(
            (matrix.data, places.astype(matrix.indices.dtype), matrix.indptr),
            (matrix.shape[0], len(items)),
        )
        gram, n_steps = table.gram().astype(np.float32), 2 * factors.shape[1]
        with blas_threads(1):
            self._solve(users, near, gram, table.rows(items), factors, n_steps)

    def _is_finite(self, events: Any) -> bool:
        """Whether the factors of the users of the events are finite."""
        return bool(np.isfinite(self.tables.factors["user_factors"].rows(events.user)).all())

    def forget(self, users: np.ndarray) -> None:
        """Remove the sums of ``users`` (codes), and fit all factors to the rest, as `fit` does."""
        self._change(lambda full: full.forget(users))

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the sums of ``items`` (codes), and fit all factors to the rest, as `fit` does."""
        self._change(lambda full: full.forget_items(items))

    def _change(self, change: Callable[[FittedModel], None]) -> None:
        """Change the model in full, and compress it again."""
        with self._lock.writing():
            full = self.expanded()
            change(full)
            after = type(self).of(full, self.precision, self.keep)
            self._put_back({**vars(after), "_lock": self._lock})

    # ------------------------------------------------------------------ scoring

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes ``p_u . q_i``."""
        nothing = np.zeros(len(columns), np.float32), np.zeros(len(users), np.float32)
        return self.tables.factors["item_factors"].tiles(self._users(users), columns, *nothing)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item factors."""
        return self.tables.factors["item_factors"].cosine_tiles(items)

    def with_history(self, rows: Interactions) -> CompactALSModel:
        """Return a view with the users of these events, folded in given the items."""
        view: CompactALSModel = super().with_history(rows)  # type: ignore[assignment]
        view.visitors = view.user_factors
        return view

    def _users(self, codes: np.ndarray) -> np.ndarray:
        """Return the factors of users, and the mean of all for -1."""
        if self.visitors is None or self.unknown_user is None:
            return self._rows("user_factors", codes)
        return np.concatenate([self.visitors, self.unknown_user])[codes]

    def _items(self, codes: np.ndarray) -> np.ndarray:
        """Return the factors of items, and the mean of all for -1."""
        return self._rows("item_factors", codes)

    def _gram(self) -> np.ndarray:
        """Return the products (f, f) of the item factors, float64."""
        return self.tables.factors["item_factors"].gram()

    def _rows(self, name: str, codes: np.ndarray) -> np.ndarray:
        table, unknown = self.tables.factors[name], codes < 0
        found = np.zeros((len(codes), table.width), np.float32)
        found[~unknown] = table.rows(codes[~unknown])
        if unknown.any() and len(table):
            found[unknown] = table.mean()
        return found

    # ------------------------------------------------------------------ saving

    def _compressed(self, model: FittedModel, before: Any) -> dict[str, Any]:
        state, serves = super()._compressed(model, before), self.keep == "serve"
        given = {name: state["values"].pop(name) for name in CompactFactors.FACTORS}
        tables = None if before is None else before.tables
        tables = self.tables.compressed(given, self.precision, serves, tables)
        return {**state, "parts": {**state["parts"], "tables": tables}}

    def _expanded(self, state: dict[str, Any]) -> dict[str, Any]:
        parts = {name: part for name, part in state["parts"].items() if name != "tables"}
        return {**state, "parts": parts, "values": {**state["values"], **self.tables.expanded()}}
