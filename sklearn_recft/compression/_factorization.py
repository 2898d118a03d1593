"""Compressed factorizations: factors in few bits, biases in float32."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np

from sklearn_recft import kernels
from sklearn_recft.compression._models import CompactModel
from sklearn_recft.compression._tables import CompactTable
from sklearn_recft.events import Interactions
from sklearn_recft.models import (
    FactorizationModel,
    FactorizationSettings,
    FittedModel,
    SGDFactorizationModel,
    SoftmaxFactorizationModel,
    SoftmaxFactorizationSettings,
)
from sklearn_recft.modules import HistoryFactorization, MatrixFactorization
from sklearn_recft.ranking import TileScorer

_BLOCK = 65_536  # rows scored at once: bounds memory
_USERS_AT_ONCE = 4096


class CompactIdTables:
    """Tables of users and items: those of factors compressed, the others as they are.

    Attributes
    ----------
    FACTORS, COLUMNS : dict of str to int
        Names of the tables, as in `IdTables`, with their side: 0 for users, 1 for items.
    LEARNED : tuple of str
        Of the columns, those that only learning reads. They are empty in a model that serves.
    SHARED : tuple of str
        Names of arrays that belong to no id.
    factors : dict of str to CompactTable
    columns : dict of str to ndarray
    """

    FACTORS: ClassVar[dict[str, int]]
    COLUMNS: ClassVar[dict[str, int]]
    LEARNED: ClassVar[tuple[str, ...]]
    SHARED: ClassVar[tuple[str, ...]] = ()

    def __init__(self, empty: dict[str, np.ndarray]) -> None:
        self.factors = {name: CompactTable(empty[name].shape[1]) for name in self.FACTORS}
        self.columns = {name: empty[name] for name in self.COLUMNS}

    @property
    def n_rows(self) -> tuple[int, int]:
        """Numbers of users and of items."""
        return len(self.factors["user_factors"]), len(self.factors["item_factors"])

    def compressed(
        self, given: dict[str, Any], precision: str, serves: bool, before: CompactIdTables | None
    ) -> dict[str, Any]:
        """Return the state of such tables, from one of `IdTables`; see `CompactModel`."""
        state: dict[str, Any] = {"precision": precision}
        for name in self.FACTORS:
            if before is None:
                table = CompactTable.of(given[name], precision, name)
            else:
                table = before.factors[name].followed(given[name])
            state.update(table.state(f"{name}_"))
        for name in self.COLUMNS:
            gone = serves and name in self.LEARNED
            state[name] = given[name][:0] if gone else given[name]
        return {**state, **{name: given[name] for name in self.SHARED}}

    def expanded(self) -> dict[str, Any]:
        """Return a state of `IdTables`."""
        given, n_rows = self.state(), self.n_rows
        state = {name: table.expanded() for name, table in self.factors.items()}
        for name, side in self.COLUMNS.items():
            column = given[name]
            n_missing = n_rows[side] - len(column)  # of a model that serves
            state[name] = np.pad(column, ((0, n_missing), *((0, 0),) * (column.ndim - 1)))
        return {**state, **{name: given[name] for name in self.SHARED}}

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> None:
        """Return None: the tables never change in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: the tables never change in place."""

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes); later rows are renumbered to close the gaps."""
        self._remove(0, users)

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the rows of ``items`` (codes); later rows are renumbered to close the gaps."""
        self._remove(1, items)

    def _remove(self, side: int, codes: np.ndarray) -> None:
        for name, its_side in self.FACTORS.items():
            if its_side == side:
                self.factors[name] = self.factors[name].without(codes)
        for name, its_side in self.COLUMNS.items():
            if its_side == side and len(self.columns[name]):
                self.columns[name] = np.delete(self.columns[name], codes, axis=0)

    def state(self) -> dict[str, Any]:
        """Return all arrays by name; nothing writes to them."""
        state: dict[str, Any] = {"precision": self.factors["user_factors"].precision}
        for name, table in self.factors.items():
            state.update(table.state(f"{name}_"))
        return {**state, **self.columns}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        for name in self.FACTORS:
            self.factors[name] = CompactTable.from_state(state, state["precision"], f"{name}_")
        n_rows = self.n_rows
        for name, side in {**self.FACTORS, **self.COLUMNS}.items():
            found = self.factors[name] if name in self.FACTORS else state[name]
            allowed = (n_rows[side], 0) if name in self.LEARNED else (n_rows[side],)
            if len(found) not in allowed:
                raise ValueError(f"{name}: it has {len(found)} rows, and not {n_rows[side]}")
        self.columns = {name: state[name] for name in self.COLUMNS}


class CompactFactorization(CompactIdTables):
    """Score by compressed factors: what a `MatrixFactorization` does for reading.

    Parameters
    ----------
    n_factors : int
    n_context : int, default=0

    Attributes
    ----------
    shared : MatrixFactorization
        Without ids: the mean, and what belongs to the context.
    """

    FACTORS: ClassVar[dict[str, int]] = {"user_factors": 0, "item_factors": 1}
    COLUMNS: ClassVar[dict[str, int]] = {
        "user_bias": 0,
        "user_count": 0,
        "item_bias": 1,
        "item_count": 1,
    }
    LEARNED = ("user_count", "item_count")
    SHARED = ("mean", "context_weight", "context_mean", "context_scale")

    def __init__(self, n_factors: int, n_context: int = 0) -> None:
        super().__init__(MatrixFactorization(n_factors, n_context).state())
        self.shared = MatrixFactorization(n_factors, n_context)

    @property
    def intercept(self) -> float:
        """Mean of the score."""
        return self.shared.intercept

    def offset(self, context: np.ndarray) -> np.ndarray:
        """Compute the terms (n,) that do not depend on ids."""
        return self.shared.offset(context)

    def average_context(self) -> np.ndarray:
        """Return the center (c,) of the context."""
        return self.shared.average_context()

    def rows(self, side: int, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Look up factors (n, k) and biases (n,) of users (side 0) or items (1); -1 is unknown."""
        name, n = ("user", "item")[side], self.n_rows[side]
        table, bias = self.factors[f"{name}_factors"], self.columns[f"{name}_bias"]
        if not n:
            return np.zeros((len(codes), table.width), np.float32), np.zeros(len(codes))
        unknown = codes < 0
        p, b = table.rows(np.where(unknown, n - 1, codes)), np.array(bias[codes])
        if unknown.any():
            newest = np.arange(max(0, n - MatrixFactorization.NEWEST), n)
            p[unknown], b[unknown] = table.rows(newest).mean(0), bias[newest].mean()
        return p, b

    def score(self, users: np.ndarray, items: np.ndarray, context: np.ndarray) -> np.ndarray:
        """Score rows of codes (-1: unknown) and raw context (n, c); return float64 (n,)."""
        out, offset = np.empty(len(users)), self.offset(context)
        for start in range(0, len(users), _BLOCK):
            some = slice(start, start + _BLOCK)
            (p, b_u), (q, b_i) = self.rows(0, users[some]), self.rows(1, items[some])
            out[some] = np.einsum("nk,nk->n", p, q) + b_u + b_i + offset[some]
        return out

    def item_vectors(self) -> np.ndarray:
        """Return the factors (n, k) of all items in float32."""
        return self.factors["item_factors"].expanded()

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, context: np.ndarray
    ) -> TileScorer:
        """Return a function that scores catalogue ``columns`` in tiles (see `ranking.top_k`)."""
        p, bias = self.rows(0, users)
        base = (bias + self.offset(context)).astype(np.float32)
        item_bias = self.columns["item_bias"]
        if len(columns) < len(item_bias):
            item_bias = item_bias[columns]
        return self.factors["item_factors"].tiles(p, columns, item_bias, base)

    def state(self) -> dict[str, Any]:
        """Return all arrays by name."""
        shared = self.shared.state()
        return {**super().state(), **{name: shared[name] for name in self.SHARED}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        super().load_state(state)
        self.shared.load_state({**self.shared.state(), **{n: state[n] for n in self.SHARED}})


class CompactHistory(CompactIdTables):
    """Compressed tables of a `HistoryFactorization`, for reading."""

    FACTORS: ClassVar[dict[str, int]] = {
        "user_factors": 0,
        "item_factors": 1,
        "input_factors": 1,
    }
    COLUMNS: ClassVar[dict[str, int]] = {
        "user_squares": 0,
        "recent": 0,
        "item_squares": 1,
        "input_squares": 1,
        "item_count": 1,
        "item_popularity": 1,
    }
    LEARNED = ("user_squares", "item_squares", "input_squares", "item_count")


class _CompactFactors(CompactModel):
    """What both compressed factorizations do."""

    tables: CompactIdTables

    @property
    def module(self) -> Any:
        """The tables, as far as they are read."""
        return self.tables

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item factors."""
        return self.tables.factors["item_factors"].cosine_tiles(items)

    def _compressed(self, model: FittedModel, before: Any) -> dict[str, Any]:
        state, serves = super()._compressed(model, before), self.keep == "serve"
        parts, tables = dict(state["parts"]), None if before is None else before.tables
        parts["tables"] = self.tables.compressed(parts["tables"], self.precision, serves, tables)
        if serves:  # rows to learn from
            if "reservoir" in parts:
                parts["reservoir"] = {"capacity": 0, "n_offered": 0, "rows": {}}
            if "sample" in state["values"]:
                state["values"]["sample"] = state["values"]["sample"][:0]
        return {**state, "parts": parts}

    def _expanded(self, state: dict[str, Any]) -> dict[str, Any]:
        return {**state, "parts": {**state["parts"], "tables": self.tables.expanded()}}


class CompactFactorizationModel(_CompactFactors, FactorizationModel):
    """A factorization of the solver "sgd" with compressed factors.

    Attributes
    ----------
    tables : CompactFactorization
    """

    kind = "IncrementalMFRecommender (compact)"
    original = SGDFactorizationModel
    LEARNING_RATE, REG = SGDFactorizationModel.LEARNING_RATE, SGDFactorizationModel.REG

    def __init__(self, rows: Interactions, settings: FactorizationSettings) -> None:
        super().__init__(rows, settings)
        self.tables = CompactFactorization(settings.n_factors, len(rows.context_names))

    @property
    def module(self) -> MatrixFactorization:
        """The tables, which read as a `MatrixFactorization`."""
        return cast(MatrixFactorization, self.tables)

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: users keep what they learned from these items."""
        return "erased"


class CompactSoftmaxModel(_CompactFactors, SoftmaxFactorizationModel):
    """A factorization of the loss "softmax" with compressed factors.

    Attributes
    ----------
    tables : CompactHistory
    """

    kind = "IncrementalMFRecommender (softmax, compact)"
    original = SoftmaxFactorizationModel
    tables: CompactHistory  # type: ignore[assignment]

    def __init__(self, rows: Interactions, settings: SoftmaxFactorizationSettings) -> None:
        super().__init__(rows, settings)
        empty: HistoryFactorization = SoftmaxFactorizationModel.module.fget(self)  # type: ignore
        self.tables = CompactHistory(empty.state())

    @property
    def _weights(self) -> np.ndarray:
        n_recent = self.tables.columns["recent"].shape[1]
        return (self._decay ** np.arange(n_recent)).astype(np.float32)

    def factors(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the states of users (side 0) or factors of items (1), and biases, 0 of users."""
        codes = np.arange(self.tables.n_rows[side])
        if side:
            return self._items(codes)
        return self._states(codes), np.zeros(len(codes), np.float32)

    def _users(self) -> tuple[np.ndarray, Any]:
        """Return the last items and the factors of users."""
        tables = self.tables
        return self.visitors or (tables.columns["recent"], tables.factors["user_factors"])

    def _states(self, users: np.ndarray) -> np.ndarray:
        """Return the states (n, f) of users; zeros for -1."""
        recent, own = self._users()
        states = np.zeros((len(users), self.settings.n_factors), np.float32)
        for start in range(0, len(users), _USERS_AT_ONCE):
            some = slice(start, start + _USERS_AT_ONCE)
            codes = users[some].astype(np.int64)
            known = np.flatnonzero(codes >= 0)
            places = recent[codes[known]]
            # The loop reads few rows, which are numbered from 1.
            number = np.zeros(self.tables.n_rows[1] + 1, np.int32)
            number[places] = 1
            items = 1 + np.flatnonzero(number[1:])
            number[0], number[items] = 0, np.arange(1, len(items) + 1)
            inputs = self.tables.factors["input_factors"].rows(items - 1)
            found = np.empty((len(known), states.shape[1]), np.float32)
            kernels.softmax_states(
                np.arange(len(known)),
                number[places],
                self._weights,
                _rows_of(own, codes[known]),
                inputs,
                found,
            )
            states[start + known] = found
        return states

    def _item_factors(self, items: np.ndarray) -> np.ndarray:
        """Return the factors (n, f) of items, 0 for -1."""
        return _known_rows(self.tables.factors["item_factors"], items)

    def _input_factors(self, items: np.ndarray) -> np.ndarray:
        """Return the factors (n, f) of known items as taken."""
        return self.tables.factors["input_factors"].rows(items)

    def _item_popularity(self) -> np.ndarray:
        """Return the decayed sums (n_items,) of the weights of events."""
        return self.tables.columns["item_popularity"]

    def _factor_tiles(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        table, nothing = self.tables.factors["item_factors"], np.zeros(len(users), np.float32)
        return table.tiles(self._states(users), columns, self._item_biases(columns), nothing)

    def _own_factors(self, own: Any, users: np.ndarray) -> np.ndarray:
        """Return the factors (n, g) of users, 0 for -1."""
        return (
            _known_rows(own, users)
            if isinstance(own, CompactTable)
            else super()._own_factors(own, users)
        )


def _rows_of(table: Any, codes: np.ndarray) -> np.ndarray:
    """Return rows of known codes, of a table or an array."""
    return table.rows(codes) if isinstance(table, CompactTable) else table[codes]


def _known_rows(table: CompactTable, codes: np.ndarray) -> np.ndarray:
    """Return rows of codes, zeros for -1."""
    found, known = np.zeros((len(codes), table.width), np.float32), codes >= 0
    found[known] = table.rows(codes[known])
    return found
