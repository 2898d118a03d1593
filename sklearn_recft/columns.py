"""One column of anything in, one plain checked array out; errors name the column."""

from __future__ import annotations

from datetime import date, timezone
from typing import Any

import narwhals as nw
import numpy as np

SECONDS_PER_DAY = 86_400.0


def _plain(column: Any) -> np.ndarray:
    return column.to_numpy() if isinstance(column, nw.Series) else np.asarray(column)


def _missing(values: np.ndarray, column: str, how_many: int) -> None:
    if how_many:
        raise ValueError(
            f"{column}: {how_many} of {len(values)} rows are missing (None or NaN) or inf; "
            f"drop or fill these rows before passing X."
        )


def to_ids(column: Any, name: str) -> np.ndarray:
    """Ids as int64 where all are whole numbers, else as they came; none missing."""
    if isinstance(column, nw.Series):
        _missing(column, name, int(column.null_count()))  # type: ignore[arg-type]
    values = _plain(column)
    if values.dtype.kind in "iub":
        return values if values.dtype == np.uint64 else values.astype(np.int64, copy=False)
    if values.dtype.kind == "f":
        _missing(values, name, int((~np.isfinite(values)).sum()))
        whole = values.astype(np.int64) if np.abs(values).max(initial=0) < 2**53 else values
        return whole if (whole == values).all() else values
    if values.dtype.kind != "O":
        return values
    return _object_ids(values, name)


def _object_ids(values: np.ndarray, name: str) -> np.ndarray:
    listed = values.tolist()
    kinds = set(map(type, listed))
    for kind in kinds:
        if kind.__hash__ is None:
            raise TypeError(
                f"{name}: argument must be a string or a number (or any other hashable), "
                f"got {kind.__name__}; an id must be hashable."
            )
    absent = [kind for kind in kinds if kind.__name__ in ("NoneType", "NAType", "NaTType")]
    if absent:
        _missing(values, name, sum(type(v) in absent for v in listed))
    if all(issubclass(kind, (int, float, np.number)) for kind in kinds):
        if all(issubclass(kind, (int, np.integer)) for kind in kinds):
            try:
                return np.array(listed, np.int64)
            except OverflowError:
                return values  # integers beyond 64 bits stay objects, like any other id
        return to_ids(np.array(listed, np.float64), name)
    if any(issubclass(kind, (float, np.floating)) for kind in kinds):
        _missing(values, name, sum(isinstance(v, float) and v != v for v in listed))
    return values


def to_numbers(column: Any, name: str) -> np.ndarray:
    """Finite float64 numbers."""
    values = _plain(column)
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{name}\n")
    if values.dtype.kind not in "iufb":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{name}: not numeric ({error}); encode it as numbers first, for example "
                "with OneHotEncoder or OrdinalEncoder."
            ) from error
    values = values.astype(np.float64, copy=False)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(
            f"{name}: {int(bad.sum())} of {len(values)} rows are NaN or inf; impute or drop "
            "these rows."
        )
    return values


def to_seconds(column: Any, name: str) -> np.ndarray:
    """Seconds since 1970 from numbers, datetimes or dates."""
    if isinstance(column, nw.Series) and isinstance(column.dtype, (nw.Datetime, nw.Date)):
        _missing(column, name, int(column.null_count()))  # type: ignore[arg-type]
        column = column.cast(nw.Datetime("us")) if column.dtype == nw.Date else column
        return column.dt.timestamp("us").to_numpy().astype(np.float64) / 1e6
    values = _plain(column)
    instants = (date, np.datetime64)
    if values.dtype == object and any(isinstance(v, instants) for v in values.tolist()):
        values = _instants(values, name)
    if values.dtype.kind == "M":
        _missing(values, name, int(np.isnat(values).sum()))
        return values.astype("datetime64[us]").astype(np.int64) / 1e6
    if values.dtype.kind == "m":
        raise _no_instants(name, "they are durations")
    if values.dtype.kind in "OUT":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise _no_instants(name, error) from error
    return to_numbers(values, name)


def _instants(values: np.ndarray, name: str) -> np.ndarray:
    """Dates and datetimes of any kind; one without a time zone is UTC, as in numpy."""
    listed = values.tolist()
    _missing(values, name, sum(map(_absent, listed)))
    try:
        utc = [v.astimezone(timezone.utc).replace(tzinfo=None) if getattr(v, "tzinfo", None) else v
               for v in listed]  # fmt: skip
        return np.array(utc, "datetime64[us]")
    except (TypeError, ValueError) as error:
        raise _no_instants(name, error) from error


def _no_instants(name: str, error: object) -> ValueError:
    return ValueError(
        f"{name}: neither numbers nor datetimes ({error}); convert it first, to seconds "
        "since 1970 or to a datetime column."
    )


def _absent(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value


def to_texts(column: Any) -> np.ndarray:
    """Strings as objects; missing ones are empty."""
    values = _plain(column).astype(object)
    empty = np.array([_absent(v) for v in values.tolist()], bool)
    if empty.any():
        values = values.copy()
        values[empty] = ""
    return values


def fade(seconds: Any, half_life: float) -> Any:
    """Weight left after ``seconds``: a half for every ``half_life`` days."""
    return 0.5 ** (seconds / (half_life * SECONDS_PER_DAY))
