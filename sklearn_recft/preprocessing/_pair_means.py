"""Streamed means of what is left of the feedback, for pairs of columns such as user and genre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval

from sklearn_recft.names import ITEM
from sklearn_recft.preprocessing._rows import Cells, LogRows, in_order
from sklearn_recft.preprocessing._stream_features import Part, Stream, StreamFeatures
from sklearn_recft.preprocessing._sums import Codes, SeparatedCodes, Sums

_ITEM_MEAN = "item_mean"
_PAIRS = "pairs"


class PairMeans(StreamFeatures):
    r"""Means of residual feedback by pairs of columns, from strictly earlier events.

    For each pair of columns, such as user and genre, a row gets the damped mean of
    :math:`y - b`, feedback minus a base, over all strictly earlier events with the same two values:

    .. math:: m = \frac{\sum_{s < t} (y_s - b_s)}{n_t + \text{damping}}

    and their number :math:`n_t`. It measures how much better this user rates this genre than
    expected. A cell may hold several values: then the row gets the average over its pairs of
    values.

    Parameters
    ----------
    pairs : sequence of (str, str), default=(("user_id", "item_id"),)
        Columns of ``X``. Values are of any type that can be an id; missing ones have no events.
    base : str or sequence of str, default="item_mean"
        What is subtracted from the feedback: "item_mean" is the damped mean of the item's strictly
        earlier events. Any other name is a column of ``X`` with a prediction of ``y`` that was
        made before the event, such as that of
        :meth:`~sklearn_recft.IncrementalMFClassifier.partial_fit_predict_proba`. Several bases
        give several means for each pair.
    separators : dict of str to str, default=None
        Separator of the values in a cell, by column, as in ``{"genre": "|"}``. A column that
        is not named has one value in each cell, whatever it contains.
    damping : float, default=5.0
        Number of pseudo-events with residual 0 in each mean, and with the average feedback in the
        mean of an item.
    half_life : float, default=None
        Days after which the weight of an event in means and counts is one half; None for no decay.
    max_keys : int, default=None
        Largest number of pairs of values that are remembered for each pair of columns; those whose
        newest event is oldest are dropped. None for no bound.
    passthrough : bool, default=False
        Whether the columns of ``X`` come first in the output, of the type of ``X``. So the step
        can stand before a recommender in a :class:`~sklearn_recft.pipeline.RecommenderPipeline`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    See Also
    --------
    ActivityFeatures : Counts, recency and means by user, item and pair.
    sklearn.preprocessing.TargetEncoder : Means by one column, cross-fitted instead of streamed.

    Notes
    -----
    Features depend only on events strictly before the row; events of one timestamp do not see each
    other, within a call and across calls. Use `fit_transform` for the rows of a log,
    `partial_fit_transform` for rows that follow, and `transform` for rows to predict. `transform`
    needs neither ``y`` nor the columns of ``base``. A row that is older than the newest event of
    its pair is described as just before that event.

    An event costs about half a microsecond for each pair of columns. Memory is about 100 bytes for
    each pair of values, and 16 more for each further base, twice that while tables grow.
    ``max_keys`` bounds it; the values themselves are kept.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import PairMeans
    >>> X = pd.DataFrame({"user_id": ["ann", "ann", "ann"], "item_id": [1, 2, 3],
    ...                   "timestamp": [0, 60, 120], "genre": ["war", "war|drama", "drama"]})
    >>> means = PairMeans([("user_id", "genre")], separators={"genre": "|"}, damping=1.0)
    >>> means.set_output(transform="pandas").fit_transform(X, [1.0, 0.0, 1.0]).round(2)
       user_genre_mean  user_genre_count
    0             0.00               0.0
    1             0.25               0.5
    2            -0.50               1.0
    """

    _parameter_constraints: ClassVar[dict] = {
        "pairs": [list, tuple],
        "base": [str, list, tuple],
        "separators": [dict, None],
        "damping": [Interval(Real, 0, None, closed="left")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "max_keys": [Interval(Integral, 1, None, closed="left"), None],
        "passthrough": ["boolean"],
    }
    _needs_y = True
    _state: PairMeansState

    def __init__(
        self,
        pairs: Sequence[tuple[str, str]] = (("user_id", "item_id"),),
        *,
        base: str | Sequence[str] = _ITEM_MEAN,
        separators: dict[str, str] | None = None,
        damping: float = 5.0,
        half_life: float | None = None,
        max_keys: int | None = None,
        passthrough: bool = False,
    ) -> None:
        self.pairs = pairs
        self.base = base
        self.separators = separators
        self.damping = damping
        self.half_life = half_life
        self.max_keys = max_keys
        self.passthrough = passthrough

    def _make_state(self, rows: LogRows) -> PairMeansState:
        pairs = _checked_pairs(self.pairs)
        bases = (self.base,) if isinstance(self.base, str) else tuple(self.base)
        if not bases:
            raise ValueError(f"base must name something to subtract from y; got {self.base!r}.")
        columns = tuple(dict.fromkeys(name for pair in pairs for name in pair))
        separators = dict(self.separators or {})
        unknown = [name for name in separators if name not in columns]
        if unknown or not all(isinstance(s, str) and s for s in separators.values()):
            raise ValueError(
                f"separators must map columns of pairs, {list(columns)}, to texts such as '|'; got "
                f"{separators}."
            )
        if self.half_life is not None and rows.times is None:
            raise ValueError(
                "half_life needs the column `timestamp` (seconds or datetimes); add it to X or set "
                "half_life to None."
            )
        half_lives = () if self.half_life is None else (float(self.half_life),)
        return PairMeansState(
            pairs,
            bases,
            float(self.damping),
            self.max_keys,
            {name: _codes(separators.get(name)) for name in columns},
            [Sums(1 + len(bases), half_lives) for _ in pairs],
        )


@dataclass(frozen=True)
class _Read:
    cells: dict[str, Cells]
    items: np.ndarray
    feedback: np.ndarray | None
    predictions: dict[str, np.ndarray]


@dataclass(eq=False)
class PairMeansState:
    """Sums of residuals by pair of values, and what the bases need."""

    pairs: tuple[tuple[str, str], ...]
    bases: tuple[str, ...]
    damping: float
    max_keys: int | None
    codes: dict[str, Codes]
    sums: list[Sums]
    items: Codes = field(default_factory=Codes)
    item_sums: Sums = field(default_factory=lambda: Sums(2))
    totals: Sums = field(default_factory=lambda: Sums(2))

    def parts(self) -> list[Part]:
        """Return all that `update` changes."""
        return [*self.codes.values(), *self.sums, self.items, self.item_sums, self.totals]

    def names(self) -> list[str]:
        """Names of the features."""
        named = []
        for pair in self.pairs:
            prefix = "_".join(name.removesuffix("_id") for name in pair)
            one = len(self.bases) == 1
            named += [f"{prefix}_mean" if one else f"{prefix}_mean_{b}" for b in self.bases]
            named.append(f"{prefix}_count")
        return named

    def read(self, rows: LogRows, *, learning: bool) -> _Read:
        """Check and return the columns that are read; nothing changes."""
        cells = {name: rows.cells(name, _PAIRS) for name in self.codes}
        _check_separated(cells, self.codes)
        items = rows.cells(ITEM, _PAIRS)[0]
        columns = [b for b in self.bases if b != _ITEM_MEAN] if learning else []
        predictions = {name: rows.numbers(name, "base") for name in columns}
        return _Read(cells, items, rows.feedback, predictions)

    def update(self, read: _Read, stream: Stream) -> np.ndarray:
        """Describe rows in the order of time, and learn them; return features in that order."""
        assert read.feedback is not None
        order, times = stream.order, stream.times
        feedback = read.feedback[order]
        lists = {
            name: code.lists(*in_order(read.cells[name], order), learning=True)
            for name, code in self.codes.items()
        }
        residuals = np.empty((len(order), 1 + len(self.bases)))
        residuals[:, 0] = 1.0
        for j, name in enumerate(self.bases):
            base = (
                self._item_means(read.items[order], feedback, stream)
                if name == _ITEM_MEAN
                else read.predictions[name][order]
            )
            residuals[:, 1 + j] = feedback - base
        parts = []
        for pair, sums in zip(self.pairs, self.sums, strict=True):
            crossed = lists[pair[0]].times(lists[pair[1]])
            rows = np.repeat(np.arange(len(order)), np.diff(crossed.starts))
            found = sums.update(crossed.codes, times[rows], residuals[rows], stream.counted[rows])
            parts.append(self._means(found, crossed.starts))
            sums.bound(self.max_keys)
        return np.hstack(parts)

    def transform(self, read: _Read, times: np.ndarray) -> np.ndarray:
        """Describe rows."""
        lists = {
            name: code.lists(*read.cells[name], learning=False) for name, code in self.codes.items()
        }
        parts = []
        for pair, sums in zip(self.pairs, self.sums, strict=True):
            crossed = lists[pair[0]].times(lists[pair[1]])
            found = sums.transform(crossed.codes, np.repeat(times, np.diff(crossed.starts)))
            parts.append(self._means(found, crossed.starts))
        return np.hstack(parts)

    def _item_means(self, items: np.ndarray, feedback: np.ndarray, stream: Stream) -> np.ndarray:
        """Return the damped mean of each row's item before it, and count the row."""
        values = np.column_stack([np.ones(len(items)), feedback])
        rest = stream.times, values, stream.counted
        n, total = self.totals.update(np.zeros(len(items), np.int64), *rest).T[2:]
        average = total / np.maximum(n, 1.0)
        codes = self.items.extend(items, None)
        n, total = self.item_sums.update(codes, *rest).T[2:]
        return (total + self.damping * average) / np.maximum(n + self.damping, 1e-12)

    def _means(self, found: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return means and counts of rows from the sums of their pairs of values."""
        sums = found[:, -(1 + len(self.bases)) :]
        weight = np.maximum(sums[:, :1] + self.damping, 1e-12)
        means = np.column_stack([sums[:, 1:] / weight, sums[:, 0]])
        counts = np.diff(starts)
        if (counts == 1).all():
            return means
        made = np.zeros((len(counts), means.shape[1]))
        some = counts > 0
        made[some] = np.add.reduceat(means, starts[:-1][some]) if some.any() else 0.0
        made[some] /= counts[some, None]
        return made


def _codes(separator: str | None) -> Codes:
    return Codes() if separator is None else SeparatedCodes(separator=separator)


def _checked_pairs(pairs: Any) -> tuple[tuple[str, str], ...]:
    checked = [tuple(pair) if isinstance(pair, (list, tuple)) else pair for pair in pairs]
    wrong = [
        pair
        for pair in checked
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, str) for n in pair)
        )
    ]
    if wrong or not checked or len(set(checked)) < len(checked):
        raise ValueError(
            "pairs must be a list of different pairs of column names such as "
            f"('user_id', 'genre'); got {pairs!r}."
        )
    return tuple(checked)


def _check_separated(cells: dict[str, Cells], codes: dict[str, Codes]) -> None:
    """Raise where a column that holds several values in each cell is not one of texts."""
    for name, (values, missing) in cells.items():
        if not isinstance(codes[name], SeparatedCodes):
            continue
        known = values if missing is None else values[~missing]
        wrong = [v for v in known.tolist() if not isinstance(v, str)]
        if wrong:
            raise ValueError(
                f"{name}: {len(wrong)} of {len(values)} rows are no texts, the first {wrong[0]!r}, "
                "but separators names the column. Turn it into texts, or leave it out of "
                "separators."
            )
