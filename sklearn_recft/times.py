"""One column of times in, seconds since 1970 out; what cannot be a time is refused."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np

from sklearn_recft.columns import (
    holds_plain_numbers,
    is_absent,
    is_missing,
    plain,
    refuse_missing,
    to_numbers,
)

# Seconds of this size or more lie beyond the year 5138: they are in another unit.
_LIMIT = 1e11
# Where whole logs of other units lie, from 1973 to 2106.
_UNITS = (
    ("milliseconds", 1e3, 1e11, 4.3e12),
    ("microseconds", 1e6, 1e14, 4.3e15),
    ("nanoseconds", 1e9, 1e17, 4.3e18),
)
_FIRST_DATE, _LAST_DATE = 19700101, 21061231
# Seconds of a log of our days, next to which a date such as 20240501 is no second of 1970.
_OUR_DAYS = 3e8
_ISO = re.compile(r"\d{4}-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|\+00:00)?)?)?")
_FIX = (
    "convert it first, to seconds since 1970 or to datetimes or dates in UTC such as "
    "2024-05-01 12:30:00, for example by pandas.to_datetime."
)
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}


class TimeUnitWarning(UserWarning):
    """Times were in another unit than seconds and have been converted."""


def to_seconds(column: Any, name: str, *, convert: bool = False) -> np.ndarray:
    """Seconds since 1970, float64, from numbers, datetimes, dates or ISO strings.

    Numbers that cannot be seconds since 1970 but look like milliseconds, microseconds,
    nanoseconds or dates such as 20240501 are refused. Given ``convert``, a column that is one
    of these as a whole is converted, with a `TimeUnitWarning`.
    """
    if _holds_datetimes(column):
        refuse_missing(column, name, int(column.null_count()))
        column = column.cast(nw.Datetime("us")) if column.dtype == nw.Date else column
        seconds = column.dt.timestamp("us").to_numpy().astype(np.float64) / 1e6
        return _plausible(seconds, name, convert=False)
    values = plain(column)
    kind = values.dtype.kind
    if kind == "O":
        values = _of_objects(values, name)
    elif kind in "UT":
        values = _of_texts(values.tolist(), name)
    elif kind in "mbSV":
        what = {"m": "durations", "b": "True or False", "S": "bytes"}.get(kind, "records")
        raise _no_times(name, f"all {len(values)} rows are {what}")
    if values.dtype.kind == "M":
        return _of_datetimes(values, name)
    return _plausible(to_numbers(values, name), name, convert)


def _holds_datetimes(column: Any) -> bool:
    if not isinstance(column, nw.Series) or holds_plain_numbers(column):
        return False
    return isinstance(column.dtype, (nw.Datetime, nw.Date))


def _of_datetimes(values: np.ndarray, name: str) -> np.ndarray:
    refuse_missing(values, name, int(np.isnat(values).sum()))
    whole = values.astype("datetime64[s]").astype(np.int64)  # cannot overflow as microseconds can
    _plausible(whole.astype(np.float64), name, convert=False)
    return values.astype("datetime64[us]").astype(np.int64) / 1e6


def _of_objects(values: np.ndarray, name: str) -> np.ndarray:
    """Numbers or datetimes, if all rows are of one of these kinds."""
    listed = values.tolist()
    kinds = set(map(type, listed))
    if kinds <= {int, float}:
        return to_numbers(values, name)
    sorts = {kind: _sort_of(kind) for kind in kinds}
    found = set(sorts.values()) - {"missing"}
    if found <= {"numbers"}:
        return to_numbers(values, name)  # counts what is missing as well
    refuse_missing(values, name, sum(map(is_absent, listed)))
    if found == {"datetimes"}:
        return _instants(listed, name)
    if found <= {"texts", "numbers"}:
        return _of_texts(list(map(str, listed)), name)
    counts = dict.fromkeys(sorted(found), 0)
    for value in listed:
        counts[sorts[type(value)]] += 1
    told = ", ".join(f"{count} of {len(listed)} rows are {sort}" for sort, count in counts.items())
    raise _no_times(name, told)


def _sort_of(kind: type) -> str:
    if kind.__name__ in ("NoneType", "NAType", "NaTType", "MaskedConstant"):
        return "missing"
    if issubclass(kind, (date, np.datetime64)):
        return "datetimes"
    if issubclass(kind, str):
        return "texts"
    if issubclass(kind, (Real, Decimal, np.number)) and not issubclass(
        kind, (bool, np.timedelta64)
    ):
        return "numbers"
    return f"of type {kind.__name__}"


def _instants(listed: list[Any], name: str) -> np.ndarray:
    """Dates and datetimes of any kind; one without a time zone is UTC, as in numpy."""
    try:
        utc = [
            v.astimezone(timezone.utc).replace(tzinfo=None) if getattr(v, "tzinfo", None) else v
            for v in listed
        ]
        return np.array(utc, "datetime64[us]")
    except (TypeError, ValueError, OverflowError) as error:
        raise _no_times(name, error) from error


def _of_texts(listed: list[str], name: str) -> np.ndarray:
    """Numbers, or dates of the form 2024-05-01 12:30:00, if all rows are."""
    # Of a text without a dash there, numpy would make a year, of one so short a missing date.
    if {text[4:5] for text in listed} == {"-"} and min(map(len, listed)) > 6:
        listed = [text.removesuffix("+00:00") for text in listed]
        try:
            _refuse_zones(listed)
            return np.array([text.rstrip("Z") for text in listed], "datetime64[us]")
        except ValueError as error:
            raise _wrong_texts(listed, name, error) from error
    try:
        return np.array(listed, np.float64)
    except ValueError as error:
        refuse_missing(listed, name, sum(map(is_missing, listed)))
        raise _wrong_texts(listed, name, error) from error


def _refuse_zones(listed: list[str]) -> None:
    """Refuse time zones other than UTC, of which numpy but warns, by their sign after the date."""
    # Not by an error made of the warning: filters of warnings belong to all threads.
    joined = " ".join(listed)
    if "+" in joined or joined.count("-") != 2 * len(listed) or min(map(len, listed)) < 10:
        for text in listed:
            if "+" in text or "-" in text[10:]:
                raise ValueError(f"{text!r} has a time zone other than UTC")


def _wrong_texts(listed: list[str], name: str, error: Exception) -> ValueError:
    distinct = set(listed)
    wrong = {text for text in distinct if not _ISO.fullmatch(text)}
    wrong = wrong or {text for text in distinct if not _is_date(text)}
    return _no_times(name, _told(listed, wrong) if wrong else error)


def _is_date(text: str) -> bool:
    """Whether the numbers of an ISO date are those of a day and of a time of the day."""
    try:
        np.datetime64(text.removesuffix("+00:00").rstrip("Z"), "us")
    except ValueError:
        return False
    return True


def _told(listed: list[str], wrong: set[str]) -> str:
    first = next(text for text in listed if text in wrong)
    return f"{sum(text in wrong for text in listed)} of {len(listed)} rows, the first {first!r}"


def _no_times(name: str, detail: object) -> ValueError:
    return ValueError(f"{name}: neither numbers nor datetimes ({detail}); {_FIX}")


# ------------------------------------------------------------------ of a unit or a format


def from_unit(column: Any, name: str, unit: str) -> np.ndarray:
    """Seconds since 1970 of numbers in a unit of `UNITS`."""
    values = plain(column)
    _refuse_datetimes(values, name, "time_unit is for numbers")
    try:
        numbers = to_numbers(values, name)
    except ValueError as error:
        raise ValueError(f"time_unit={unit!r} is for numbers. {error}") from error
    return _plausible(numbers / UNITS[unit], name, convert=False)


def _refuse_datetimes(values: np.ndarray, name: str, what: str) -> None:
    if values.dtype.kind == "M":
        raise ValueError(
            f"{what}, and all {len(values)} rows of {name} are datetimes: leave it out."
        )


def from_format(column: Any, name: str, time_format: str) -> np.ndarray:
    """Seconds since 1970 of texts in a format of `datetime.strptime`; without a zone, of UTC."""
    values = plain(column)
    _refuse_datetimes(values, name, "time_format is for texts")
    cells = values.tolist()
    refuse_missing(cells, name, sum(map(is_missing, cells)))
    listed = list(map(str, cells))
    seconds, wrong, error = {}, set(), None
    for text in set(listed):
        try:
            moment = datetime.strptime(text.strip(), time_format)
        except ValueError as reason:
            wrong.add(text)
            error = reason
        else:
            zone = moment.tzinfo or timezone.utc
            seconds[text] = moment.replace(tzinfo=zone).timestamp()
    if wrong:
        raise ValueError(
            f"{name}: not of time_format={time_format!r} ({_told(listed, wrong)}): {error}."
        )
    return _plausible(np.array([seconds[text] for text in listed]), name, convert=False)


# ------------------------------------------------------------------ numbers that are no seconds


def _plausible(seconds: np.ndarray, name: str, convert: bool) -> np.ndarray:
    if not len(seconds):
        return seconds
    low, high = seconds.min(), seconds.max()
    if low <= -_LIMIT or high >= _LIMIT:
        return _of_another_unit(seconds, name, convert)
    if _FIRST_DATE <= low <= _LAST_DATE:
        return _if_no_written_dates(seconds, name, convert)
    return seconds


def _of_another_unit(seconds: np.ndarray, name: str, convert: bool) -> np.ndarray:
    beyond = np.abs(seconds) >= _LIMIT
    row = int(beyond.argmax())
    if convert and beyond.all():
        days, clock = np.divmod(seconds, 1e6)
        if _are_dates(days) and (clock == np.floor(clock)).all():
            return _converted(_dates(days) + _clock(clock), name, "dates such as 20240501123000")
        for unit, per_second, low, high in _UNITS:
            if seconds.min() >= low and seconds.max() <= high:
                return _converted(seconds / per_second, name, unit)
    raise ValueError(
        f"{name}: {int(beyond.sum())} of {len(seconds)} rows are no seconds since 1970 of a "
        f"plausible date, the first in row {row}: {seconds[row]:.15g}. {_guess(seconds[row])}"
    )


def _guess(value: float) -> str:
    if _are_dates(np.floor_divide([value], 1e6)):
        return "It looks like a date such as 20240501123000: convert it to datetimes."
    for unit, per_second, low, high in _UNITS:
        if low <= abs(value) <= high:
            return (
                f"It looks like {unit} since 1970: divide such rows by {per_second:,.0f}, or "
                "convert them to datetimes."
            )
    return "Correct or drop these rows, or convert them to datetimes."


def _if_no_written_dates(seconds: np.ndarray, name: str, convert: bool) -> np.ndarray:
    """Refuse or convert dates such as 20240501, which as seconds are all in August 1970."""
    written = _written(seconds)
    others = seconds[~written]
    if not written.any() or (len(others) and others.min() < _OUR_DAYS):
        return seconds
    if not len(others):
        if convert:
            return _converted(_dates(seconds), name, "dates such as 20240501")
        if len(seconds) < 20 and seconds.min() == seconds.max():
            return seconds  # one second of a small log of any origin
    row = int(written.argmax())
    raise ValueError(
        f"{name}: {int(written.sum())} of {len(seconds)} rows look like dates such as 20240501, "
        f"not like seconds since 1970, the first in row {row}: {seconds[row]:.0f}. Convert them, "
        "for example with pandas.to_datetime(column.astype(str))."
    )


def _converted(seconds: np.ndarray, name: str, unit: str) -> np.ndarray:
    day = str(np.datetime64(int(seconds.min()), "s"))[:10]
    warnings.warn(
        f"{name}: read as {unit} and converted to seconds since 1970; the first is of {day}.",
        TimeUnitWarning,
        stacklevel=5,
    )
    return seconds


def _written(numbers: np.ndarray) -> np.ndarray:
    """Mask of the numbers that are dates of the form 20240501."""
    inside = (numbers >= _FIRST_DATE) & (numbers <= _LAST_DATE) & (numbers == np.floor(numbers))
    whole = np.where(inside, numbers, _FIRST_DATE).astype(np.int64)
    month, day = whole // 100 % 100, whole % 100
    valid = inside & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    moved = _days(np.where(valid, whole, _FIRST_DATE)).astype("datetime64[M]").astype(np.int64)
    return valid & (moved % 12 + 1 == month)  # no 31 April


def _are_dates(numbers: np.ndarray | Sequence[float]) -> bool:
    return bool(_written(np.asarray(numbers)).all())


def _days(whole: np.ndarray) -> np.ndarray:
    months = (whole // 10_000 - 1970) * 12 + whole // 100 % 100 - 1
    return months.astype("datetime64[M]").astype("datetime64[D]") + (whole % 100 - 1)


def _dates(numbers: np.ndarray) -> np.ndarray:
    days = _days(numbers.astype(np.int64))
    return days.astype("datetime64[s]").astype(np.int64).astype(np.float64)


def _clock(numbers: np.ndarray) -> np.ndarray:
    """Seconds of the day of numbers of the form 123000."""
    return numbers // 10_000 * 3600 + numbers // 100 % 100 * 60 + numbers % 100
