"""Lists of many users to one Parquet file, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from secrets import token_hex
from typing import Any

import narwhals as nw
import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_scalar
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from sklearn_recft.columns import to_ids
from sklearn_recft.features import feature_columns
from sklearn_recft.interactions import (
    ITEM,
    TIME,
    USER,
    check_queries,
)
from sklearn_recft.lists._eligible import Choice, is_pair_table
from sklearn_recft.tables import Table, is_frame, table_of_queries
from sklearn_recft.vocabulary import Vocabulary


def recommend_to_parquet(
    path: str | os.PathLike[str],
    recommender: Any,
    X: Any,
    *,
    batch_size: int = 10_000,
    verbose: int = 0,
    **options: Any,
) -> int:
    """Write the lists of many queries to a Parquet file, batch by batch.

    The file is the long table of ``recommend(..., as_frame=True)``: columns ``user_id``, ``rank``
    (from 1), ``item_id`` and ``score``. Only the lists of one batch are in memory. The rows go to
    a temporary file in the same folder, which replaces ``path`` at the end: a call that fails or
    is killed leaves no incomplete file at ``path``.

    Parameters
    ----------
    path : str or path
        The file to write; an existing one is replaced.
    recommender : estimator
        A fitted recommender. If another thread updates it meanwhile, later batches are of the
        updated model.
    X : array-like of user ids of shape (n_queries,), or a table of queries
        As in ``recommend``.
    batch_size : int, default=10000
        Number of queries per batch.
    verbose : int, default=0
        1 shows a progress bar over queries.
    **options
        Further options of ``recommend``, such as ``n_recommendations``, ``candidates``,
        ``exclude`` and ``on_missing``. Each batch is passed its own users' rows of frames.

    Returns
    -------
    n_rows : int
        Number of rows of the file.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If the folder of ``path`` does not exist.
    ValueError
        Ids that a column of Parquet cannot hold, such as numbers beside strings; and what
        ``recommend`` raises.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.lists import recommend_to_parquet
    >>> model = PopularityRecommender().fit([["ann", "tea"], ["bob", "tea"], ["bob", "rice"]])
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "lists.parquet")
    ...     recommend_to_parquet(path, model, ["ann", "cem"], n_recommendations=1)
    2
    """
    if not callable(getattr(recommender, "recommend", None)):
        raise TypeError(
            f"recommender is a {type(recommender).__name__}, which has no recommend; of a "
            "pipeline, use sklearn_recft.pipeline.RecommenderPipeline."
        )
    if "as_frame" in options:
        raise TypeError("as_frame is no option of recommend_to_parquet: a file is written.")
    check_scalar(batch_size, "batch_size", Integral, min_val=1)
    check_is_fitted(recommender)
    user_ids, X = _queries(X, recommender)
    types = _types({USER: user_ids, ITEM: recommender.item_ids_})
    parts = {name: _parts(options.get(name), name, user_ids) for name in ("candidates", "exclude")}
    n, n_rows = len(user_ids), 0
    bar = tqdm(total=n, unit="query", disable=not verbose)
    with bar, _replacing(Path(path)) as file, _writer(file, types) as write:
        for start in range(0, n, batch_size):
            rows = np.arange(start, min(start + batch_size, n))
            given = options | {name: part(rows) for name, part in parts.items()}
            items, scores = recommender.recommend(_safe_indexing(X, rows), **given)
            filled = ~np.isneginf(scores)
            query, place = np.nonzero(filled)
            write(user_ids[rows[query]], place + 1, items[filled], scores[filled])
            n_rows += len(query)
            bar.update(len(rows))
    return n_rows


def _queries(X: Any, recommender: Any) -> tuple[np.ndarray, Any]:
    """Return the user of each query, and the queries as a table or ids that can be indexed."""
    if not (is_frame(X) or hasattr(X, "__array__") or isinstance(X, (list, tuple, Mapping))):
        X = list(X)
    table = table_of_queries(X)
    if table is not None and isinstance(recommender, Pipeline):
        # Its transformers read the context, which need not be numeric yet.
        return to_ids(table.columns((USER, TIME))[USER], USER), _indexable(table)
    user_ids = check_queries(X, recommender, features=feature_columns(recommender)).user_ids
    return user_ids, user_ids if table is None else _indexable(table)


def _indexable(table: Table) -> Any:
    return table.values if table.names is None else table.given


def _parts(given: Any, name: str, user_ids: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Return a function from a batch of queries to the rows of a frame of their users."""
    if given is None or not is_pair_table(given, name):
        ids = None if given is None else Choice.of(given, name)
        return lambda rows: None if ids is None else ids.items
    table = nw.from_native(given, eager_only=True)
    asked = Vocabulary()
    user = asked.extend(user_ids)
    choice = Choice.of(given, name)
    assert choice is not None
    owner = asked.encode(choice.users)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(asked) + 1))

    def of(rows: np.ndarray) -> Any:
        users = np.unique(user[rows])
        counts = starts[users + 1] - starts[users]
        first = np.repeat(starts[users] - (np.cumsum(counts) - counts), counts)
        places = order[np.arange(counts.sum()) + first]
        return table[places.tolist()].to_native()

    return of


def _types(columns: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the Arrow type of each column of ids."""
    pa, _ = _arrow()
    types = {}
    for name, ids in columns.items():
        try:
            types[name] = pa.array(_plain(ids)).type
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{name}: a Parquet column cannot hold these ids ({error}); give ids of one type, "
                "numbers or strings."
            ) from error
    return types


def _plain(values: np.ndarray) -> Any:
    return values if values.dtype.kind in "iuf" else values.tolist()


@contextmanager
def _writer(file: Path, types: dict[str, Any]) -> Iterator[Callable[..., None]]:
    """Return a function that appends a batch of columns to a new Parquet file."""
    pa, parquet = _arrow()
    schema = pa.schema(
        [(USER, types[USER]), ("rank", pa.int32()), (ITEM, types[ITEM]), ("score", pa.float64())]
    )
    with parquet.ParquetWriter(file, schema) as writer:

        def write(*columns: np.ndarray) -> None:
            arrays = [
                pa.array(_plain(values), type=field.type)
                for values, field in zip(columns, schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        yield write


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give the name of a file beside ``path``, which replaces it unless the block fails."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"path: there is no folder {str(path.parent)!r}; make it first.")
    part = path.with_name(f".{path.name}.{token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Writing Parquet needs pyarrow: pip install pyarrow.") from error
    return pyarrow, pyarrow.parquet
