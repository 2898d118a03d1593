"""Rows as a cross network reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class CrossRows:
    """Rows as the net reads them, but for the standardization of their numbers.

    Attributes
    ----------
    user, item : ndarray of shape (n,)
        Codes.
    codes, numbers : ndarray of shape (n, n_columns)
    offset : ndarray of shape (n,)
    vectors : dict of str to ndarray of shape (n, w)
        Columns of vectors: see `GatherVectors`.
    """

    user: np.ndarray
    item: np.ndarray
    codes: np.ndarray
    numbers: np.ndarray
    offset: np.ndarray
    vectors: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of_columns(cls, columns: dict[str, np.ndarray]) -> CrossRows:
        """Return the rows of what `columns` returned."""
        own = {name: columns[name] for name in ("user", "item", "codes", "numbers", "offset")}
        return cls(**own, vectors={n: column for n, column in columns.items() if n not in own})

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns by name."""
        plain = {name: column for name, column in vars(self).items() if name != "vectors"}
        return {**plain, **self.vectors}

    def take(self, rows: Any) -> CrossRows:
        """Return these rows."""
        return self.of_columns({name: column[rows] for name, column in self.columns().items()})
