"""Batches of rows from a dataset of Parquet files, in order and in bounded memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sklearn_recft.names import ITEM, USER

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


class UnreadableError(Exception):
    """A file that cannot be read; the cause says why."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


@dataclass(frozen=True)
class Columns:
    """What is read: columns of the dataset, and what they are called in ``X``."""

    names: dict[str, str]
    target: str | None
    sample_weight: str | None
    all_others: bool  # whether no columns were named

    def read(self) -> list[str]:
        """Return the columns to read from files."""
        others = [name for name in (self.target, self.sample_weight) if name is not None]
        return list(dict.fromkeys([*self.names, *others]))


def open_dataset(dataset: Any) -> Any:
    """Return a dataset of pyarrow; of a path, that of the Parquet files there."""
    try:
        import pyarrow.dataset
    except ImportError as error:
        raise ImportError("Reading Parquet needs pyarrow: pip install pyarrow.") from error
    if isinstance(dataset, (str, os.PathLike)):
        path = os.fspath(dataset)
        try:
            return pyarrow.dataset.dataset(path, format="parquet", partitioning="hive")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"dataset: there is no file or folder {path!r}. For a remote one, pass "
                "pyarrow.dataset.dataset(path, filesystem=...)."
            ) from error
    if not isinstance(dataset, pyarrow.dataset.Dataset):
        raise TypeError(
            f"dataset is a {type(dataset).__name__}; give a path of Parquet files, or a "
            "pyarrow.dataset.Dataset."
        )
    return dataset


def choose_columns(
    schema: Any, target: str | None, sample_weight: str | None, columns: Mapping[str, str] | None
) -> Columns:
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
    found = Columns(named, target, sample_weight, columns is None)
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


def check_target_and_weights(schema: Any, columns: Columns, classifies: bool) -> None:
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


def list_files(dataset: Any, after: StreamPosition, *, by_number: bool) -> list[Any]:
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


def read_batches(
    dataset: Any,
    fragments: list[Any],
    columns: Columns,
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
    dataset: Any, fragments: list[Any], columns: Columns, after: StreamPosition
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
            raise UnreadableError(f"{_name(fragment)}, after row {row}") from error


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
