"""Drop rows that are no events of a person, by rules that are given, and report how many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from sklearn_recft.columns import SECONDS_PER_DAY, is_absent, plain, same_length, to_ids
from sklearn_recft.names import ITEM, TIME, USER
from sklearn_recft.tables import Table, is_frame
from sklearn_recft.times import to_seconds
from sklearn_recft.vocabulary import Vocabulary

_HOUR = 3600.0
_FEEDBACK = "y"  # the name of the feedback in rules
_COUNT = Interval(Integral, 1, None, closed="left")
# Of the parameters, by name.
CONSTRAINTS: dict[str, Any] = {
    "duplicates": ["boolean"],
    "valid": [dict, None],
    "max_per_hour": [_COUNT, None],
    "max_per_day": [_COUNT, None],
    "quantiles": [dict, None],
    "min_per_user": [_COUNT],
    "min_per_item": [_COUNT],
}
Bounds = tuple[Any, Any]
Bool = np.ndarray


@dataclass(frozen=True)
class CleaningReport:
    """What `clean_interactions` dropped.

    Attributes
    ----------
    n_rows : int
        Number of rows given.
    dropped : dict of str to int
        Number of rows dropped by each rule, in the order of the rules. A row counts for the first
        rule that drops it.
    rows : ndarray of shape (n_kept,)
        Positions of the rows that are kept, ascending.
    n_users, n_items : int
        Number of users and items that are kept.
    """

    n_rows: int
    dropped: dict[str, int]
    rows: np.ndarray
    n_users: int
    n_items: int

    def __str__(self) -> str:
        lines = [(f"{count:,}", rule) for rule, count in self.dropped.items()]
        width = max(len(f"{self.n_rows:,}"), *(len(count) for count, _ in lines))
        kept = f"kept, of {self.n_users:,} users and {self.n_items:,} items"
        table = [(f"{self.n_rows:,}", "rows"), *lines, (f"{len(self.rows):,}", kept)]
        return "\n".join(f"{count:>{width}} {what}" for count, what in table)


class Cleaned(NamedTuple):
    """The rows that `clean_interactions` keeps, of the types given, and its report."""

    X: Any
    y: Any
    sample_weight: Any
    report: CleaningReport


@dataclass(frozen=True)
class Rules:
    """Rules of `clean_interactions`; see there."""

    duplicates: bool
    valid: Mapping[str, Bounds | Callable[[Any], Any]]
    max_per_hour: int | None
    max_per_day: int | None
    quantiles: Mapping[str, tuple[float, float]]
    min_per_user: int
    min_per_item: int

    def __post_init__(self) -> None:
        for name, rule in self.valid.items():
            if not (callable(rule) or _is_pair(rule)):
                raise ValueError(
                    f"valid: the rule of {name} must be (lowest, highest), None for no bound, or a "
                    f"function; got {rule!r}."
                )
        for name, bounds in self.quantiles.items():
            is_pair = _is_pair(bounds) and all(isinstance(bound, Real) for bound in bounds)
            if not (is_pair and 0 <= bounds[0] < bounds[1] <= 1):
                raise ValueError(
                    f"quantiles: the bounds of {name} must be two numbers that ascend from 0 to 1, "
                    f"such as (0, 0.999); got {bounds!r}."
                )


def clean_interactions(
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    duplicates: bool = True,
    valid: Mapping[str, Bounds | Callable[[Any], Any]] | None = None,
    max_per_hour: int | None = None,
    max_per_day: int | None = None,
    quantiles: Mapping[str, tuple[float, float]] | None = None,
    min_per_user: int = 1,
    min_per_item: int = 1,
) -> Cleaned:
    """Drop rows without ids, and by further rules that are given; nothing is filled or changed.

    Rules are applied in this order; each sees the rows that the earlier ones keep.

    Parameters
    ----------
    X : data frame or array-like of shape (n, n_columns)
        A table of events.
    y : array-like of shape (n,), default=None
        Feedback.
    sample_weight : array-like of shape (n,), default=None
    duplicates : bool, default=True
        Whether to drop repeats of a row that are equal to it in all columns and in ``y``; the first
        is kept.
    valid : dict, default=None
        Rows to keep, by column: ``{"quantity": (1, None)}`` keeps those of at least 1. None is no
        bound. A missing value is not valid. A function gets the column, a Series if ``X`` is a
        frame and an array otherwise, and returns a mask. The name "y" is the feedback. Without
        a rule, no value is invalid, and a cancellation is an event.
    max_per_hour, max_per_day : int, default=None
        Drop all rows of a user with more events than this within some hour, or some 24 hours: a
        bot. They need the column ``timestamp``.
    quantiles : dict, default=None
        Outliers by column: ``{"quantity": (0, 0.999)}`` drops the rows above the quantile .999. The
        name "y" is the feedback.
    min_per_user, min_per_item : int, default=1
        Drop users and items with fewer events, again and again until none has (the k-core).

    Returns
    -------
    cleaned : Cleaned
        A named tuple ``X, y, sample_weight, report``: the rows kept in their order, of the types
        given, and a `CleaningReport`. ``y`` and ``sample_weight`` are None if they were.

    Raises
    ------
    ValueError
        For rules that name no column, or that keep no row at all.

    See Also
    --------
    InteractionCleaner : The same as an object with parameters.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import clean_interactions
    >>> X = pd.DataFrame({"user_id": ["ann", None, "bob", "bob"],
    ...                   "item_id": ["tea", "tea", "tea", "rye"],
    ...                   "timestamp": [1, 2, 3, 3], "quantity": [1, 1, -1, 2]})
    >>> X, y, weight, report = clean_interactions(X, valid={"quantity": (1, None)})
    >>> print(report)
    4 rows
    1 without user_id or item_id
    0 exact duplicates
    1 invalid quantity
    2 kept, of 2 users and 2 items
    """
    given: dict[str, Any] = {
        "duplicates": duplicates,
        "valid": valid,
        "max_per_hour": max_per_hour,
        "max_per_day": max_per_day,
        "quantiles": quantiles,
        "min_per_user": min_per_user,
        "min_per_item": min_per_item,
    }
    validate_parameter_constraints(CONSTRAINTS, given, caller_name="clean_interactions")
    rules = Rules(**{**given, "valid": valid or {}, "quantiles": quantiles or {}})
    return clean(X, y, sample_weight, rules)


def clean(X: Any, y: Any, sample_weight: Any, rules: Rules) -> Cleaned:
    """Apply rules; see `clean_interactions`."""
    columns = Table.of(X).columns((USER, ITEM, TIME))
    n_rows = len(columns[USER])
    columns = dict(columns)
    for name, extra in ((_FEEDBACK, y), ("sample_weight", sample_weight)):
        if extra is not None:
            same_length(_column_of(extra, name), n_rows, name)
    if y is not None:
        if _FEEDBACK in columns and (_FEEDBACK in rules.valid or _FEEDBACK in rules.quantiles):
            raise ValueError(
                "y: X has a column of this name too, so a rule for y has two meanings. Rename the "
                "column, or drop it."
            )
        columns[_FEEDBACK if _FEEDBACK not in columns else "feedback y"] = _column_of(y, "y")
    sieve = _Sieve(columns, n_rows)
    sieve.apply(rules)
    return Cleaned(
        _rows_of(X, sieve.rows),
        None if y is None else _rows_of(y, sieve.rows),
        None if sample_weight is None else _rows_of(sample_weight, sieve.rows),
        sieve.report(),
    )


def _is_pair(rule: Any) -> bool:
    return isinstance(rule, (tuple, list)) and len(rule) == 2


def _column_of(values: Any, name: str) -> Any:
    """Return ``y`` or the weights as one column."""
    if is_frame(values):
        found = nw.from_native(values, eager_only=True, allow_series=True)
        if isinstance(found, nw.Series):
            return found
        values = found.to_numpy()
    array = plain(values)
    if array.ndim == 0:
        raise ValueError(f"{name} should be a 1d array, got {values!r}.")
    return array if array.ndim == 1 else column_or_1d(array)


class _Sieve:
    """Rows that are still kept, and how many each rule has dropped."""

    def __init__(self, columns: dict[str, Any], n_rows: int) -> None:
        self.columns = columns
        self.n_rows = n_rows
        self.rows = np.arange(n_rows)
        self.dropped: dict[str, int] = {}

    def apply(self, rules: Rules) -> None:
        """Drop rows by each rule."""
        self._check_names(rules)
        missing = _no_ids(self.columns[USER]) | _no_ids(self.columns[ITEM])
        self._keep(f"without {USER} or {ITEM}", ~missing)
        self.users = self._codes(USER)
        self.items = self._codes(ITEM)
        if rules.duplicates:
            self._keep_rows("exact duplicates", _first_of_equal(self.columns, self.rows))
        for name, rule in rules.valid.items():
            self._keep(f"invalid {name}", _is_valid(self.columns[name], rule, name))
        for bound, window, word in (
            (rules.max_per_hour, _HOUR, "hour"),
            (rules.max_per_day, SECONDS_PER_DAY, "day"),
        ):
            if bound is not None:
                what = f"of users with more than {bound:,} events within one {word}"
                self._keep_rows(what, self._slow_enough(bound, window))
        for name, bounds in rules.quantiles.items():
            self._keep_rows(f"{name} outside its quantiles", self._inside(name, bounds))
        if max(rules.min_per_user, rules.min_per_item) > 1:
            what = f"of users with fewer than {rules.min_per_user} events, or of items with fewer "
            self._keep_rows(f"{what}than {rules.min_per_item}", self._core(rules))

    def _codes(self, name: str) -> np.ndarray:
        """Return a code of the id of each kept row; those of other rows have no meaning."""
        codes = np.zeros(self.n_rows, np.int64)
        codes[self.rows] = Vocabulary().extend(to_ids(plain(self.columns[name])[self.rows], name))
        return codes

    def report(self) -> CleaningReport:
        """Return what was dropped."""
        n_users, n_items = (len(np.unique(codes[self.rows])) for codes in (self.users, self.items))
        return CleaningReport(self.n_rows, self.dropped, self.rows, n_users, n_items)

    def _check_names(self, rules: Rules) -> None:
        for owner, named in (("valid", rules.valid), ("quantiles", rules.quantiles)):
            for name in named:
                if name not in self.columns:
                    raise ValueError(
                        f"X has no column {name}, which {owner} names: found {list(self.columns)}."
                    )
        if TIME not in self.columns and (rules.max_per_hour or rules.max_per_day):
            raise ValueError(
                "max_per_hour and max_per_day need the column `timestamp`; add it to X, or set "
                "both to None."
            )

    def _keep(self, rule: str, mask: Bool) -> None:
        """Keep the rows of a mask of all rows."""
        self._keep_rows(rule, self.rows[mask[self.rows]])

    def _keep_rows(self, rule: str, rows: np.ndarray) -> None:
        self.dropped[rule] = len(self.rows) - len(rows)
        if not len(rows):
            told = ", ".join(f"{count} {name}" for name, count in self.dropped.items())
            raise ValueError(f"No row of X is left, of {self.n_rows}: {told}. Relax the rules.")
        self.rows = rows

    def _slow_enough(self, bound: int, window: float) -> np.ndarray:
        """Return the rows of users without more than ``bound`` events within a window."""
        column = self.columns[TIME]
        times = to_seconds(column[self.rows], TIME)
        users = self.users[self.rows]
        order = np.lexsort((times, users))
        times, users = times[order], users[order]
        same = users[bound:] == users[:-bound]
        fast = same & (times[bound:] - times[:-bound] < window)
        return self.rows[~np.isin(self.users[self.rows], users[bound:][fast])]

    def _inside(self, name: str, bounds: tuple[float, float]) -> np.ndarray:
        values = _numbers(self.columns[name], name)[self.rows]
        finite = np.isfinite(values)
        if not finite.any():
            raise ValueError(
                f"quantiles: none of {len(values)} rows of {name} is a finite number; name another "
                "column."
            )
        low, high = np.quantile(values[finite], bounds)
        return self.rows[finite & (values >= low) & (values <= high)]

    def _core(self, rules: Rules) -> np.ndarray:
        """Return the rows of users and items with enough events, counted among themselves."""
        rows = self.rows
        while True:
            enough = np.ones(len(rows), bool)
            for codes, least in (
                (self.users, rules.min_per_user),
                (self.items, rules.min_per_item),
            ):
                enough &= np.bincount(codes[rows])[codes[rows]] >= least
            if enough.all():
                return rows
            rows = rows[enough]


def _missing(column: Any) -> Bool:
    if isinstance(column, nw.Series):
        null = column.is_null().to_numpy()
        if column.dtype.is_float():
            return null | column.is_nan().fill_null(True).to_numpy()
        return null
    values = plain(column)
    if values.dtype.kind in "iub":
        return np.zeros(len(values), bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.fromiter(map(is_absent, values.tolist()), bool, len(values))


def _no_ids(column: Any) -> Bool:
    """Return where an id is missing; infinity is none, as in recommenders."""
    missing, values = _missing(column), plain(column)
    return missing | np.isinf(values) if values.dtype.kind == "f" else missing


def _first_of_equal(columns: dict[str, Any], rows: np.ndarray) -> np.ndarray:
    """Return the rows without those that are equal to an earlier one in all columns."""
    places = np.zeros(len(rows), np.int64)
    for column in columns.values():
        missing = _missing(column)[rows]
        codes = np.full(len(rows), -1, np.int64)
        codes[~missing] = Vocabulary().extend(_hashable(plain(column)[rows][~missing]))
        both = places * (codes.max(initial=0) + 2) + codes + 1
        places = np.unique(both, return_inverse=True)[1]
    return rows[np.sort(np.unique(places, return_index=True)[1])]


def _hashable(values: np.ndarray) -> np.ndarray:
    """Return cells that can be compared; those of no hash, such as lists, as texts."""
    if values.dtype != object:
        return values
    made = np.empty(len(values), object)
    for row, value in enumerate(values.tolist()):
        listed = value.tolist() if isinstance(value, np.ndarray) else value
        made[row] = value if _has_hash(value) else ("", type(value), repr(listed))
    return made


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_valid(column: Any, rule: Any, name: str) -> Bool:
    values = plain(column)
    if callable(rule):
        mask = np.asarray(rule(column.to_native() if isinstance(column, nw.Series) else values))
        if mask.shape != values.shape or mask.dtype != bool:
            raise ValueError(
                f"valid: the function of {name} must return True or False for each of the "
                f"{len(values)} rows."
            )
        return mask
    low, high = rule
    mask = ~_missing(column)
    known = values[mask]
    inside = np.ones(len(known), bool)
    try:
        if low is not None:
            inside &= np.asarray(known >= _like(low, known), bool)
        if high is not None:
            inside &= np.asarray(known <= _like(high, known), bool)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"valid: {name} cannot be compared with {rule}: {error}. Give bounds of the type of "
            "the column, or a function."
        ) from error
    mask[mask] = inside
    return mask


def _like(bound: Any, values: np.ndarray) -> Any:
    return np.datetime64(bound) if values.dtype.kind == "M" else bound


def _numbers(column: Any, name: str) -> np.ndarray:
    try:
        return plain(column).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"quantiles: {name} is not numeric ({error}); name a column of numbers."
        ) from error


def _rows_of(table: Any, rows: np.ndarray) -> Any:
    """Return rows of a table, or of a column, as what it was."""
    if is_frame(table):
        return nw.to_native(nw.from_native(table, eager_only=True, allow_series=True)[rows])
    if isinstance(table, (list, tuple)):
        return [table[row] for row in rows.tolist()]
    return np.asarray(table)[rows]
