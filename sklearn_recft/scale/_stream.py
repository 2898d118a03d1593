"""A dataset of files learned batch by batch, in bounded memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import check_scalar

from sklearn_recft.interactions import times_or_none
from sklearn_recft.names import ITEM, TIME, USER

# Record batches that pyarrow reads ahead, of at most so many rows each: bounds memory.
_READ_AHEAD = 2
_READ_ROWS = 65_536
# Columns in which pandas keeps an index without a name: numbers of rows, not of events.
_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class StreamPosition:
    """How far `fit_stream` has learned a dataset.

    Attributes
    ----------
    fragment : int
        Place of the file of the last learned row, among the files of the dataset.
    path : str
        Name of that file; empty if no row was learned.
    row : int
        Number of rows of that file that were learned.
    n_rows, n_batches : int
        Rows and batches that were learned since the start of the dataset.
    latest : float
        Time of the newest learned row in seconds since 1970; -inf if times were not checked.
    """

    fragment: int = 0
    path: str = ""
    row: int = 0
    n_rows: int = 0
    n_batches: int = 0
    latest: float = -np.inf


class StreamError(ValueError):
    """A batch that cannot be read or learned; the batches before it were learned.

    Attributes
    ----------
    position : StreamPosition
        Where the learned rows end: pass it as ``after`` once the file is fixed.
    """

    def __init__(self, message: str, position: StreamPosition) -> None:
        super().__init__(message)
        self.position = position

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.position)


@dataclass(frozen=True)
class _Columns:
    """What is read: columns of the dataset, and what they are called in ``X``."""

    names: dict[str, str]
    target: str | None
    sample_weight: str | None
    all_others: bool  # whether no columns were named

    def read(self) -> list[str]:
        """Return the columns to read from files."""
        others = [name for name in (self.target, self.sample_weight) if name is not None]
        return list(dict.fromkeys([*self.names, *others]))


def fit_stream(
    estimator: Any,
    dataset: Any,
    *,
    target: str | None = None,
    sample_weight: str | None = None,
    columns: Mapping[str, str] | None = None,
    classes: Any = None,
    batch_rows: int = 200_000,
    in_order: bool = True,
    after: StreamPosition | None = None,
    on_batch: Callable[[StreamPosition], None] | None = None,
) -> StreamPosition:
    """Learn a dataset of Parquet files batch by batch with `partial_fit`, in bounded memory.

    Rows are learned in the order of the files in the dataset, ``batch_rows`` at a time. Batches
    do not depend on where files or row groups end. Memory holds the model, one batch, and a few
    record batches of pyarrow. The first batch is learned as `fit` learns it, if the estimator is
    not fitted; how further batches are learned is in the docstring of `partial_fit`.

    Parameters
    ----------
    estimator : object
        A recommender, or another object with ``partial_fit(X, y)``; it is changed.
    dataset : pyarrow.dataset.Dataset or path
        Files to read. A path is a Parquet file, or a folder of them with Hive partitions such as
        ``day=2024-01-31``; its files are read in the order of their names, where numbers count as
        numbers: ``part-2`` comes before ``part-10``. A Dataset keeps its own order. For remote files, pass ``pyarrow.dataset.dataset(path,
        filesystem=...)`` with a file system of pyarrow or fsspec.
    target : str, default=None
        Column with the feedback, numbers; of a classifier also texts. None means positive-only
        events, without ``y``.
    sample_weight : str, default=None
        Column with the weights of rows.
    columns : mapping of str to str, default=None
        Columns of the dataset to read, and their names in ``X``, such as ``{"userId":
        "user_id"}``. None reads all other columns under their own names, but for the index of
        pandas; a file with further columns raises an error then. As in `fit`, numbers in further
        columns are context: name the columns if the files have more.
    classes : array-like, default=None
        All labels that the dataset may have, if the estimator is a classifier that is not fitted;
        None takes those of the first batch, and a later batch with another label is an error.
    batch_rows : int, default=200000
        Number of rows in a call of `partial_fit`.
    in_order : bool, default=True
        Raise an error if the column ``timestamp`` decreases anywhere. Without this column, nothing
        is checked.
    after : StreamPosition, default=None
        Skip the rows up to here: what an earlier call returned, or ``error.position``. Give the
        estimator that learned these rows. None learns all rows, also if they were learned before.
    on_batch : callable, default=None
        Called with the `StreamPosition` after each batch, for example to save the model.

    Returns
    -------
    position : StreamPosition
        The end of the dataset. Pass it as ``after`` when files were added.

    Raises
    ------
    StreamError
        A `ValueError` that names the files and rows of a batch that cannot be read or learned.
        Earlier batches were learned; nothing of this one was, if `partial_fit` is a transaction,
        as in all estimators of this package.
    ValueError
        Before anything is learned: if there are no files, a column is missing, two are read under
        one name, the target is also in ``columns``, ``classes`` is given to an estimator that is
        no classifier, ``after`` is not in the dataset, or the
        estimator is not fitted and ``after`` is the end of learned rows.
    TypeError
        If an argument has another type.
    ImportError
        If pyarrow is not installed.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import pyarrow as pa, pyarrow.parquet as pq
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.scale import fit_stream
    >>> model = PopularityRecommender()
    >>> with TemporaryDirectory() as folder:
    ...     table = pa.table({"user_id": ["ann", "bob", "bob"], "item_id": ["tea", "tea", "rye"]})
    ...     pq.write_table(table, Path(folder, "monday.parquet"))
    ...     position = fit_stream(model, folder, batch_rows=2)
    >>> position.n_rows, position.n_batches, model.popularity_.tolist()
    (3, 2, [2.0, 1.0])
    """
    if not callable(getattr(estimator, "partial_fit", None)):
        raise TypeError(
            f"estimator is a {type(estimator).__name__}, which has no partial_fit; give a "
            "recommender or another estimator that learns in batches."
        )
    check_scalar(batch_rows, "batch_rows", Integral, min_val=1)
    position = StreamPosition() if after is None else after
    check_scalar(position, "after", StreamPosition)
    files = _dataset(dataset)
    given = _columns(files.schema, target, sample_weight, columns)
    _check_learned(estimator, position)
    _check_aside(files.schema, given, is_classifier(estimator))
    labels = _labels(estimator, classes)
    fragments = _fragments(files, position, by_number=files is not dataset)
    try:
        for batch, begin, end in _batches(files, fragments, given, int(batch_rows), position):
            try:
                latest = _learn(
                    estimator, batch, given, position.latest if in_order else None, labels
                )
            except (ValueError, TypeError) as error:
                where = f"{begin.path}, row {begin.row}, to {end.path}, row {end.row}"
                raise StreamError(_message(where, error, position), position) from error
            position = replace(end, latest=latest)
            if on_batch is not None:
                on_batch(position)
    except _UnreadableError as error:
        message = _message(error.where, error.__cause__, position)
        raise StreamError(message, position) from error.__cause__
    return position


def _check_learned(estimator: Any, after: StreamPosition) -> None:
    """Raise if rows were learned, and the estimator says that it has learned none."""
    is_fitted = getattr(estimator, "__sklearn_is_fitted__", None)
    if after.n_rows and is_fitted is not None and not is_fitted():
        raise ValueError(
            f"after: {after.n_rows} rows were learned, but this {type(estimator).__name__} is not "
            "fitted. Give the model that learned them, or leave out after to learn all rows."
        )


class _UnreadableError(Exception):
    """A file that cannot be read; the cause says why."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


def _message(where: str, error: BaseException | None, position: StreamPosition) -> str:
    reason = str(error).rstrip(". \n")
    return (
        f"{where}: {reason}. The {position.n_rows} rows before this batch were learned; fix the "
        "file, and call fit_stream again with after=error.position."
    )


def _labels(estimator: Any, classes: Any) -> dict[str, Any]:
    """Return the option of `partial_fit` with all labels; raise if it takes none."""
    if classes is None:
        return {}
    if not is_classifier(estimator):
        raise ValueError(
            f"classes: {type(estimator).__name__} is no classifier; leave out classes."
        )
    return {"classes": np.asarray(classes)}


def _learn(
    estimator: Any,
    batch: Any,
    columns: _Columns,
    latest: float | None,
    labels: dict[str, Any],
) -> float:
    """Learn a batch; return the time of its newest row, unless ``latest`` is None: -inf."""
    X = batch.select(list(columns.names)).rename_columns(list(columns.names.values()))
    y = None if columns.target is None else batch[columns.target].to_numpy()
    newest = -np.inf
    if latest is not None:
        newest = _in_order(X, latest)
    options = dict(labels)
    if columns.sample_weight is not None:
        options["sample_weight"] = batch[columns.sample_weight].to_numpy()
    estimator.partial_fit(X, y, **options)
    return newest


def _in_order(X: Any, latest: float) -> float:
    """Return the newest time of rows; raise if a row is earlier than the one before it."""
    times = times_or_none(X)
    if times is None or not len(times):
        return latest
    earlier = np.flatnonzero(times < np.concatenate([[latest], times[:-1]]))
    if len(earlier):
        raise ValueError(
            f"{TIME}: {len(earlier)} rows of this batch of {len(times)} rows are earlier than the "
            f"row before them, the first is row {earlier[0]} of the batch. Sort the rows by time; "
            "files of a path are read in the order of their names, part-2 before part-10. If "
            "files are in the wrong order, rename them and fit a new model. Pass in_order=False "
            "if the order does not matter."
        )
    return float(times[-1])


def _dataset(dataset: Any) -> Any:
    """Return a dataset of pyarrow; of a path, that of the Parquet files there."""
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError("Reading Parquet needs pyarrow: pip install pyarrow.") from error
    if isinstance(dataset, (str, os.PathLike)):
        return pyarrow.dataset.dataset(os.fspath(dataset), format="parquet", partitioning="hive")
    if not isinstance(dataset, pyarrow.dataset.Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; give a path of Parquet files, or a "
            "pyarrow.dataset.Dataset."
        )
    return dataset


def _columns(
    schema: Any, target: str | None, sample_weight: str | None, columns: Mapping[str, str] | None
) -> _Columns:
    """Return the columns to read; raise if one is missing."""
    if columns is not None and not isinstance(columns, Mapping):
        raise TypeError(
            f"columns is a {type(columns).__name__}; give a mapping of columns of the dataset to "
            f"their names in X, such as {{'userId': '{USER}', 'itemId': '{ITEM}'}}."
        )
    if not schema.names:
        raise ValueError("dataset: no Parquet files with columns were found; check the path.")
    others = {n: n for n in schema.names if n not in (target, sample_weight) and not _is_index(n)}
    named = others if columns is None else dict(columns)
    found = _Columns(named, target, sample_weight, columns is None)
    missing = [name for name in found.read() if name not in schema.names]
    if missing:
        raise ValueError(f"dataset: no columns {missing}; its columns are {schema.names}.")
    roles = list(found.names.values())
    absent = [role for role in (USER, ITEM) if role not in roles]
    if absent:
        raise ValueError(
            f"dataset: no columns {absent} among {roles}. Name them in columns, such as "
            f"columns={{'userId': '{USER}', 'itemId': '{ITEM}'}}."
        )
    twice = sorted({role for role in roles if roles.count(role) > 1})
    if twice:
        raise ValueError(f"columns: several columns are read as {twice}; name one for each.")
    return found


def _check_aside(schema: Any, columns: _Columns, classifies: bool) -> None:
    """Raise if the target is among the columns of ``X``, or the target or weights are no numbers.

    A classifier may have texts as labels.
    """
    import pyarrow.types as kinds

    if columns.target in columns.names:
        raise ValueError(
            f"{columns.target}: the target is also in columns, so that the feedback would be read "
            "as context. Leave it out of columns."
        )
    for name, texts in ((columns.target, classifies), (columns.sample_weight, False)):
        if name is None:
            continue
        kind = schema.field(name).type
        number = (kinds.is_integer, kinds.is_floating, kinds.is_boolean)
        if not any(test(kind) for test in number) and not (texts and _kind(kind) == "text"):
            raise ValueError(f"{name}: the column is of type {kind}; numbers are needed.")


def _is_index(name: str) -> bool:
    return _INDEX.fullmatch(name) is not None


def _fragments(dataset: Any, after: StreamPosition, *, by_number: bool) -> list[Any]:
    """Return the files of a dataset; raise if the last learned one is not where it was."""
    fragments = list(dataset.get_fragments())
    if by_number:
        fragments.sort(key=lambda fragment: _parts(_name(fragment)))
    names = [_name(fragment) for fragment in fragments]
    if after.n_rows:
        there = repr(names[after.fragment]) if after.fragment < len(names) else "absent"
        if there != repr(after.path):
            raise ValueError(
                f"after: file {after.fragment} of the dataset is {there}, not {after.path!r}. Give "
                "the same path as before. Files may only be added after those that were learned; "
                "otherwise learn all files from the start."
            )
        n_rows = fragments[after.fragment].count_rows()
        if n_rows < after.row:
            raise ValueError(
                f"after: {after.path} has {n_rows} rows, but {after.row} of it were learned, so it "
                "was written anew. Learn all files from the start."
            )
    return fragments


def _name(fragment: Any) -> str:
    return str(getattr(fragment, "path", ""))


def _parts(name: str) -> list[list[tuple[bool, int, str]]]:
    """Return a key by which ``part-2`` comes before ``part-10``, folder by folder."""
    return [
        [(not text.isdecimal(), int(text) if text.isdecimal() else 0, text) for text in pieces]
        for pieces in (re.findall(r"[0-9]+|[^0-9]+", part) for part in name.split("/"))
    ]


def _batches(
    dataset: Any,
    fragments: list[Any],
    columns: _Columns,
    batch_rows: int,
    after: StreamPosition,
) -> Iterator[tuple[Any, StreamPosition, StreamPosition]]:
    """Yield tables of ``batch_rows`` rows, with the positions of their first row and their end."""
    import pyarrow

    held: list[Any] = []
    n_held, begin, done = 0, after, after
    for piece, place in _pieces(dataset, fragments, columns, after):
        first = 0
        while first < piece.num_rows:
            if not n_held:
                begin = replace(place, row=place.row + first)
            taken = min(batch_rows - n_held, piece.num_rows - first)
            held.append(piece.slice(first, taken))
            first, n_held = first + taken, n_held + taken
            end = replace(
                place,
                row=place.row + first,
                n_rows=done.n_rows + n_held,
                n_batches=done.n_batches + 1,
            )
            if n_held == batch_rows:
                batch, held, n_held, done = pyarrow.Table.from_batches(held), [], 0, end
                yield batch, begin, end
                del batch
    if n_held:
        yield pyarrow.Table.from_batches(held), begin, end


def _pieces(
    dataset: Any, fragments: list[Any], columns: _Columns, after: StreamPosition
) -> Iterator[tuple[Any, StreamPosition]]:
    """Yield record batches after a position, each with the position of its first row."""
    import pyarrow

    options, read = _options(dataset), columns.read()
    for number in range(after.fragment, len(fragments)):
        fragment, row = fragments[number], 0
        skipped = after.row if number == after.fragment else 0
        try:
            _check_types(dataset.schema, fragment, read, columns.all_others)
            for piece in fragment.to_batches(schema=dataset.schema, columns=read, **options):
                kept = piece.slice(min(max(skipped - row, 0), piece.num_rows))
                row += piece.num_rows
                if kept.num_rows:
                    yield kept, StreamPosition(number, _name(fragment), row - kept.num_rows)
        except (OSError, TypeError, pyarrow.ArrowException) as error:
            raise _UnreadableError(f"{_name(fragment)}, after row {row}") from error


def _options(dataset: Any) -> dict[str, Any]:
    """Return options of pyarrow that bound what it reads ahead."""
    import pyarrow.dataset as arrow

    options: dict[str, Any] = {
        "batch_size": _READ_ROWS,
        "batch_readahead": _READ_AHEAD,
        "fragment_readahead": 1,
    }
    options["cache_metadata"] = False
    if isinstance(getattr(dataset, "format", None), arrow.ParquetFileFormat):
        buffered = {"use_buffered_stream": True, "pre_buffer": False}
        options["fragment_scan_options"] = arrow.ParquetFragmentScanOptions(**buffered)
    return options


def _check_types(schema: Any, fragment: Any, names: list[str], all_others: bool) -> None:
    """Raise if a column of a file is of another kind than in the dataset, or would not be read."""
    import pyarrow.types as kinds

    there = fragment.physical_schema
    new = [n for n in there.names if n not in schema.names and not _is_index(n)]
    if new and all_others:
        raise TypeError(
            f"this file has columns that the dataset has not: {new}. Write all files with the "
            "same columns, or name those to read in columns."
        )
    for name in names:
        if name in there.names:
            found, expected = there.field(name).type, schema.field(name).type
            if not kinds.is_null(found) and _kind(found) != _kind(expected):
                raise TypeError(
                    f"{name}: the column is of type {found} in this file, and of type {expected} "
                    "in the dataset. Write all files with one type."
                )


def _kind(kind: Any) -> str:
    """Return a name that is equal for types whose values are equal: int32 and int64."""
    import pyarrow.types as kinds

    if kinds.is_dictionary(kind):
        return _kind(kind.value_type)
    if kinds.is_integer(kind):
        return "integer"
    if kinds.is_floating(kind):
        return "float"
    if kinds.is_timestamp(kind) or kinds.is_date(kind):
        return "time"
    is_text = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
    return "text" if is_text else str(kind)
