"""Uniform sample of all rows so far, in bounded memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.history._log import without


class Reservoir:
    """Uniform sample of at most ``capacity`` rows of a stream (Vitter's algorithm R).

    Parameters
    ----------
    capacity : int
        Maximal number of stored rows; 0 stores none.

    References
    ----------
    Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import Reservoir
    >>> sample, rng = Reservoir(2), np.random.default_rng(0)
    >>> sample.put(sample.slots(2, rng), {"item": np.array([4, 5])})
    >>> sample.take(np.array([1]))
    {'item': array([5])}
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_offered = 0
        self.rows: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return min(self.n_offered, self.capacity)

    def slots(self, n_rows: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the slot of each of ``n_rows`` new rows; ``capacity`` or more: not stored."""
        age = np.arange(self.n_offered, self.n_offered + n_rows)
        if not self.capacity:
            return age
        return np.where(age < self.capacity, age, rng.integers(0, age + 1))

    def put(self, slots: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Store the rows at their ``slots``; a later row replaces an earlier one."""
        kept = slots < self.capacity
        if kept.any():
            needed = int(slots[kept].max()) + 1
            for name, values in rows.items():
                column = self.rows.get(name)
                if column is None or needed > len(column):
                    held = 0 if column is None else len(column)
                    size = min(self.capacity, max(needed, 2 * held))
                    wider = np.zeros((size, *values.shape[1:]), values.dtype)
                    if column is not None:
                        wider[:held] = column
                    self.rows[name] = column = wider
                column[slots[kept]] = values[kept]
        self.n_offered += len(slots)

    def draw(self, n_rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw ``n_rows`` of the stored rows with replacement."""
        return self.take(rng.integers(0, len(self), n_rows))

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return the stored rows at ``places``."""
        return {name: column[places] for name, column in self.rows.items()}

    def mark(self, slots: np.ndarray) -> tuple[Any, ...]:
        """Return what `restore` needs to undo a `put` at ``slots``."""
        held = min((len(column) for column in self.rows.values()), default=0)
        places = slots[slots < held]
        return dict(self.rows), self.n_offered, places, self.take(places)

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo the `put` made since ``mark``."""
        self.rows, self.n_offered, places, values = mark
        for name, column in values.items():
            self.rows[name][places] = column

    def state(self) -> dict[str, Any]:
        """Return the stored rows and the number of rows offered so far."""
        rows = self.take(np.arange(len(self)))
        return {"capacity": self.capacity, "n_offered": self.n_offered, "rows": rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.capacity, self.n_offered = state["capacity"], state["n_offered"]
        self.rows = {name: column.copy() for name, column in state["rows"].items()}

    def forget(self, users: np.ndarray) -> None:
        """Remove the stored rows of ``users`` (codes in the column ``user``).

        The remaining codes are renumbered to close the gaps. The next rows offered fill the free
        slots.
        """
        self._remove("user", users)

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the stored rows of ``items`` (codes in the column ``item``), as `forget` does."""
        self._remove("item", items)

    def _remove(self, name: str, codes: np.ndarray) -> None:
        rows = self.take(np.arange(len(self)))
        if name not in rows:
            return
        kept, moved = without(rows[name], codes)
        self.rows = {column: values[kept] for column, values in rows.items()}
        self.rows[name] = moved.astype(rows[name].dtype)
        if not kept.all():
            self.n_offered = int(kept.sum())
