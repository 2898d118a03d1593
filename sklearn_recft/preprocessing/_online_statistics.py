"""The nine numbers of user and item that `DecayBertRecommender` reads, as a part of features."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_recft import kernels

# Half-life in days of the popularity, as in `models.OnlineFeatures`.
_HALF_LIFE = 30.0
NAMES = [
    "user_log_odds",
    "user_log_weight",
    "user_fast_average",
    "user_slow_average",
    "user_log_gap",
    "user_log_session",
    "item_log_odds",
    "item_log_weight",
    "item_log_popularity",
]
_WIDTHS = kernels.USER_STATISTICS, kernels.ITEM_STATISTICS
_NONE = np.zeros(0, np.int64), np.zeros(0, np.int64)  # no users, no items
_TOTALS = np.zeros(1, np.int64)  # the only row of the totals


@dataclass(init=False, repr=False, eq=False)  # so that `trusted_types` lists it
class OnlineStatistics:
    """Statistics of users and items just before the newest time, and with the events at it.

    Rows of the newest time read the former, later rows the latter. Both differ at the codes of
    ``touched`` alone.
    """

    def __init__(self) -> None:
        self.before = [np.zeros((0, width)) for width in _WIDTHS] + [np.zeros((1, 2))]
        self.after = [table.copy() for table in self.before]
        self.touched = [*_NONE, _TOTALS]
        self.newest = -np.inf
        self._undo: _Undo | None = None

    def update(
        self,
        users: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        label: np.ndarray,
        counted: np.ndarray,
    ) -> np.ndarray:
        """Return features (n, 9) of rows, which ascend in time; count those of ``counted``."""
        columns = users, items, times, label, counted.astype(np.float64)
        self._grow(int(users.max(initial=-1)) + 1, int(items.max(initial=-1)) + 1)
        out = np.empty((len(users), kernels.N_STATISTICS), np.float32)
        if self._undo is not None:
            self._undo.save(users, items)
        n_late = int(np.searchsorted(times, self.newest, side="right"))
        top = max(n_late, int(np.searchsorted(times, times[-1])))
        late, middle, last = slice(0, n_late), slice(n_late, top), slice(top, None)
        out[late] = self._transform(self.before, users[late], items[late], times[late])
        self._count(self.after, late, columns)
        self._touch(users[late], items[late])
        if n_late == len(times):
            return out
        _copy(self.after, self.before, self.touched)
        out[middle] = self._count(self.before, middle, columns)
        out[last] = self._transform(self.before, users[last], items[last], times[last])
        _copy(self.before, self.after, [users[n_late:], items[n_late:], _TOTALS])
        self._count(self.after, last, columns)
        self.touched = [*_NONE, _TOTALS]
        self._touch(users[last], items[last])
        self.newest = float(times[-1])
        return out

    def transform(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Describe rows of codes, -1 for unknown ones; return features (n, 9)."""
        out = np.empty((len(users), kernels.N_STATISTICS), np.float32)
        for tables, rows in (
            (self.before, np.flatnonzero(times <= self.newest)),
            (self.after, np.flatnonzero(times > self.newest)),
        ):
            out[rows] = self._transform(tables, users[rows], items[rows], times[rows])
        return out

    def mark(self) -> _Undo:
        """Return what `restore` needs; until `release`, rows are saved before they change."""
        self._undo = _Undo(list(self.before), list(self.after), list(self.touched), self.newest)
        return self._undo

    def restore(self, mark: _Undo) -> None:
        """Undo all changes since ``mark``."""
        self.before, self.after = list(mark.before), list(mark.after)
        self.touched, self.newest = list(mark.touched), mark.newest
        for table, rows, values in mark.saved:
            table[rows] = values

    def release(self) -> None:
        """Keep all changes since `mark`."""
        self._undo = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            "before": [table.copy() for table in self.before],
            "after": [table.copy() for table in self.after],
            "touched": list(self.touched),
            "newest": self.newest,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        for tables in (state["before"], state["after"]):
            shapes = [table.shape[1:] for table in tables]
            types = {table.dtype for table in tables}
            if shapes != [(_WIDTHS[0],), (_WIDTHS[1],), (2,)] or types != {np.dtype(np.float64)}:
                raise ValueError(f"online statistics: tables have the shapes {shapes}.")
        self.before, self.after = list(state["before"]), list(state["after"])
        self.touched, self.newest = list(state["touched"]), state["newest"]
        self._undo = None

    def _grow(self, n_users: int, n_items: int) -> None:
        for tables in (self.before, self.after):
            for side, n_rows in enumerate((n_users, n_items)):
                table = tables[side]
                if n_rows > len(table):
                    grown = np.zeros((max(n_rows, 3 * len(table) // 2), _WIDTHS[side]))
                    grown[: len(table)] = table
                    tables[side] = grown

    def _touch(self, users: np.ndarray, items: np.ndarray) -> None:
        for side, codes in enumerate((users, items)):
            self.touched[side] = np.union1d(self.touched[side], codes)

    def _count(self, tables: list[Any], rows: slice, columns: tuple[Any, ...]) -> np.ndarray:
        users, items, times, label, weight = columns
        own = users[rows].astype(np.int32), items[rows].astype(np.int32)
        out = np.empty((len(own[0]), kernels.N_STATISTICS), np.float32)
        kernels.update_statistics(
            *own,
            times[rows],
            label[rows].astype(np.float32),
            weight[rows],
            tables[0],
            tables[1],
            tables[2][0],
            _HALF_LIFE,
            out,
        )
        return out

    def _transform(self, tables: list[Any], users: Any, items: Any, times: Any) -> np.ndarray:
        out = np.empty((len(users), kernels.N_STATISTICS), np.float32)
        own = users.astype(np.int32), items.astype(np.int32)
        known = [np.where(c < len(t), c, -1) for c, t in zip(own, tables, strict=False)]
        # The kernel counts rows as well, so it takes no arrays of a file mapped to be read.
        user_table, item_table, totals = (
            np.require(table, requirements="W") for table in (*tables[:2], tables[2][0])
        )
        kernels.transform_statistics(
            known[0].astype(np.int32),
            known[1].astype(np.int32),
            np.array(times, np.float64),  # one layout: each other one would be compiled
            user_table,
            item_table,
            totals,
            _HALF_LIFE,
            out,
        )
        return out


@dataclass(eq=False)
class _Undo:
    """Tables as they were, and rows of them before they change."""

    before: list[np.ndarray]
    after: list[np.ndarray]
    touched: list[np.ndarray]
    newest: float
    saved: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def save(self, users: np.ndarray, items: np.ndarray) -> None:
        """Save the rows of users and items, those of the newest time, and the totals."""
        changed = [np.union1d(t, c) for t, c in zip(self.touched, (users, items), strict=False)]
        for tables in (self.before, self.after):
            for table, rows in zip(tables, [*changed, _TOTALS], strict=True):
                known = rows[rows < len(table)]
                self.saved.append((table, known, table[known]))


def _copy(source: list[np.ndarray], target: list[np.ndarray], rows: list[np.ndarray]) -> None:
    """Copy rows of tables of users, items and totals."""
    for one, other, codes in zip(source, target, rows, strict=True):
        other[codes] = one[codes]
