"""A log in a file: text by the standard library, Parquet by whichever reader is installed."""

import importlib.util
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import narwhals as nw
import numpy as np

from sklearn_recft.columns import is_absent, is_missing, to_ids, to_numbers
from sklearn_recft.datasets._bunch import interactions_bunch
from sklearn_recft.datasets._open import COMPRESSED
from sklearn_recft.datasets._text import Cells, read_text
from sklearn_recft.names import guess_roles
from sklearn_recft.times import UNITS, from_format, from_unit, to_seconds

_PARQUET_READERS = ("pyarrow", "polars")
_ROLES = {"user": "user_id", "item": "item_id", "time": "timestamp", "text": "text"}
_LIKE_RATINGS = {
    "rating", "ratings", "stars", "score", "feedback", "label", "target", "y", "click", "clicks",
    "clicked", "like", "likes", "liked", "thumbs", "grade", "preference", "overall",
}  # fmt: skip
_DECIMAL_COMMA = re.compile(r"\s*[-+]?(\d+,\d*|,\d+)([eE][-+]?\d+)?\s*")


def load_interactions(
    path,
    *,
    feedback=None,
    columns=None,
    positive=None,
    sep=None,
    encoding="utf-8",
    decimal=".",
    time_unit=None,
    time_format=None,
    return_X_y=False,
    as_frame=False,
):
    r"""Load an interaction log from a text file (CSV, TSV, MovieLens' .dat) or a Parquet file.

    Parameters
    ----------
    path : str or Path
        A `.parquet` file, or a text file, plain or compressed (`.gz`, `.bz2`, `.xz`, `.zip`,
        `.zst`). Columns: `user_id`, `item_id`, optionally `timestamp` (seconds since 1970 or
        dates such as `2024-05-01 12:30:00`, taken as UTC), optionally `text` (what the item is
        called). Other columns are not read.
    feedback : str, default=None
        Column with the feedback, for instance `"rating"`. None: every row is a positive. A number,
        counted from 0, is a column of a text file without a header line.
    columns : dict, default=None
        What columns are called that have other names, for instance
        `{"user": "userId", "item": "movieId", "time": "ts", "text": "title"}`. The keys may also
        be `user_id`, `item_id` and `timestamp`. Numbers, counted from 0, are columns of a text file
        without a header line.
    positive : str or sequence of str, default=None
        Labels of the feedback that count as 1; all others count as 0. None: feedback is a number.
    sep : str, default=None
        What separates the columns of a text file. None: tab, `::`, semicolon, comma or bar,
        whichever is most often in the first line.
    encoding : str, default="utf-8"
        Of a text file; one with the mark of UTF-16 is read as that.
    decimal : {".", ","}, default="."
        What stands before the decimals of feedback and times in a text file.
    time_unit : {"s", "ms", "us", "ns"}, default=None
        Unit of times that are numbers since 1970. None: seconds, or another unit where no time can
        be seconds, with a warning.
    time_format : str, default=None
        Format of times that are texts, as in `datetime.strptime`: `"%d.%m.%Y %H:%M:%S"`. None: ISO
        dates such as `2024-05-01 12:30:00`. Times without a zone (`%z`) are of UTC.
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.
    as_frame : bool, default=False
        Return pandas objects in place of arrays.

    Returns
    -------
    data : Bunch
        data : ndarray or DataFrame of shape (n_interactions, 2 or 3)
            User, item and, where the file has it, timestamp in seconds; rows in file order. The
            array is int64 if every value is an integer, else object. Ids of a text file are
            integers if all of the column are spelled as Python spells them (`7`, not `007`).
        target : ndarray or Series of shape (n_interactions,), or None
            The feedback, float64.
        catalogue : Bunch or DataFrame, or None
            `item_id`, `title` and `text` (the same) of each item, where the file has `text`.
        feature_names, target_names : list of str
            What the columns of `data` and `target` are called.
        unused_names : list of str
            Columns of the file that were not read.
        DESCR : str
            What is known of the log.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        A column, an id, a time or a feedback is missing, a row has too few or too many cells,
        quotes do not pair, a feedback is not a number or a timestamp not a time, or the file is not
        text in the encoding.
    ImportError
        A Parquet file without pyarrow or polars installed, `.zst` without zstandard.

    Warns
    -----
    TimeUnitWarning
        All times are milliseconds, microseconds, nanoseconds or dates such as 20240501; they are
        converted.
    HeaderWarning
        A text file has no header, and its columns were recognised: users, items, and times of
        our days or ratings, as in MovieLens.
    UserWarning
        Without `feedback`, a column that is called like ratings is not read; or a column that is
        called like times, where no timestamps are read.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn_recft.datasets import load_interactions
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.csv")
    ...     _ = path.write_text("user_id,item_id,rating\nann,tea,4\nbob,rye,2\n")
    ...     log = load_interactions(path, feedback="rating")
    >>> log.data
    array([['ann', 'tea'],
           ['bob', 'rye']], dtype=object)
    >>> log.target
    array([4., 2.])
    """
    path = Path(path)
    if positive is not None and feedback is None:
        raise ValueError("positive names labels of the feedback: give feedback as well.")
    _check_options(sep, decimal, time_unit, time_format)
    feedback = None if feedback is None else str(feedback)
    called = _names_by_role(columns)
    required = [called["user_id"], called["item_id"]] + ([] if feedback is None else [feedback])
    required += [name for role, name in called.items() if name != role and name not in required]
    table, names = read_table(
        path,
        required,
        [called["timestamp"], called["text"]],
        sep=sep,
        encoding=encoding,
        numbered=any(name.isdecimal() for name in called.values()),
    )
    # Labels and times in a format are texts, where a comma is a comma.
    numbers = {
        feedback if positive is None else None,
        called["timestamp"] if not time_format else None,
    }
    for name in numbers & table.keys():
        table[name] = _with_points(table[name], name, decimal)
    read = {role: _ids(table[called[role]], called[role]) for role in ("user_id", "item_id")}
    if called["timestamp"] in table:
        name = called["timestamp"]
        read["timestamp"] = _seconds(table[name], name, time_unit, time_format)
    elif time_unit or time_format:
        raise ValueError(
            f"time_unit and time_format are for times, but {path} has no column "
            f"{called['timestamp']!r}; its columns are {names[:50]}."
        )
    unused = [name for name in names if name not in table]
    _warn_of_unused(path, unused, feedback, "timestamp" in read)
    text = table.get(called["text"])
    bunch = interactions_bunch(
        read,
        None if feedback is None else _feedback(table[feedback], feedback, positive),
        target_name=feedback,
        catalogue=None if text is None else _titles(read["item_id"], text),
        descr=f"Interactions read from {path.name}.",
        return_X_y=return_X_y,
        as_frame=as_frame,
    )
    if not return_X_y:
        bunch.unused_names = unused
    return bunch


def _check_options(sep, decimal, time_unit, time_format):
    if sep is not None and not isinstance(sep, str):
        raise TypeError(f"sep must be a string such as ';', got {sep!r}.")
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}.")
    if time_unit is not None and time_unit not in UNITS:
        raise ValueError(f"time_unit must be one of {list(UNITS)}, got {time_unit!r}.")
    if time_format is None:
        return
    if time_unit is not None:
        raise ValueError("time_unit is for numbers and time_format for texts: give one of them.")
    if not isinstance(time_format, str) or not re.search("%[YyGcx]", time_format):
        raise ValueError(
            "time_format must be a format of datetime.strptime with a year, such as "
            f"'%d.%m.%Y %H:%M:%S', got {time_format!r}."
        )


def _warn_of_unused(path, unused, feedback, timed):
    """Point out columns that are not read but look as if they should be."""
    ratings = [name for name in unused if name.lower() in _LIKE_RATINGS]
    if feedback is None and ratings:
        warnings.warn(
            f"{path} has a column {ratings[0]!r} that is not used: every row counts as a positive. "
            f"If it is feedback, pass feedback={ratings[0]!r} (--feedback {ratings[0]}).",
            UserWarning,
            stacklevel=3,
        )
    times = guess_roles(unused, ["timestamp"])
    if not timed and times:
        warnings.warn(
            f"{path} has a column {times['timestamp']!r} that is not used. If it is the time "
            f"of the events, pass columns={{'time': {times['timestamp']!r}}} (--columns "
            f"time={times['timestamp']}).",
            UserWarning,
            stacklevel=3,
        )


def _names_by_role(columns):
    called = {name: name for name in _ROLES.values()}
    if columns is None:
        return called
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns must be a dict such as {{'user': 'userId'}}, got {columns!r}.")
    given: list[str] = []
    for role, name in columns.items():
        known = _ROLES.get(role, role)
        if known in given:
            raise ValueError(f"columns gives two columns for {known!r}; give one.")
        given.append(known)
        if known not in called:
            raise ValueError(
                f"columns names {role!r}, which is none of {list(_ROLES)}; other columns are not "
                "read, and feedback is named by its own parameter."
            )
        called[known] = str(name)
    given = list(called.values())
    twice = [name for name in given if given.count(name) > 1]
    if twice:
        raise ValueError(
            f"columns gives {twice[0]!r} to two roles; each needs a column of its own."
        )
    return called


def read_table(path, required, optional=(), *, sep=None, encoding="utf-8", numbered=False):
    """Return `{column: values}` of the `required` and of the `optional` columns, and all names.

    Optional columns may be missing. Values are a narwhals Series of a Parquet file, an int64 array
    or `Cells` of a text file.

    Raises
    ------
    ValueError
        A required column is missing, or there is no row.
    """
    found = []

    def choose(names):
        found[:] = names
        return _choose(names, required, optional, path)

    packed = path.suffix.lower() in COMPRESSED
    kind = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    if kind in (".parquet", ".pq"):
        if packed:
            raise ValueError(f"{path}: Parquet is compressed within; unpack it first.")
        if sep is not None:
            raise ValueError(f"sep={sep!r} is for text files, and {path} is a Parquet file.")
        table = _read_parquet(path, choose)
    else:
        table = read_text(path, choose, separator=sep, encoding=encoding, numbered=numbered)
    if not len(table[required[0]]):
        raise ValueError(f"{path} has no rows.")
    return table, found


def _choose(names, required, optional, path):
    missing = [name for name in required if name not in names]
    if missing:
        found = guess_roles(names, ["user_id", "item_id", "timestamp"])
        given = {role: found.get(name, "...") for role, name in _ROLES.items() if role != "text"}
        line = ",".join(f"{role}={name}" for role, name in given.items())
        raise ValueError(
            f"{path} has no column {missing[0]!r}; its columns are {list(names)[:50]}. Other names "
            f"are given by columns={given} (--columns {line}), numbers from 0 where the first line "
            "is no header, and another separator by sep=';' (--sep ';')."
        )
    return [name for name in dict.fromkeys((*required, *optional)) if name in names]


def _read_parquet(path, choose):
    backend = next((b for b in _PARQUET_READERS if importlib.util.find_spec(b)), None)
    if backend is None:
        raise ImportError(
            f"Reading {path.name} needs a Parquet reader: pip install pyarrow (or polars)."
        )
    try:
        frame = nw.scan_parquet(str(path), backend=backend)
        names = frame.collect_schema().names()
    except Exception as error:  # every reader has errors of its own
        if isinstance(error, OSError):
            raise
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    chosen = choose(names)
    frame = frame.select(chosen).collect()
    return {name: frame[name] for name in chosen}


# ---------------------------------------------------------------------- columns


def _ids(values, name):
    """Ids as int64 if all of them are whole numbers, and spelled so, else as Python objects."""
    if isinstance(values, np.ndarray):
        return values
    if isinstance(values, nw.Series):
        _refuse_missing(name, int(values.null_count()), len(values))
        ids = to_ids(values, name)
        return ids if ids.dtype == np.int64 else ids.astype(object)
    _refuse_missing(name, _n_rows(values, is_missing), len(values))
    distinct = values.distinct.tolist()
    try:
        whole = list(map(int, distinct))
    except ValueError:
        return values.all()
    if list(map(str, whole)) != distinct:
        return values.all()  # 007 is not 7
    return np.array(whole, object)[values.codes]  # beyond 64 bits


def _n_rows(values, wanted):
    """Count the rows whose cell is `wanted`."""
    found = np.fromiter(map(wanted, values.distinct.tolist()), bool, len(values.distinct))
    return int(found[values.codes].sum()) if found.any() else 0


def _refuse_missing(name, n_missing, n_rows):
    if n_missing:
        raise ValueError(
            f"Column {name!r} lacks {n_missing} value(s) in {n_rows} rows: drop or fill those rows "
            "first."
        )


def _with_points(values, name, decimal):
    """Replace the decimal comma of a column of text."""
    if decimal == "." or not isinstance(values, Cells):
        return values
    points = _n_rows(values, lambda cell: "." in cell and "," in cell)
    if points:
        raise ValueError(
            f"Column {name!r}: {points} of {len(values)} rows have a point and a comma; write "
            "numbers without thousands separators."
        )
    distinct = [c.replace(",", ".") if _DECIMAL_COMMA.fullmatch(c) else c for c in values.distinct]
    return Cells(np.array(distinct, object), values.codes)


def _hint_of_decimals(values):
    commas = isinstance(values, Cells) and _n_rows(values, _DECIMAL_COMMA.fullmatch)
    return " Of numbers such as 4,0: decimal=',' (--decimal ,)." if commas else ""


def _feedback(values, name, positive):
    if isinstance(values, Cells):
        _refuse_missing(name, _n_rows(values, is_missing), len(values))
    elif isinstance(values, nw.Series):
        _refuse_missing(name, int(values.null_count()), len(values))
    if positive is not None:
        return _is_positive(values, name, positive)
    try:
        return to_numbers(values.all() if isinstance(values, Cells) else values, name)
    except ValueError as error:
        raise ValueError(
            f"Column {name!r} must hold numbers: {error} Of labels, name the one that counts as 1: "
            f"positive='click' (--positive click).{_hint_of_decimals(values)}"
        ) from error


def _is_positive(values, name, positive):
    """Return 1.0 where the cell is a positive label, else 0.0."""
    if isinstance(values, Cells):
        labels, codes = values.distinct, values.codes
    else:
        cells = np.array(
            list(map(str, values.to_list() if isinstance(values, nw.Series) else values)), object
        )
        labels, codes = np.unique(cells, return_inverse=True)
    wanted = [positive] if isinstance(positive, str) else list(map(str, positive))
    unknown = sorted(set(wanted) - set(labels.tolist()))
    if unknown:
        raise ValueError(
            f"Column {name!r} has no label {unknown[0]!r}; its labels are "
            f"{sorted(labels.tolist())[:20]}."
        )
    return np.isin(labels, wanted).astype(np.float64)[codes]


def _seconds(values, name, unit, time_format):
    """Return seconds since 1970, int64 where the file has whole numbers, else float64."""
    hint, integers = _hint_of_decimals(values), isinstance(values, np.ndarray)
    if isinstance(values, Cells):
        _refuse_missing(name, _n_rows(values, is_missing), len(values))
        values = values.all()
    elif isinstance(values, nw.Series):
        integers = values.dtype.is_integer()
    if time_format is not None:
        return from_format(values, name, time_format)
    try:
        if unit is not None:
            seconds = from_unit(values, name, unit)
        else:
            seconds = to_seconds(values, name, convert=True)
    except ValueError as error:
        texts = "neither numbers nor datetimes" in str(error)
        hint += " Of dates such as 20.09.1997: time_format='%d.%m.%Y' (--time-format)."
        raise ValueError(f"{error}{hint if texts else ''}") from error
    return seconds.astype(np.int64) if integers and (seconds % 1 == 0).all() else seconds


def _titles(item_ids, text):
    """Name each item by the first text it has in the log."""
    first = {}
    for row, item in enumerate(item_ids.tolist()):
        first.setdefault(item, row)
    try:
        items = sorted(first)
    except TypeError:
        items = list(first)  # of several types, which have no order
    rows = np.array([first[item] for item in items], np.int64)
    if isinstance(text, nw.Series):
        text = text.to_numpy()
    cells = text.distinct[text.codes[rows]] if isinstance(text, Cells) else text[rows]
    titles = np.array(["" if is_absent(cell) else str(cell) for cell in cells.tolist()], object)
    return {"item_id": item_ids[rows], "title": titles, "text": titles}
