"""Columns of a cross network: codes of categories and lists, and standardized numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft.features import FeatureColumn, spelled
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


class Cells:
    """Cells of the fields of users, or of items, by code: codes of values, and numbers.

    An id keeps the first features that were learned of it.
    """

    def __init__(self) -> None:
        self.rows = np.zeros((0, 0))
        self.known = np.zeros(0, bool)
        self.columns: list[str] = []  # names of the fields

    def learn(self, codes: np.ndarray, cells: np.ndarray, given: np.ndarray) -> None:
        """Store the cells (n, w) of distinct codes that are ``given`` (n,) and not known yet."""
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
        self.rows, self.known = np.delete(self.rows, users, axis=0), np.delete(self.known, users)


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
            own = self._of(role)
            cells.columns = [field.name for field in own]
            cells.rows = np.zeros((0, sum(field.width for field in own)))
        n_numbers = sum(not field.is_coded for field in self.fields)
        self.moments = np.zeros((3, self.n_context + n_numbers + n_more))

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of cells of each field of codes."""
        return tuple(field.width for field in self.fields if field.is_coded)

    def names(self, source: str) -> list[str]:
        """Return the names of the fields of rows, users or items."""
        return [field.name for field in self._of(source)]

    def check(self, source: str, columns: Mapping[str, FeatureColumn]) -> None:
        """Raise TypeError if a column is of another kind than in `fit`, ValueError if unknown."""
        kinds = {field.name: field.kind for field in self._of(source)}
        unknown = [n for n, c in columns.items() if n not in kinds and c.kind != "missing"]
        if source != ROW and unknown:
            table = f"{source.removesuffix('_id')}s"
            raise ValueError(
                f"{table}: {unknown} are no features of fit, which were {list(kinds)}. Drop these "
                "columns, or call fit with them."
            )
        for name, column in columns.items():
            kind = kinds.get(name, "missing")
            if "missing" not in (kind, column.kind) and kind != column.kind:
                raise TypeError(
                    f"{name}: all {len(column)} rows are {spelled(column.kind)}, and fit had "
                    f"{spelled(kind)}. Give the type of fit."
                )

    def learn_features(
        self, role: str, codes: np.ndarray, columns: Mapping[str, FeatureColumn]
    ) -> None:
        """Remember the features of users or items that have none yet, and all their values."""
        cells = self._encode(role, columns, len(codes), grow=True)
        given = np.zeros(len(codes), bool)
        for name in self.names(role):
            if name in columns:
                given |= ~columns[name].is_missing
        self.cells[role].learn(codes, cells, given)

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
        cells = {role: (c.rows, c.known, c.columns) for role, c in self.cells.items()}
        return self.fields, self.moments, cells, self.vocabulary.mark()

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo all changes since ``mark``."""
        self.fields, self.moments, cells, values = mark
        for role, (rows, known, columns) in cells.items():
            own = self.cells[role]
            own.rows, own.known, own.columns = rows, known, columns
        self.vocabulary.restore(values)

    def state(self) -> dict[str, Any]:
        """Return fields, values, moments and cells."""
        return {
            "n_context": self.n_context,
            "fields": [[f.name, f.source, f.kind, f.width] for f in self.fields],
            "vocabulary": self.vocabulary.state(),
            "moments": self.moments.copy(),
            "cells": {
                role: {"rows": c.rows.copy(), "known": c.known.copy(), "columns": list(c.columns)}
                for role, c in self.cells.items()
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.n_context = state["n_context"]
        self.fields = tuple(Field(*plain) for plain in state["fields"])
        self.vocabulary = Vocabulary()
        self.vocabulary.load_state(state["vocabulary"])
        self.moments = state["moments"].copy()
        for role, plain in state["cells"].items():
            own = self.cells[role]
            own.rows, own.known = plain["rows"].copy(), plain["known"].copy()
            own.columns = list(plain["columns"])

    def forget(self, users: np.ndarray) -> None:
        """Remove the features of ``users`` (codes)."""
        self.cells[USER].forget(users)

    # ------------------------------------------------------------------ private

    def _of(self, source: str) -> list[Field]:
        return [field for field in self.fields if field.source == source]

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
    if column.kind != "set":
        return 1
    longest = max(map(len, column.levels), default=1)
    return min(max(2 * longest, 2), _LONGEST)
