"""A dataset of files learned batch by batch, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import check_scalar

from sklearn_recft.interactions import times_or_none
from sklearn_recft.names import TIME
from sklearn_recft.scale._dataset import (
    Columns,
    StreamPosition,
    UnreadableError,
    check_target_and_weights,
    choose_columns,
    list_files,
    open_dataset,
    read_batches,
)


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
        numbers: ``part-2`` comes before ``part-10``. A Dataset keeps its own order. For
        remote files, pass ``pyarrow.dataset.dataset(path,
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
        columns are context, and so is a Hive partition such as ``day=2``: name the columns if the
        files or folders have more.
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
    FileNotFoundError
        If there is nothing at the path.
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
    files = open_dataset(dataset)
    given = choose_columns(files.schema, target, sample_weight, columns)
    _check_learned(estimator, position)
    check_target_and_weights(files.schema, given, is_classifier(estimator))
    labels = _labels(estimator, classes)
    fragments = list_files(files, position, by_number=files is not dataset)
    try:
        for batch, begin, end in read_batches(files, fragments, given, int(batch_rows), position):
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
    except UnreadableError as error:
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
    columns: Columns,
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
