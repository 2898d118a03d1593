"""Columns of a cross network: codes of categories and lists, standardized numbers, vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.features import FeatureColumn, refuse_other_kind
from sklearn_recft.models._cross_vectors import GatherVectors, VectorScales, name_of
from sklearn_recft.names import ITEM, USER
from sklearn_recft.vocabulary import Vocabulary

ROW = "row"
# Members of a list that are read; the others of a longer list are left out.
_LONGEST = 32
# Standardized numbers beyond this are as large as this.
CLIP = 5.0
# Rows that are computed at once: the numbers of so many stay in the cache.
_BLOCK = 2048
_IS_CODED = ("category", "set")


@dataclass(frozen=True)
class Field:
    """One column: its name, whose feature it is, its kind and its number of cells in a row."""

    name: str
    source: str
    kind: str
    width: int

    @property
    def is_coded(self) -> bool:
        """Whether its cells are codes."""
        return self.kind in _IS_CODED

    @property
    def is_vector(self) -> bool:
        """Whether it has vectors, which are no cells."""
        return self.kind == "vector"


class Cells:
    """Cells of the fields of users, or of items, by code: codes of values, numbers, and vectors.

    An id keeps the first features that were learned of it.
    """

    def __init__(self) -> None:
        self.rows = np.zeros((0, 0))
        self.vectors = np.zeros((0, 0), np.float32)
        self.known = np.zeros(0, bool)
        self.columns: list[str] = []  # names of the fields

    def learn(
        self, codes: np.ndarray, cells: np.ndarray, vectors: np.ndarray, given: np.ndarray
    ) -> None:
        """Store the cells and vectors of distinct codes that are ``given`` and not known yet.

        Parameters
        ----------
        codes : ndarray of shape (n,)
        cells : ndarray of shape (n, w)
        vectors : ndarray of shape (n, v)
        given : ndarray of shape (n,), bool
        """
        _, known_now = self.find(codes)
        new = given & ~known_now
        if not new.any():
            return
        # Arrays are replaced, not written to: `CrossColumns.mark` keeps the old ones.
        size = max(len(self.known), int(codes[new].max()) + 1)
        rows, known = np.full((size, cells.shape[1]), np.nan), np.zeros(size, bool)
        rows[: len(self.rows)], known[: len(self.known)] = self.rows, self.known
        rows[codes[new]], known[codes[new]] = cells[new], True
        self.rows, self.known = rows, known
        if vectors.shape[1]:
            self._put(codes[new], vectors[new], size)

    def _put(self, codes: np.ndarray, vectors: np.ndarray, size: int) -> None:
        """Store vectors of new codes in place: what `known` does not name is never read."""
        if size > len(self.vectors):
            wider = np.zeros((max(size, len(self.vectors) * 3 // 2), vectors.shape[1]), np.float32)
            wider[: len(self.vectors)] = self.vectors
            self.vectors = wider
        self.vectors[codes] = vectors

    def find(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the cells of codes, and whether they are known."""
        inside = (codes >= 0) & (codes < len(self.known))
        known = np.zeros(len(codes), bool)
        known[inside] = self.known[codes[inside]]
        cells = np.full((len(codes), self.rows.shape[1]), np.nan)
        cells[known] = self.rows[codes[known]]
        return cells, known

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes); the rows behind them move up."""
        users = users[users < len(self.known)]
        if self.vectors.shape[1]:
            self.vectors = np.delete(self.vectors[: len(self.known)], users, axis=0)
        self.rows, self.known = np.delete(self.rows, users, axis=0), np.delete(self.known, users)

    def state(self) -> dict[str, Any]:
        """Return the cells."""
        n = len(self.known)
        has_vectors = self.vectors.shape[1] > 0
        return {
            "rows": self.rows.copy(),
            "vectors": self.vectors[:n].copy() if has_vectors else np.zeros((n, 0), np.float32),
            "known": self.known.copy(),
            "columns": list(self.columns),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.rows, self.known = state["rows"].copy(), state["known"].copy()
        self.vectors, self.columns = state["vectors"].copy(), list(state["columns"])


class CrossColumns:
    """Turn rows into codes and numbers; remember features of users and items.

    Attributes
    ----------
    n_context : int
        Numbers of the context, which come first.
    fields : tuple of Field
        In the order of their cells: those of rows, then of users, then of items.
    moments : ndarray of shape (3, n_numbers)
        Weight, mean and sum of squares of each number so far.
    """

    def __init__(self, n_context: int) -> None:
        self.n_context = n_context
        self.fields: tuple[Field, ...] = ()
        self.vocabulary = Vocabulary()
        self.moments = np.zeros((3, n_context))
        self.cells = {USER: Cells(), ITEM: Cells()}
        self.scales = VectorScales()

    def start(self, found: Mapping[str, Mapping[str, FeatureColumn]], n_more: int) -> None:
        """Decide the fields by the columns of the first rows, by source.

        Parameters
        ----------
        found : dict of dict of str to FeatureColumn
            Columns of ``ROW``, of users and of items.
        n_more : int
            Numbers of a row that come last.
        """
        self.fields = tuple(
            Field(name, source, column.kind, _width_of(column))
            for source in (ROW, USER, ITEM)
            for name, column in found.get(source, {}).items()
            if column.kind != "missing"
        )
        for role, cells in self.cells.items():
            cells.columns = self.names(role)
            cells.rows = np.zeros((0, sum(field.width for field in self._of(role))))
            width = sum(field.width for field in self._vectors_of(role))
            cells.vectors = np.zeros((0, width), np.float32)
        for field in self.fields:
            if field.is_vector:
                self.scales.fit(field.source, field.name, found[field.source][field.name])
        n_numbers = sum(not (field.is_coded or field.is_vector) for field in self.fields)
        self.moments = np.zeros((3, self.n_context + n_numbers + n_more))

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of cells of each field of codes."""
        return tuple(field.width for field in self.fields if field.is_coded)

    @property
    def vector_widths(self) -> tuple[int, ...]:
        """Width of each field of vectors."""
        return tuple(field.width for field in self.fields if field.is_vector)

    def names(self, source: str) -> list[str]:
        """Return the names of the fields of rows, users or items."""
        return [field.name for field in self.fields if field.source == source]

    def check(self, source: str, columns: Mapping[str, FeatureColumn]) -> None:
        """Raise TypeError if a column is of another kind than in `fit`.

        Raise ValueError if it is unknown, or if its vectors are of another width.
        """
        own = {field.name: field for field in self.fields if field.source == source}
        unknown = [n for n, c in columns.items() if n not in own and c.kind != "missing"]
        if source != ROW and unknown:
            table = f"{source.removesuffix('_id')}s"
            raise ValueError(
                f"{table}: {unknown} are no features of fit, which were {list(own)}. Drop these "
                "columns, or call fit with them."
            )
        for name, column in columns.items():
            if name in own:
                refuse_other_kind(column, name, own[name].kind, own[name].width)

    def learn_features(
        self, role: str, codes: np.ndarray, columns: Mapping[str, FeatureColumn]
    ) -> None:
        """Remember the features of users or items that have none yet, and all their values."""
        cells = self._encode(role, columns, len(codes), grow=True)
        given = np.zeros(len(codes), bool)
        for name in self.names(role):
            if name in columns:
                given |= ~columns[name].is_missing
        self.cells[role].learn(codes, cells, self._scaled(role, columns, len(codes)), given)

    def of_ids(
        self, role: str, codes: np.ndarray, columns: Mapping[str, FeatureColumn]
    ) -> np.ndarray:
        """Return the cells of users or items: those remembered, else those in ``columns``."""
        cells, known = self.cells[role].find(codes)
        some = {name: columns[name] for name in self.names(role) if name in columns}
        if some and not known.all():
            self.check(role, some)
            unknown = np.flatnonzero(~known)
            given = {name: column.take(unknown) for name, column in some.items()}
            cells[unknown] = self._encode(role, given, len(unknown), grow=False)
        return cells

    def of_rows(
        self, columns: Mapping[str, FeatureColumn], n_rows: int, *, grow: bool = False
    ) -> np.ndarray:
        """Return the cells of the fields of rows; with ``grow``, new values get codes."""
        self.check(ROW, columns)
        return self._encode(ROW, columns, n_rows, grow=grow)

    def vectors_of_ids(
        self, role: str, codes: np.ndarray, columns: Mapping[str, FeatureColumn]
    ) -> dict[str, np.ndarray]:
        """Return the vectors in ``columns`` of users or items that are not remembered, if any."""
        names = [field.name for field in self._vectors_of(role) if field.name in columns]
        unknown = np.flatnonzero(~self.cells[role].find(codes)[1]) if names else np.zeros(0, int)
        given = {name: columns[name].take(unknown) for name in names}
        if all(column.is_missing.all() for column in given.values()):
            return {}
        self.check(role, given)
        width = self.cells[role].vectors.shape[1]
        vectors = np.full((len(codes), width), np.nan, np.float32)
        vectors[unknown] = self._scaled(role, given, len(unknown))
        return {name_of(role): vectors}

    def vectors_of_rows(
        self, columns: Mapping[str, FeatureColumn], n_rows: int
    ) -> dict[str, np.ndarray]:
        """Return the vectors of the fields of rows, if there are any."""
        if not self._vectors_of(ROW):
            return {}
        return {name_of(ROW): self._scaled(ROW, columns, n_rows)}

    def gather(self) -> GatherVectors | None:
        """Return what makes a column ``vectors`` of the rows of a batch; None without vectors."""
        if not self.vector_widths:
            return None
        tables = {role: (own.vectors, own.known) for role, own in self.cells.items()}
        return GatherVectors(ROW, tables)

    def split(self, cells: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return codes (n, K) and numbers (n, N) of the cells of rows, users and items."""
        codes: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        for source in (ROW, USER, ITEM):
            start = 0
            for field in self._of(source):
                part = cells[source][:, start : start + field.width]
                (codes if field.is_coded else numbers).append(part)
                start += field.width
        n = len(cells[ROW])
        found = np.concatenate([np.zeros((n, 0)), *codes], 1)
        return np.nan_to_num(found, nan=-1.0).astype(np.int64), np.concatenate(
            [np.zeros((n, 0)), *numbers], 1
        )

    # ------------------------------------------------------------------ numbers

    def learn_numbers(self, numbers: np.ndarray, weight: np.ndarray) -> None:
        """Add rows (n, N) to the moments; known numbers are limited to where they are clipped."""
        limits = None
        if self.moments[0].any():
            mean, scale = self._scale()
            limits = mean - 2 * CLIP * scale, mean + 2 * CLIP * scale
        for start in range(0, len(numbers), _BLOCK):
            part, w = numbers[start : start + _BLOCK], weight[start : start + _BLOCK]
            self._add_moments(part if limits is None else np.clip(part, *limits), w)

    def _add_moments(self, numbers: np.ndarray, weight: np.ndarray) -> None:
        known = ~np.isnan(numbers)
        values = np.where(known, numbers, 0.0)
        total = weight @ known
        mean = weight @ values / np.maximum(total, 1e-300)
        squares = weight @ (known * np.square(values - mean))
        old, old_mean, old_squares = self.moments
        both = np.maximum(old + total, 1e-300)
        step = mean - old_mean
        self.moments = np.stack(
            [
                old + total,
                old_mean + step * total / both,
                old_squares + squares + np.square(step) * old * total / both,
            ]
        )

    def standardize(self, numbers: np.ndarray) -> np.ndarray:
        """Return numbers (n, N) as float32: mean 0, deviation 1, clipped; missing ones are 0."""
        mean, scale = self._scale()
        out = np.empty(numbers.shape, np.float32)
        for start in range(0, len(numbers), _BLOCK):
            values = (numbers[start : start + _BLOCK] - mean) / scale
            out[start : start + _BLOCK] = np.clip(values, -CLIP, CLIP)
        out[np.isnan(out)] = 0.0
        return out

    def _scale(self) -> tuple[np.ndarray, np.ndarray]:
        total, mean, squares = self.moments
        scale = np.sqrt(squares / np.maximum(total, 1e-300))
        return mean, np.where(scale > 1e-9 * np.abs(mean), scale, 1.0)

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return what `restore` needs."""
        cells = {role: (c.rows, c.vectors, c.known, c.columns) for role, c in self.cells.items()}
        return self.fields, self.moments, cells, self.vocabulary.mark()

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo all changes since ``mark``."""
        self.fields, self.moments, cells, values = mark
        for role, kept in cells.items():
            own = self.cells[role]
            own.rows, own.vectors, own.known, own.columns = kept
        self.vocabulary.restore(values)

    def state(self) -> dict[str, Any]:
        """Return fields, values, moments and cells."""
        return {
            "n_context": self.n_context,
            "fields": [[f.name, f.source, f.kind, f.width] for f in self.fields],
            "vocabulary": self.vocabulary.state(),
            "moments": self.moments.copy(),
            "cells": {role: cells.state() for role, cells in self.cells.items()},
            "scales": self.scales.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.n_context = state["n_context"]
        self.fields = tuple(Field(*plain) for plain in state["fields"])
        self.vocabulary = Vocabulary()
        self.vocabulary.load_state(state["vocabulary"])
        self.moments = state["moments"].copy()
        self.scales.load_state(state["scales"])
        for role, plain in state["cells"].items():
            self.cells[role].load_state(plain)

    def forget(self, users: np.ndarray) -> None:
        """Remove the features of ``users`` (codes)."""
        self.cells[USER].forget(users)

    # ------------------------------------------------------------------ private

    def _of(self, source: str) -> list[Field]:
        """Return the fields with cells."""
        return [field for field in self.fields if field.source == source and not field.is_vector]

    def _vectors_of(self, source: str) -> list[Field]:
        return [field for field in self.fields if field.source == source and field.is_vector]

    def _scaled(self, source: str, columns: Mapping[str, FeatureColumn], n_rows: int) -> np.ndarray:
        names = [field.name for field in self._vectors_of(source)]
        return self.scales.transform(source, names, columns, n_rows)

    def _encode(
        self, source: str, columns: Mapping[str, FeatureColumn], n_rows: int, *, grow: bool
    ) -> np.ndarray:
        """Return the cells (n_rows, w) of columns; NaN is missing or unknown."""
        own = self._of(source)
        cells = np.full((n_rows, sum(field.width for field in own)), np.nan)
        start = 0
        for field in own:
            column = columns.get(field.name)
            if column is not None and column.kind != "missing":
                part = cells[:, start : start + field.width]
                part[:] = self._cells_of(field, column, grow) if field.is_coded else _col(column)
            start += field.width
        return cells

    def _cells_of(self, field: Field, column: FeatureColumn, grow: bool) -> np.ndarray:
        """Return the codes (n, width) of a column of categories or lists, NaN where unknown."""
        levels, places = column.used()
        sets = [level if isinstance(level, tuple) else (level,) for level in levels]
        key = f"{self.fields.index(field)} "
        values = [key + member for members in sets for member in members]
        find = self.vocabulary.extend if grow else self.vocabulary.encode
        codes = find(np.array(values, object)) if values else np.zeros(0, np.int64)
        table = np.full((len(sets) + 1, field.width), np.nan)  # the last row: missing values
        start = 0
        for row, members in zip(table, sets, strict=False):
            known = codes[start : start + len(members)]
            known = known[known >= 0][: field.width]
            row[: len(known)] = known
            start += len(members)
        return table[places]


def _col(column: FeatureColumn) -> np.ndarray:
    return column.data[:, None]


def _width_of(column: FeatureColumn) -> int:
    if column.kind == "vector":
        return int(column.levels.shape[1])
    if column.kind != "set":
        return 1
    longest = max(map(len, column.levels), default=1)
    return min(max(2 * longest, 2), _LONGEST)
