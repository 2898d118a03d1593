"""The columns of a text file, in memory in proportion to it: separator, header, quotes, cells."""

import contextlib
import csv
import itertools
import re
import threading
import warnings
from dataclasses import dataclass

import numpy as np

from sklearn_recft.datasets._open import open_text

_ROWS_PER_BLOCK = 4096  # few enough to stay near the processor
_SEPARATORS = ("\t", "::", ";", ",", "|")
_OUR_DAYS = 3e8  # seconds since 1970 of a real log
_LIMIT_LOCK = threading.Lock()
_MANY = 10_000  # distinct cells, after which it is seen whether most rows differ
_POWERS = 10 ** np.arange(1, 19)
_PAIR = "Write a quote that is part of a text twice, between quotes."


class HeaderWarning(UserWarning):
    """A file has no header, and its columns were recognised by what is in them."""


class _QuoteError(ValueError):
    """Quotes do not pair."""


@dataclass(frozen=True)
class Cells:
    """A column of a text file: its distinct cells, and which of them each row has.

    Attributes
    ----------
    distinct : ndarray of shape (n_distinct,), object
        Strings, in order of first appearance.
    codes : ndarray of shape (n_rows,), int64
    """

    distinct: np.ndarray
    codes: np.ndarray

    def __len__(self):
        return len(self.codes)

    def all(self):
        """Return the cell of each row, shape (n_rows,), object."""
        return self.distinct[self.codes]


class _Codes(dict):
    """Number what is looked up, in order of first appearance."""

    def __missing__(self, cell):
        code = self[cell] = len(self)
        return code


class _Column:
    """A column as it is read: integers as long as all cells are spelled as such, then texts.

    Texts are kept once each, or, where most of them differ, one a row.
    """

    def __init__(self):
        self._parts = []
        self._add = self._add_integers
        self._codes = _Codes()
        self._n_rows = 0

    def add(self, cells):
        """Append the cells of some rows."""
        self._n_rows += len(cells)
        self._add(cells)

    def _add_integers(self, cells):
        whole = _integers(cells)
        if whole is not None:
            self._parts.append(whole)
            return
        before, self._parts, self._add = self._parts, [], self._add_texts
        for part in before:
            self._add(list(map(str, part.tolist())))
        self._add(cells)

    def _add_texts(self, cells):
        self._parts.append(np.fromiter(map(self._codes.__getitem__, cells), np.int64, len(cells)))
        if len(self._codes) > _MANY and 2 * len(self._codes) > self._n_rows:
            distinct = np.array(list(self._codes), object)
            self._parts = [distinct[np.concatenate(self._parts)]]
            self._add = self._add_rows
            self._codes = None

    def _add_rows(self, cells):
        self._parts.append(np.array(cells, object))

    def values(self):
        """Return an int64 array, or `Cells`."""
        parts = np.concatenate(self._parts) if self._parts else np.empty(0, np.int64)
        if self._codes is None:
            return Cells(parts, np.arange(len(parts)))
        return Cells(np.array(list(self._codes), object), parts) if self._codes else parts


def _integers(cells):
    """Cells as int64, None where one is not spelled as Python spells an integer."""
    try:
        whole = np.array(cells, np.int64)
    except (ValueError, OverflowError):
        return None
    spelled = "".join(cells)
    # Any other spelling of an integer is longer, or has digits of other scripts.
    n_digits = 1 + np.searchsorted(_POWERS, np.abs(whole), side="right") + (whole < 0)
    return whole if len(spelled) == n_digits.sum() and spelled.isascii() else None


@dataclass(frozen=True)
class _Layout:
    """How a text file is laid out: `names` of all columns, and whether the first line is these."""

    separator: str
    names: list
    has_header: bool


def read_text(path, choose, *, separator=None, encoding="utf-8", numbered=False):
    """Return `{name: column}` of the columns that `choose(names)` picks from those of the file.

    A column is an int64 array if all cells are spelled as Python spells integers, else `Cells`.

    Raises
    ------
    ValueError
        A row has too few or too many cells, or quotes do not pair; the message has the line.
    """
    with open_text(path, encoding) as file, _cells_of_any_length():
        first = list(itertools.islice(file, 20))
        layout = _layout(path, first, separator, numbered)
    chosen = choose(layout.names)
    for name in chosen:
        if layout.names.count(name) > 1:
            raise ValueError(f"{path} has two columns called {name!r}; rename one of them.")
    try:
        return _read(path, encoding, layout, chosen, quoted=True)
    except _QuoteError:
        # Where commas do not stand in texts, quotes may be a part of them.
        if layout.separator == ",":
            raise
    return _read(path, encoding, layout, chosen, quoted=False)


def _layout(path, first, separator, numbered):
    if not first:
        return _Layout(",", [], True)
    head = first[0].rstrip("\r\n")
    if "\0" in head:
        raise ValueError(
            f"{path} is no text in this encoding (its first line has NUL characters). Pass its "
            "encoding, for example encoding='utf-16-le' (--encoding utf-16-le)."
        )
    separator = _sniff(head) if separator is None else separator.replace("\\t", "\t")
    if not separator:
        raise ValueError("sep must be at least one character.")
    names = [name.strip() for name in _split(head, separator)]
    numbers = [str(j) for j in range(len(names))]
    if numbered:
        return _Layout(separator, numbers, names == numbers)
    if len(names) < 2 or not all(map(_is_value, names)):
        return _Layout(separator, names, True)
    rows = [_split(line.rstrip("\r\n"), separator) for line in first if line.strip()]
    guessed = _names_by_content(rows)
    if guessed is None:
        raise ValueError(
            f"{path} has no header, its first line is {names}, and what its columns are cannot be "
            "told: give their numbers, from 0, such as columns={'user': 0, 'item': 1, 'time': 3} "
            "(--columns user=0,item=1,time=3)."
        )
    warnings.warn(
        f"{path} has no header: its columns are taken for {', '.join(guessed)}. If they are not, "
        "give their numbers, from 0, such as columns={'user': 0, 'item': 1} (--columns "
        "user=0,item=1).",
        HeaderWarning,
        stacklevel=5,
    )
    return _Layout(separator, guessed, False)


def _sniff(head):
    """Separator of a line: the one most often in it; a lone column has a comma."""
    best = max(_SEPARATORS, key=head.count)  # the first of those that tie
    return best if best in head else ","


def _split(line, separator):
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _is_value(cell):
    """Whether a cell of the first line is no name: a number or a date."""
    return re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?|\d{4}-\d\d-\d\d.*", cell.strip()) is not None


def _names_by_content(rows):
    """Names of the columns of a file without a header, None where they cannot be told.

    Users and items come first; times are the one column in which all cells are times of our days,
    and a column beside it is the rating, as in MovieLens.
    """
    width = len(rows[0])
    if any(len(row) != width for row in rows) or width > 4:
        return None
    times = [j for j in range(2, width) if all(_is_time(row[j]) for row in rows)]
    rest = [j for j in range(2, width) if j not in times]
    if len(times) > 1 or len(rest) > 1 or any(_is_time(row[1]) for row in rows):
        return None
    names = ["user_id", "item_id"] + [""] * (width - 2)
    for j in times:
        names[j] = "timestamp"
    for j in rest:
        names[j] = "rating"
    return names


def _is_time(cell):
    if re.match(r"\d{4}-\d\d", cell):
        return True
    try:
        return float(cell) > _OUR_DAYS
    except ValueError:
        return False


# ---------------------------------------------------------------------- rows


def _read(path, encoding, layout, chosen, quoted):
    columns = {layout.names.index(name): _Column() for name in chosen}
    with open_text(path, encoding) as file, _cells_of_any_length():
        for block in _blocks(path, file, layout, encoding, quoted):
            for position, column in columns.items():
                column.add(block[position])
    return dict(zip(chosen, (column.values() for column in columns.values()), strict=True))


@contextlib.contextmanager
def _cells_of_any_length():
    """Lift the limit that the module csv sets to a cell, for all of Python, meanwhile."""
    with _LIMIT_LOCK:
        before = csv.field_size_limit(2**31 - 1)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def _blocks(path, file, layout, encoding, quoted):
    """Yield the columns of some rows at a time; empty lines are skipped."""
    rows = _rows_of(file, layout, quoted)
    if layout.has_header:
        next(rows, None)
    width, checked = len(layout.names), False
    while True:
        begin = getattr(rows, "line_num", 0)
        try:
            block = list(itertools.islice(rows, _ROWS_PER_BLOCK))
        except csv.Error:
            _check_lines(path, layout, encoding, quoted)
            raise
        if not block:
            return
        n_lines = getattr(rows, "line_num", begin + len(block)) - begin
        if n_lines != len(block) and not checked:
            _check_lines(path, layout, encoding, quoted)
            checked = True  # what is quoted over several lines is meant to be
        try:
            columns = list(zip(*filter(None, block), strict=True))
        except ValueError:
            columns = []
        if len(columns) != width and any(block):
            _check_lines(path, layout, encoding, quoted)
        if columns:
            yield columns


def _rows_of(lines, layout, quoted):
    if len(layout.separator) > 1:
        stripped = (line.rstrip("\r\n") for line in lines)
        return (line.split(layout.separator) if line else [] for line in stripped)
    if quoted:
        return csv.reader(lines, delimiter=layout.separator, strict=True)
    return csv.reader(lines, delimiter=layout.separator, quoting=csv.QUOTE_NONE)


def _check_lines(path, layout, encoding, quoted):
    """Go through a file line by line and raise at the first that is wrong."""
    width = len(layout.names)
    with open_text(path, encoding) as file:
        lines = _Lines(file)
        rows = _rows_of(lines, layout, quoted)
        begin = 0
        try:
            for row in rows:
                own, first, begin = lines.take(), begin + 1, lines.number
                if len(own) > 1 and all(_n_cells(line, layout) == width for line in own):
                    raise _QuoteError(
                        f"{path}, line {first}: a quote opens a cell there that ends in line "
                        f"{begin} only, but each of these lines is a row as well. {_PAIR}"
                    )
                if row and len(row) != width:
                    raise ValueError(
                        f"{path}, line {first}, has a row with {len(row)} cells under {width} "
                        f"column names: {layout.separator.join(row)[:200]!r}."
                    )
        except csv.Error as error:
            raise _QuoteError(
                f"{path}, line {begin + 1}: {error}; a quote opens a cell there and does not end "
                f"it. {_PAIR}"
            ) from error


def _n_cells(line, layout):
    return line.count(layout.separator) + 1


class _Lines:
    """Lines of a file, counted; those since the last row are kept."""

    def __init__(self, file):
        self._file = file
        self._kept = []
        self.number = 0

    def __iter__(self):
        return self

    def __next__(self):
        line = next(self._file)
        self.number += 1
        self._kept.append(line)
        return line

    def take(self):
        """Return the lines since the last call."""
        kept, self._kept = self._kept, []
        return kept
