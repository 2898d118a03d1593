"""Vectors of a cross network: standardized, stored by user and item, and gathered by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.features import FeatureColumn
from sklearn_recft.names import ITEM, USER

# Standardized numbers beyond this are as large as this: single numbers of a vector may be far off.
_CLIP = 20.0


class VectorScales:
    """Mean vector and scale of each field; a scaled vector has numbers of deviation 1 on average.

    Attributes
    ----------
    by_name : dict of (str, str) to (ndarray, float)
        Of each field, by source and name.
    """

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], tuple[np.ndarray, float]] = {}

    def fit(self, source: str, name: str, column: FeatureColumn) -> None:
        """Compute mean and scale from the rows that have a vector."""
        counts = np.bincount(column.data[~column.is_missing], minlength=len(column.levels))
        vectors = column.levels.astype(np.float64)
        largest = float(np.abs(vectors).max()) or 1.0  # so that no square overflows
        mean = counts @ (vectors / largest) / counts.sum()
        squares = counts @ np.square(vectors / largest - mean) / counts.sum()
        scale = float(np.sqrt(squares.mean()))
        self.by_name[source, name] = mean * largest, (scale or 1.0) * largest

    def transform(
        self, source: str, names: Sequence[str], columns: Mapping[str, FeatureColumn], n_rows: int
    ) -> np.ndarray:
        """Return the scaled vectors (n_rows, w) of fields side by side; a missing one is NaN."""
        parts = [np.zeros((n_rows, 0), np.float32)]
        for name in names:
            mean, scale = self.by_name[source, name]
            column = columns.get(name)
            part = np.full((n_rows, len(mean)), np.nan, np.float32)
            if column is not None and column.kind == "vector":
                known = ~column.is_missing
                scaled = np.clip((column.levels - mean) / scale, -_CLIP, _CLIP)
                part[known] = scaled.astype(np.float32)[column.data[known]]
            parts.append(part)
        return np.hstack(parts)

    def state(self) -> list[Any]:
        """Return the scales as plain values."""
        return [[*key, mean.copy(), scale] for key, (mean, scale) in self.by_name.items()]

    def load_state(self, state: list[Any]) -> None:
        """Load what `state` returned."""
        self.by_name = {(source, name): (mean, scale) for source, name, mean, scale in state}


class GatherVectors:
    """Put the vectors of each row of a batch side by side: those of the row, its user, its item.

    The columns of a batch hold vectors as `name_of` says: those of rows, and those of users and
    items that the tables do not know.

    Parameters
    ----------
    row : str
        Source of the vectors of rows.
    tables : dict of str to (ndarray of shape (m, w), ndarray of shape (m,), bool)
        Vectors of users and items by code, and which codes are known.
    """

    def __init__(self, row: str, tables: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        self.row, self.tables = row, tables

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch with one column ``vectors`` (B, w)."""
        sources = (self.row, USER, ITEM)
        given = {source: batch.pop(name_of(source), None) for source in sources}
        own = given[self.row]
        parts = [] if own is None else [own]
        for source, column in ((USER, "user"), (ITEM, "item")):
            vectors, known = self.tables[source]
            if vectors.shape[1]:
                found = _found(vectors, known, batch[column].numpy(), given[source])
                parts.append(torch.from_numpy(found))
        batch["vectors"] = torch.cat(parts, 1)  # (B, w)
        return batch


def name_of(source: str) -> str:
    """Return the name of the column with the vectors of rows, users or items."""
    return f"{source}_vectors"


def _found(
    vectors: np.ndarray, known: np.ndarray, codes: np.ndarray, given: Tensor | None
) -> np.ndarray:
    """Return the vectors of codes; for unknown codes those given, or NaN."""
    inside = (codes >= 0) & (codes < len(known))
    inside[inside] = known[codes[inside]]
    found = np.full((len(codes), vectors.shape[1]), np.nan, np.float32)
    if given is not None:
        found[:] = given.numpy()
    found[inside] = vectors[codes[inside]]
    return found
