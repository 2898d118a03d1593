"""Encodings of features as numbers, whose mean over the training rows is 0."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_recft.features import FeatureColumn

# The most common categories of a feature have a column each; the others count as missing.
MAX_CATEGORIES = 100
# So does a category of a single row: it says no more of the row than its id does.
MIN_ROWS = 2


@dataclass(frozen=True)
class FeatureEncoding:
    """Columns of numbers that stand for one feature. A missing or unknown value is all zeros.

    Attributes
    ----------
    name : str
    kind : str
        Kind of the feature (`FeatureColumn`).
    mean : ndarray of shape (k,)
        What is subtracted: the mean of the training rows with a value.
    scale : float
        What the difference is divided by.
    categories : tuple of str of length k
        Of a category or a set.
    components : ndarray of shape (width, k), or None
        Principal axes of vectors, or of the vectors of a text.
    """

    name: str
    kind: str
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    scale: float = 1.0
    categories: tuple[str, ...] = ()
    components: np.ndarray | None = None

    @classmethod
    def of_column(cls, name: str, column: FeatureColumn) -> FeatureEncoding:
        """Fit the encoding of a number, a category or a set to the training rows.

        A column with one value alone, or with none, has no columns of numbers.
        """
        if column.kind == "number":
            values = column.data[~column.is_missing]
            scale = float(values.std()) if len(values) else 0.0
            small = 1e-9 * float(np.abs(values).max(initial=0.0))  # rounding errors of a constant
            mean = values.mean(keepdims=True) if scale > small else np.zeros(0)
            return cls(name, "number", mean, scale if len(mean) else 1.0)
        levels, places = column.used()
        sizes = np.bincount(places[places >= 0], minlength=len(levels))
        sets = _as_sets(levels)
        categories, counts = _common(sets, sizes.tolist())
        index = set(categories)
        known = np.array([not index.isdisjoint(one) for one in sets], bool)
        n_rows = int(sizes[known].sum())
        varies = counts < n_rows
        kept = tuple(c for c, one in zip(categories, varies.tolist(), strict=True) if one)
        return cls(name, column.kind, counts[varies] / max(n_rows, 1), 1.0, kept)

    @classmethod
    def of_vectors(
        cls, name: str, kind: str, vectors: np.ndarray, n_components: int
    ) -> FeatureEncoding:
        """Fit principal axes to vectors (n, width), or to those of the training texts.

        They are divided by the deviation along the first axis, so the others stay smaller.
        """
        vectors = vectors.astype(np.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        variances, axes = variances[::-1], axes[:, ::-1]
        kept = min(n_components, int((variances > 1e-9 * max(variances[0], 1e-12)).sum()))
        axes = axes[:, :kept]
        # The sign of an axis is free: its largest weight is positive.
        signs = np.sign(axes[np.abs(axes).argmax(0), np.arange(kept)])
        scale = float(np.sqrt(variances[0])) if kept else 1.0
        return cls(name, kind, mean, scale, components=np.ascontiguousarray(axes * signs))

    @property
    def names(self) -> list[str]:
        """Name of each column of numbers."""
        if self.kind == "number":
            return [self.name] * len(self.mean)
        if self.components is not None:
            return [f"{self.name}{j}" for j in range(self.components.shape[1])]
        return [f"{self.name}={category}" for category in self.categories]

    def transform(self, column: FeatureColumn) -> np.ndarray:
        """Encode a number, a category, a set or a vector as numbers (n, k)."""
        width = len(self.names)
        if column.kind == "missing" or not width:
            return np.zeros((len(column), width))
        if self.kind == "number":
            numbers = (column.data - self.mean) / self.scale
            return np.where(column.is_missing, 0.0, numbers)[:, None]
        if self.kind == "vector":
            encoded = self.transform_vectors(column.levels)
            return np.where(column.is_missing[:, None], 0.0, encoded[column.data])
        levels, places = column.used()
        index = {category: place for place, category in enumerate(self.categories)}
        hot = np.zeros((len(levels) + 1, width))  # the last row is that of missing values
        for row, members in zip(hot, _as_sets(levels), strict=False):
            known = [index[category] for category in members if category in index]
            if known:
                row[known] = 1.0
                row -= self.mean
        return hot[places]

    def transform_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Encode vectors (n, width) as numbers (n, k), each row on its own, bit by bit."""
        assert self.components is not None
        centred = vectors.astype(np.float64) - self.mean
        return np.einsum("nw,wk->nk", centred, self.components) / self.scale

    def state(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dict(vars(self))


def _as_sets(levels: list[Any]) -> list[tuple[str, ...]]:
    """Return the categories of each level."""
    return [level if isinstance(level, tuple) else (level,) for level in levels]


def _common(sets: list[tuple[str, ...]], sizes: list[int]) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the categories that get a column, most common first, and their rows (k,)."""
    counts: Counter[str] = Counter()
    for members, size in zip(sets, sizes, strict=True):
        counts.update(dict.fromkeys(members, size))
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_CATEGORIES]
    common = [(category, count) for category, count in ranked if count >= MIN_ROWS]
    return tuple(c for c, _ in common), np.array([count for _, count in common], np.float64)
