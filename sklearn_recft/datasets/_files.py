"""Tables on disk: CSV with the standard library, Parquet with whichever reader is installed."""

import contextlib
import csv
import importlib.util
import itertools
import warnings
from pathlib import Path

import narwhals as nw
import numpy as np

from sklearn_recft.datasets._bunch import interactions_bunch

_PARQUET_READERS = ("pyarrow", "polars")
_ROWS_PER_BLOCK = 100_000


def load_interactions(path, *, feedback=None, return_X_y=False, as_frame=False):
    r"""Load an interaction log from a CSV or a Parquet file.

    Parameters
    ----------
    path : str or Path
        A `.parquet` file, or a text file with a header line, columns separated by commas, or by
        tabs if the header has one. Columns: `user_id`, `item_id`, optionally `timestamp` (seconds
        since 1970 or dates such as `2024-05-01 12:30:00`, taken as UTC), optionally `text` (what
        the item is called). Other columns are not read.
    feedback : str, default=None
        Column with the feedback, for instance `"rating"`. None: every row is a positive.
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.
    as_frame : bool, default=False
        Return pandas objects in place of arrays.

    Returns
    -------
    data : Bunch
        data : ndarray or DataFrame of shape (n_interactions, 2 or 3)
            User, item and, where the file has it, timestamp in seconds; rows in file order. The
            array is int64 if every value is an integer, else object.
        target : ndarray or Series of shape (n_interactions,), or None
            The feedback, float64.
        catalogue : Bunch or DataFrame, or None
            `item_id`, `title` and `text` (the same) of each item, where the file has `text`.
        feature_names, target_names : list of str
            What the columns of `data` and `target` are called.
        DESCR : str
            What is known of the log.
    (data, target) : tuple
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        A column or an id is missing, a row has too few or too many cells, a feedback is not a
        number or a timestamp not a time.
    ImportError
        A Parquet file without pyarrow or polars installed.

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
    table = read_table(path, [c for c in ("user_id", "item_id", feedback) if c is not None])
    columns = {name: _ids(table[name], name) for name in ("user_id", "item_id")}
    if "timestamp" in table:
        columns["timestamp"] = _seconds(table["timestamp"])
    return interactions_bunch(
        columns,
        None if feedback is None else _numbers(table[feedback], feedback),
        target_name=feedback,
        catalogue=_titles(columns["item_id"], table["text"]) if "text" in table else None,
        descr=f"Interactions read from {path.name}.",
        return_X_y=return_X_y,
        as_frame=as_frame,
    )


def read_table(path, required, optional=("timestamp", "text")):
    """Return `{column: ndarray}` of the `required` and those of the `optional` columns there are.

    Raises
    ------
    ValueError
        A required column is missing, or there is no row.
    """
    read = _read_parquet if path.suffix.lower() in (".parquet", ".pq") else _read_csv
    table = read(path, required, optional)
    if not len(table[required[0]]):
        raise ValueError(f"{path} has no rows.")
    return table


def _choose(names, required, optional, path):
    missing = [name for name in required if name not in names]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; its columns are {list(names)}.")
    return [name for name in dict.fromkeys((*required, *optional)) if name in names]


def _read_parquet(path, required, optional):
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
    chosen = _choose(names, required, optional, path)
    frame = frame.select(chosen).collect()
    return {name: frame[name].to_numpy() for name in chosen}


def _read_csv(path, required, optional):
    with open(path, newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        delimiter = "\t" if "\t" in header else ","
        names = next(csv.reader([header], delimiter=delimiter), [])
        chosen = _choose(names, required, optional, path)
        positions = [names.index(name) for name in chosen]
        rows = csv.reader(file, delimiter=delimiter)
        blocks = []
        while block := [row for row in itertools.islice(rows, _ROWS_PER_BLOCK) if row]:
            wrong = next((row for row in block if len(row) != len(names)), None)
            if wrong is not None:
                raise ValueError(
                    f"{path} has a row with {len(wrong)} cells under {len(names)} column names: "
                    f"{delimiter.join(wrong)!r}."
                )
            blocks.append([np.array([row[p] for row in block]) for p in positions])
    return {
        name: np.concatenate([b[i] for b in blocks]) if blocks else np.empty(0, dtype=str)
        for i, name in enumerate(chosen)
    }


def _ids(values, name):
    """Ids as int64 if every one of them reads as a whole number, else as Python objects."""
    n_missing = _count_missing(values)
    if n_missing:
        raise ValueError(f"Column {name!r} lacks {n_missing} value(s): drop those rows first.")
    try:
        return values.astype(np.int64, casting="unsafe" if values.dtype.kind == "U" else "safe")
    except (TypeError, ValueError):
        return values.astype(object)


def _count_missing(values):
    if values.dtype.kind == "O":
        return sum(value is None or value != value for value in values)
    return int(np.sum(values == "" if values.dtype.kind == "U" else np.isnan(values)))


def _numbers(values, name):
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"Column {name!r} must hold numbers: {exc}.") from exc


def _seconds(values):
    """Return seconds since 1970, int64 where the file has whole numbers, else float64."""
    if values.dtype.kind in "OU":
        values = _parse_times(values.astype(str))
    if values.dtype.kind == "M":
        return values.astype("datetime64[us]").astype(np.int64) / 1e6
    whole = values.dtype.kind in "iu"
    return values.astype(np.int64 if whole else np.float64)


def _parse_times(values):
    for dtype in (np.int64, np.float64):
        with contextlib.suppress(ValueError):
            return values.astype(dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy warns of time zones other than UTC
            return np.char.replace(values, "Z", "").astype("datetime64[us]")
    except (ValueError, UserWarning) as exc:
        raise ValueError(
            "Column 'timestamp' must hold seconds since 1970 or dates in UTC such as "
            f"2024-05-01 12:30:00: {exc}."
        ) from exc


def _titles(item_ids, text):
    item_ids, first = np.unique(item_ids, return_index=True)
    titles = text[first].astype(object)
    return {"item_id": item_ids, "title": titles, "text": titles}
