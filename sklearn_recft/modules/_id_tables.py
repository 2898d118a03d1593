"""Tables of users and of items: they grow, roll back, and are saved together."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sklearn_recft.modules._layers import all_rows, grow_rows, keep_rows
from sklearn_recft.ranking import QuantizedRows

# Numbers of users and items, and rows of tables: what `IdTables.restore` needs.
Mark = tuple[tuple[int, int], list[tuple[str, "np.ndarray | slice", np.ndarray]]]


class IdTables(nn.Module):
    """Parameters and buffers with one row per user or per item.

    Attributes
    ----------
    ID_TABLES : pair of tuples of str
        Names of the tables of users, and of items.
    SHARED : tuple of str
        Names of further parameters that events change.
    quantized_items : QuantizedRows
        Of the item factors that are ranked. Every method that changes rows of items, or announces
        that they will change, tells it so.
    """

    ID_TABLES: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]
    SHARED: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        super().__init__()
        self.quantized_items = QuantizedRows()

    @property
    def n_rows(self) -> tuple[int, int]:
        """Numbers of users and of items."""
        users, items = self.ID_TABLES
        return getattr(self, users[0]).shape[0], getattr(self, items[0]).shape[0]

    def grow(self, n_users: int, n_items: int) -> None:
        """Resize every table of ids; new rows are zero."""
        self.quantized_items.resize(n_items)
        wanted = zip(self.ID_TABLES, self.n_rows, (n_users, n_items), strict=True)
        for names, n_now, n_rows in wanted:
            if n_now != n_rows:
                for name in names:
                    grow_rows(getattr(self, name), n_rows)

    def tables(self) -> list[Tensor]:
        """Return every tensor with one row per user or item."""
        return [getattr(self, name) for names in self.ID_TABLES for name in names]

    def state(self) -> dict[str, Any]:
        """Return a copy of every parameter and buffer as an array."""
        return {name: array.copy() for name, array in self.arrays().items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load the arrays that `state` returned."""
        self.quantized_items.clear()
        mapped = {name for name, array in state.items() if self._can_map(name, array)}
        if not {name for names in self.ID_TABLES for name in names} <= mapped:
            self.grow(*(len(state[names[0]]) for names in self.ID_TABLES))
            mapped = set()
        for name, array in state.items():
            if name in mapped:  # copied on write
                getattr(self, name).data = torch.from_numpy(array.view(np.ndarray))
            else:
                getattr(self, name).data.copy_(torch.from_numpy(array.copy()))

    def _can_map(self, name: str, array: np.ndarray) -> bool:
        """Whether a table may be the memory of a file that is mapped, copy on write."""
        own = getattr(self, name)
        return (
            isinstance(array, np.memmap)
            and array.mode == "c"
            and own.device.type == "cpu"
            and torch.from_numpy(array[:0].copy()).dtype == own.dtype
            and array.shape[1:] == own.shape[1:]
        )

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes); later rows are renumbered to close the gaps."""
        self._remove(0, users)

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the rows of ``items`` (codes); later rows are renumbered to close the gaps."""
        self.quantized_items.clear()
        self._remove(1, items)

    def _remove(self, side: int, codes: np.ndarray) -> None:
        kept = np.setdiff1d(np.arange(self.n_rows[side]), codes)
        for name in self.ID_TABLES[side]:
            keep_rows(getattr(self, name), torch.from_numpy(kept))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return every parameter and buffer as an array that shares memory on the CPU."""
        tensors = self._parameters | self._buffers  # named_parameters() walks the whole tree
        return {name: t.numpy(force=True) for name, t in tensors.items() if t is not None}

    def arrays_with_room(self) -> dict[str, np.ndarray]:
        """Return `arrays` with the spare rows that tables on the CPU will grow into."""
        arrays = self.arrays()
        for name in (name for names in self.ID_TABLES for name in names):
            arrays[name] = all_rows(getattr(self, name)).numpy()
        return arrays

    def array(self, name: str) -> np.ndarray:
        """Return a parameter or buffer as an array that shares memory on the CPU."""
        tensor: Tensor = getattr(self, name)
        return tensor.numpy(force=True)

    def mark(self, users: np.ndarray, items: np.ndarray) -> Mark:
        """Return what `restore` needs to undo growth and changes of these rows (codes)."""
        self.quantized_items.touch(items)
        arrays = self.arrays()
        saved: list[tuple[str, np.ndarray | slice, np.ndarray]] = []
        sizes = self.n_rows
        for names, codes, size in zip(self.ID_TABLES, (users, items), sizes, strict=True):
            known = codes[codes < size]
            if len(codes) > size:  # without growth, duplicates are cheaper than `unique`
                known = np.unique(known)
            saved += [(name, known, arrays[name][known]) for name in names]
        saved += [(name, slice(None), arrays[name].copy()) for name in self.SHARED]
        return sizes, saved

    def restore(self, mark: Mark) -> None:
        """Undo growth and changes since ``mark``."""
        sizes, saved = mark
        self.grow(*sizes)
        for name, known, values in saved:
            getattr(self, name).data[known] = torch.as_tensor(values)

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Copy `arrays` back to a module that is not on the CPU."""
        for name, values in arrays.items():
            tensor = getattr(self, name)
            if tensor.device.type != "cpu":
                self.quantized_items.clear()
                tensor.data.copy_(torch.from_numpy(values))
