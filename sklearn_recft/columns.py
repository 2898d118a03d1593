"""One column of anything in, one plain checked array out; errors name the column."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sized
from numbers import Real
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.utils import column_or_1d

SECONDS_PER_DAY = 86_400.0
_FLOAT32 = float(np.finfo(np.float32).max)
# Larger feedback is refused: sums of fewer than 2**32 of these are finite in float32.
LARGEST = _FLOAT32 / 2**32

# Below this, setting how NumPy handles errors takes longer than a second pass over the rows.
_FEW_ROWS = 1000

# Units of datetime64 beyond the microseconds of `datetime`.
_FINER = ("ns", "ps", "fs", "as")
_ABSENT = ("NoneType", "NAType", "NaTType", "MaskedConstant")
_IF_TIME = " If it is the time of the events, call the column timestamp."
# What missing cells become when a column is turned into text, and how files spell them.
_MISSING_TEXTS = frozenset(("nan", "NaN", "None", "NaT", "<NA>", ""))
_MISSING_CELLS = _MISSING_TEXTS | {"NA", "N/A", "#N/A", "n/a", "NAN", "null", "NULL", "none"}


def plain(column: Any) -> np.ndarray:
    """Array of a column; masked cells are None."""
    if isinstance(column, nw.Series):
        return column.to_native().to_numpy() if holds_plain_numbers(column) else column.to_numpy()
    if isinstance(column, np.ma.MaskedArray):
        cells = column.data
        if np.ma.is_masked(column):
            cells = cells.astype(object)
            cells[np.ma.getmaskarray(column)] = None
        return cells
    return np.asarray(column)


def holds_plain_numbers(column: nw.Series) -> bool:
    """Whether a series is one of pandas with numbers of numpy, which nothing has to convert."""
    if not column.implementation.is_pandas():
        return False
    dtype = column.to_native().dtype
    return isinstance(dtype, np.dtype) and dtype.kind in "iufb"


def instants(values: np.ndarray) -> np.ndarray:
    """Turn datetime64 and timedelta64 into objects of Python, which equal those of pandas.

    What `datetime` cannot hold, such as nanoseconds and the year 10,000, stays a scalar of numpy.
    """
    fine, made = np.datetime_data(values.dtype)[0] in _FINER, np.empty(len(values), object)
    coarse = values.astype(f"{values.dtype.kind}8[us]") if fine else values
    made[:] = coarse.tolist()
    lost = (coarse.astype(values.dtype) != values).tolist()
    for row, value in enumerate(made.tolist()):
        if lost[row] or isinstance(value, int):
            made[row] = values[row]
    return made


def is_absent(value: Any) -> bool:
    """Whether a cell is None, NaN, NA or NaT, or masked; a vector is a value."""
    kind = type(value)
    return kind.__name__ in _ABSENT or (kind is not np.ndarray and bool(value != value))


def refuse_missing(values: Sized, column: str, how_many: int) -> None:
    """Raise if ``how_many`` is not 0."""
    if how_many:
        raise ValueError(
            f"{column}: {how_many} of {len(values)} rows are missing (None or NaN) or inf; "
            f"drop or fill these rows before passing X."
        )


def to_ids(column: Any, name: str) -> np.ndarray:
    """Ids as int64 where all are whole numbers, else as they came; none missing.

    True and False stay what they are, though they are equal to 1 and 0.
    """
    values = plain(column)
    if isinstance(column, nw.Series) and values.dtype.kind not in "iu":
        refuse_missing(column, name, int(column.null_count()))
    if values.dtype.kind in "iu":
        return values if values.dtype == np.uint64 else values.astype(np.int64, copy=False)
    if values.dtype.kind == "b":
        return values.astype(object)
    if values.dtype.kind == "f":
        return _float_ids(values, name)
    if values.dtype.kind in "Mm":
        refuse_missing(values, name, int(np.isnat(values).sum()))
        return instants(values)
    return _object_ids(values, name) if values.dtype.kind == "O" else values


def _float_ids(values: np.ndarray, name: str) -> np.ndarray:
    if not len(values):
        return values.astype(np.int64)
    largest = np.abs(values).max()
    if not np.isfinite(largest):
        refuse_missing(values, name, int((~np.isfinite(values)).sum()))
    exact = 2.0 ** (np.finfo(values.dtype).nmant + 1)
    if largest >= exact:
        raise ValueError(
            f"{name}: {int((np.abs(values) >= exact).sum())} of {len(values)} rows are "
            f"{values.dtype} numbers of 2**{int(np.log2(exact))} or more, where neighbouring ids "
            "are one number; give the ids as integers or strings."
        )
    whole = values.astype(np.int64)
    return whole if (whole == values).all() else values


def _object_ids(values: np.ndarray, name: str) -> np.ndarray:
    listed = values.tolist()
    kinds = set(map(type, listed))
    if kinds == {str}:
        return values
    if kinds == {int}:
        return _integers(values, listed)
    _refuse_unhashable(listed, kinds, name)
    absent = [kind for kind in kinds if kind.__name__ in _ABSENT]
    if absent:
        refuse_missing(values, name, sum(type(v) in absent for v in listed))
    if any(issubclass(kind, (float, np.floating)) for kind in kinds):
        numbers = all(issubclass(kind, (int, float, np.number)) for kind in kinds)
        return _ids_with_floats(values, listed, numbers, name)
    if any(issubclass(kind, (np.datetime64, np.timedelta64)) for kind in kinds):
        values = values.copy()
        for row, value in enumerate(listed):
            if isinstance(value, (np.datetime64, np.timedelta64)):
                refuse_missing(values, name, int(np.isnat(value)))
                values[row] = instants(np.array([value]))[0]
        return values
    if all(issubclass(kind, (int, np.integer)) and kind is not bool for kind in kinds):
        return _integers(values, listed)
    return values


def _integers(values: np.ndarray, listed: list[Any]) -> np.ndarray:
    try:
        return np.array(listed, np.int64)
    except OverflowError:
        return values  # integers beyond 64 bits stay objects, like any other id


def _refuse_unhashable(listed: list[Any], kinds: set[type], name: str) -> None:
    for kind in kinds:
        if kind.__hash__ is None:
            raise TypeError(
                f"{name}: argument must be a string or a number (or any other hashable), "
                f"got {kind.__name__}; an id must be hashable."
            )
    if any(issubclass(kind, tuple) for kind in kinds):
        try:
            for value in listed:
                hash(value)
        except TypeError as error:
            raise TypeError(f"{name}: {error}; an id must be hashable.") from error


def _ids_with_floats(values: np.ndarray, listed: list[Any], numbers: bool, name: str) -> np.ndarray:
    """Ids of which some are floats: integers beside them must not become floats."""
    floats = [v for v in listed if isinstance(v, (float, np.floating))]
    refuse_missing(values, name, sum(v != v or (numbers and abs(v) == np.inf) for v in floats))
    if not numbers:
        return values
    _float_ids(np.array(floats, np.float64), name)
    if all(v == int(v) for v in floats):
        return _object_ids(np.array([int(v) for v in listed], object), name)
    small = all(abs(v) < 2**53 for v in listed)
    return np.array(listed, np.float64) if small else values


def warn_of_missing_texts(ids: np.ndarray, name: str) -> None:
    """Warn where an id is a text that a missing value leaves behind, such as 'nan'."""
    if ids.dtype.kind not in "OU":
        return
    listed = ids.tolist()
    if not _MISSING_TEXTS.isdisjoint(listed):
        found = {text: listed.count(text) for text in _MISSING_TEXTS if text in listed}
        warnings.warn(
            f"{name}: {sum(found.values())} of {len(ids)} rows are the text "
            f"{' or '.join(map(repr, found))}, which a missing value turned into text looks like; "
            "it is taken for an id. Drop these rows if it is none.",
            UserWarning,
            stacklevel=5,
        )


def to_numbers(column: Any, name: str) -> np.ndarray:
    """Finite float64 numbers."""
    values = plain(column)
    kind = values.dtype.kind
    if kind == "c":
        raise ValueError(f"Complex data not supported\n{name}\n")
    if kind in "Mm":
        raise ValueError(
            f"{name}: not numeric (all {len(values)} rows are "
            f"{'datetimes' if kind == 'M' else 'durations'}); turn them into numbers first, for "
            f"example into seconds.{_IF_TIME if kind == 'M' else ''}"
        )
    if kind in "iub":
        return values.astype(np.float64)
    if kind != "f":
        values = _as_floats(values, name)
    values = values.astype(np.float64, copy=False)
    if len(values) < _FEW_ROWS:
        finite = np.isfinite(values).all()
    else:
        with np.errstate(all="ignore"):
            finite = np.isfinite(np.vdot(values, values))  # the fastest look at all of them
    bad = 0 if finite else int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(
            f"{name}: {bad} of {len(values)} rows are NaN or inf; impute or drop these rows."
        )
    return values


def refuse_beyond_float32(values: np.ndarray, name: str, largest: float = _FLOAT32) -> None:
    """Raise where models, whose tables are float32, would read infinity, or add up to it."""
    bad = int((np.abs(values) > largest).sum())
    if bad:
        raise ValueError(
            f"{name}: {bad} of {len(values)} rows are larger than float32 can "
            f"{'hold' if largest == _FLOAT32 else 'add up'} ({largest:.1e}); scale the column."
        )


def summable(values: np.ndarray, name: str) -> np.ndarray:
    """Return numbers that can be added up in float32."""
    refuse_beyond_float32(values, name, LARGEST)
    return values


def _as_floats(values: np.ndarray, name: str) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        listed = values.tolist()
        if many := sum(isinstance(cell, (list, tuple, np.ndarray)) for cell in listed):
            raise ValueError(
                f"{name}: not numeric ({many} of {len(values)} rows are lists or arrays). Drop "
                "it. IncrementalDCN* reads it; DecayBert* and RealtimeTransformer* as embedding."
            ) from error
        wrong = [v for v in listed if not (is_missing(v) or is_number(v))]
        if not wrong:
            raise ValueError(
                f"{name}: {sum(map(is_missing, listed))} of {len(values)} rows are NaN or inf, "
                "or missing; impute or drop these rows."
            ) from error
        dated = re.match(r"\d{4}-\d\d-\d\d", str(wrong[0])) is not None
        raise ValueError(
            f"{name}: not numeric ({len(wrong)} of {len(values)} rows, the first "
            f"{wrong[0]!r}: {error}); drop the column, or encode it as numbers "
            "first, for example with OneHotEncoder or OrdinalEncoder. An estimator with "
            "user_features and item_features reads a column that is named there."
            f"{_IF_TIME if dated else ''}"
        ) from error


def is_missing(value: Any) -> bool:
    """Whether a cell is absent, or a text that says so."""
    if isinstance(value, str):
        return len(value) < 9 and value.strip() in _MISSING_CELLS
    return is_absent(value)


def is_real(value: Any) -> bool:
    """Whether a value is a real number; a text that reads as one is not."""
    return isinstance(value, Real)


def is_number(value: Any) -> bool:
    """Whether a cell reads as a number, NaN left out."""
    try:
        return float(value) == float(value)
    except (TypeError, ValueError, OverflowError):
        return False


def _as_1d(values: Any, name: str) -> np.ndarray:
    array = plain(values)
    if array.ndim == 0:
        raise ValueError(f"{name} should be a 1d array, got {values!r}.")
    return array


def to_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    """Sample weights of ``n_rows`` rows: at least 0, and not all 0."""
    name = "sample_weight"
    weight = to_numbers(column_or_1d(_as_1d(sample_weight, name)), name)
    same_length(weight, n_rows, name)
    if (weight < 0).any():
        raise ValueError(
            f"{name}: {int((weight < 0).sum())} of {len(weight)} rows are negative; "
            "use weights of 0 or more."
        )
    if not weight.any():
        raise ValueError(f"{name}: every weight is zero; at least one must be positive.")
    smallest = np.finfo(np.float32).smallest_subnormal
    wrong = ((weight < smallest) & (weight > 0)) | (weight > LARGEST)
    if wrong.any():
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {len(weight)} rows, the first "
            f"{weight[wrong].tolist()[0]!r}, vanish or overflow in 32 bits; scale the weights to "
            "about 1."
        )
    return weight


def to_feedback(y: Any, n_rows: int) -> np.ndarray:
    """Finite feedback of ``n_rows`` rows."""
    values = _as_1d(y, "y")
    if values.ndim > 1:
        values = column_or_1d(values, warn=True)
    same_length(values, n_rows, "y")
    _refuse_labels(values)
    return summable(to_numbers(values, "Input y"), "Input y")


def _refuse_labels(y: np.ndarray) -> None:
    """Tell what to do with feedback such as 'click' and 'skip' where numbers are needed."""
    if y.dtype.kind not in "OUT":
        return
    kinds = set(map(type, y.tolist()))
    if not any(issubclass(kind, str) for kind in kinds):
        return
    texts = [v for v in y.tolist() if isinstance(v, str) and not (is_missing(v) or is_number(v))]
    if texts:
        labels = sorted(set(texts))
        raise ValueError(
            f"Input y: not numeric: {len(texts)} of {len(y)} rows are labels such as "
            f"{', '.join(map(repr, labels[:3]))}. Feedback is a number: give 1 for the label "
            f"that counts and 0 for the others, for example y == {labels[0]!r}, or use a "
            "classifier."
        )


def same_length(values: np.ndarray, n_rows: int, name: str) -> None:
    """Raise unless a column has ``n_rows`` rows."""
    if len(values) != n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: X has {n_rows} "
            f"rows, {name} has {len(values)}."
        )


def to_texts(column: Any, name: str = "text") -> np.ndarray:
    """Strings as objects; missing ones are empty."""
    values = plain(column).astype(object)
    empty = np.array([is_absent(v) for v in values.tolist()], bool)
    if empty.any():
        values = values.copy()
        values[empty] = ""
    _refuse_surrogates(values, name)
    return values


def _refuse_surrogates(values: np.ndarray, name: str) -> None:
    """Raise where a text has half a character, which no encoding can write."""
    try:
        "".join(map(str, values.tolist())).encode()
    except UnicodeEncodeError:
        wrong = [v for v in map(str, values.tolist()) if any("\ud800" <= c <= "\udfff" for c in v)]
        raise ValueError(
            f"{name}: {len(wrong)} of {len(values)} rows have a lone surrogate, which is no "
            f"character, the first {wrong[0]!r}; decode the text again, for example by "
            "text.encode('utf-8', 'replace').decode()."
        ) from None


def fade(seconds: Any, half_life: float) -> Any:
    """Weight left after ``seconds``: a half for every ``half_life`` days."""
    return 0.5 ** (seconds / (half_life * SECONDS_PER_DAY))
