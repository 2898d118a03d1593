"""State of `ActivityFeatures`: sums by user, item and pair, and their names as features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.names import ITEM, USER
from sklearn_recft.preprocessing._online_statistics import NAMES, OnlineStatistics
from sklearn_recft.preprocessing._past_similarity import NAME, PastSimilarity
from sklearn_recft.preprocessing._repeats import NAME as REPEAT
from sklearn_recft.preprocessing._repeats import Repeats
from sklearn_recft.preprocessing._rows import Cells, LogRows, in_order
from sklearn_recft.preprocessing._stream_features import Part, Stream
from sklearn_recft.preprocessing._sums import Codes, Sums

_BY = "by"
_PAIR = USER, ITEM


@dataclass(frozen=True)
class ActivityRows:
    """Checked columns of rows, in the order given."""

    cells: dict[str, Cells]
    values: np.ndarray | None  # what each event adds: see `ActivityState.update`
    feedback: np.ndarray | None


@dataclass
class _Averages:
    """Averages (n,) of all events before each row."""

    feedback: np.ndarray | None = None
    repeats: np.ndarray | None = None


@dataclass(eq=False)
class ActivityState:
    """Sums of what events added, by user, item and pair.

    What an event adds is, in this order: 1; with feedback, 1 and the feedback; the amount; 1 for
    its kind and 0 for the others; 1 if it repeats an earlier one.
    """

    by: tuple[tuple[str, ...], ...]
    half_lives: tuple[float, ...]
    timed: bool
    rated: bool
    behavior: str | None
    kinds: tuple[str, ...]
    amount: str | None
    damping: float
    max_keys: int | None
    fill_value: float
    with_statistics: bool
    similarity: PastSimilarity | None = None
    repeats: Repeats | None = None
    codes: dict[str, Codes] = field(default_factory=dict)
    sums: list[Sums] = field(default_factory=list)
    totals: Sums = field(default_factory=lambda: Sums(2))
    statistics: OnlineStatistics | None = None

    def __post_init__(self) -> None:
        names = dict.fromkeys(name for group in self.by for name in group)
        if self.with_statistics:
            names |= {USER: None, ITEM: None}
            self.statistics = OnlineStatistics()
        if self.similarity is not None or self.repeats is not None:
            names |= {USER: None, ITEM: None}
        self.codes = {name: Codes() for name in names}
        self.sums = [Sums(self._n_sums_of(group), self.half_lives) for group in self.by]

    def parts(self) -> list[Part]:
        """Return all that `update` changes."""
        similar = [] if self.similarity is None else [self.similarity.sums]
        counted = [] if self.statistics is None else [self.statistics]
        again = [] if self.repeats is None else [self.repeats.pairs, self.repeats.totals]
        return [*self.codes.values(), *self.sums, self.totals, *similar, *counted, *again]

    @property
    def _n_sums(self) -> int:
        return 1 + 2 * self.rated + (self.amount is not None) + len(self.kinds)

    def _n_sums_of(self, group: tuple[str, ...]) -> int:
        return self._n_sums + self._repeats_of(group)

    def _repeats_of(self, group: tuple[str, ...]) -> bool:
        """Whether a group has shares of repeats; of a pair of user and item, all but one are."""
        return self.repeats is not None and set(group) != set(_PAIR)

    def names(self) -> list[str]:
        """Names of the features."""
        made = []
        for group in self.by:
            prefix = "_".join(name.removesuffix("_id") for name in group)
            made += [f"{prefix}_{name}" for name in self._own_names(group)]
        if self.similarity is not None:
            made.append(NAME)
        return made + (NAMES if self.with_statistics else [])

    def read(self, rows: LogRows, *, learning: bool) -> ActivityRows:
        """Check and return the columns that are read; nothing changes."""
        cells = {name: rows.cells(name, _BY) for name in self.codes}
        if not learning:
            return ActivityRows(cells, None, None)
        if rows.feedback is not None and not self.rated:
            raise ValueError(
                "y: fit had none, so there are no means; leave y out, or call fit with it."
            )
        if self.with_statistics and rows.feedback is None:
            raise ValueError(
                "y: the statistics need feedback in every call; give y, or set statistics to False."
            )
        if self.with_statistics and rows.feedback is not None:
            outside = int(((rows.feedback < 0) | (rows.feedback > 1)).sum())
            if outside:
                raise ValueError(
                    f"Input y: {outside} of {rows.n_rows} rows are not between 0 and 1, as all "
                    "were in fit; scale y, or set statistics to False and call fit."
                )
        return ActivityRows(cells, self._values(rows), rows.feedback)

    def update(self, read: ActivityRows, stream: Stream) -> np.ndarray:
        """Describe rows in the order of time, and learn them; return features in that order."""
        assert read.values is not None
        order, times, counted = stream.order, stream.times, stream.counted
        values = read.values[order]
        averages = _Averages()
        if self.rated:
            zeros = np.zeros(len(order), np.int64)
            found = self.totals.update(zeros, times, values[:, 1:3], counted)
            averages.feedback = _average(found[:, 2:])
        codes = {
            name: code.extend(*in_order(read.cells[name], order))
            for name, code in self.codes.items()
        }
        if self.repeats is not None:
            again, found = self.repeats.update(_keys(_PAIR, codes), times, counted)
            averages.repeats = _average(found)
            values = np.column_stack([values, again])
            self.repeats.bound(self.max_keys)
        parts = []
        for group, sums in zip(self.by, self.sums, strict=True):
            own = values[:, : sums.n_sums]
            found = sums.update(_keys(group, codes), times, own, counted)
            parts.append(self._features(group, found, averages))
            sums.bound(self.max_keys)
        if self.similarity is not None:
            items = read.cells[ITEM][0][order]
            parts.append(self.similarity.update(codes[USER], items, times, counted))
            self.similarity.bound(self.max_keys)
        if self.statistics is not None and read.feedback is not None:
            ids = codes[USER], codes[ITEM]
            parts.append(self.statistics.update(*ids, times, read.feedback[order], counted))
        return np.hstack(parts)

    def transform(self, read: ActivityRows, times: np.ndarray) -> np.ndarray:
        """Describe rows."""
        codes = {name: code.encode(*read.cells[name]) for name, code in self.codes.items()}
        averages = _Averages()
        if self.rated:
            found = self.totals.transform(np.zeros(len(times), np.int64), times)
            averages.feedback = _average(found[:, 2:])
        if self.repeats is not None:
            averages.repeats = _average(self.repeats.transform(times))
        parts = [
            self._features(group, sums.transform(_keys(group, codes), times), averages)
            for group, sums in zip(self.by, self.sums, strict=True)
        ]
        if self.similarity is not None:
            parts.append(self.similarity.transform(codes[USER], read.cells[ITEM][0], times))
        if self.statistics is not None:
            parts.append(self.statistics.transform(codes[USER], codes[ITEM], times))
        return np.hstack(parts)

    # ------------------------------------------------------------------ private

    def _own_names(self, group: tuple[str, ...]) -> Iterator[str]:
        """Names of the features of one group, without its prefix."""
        yield from ("count", "recency", "age") if self.timed else ("count",)
        for ending in ("", *(f"_{days:g}d" for days in self.half_lives)):
            if ending:
                yield f"count{ending}"
            if self.rated:
                yield f"mean{ending}"
            if self.amount is not None:
                yield f"{self.amount}{ending}"
            yield from (f"{kind}_count{ending}" for kind in self.kinds)
            if self._repeats_of(group):
                yield f"{REPEAT}{ending}"

    def _values(self, rows: LogRows) -> np.ndarray:
        """Return what each event adds, but for repeats."""
        columns = [np.ones(rows.n_rows)]
        if self.rated:
            given = rows.feedback
            columns += [np.zeros(rows.n_rows)] * 2 if given is None else [columns[0], given]
        if self.amount is not None:
            columns.append(rows.numbers(self.amount, "amount"))
        if self.behavior is not None:
            kinds = _kinds(rows, self.behavior)
            columns += [(kinds == kind).astype(float) for kind in self.kinds]
        return np.column_stack(columns)

    def _features(
        self, group: tuple[str, ...], found: np.ndarray, averages: _Averages
    ) -> np.ndarray:
        """Return the features of one group from times and sums."""
        columns = [found[:, 2]]
        if self.timed:
            days = found[:, :2] / SECONDS_PER_DAY
            days[~np.isfinite(days)] = self.fill_value
            columns += list(np.maximum(days, 0.0).T)
        n_sums = self._n_sums_of(group)
        for h in range(1 + len(self.half_lives)):
            sums = found[:, 2 + h * n_sums :][:, :n_sums]
            if h:
                columns.append(sums[:, 0])
            if averages.feedback is not None:
                columns.append(self._mean(sums[:, 1], sums[:, 2], averages.feedback))
            columns += list(sums[:, 1 + 2 * self.rated : self._n_sums].T)
            if averages.repeats is not None and self._repeats_of(group):
                columns.append(self._mean(sums[:, 0], sums[:, -1], averages.repeats))
        made = np.empty((len(found), len(columns)), np.float32)
        for j, column in enumerate(columns):
            made[:, j] = column
        return made

    def _mean(self, weight: np.ndarray, total: np.ndarray, average: np.ndarray) -> np.ndarray:
        """Return the damped mean; the average where nothing is known."""
        mean: np.ndarray = np.where(np.isnan(average), self.fill_value, average)
        known = weight > 0
        np.divide(total + self.damping * average, weight + self.damping, out=mean, where=known)
        return mean


def kinds_in(rows: LogRows, name: str) -> tuple[str, ...]:
    """Return the kinds of behavior in a column, in alphabetical order."""
    kinds = _kinds(rows, name)
    return tuple(sorted({kind for kind in kinds.tolist() if kind is not None}))


def _kinds(rows: LogRows, name: str) -> np.ndarray:
    """Return the kind of each row as a text; None where it is missing."""
    values, missing = rows.cells(name, "behavior")
    kinds = np.empty(rows.n_rows, object)
    kinds[:] = list(map(str, values.tolist()))
    if missing is not None:
        kinds[missing] = None
    return kinds


def _keys(group: tuple[str, ...], codes: dict[str, np.ndarray]) -> np.ndarray:
    """Return one number for each row; -1 where a value is unknown."""
    first = codes[group[0]]
    if len(group) == 1:
        return first
    second = codes[group[1]]
    return np.where((first < 0) | (second < 0), -1, first << 31 | second)


def _average(found: np.ndarray) -> np.ndarray:
    """Return the average of all earlier events from number and sum (n, 2); NaN without any."""
    weight, total = found.T
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1.0), np.nan)
