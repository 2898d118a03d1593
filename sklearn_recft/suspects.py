"""Context columns that are something else, the label or the time, and would be misread."""

from __future__ import annotations

import numpy as np

from sklearn_recft.names import TIME, is_called_time
from sklearn_recft.vocabulary import Vocabulary

# Rows whose label is not the most common one, below which a column may be equal by chance.
_ENOUGH = 10
_SAME = 0.999
# Rows of a first look, and the correlation in it below which the one of all rows is not computed.
_SAMPLE, _FAR = 2000, 0.9
_OUR_DAYS = 3e8  # seconds since 1970; any other unit is larger


def refuse_leaked_label(
    context: np.ndarray, names: tuple[str, ...], feedback: np.ndarray, *, named: bool
) -> None:
    """Raise if a context column is the label ``feedback``, or follows it in a straight line.

    A column is refused if it equals the label in all rows, or if the two correlate by more than
    0.999 in size and no single row has a tenth of the label's variance. At least 10 rows must
    differ from the most common label, so that small tables and constant labels are accepted.

    Parameters
    ----------
    context : ndarray of shape (n, n_context)
    names : tuple of str
    feedback : ndarray of shape (n,)
    named : bool
        Whether the names are those of a frame. Without names, context begins in column 3.
    """
    if len(feedback) <= _ENOUGH:
        return
    few = slice(None, None, max(1, len(feedback) // _SAMPLE))
    telling = len(feedback) > _SAMPLE and _varies(feedback[few])
    for place, name in enumerate(names):
        column = context[:, place]
        if telling and _correlation(column[few], feedback[few]) < _FAR:
            continue  # most columns are unlike the label at first sight
        what = _likeness(column, feedback)
        if what and _varies(feedback):
            drop = f"X = X.drop(columns={name!r})" if named else f"X = np.delete(X, {place + 3}, 1)"
            raise ValueError(
                f"{name}: this context column {what} (all {len(feedback)} rows), so the model "
                "would copy the label, which is not known when it predicts. Drop the column: "
                f"{drop}."
            )


def _likeness(column: np.ndarray, feedback: np.ndarray) -> str:
    """Say how a column is like the label; empty where it is not."""
    if np.array_equal(column, feedback):
        return "equals y"
    squares = np.square(_centred(feedback))
    if 10 * squares.max() > squares.sum():
        return ""
    r = _correlation(column, feedback)
    return f"has a correlation of size {r:.4f} with y" if r > _SAME else ""


def _correlation(column: np.ndarray, feedback: np.ndarray) -> float:
    """Size of the correlation of two columns; 0 where one is constant."""
    ours, theirs = _centred(column), _centred(feedback)
    scale = float(np.sqrt(ours @ ours) * np.sqrt(theirs @ theirs))
    return abs(float(ours @ theirs)) / scale if scale else 0.0


def _centred(values: np.ndarray) -> np.ndarray:
    """Deviations from the mean, of size 1 at most: their squares cannot overflow."""
    scaled = values / max(float(np.abs(values).max()), np.finfo(np.float64).tiny)
    return scaled - scaled.mean()


def _varies(feedback: np.ndarray) -> bool:
    _, counts = np.unique(feedback, return_counts=True)
    return bool(len(feedback) - counts.max() >= _ENOUGH)


def refuse_times_as_context(
    context: np.ndarray, names: tuple[str, ...], ids: dict[str, np.ndarray]
) -> None:
    """Raise if a frame without ``timestamp`` has a context column of times of another name.

    A column with one value for each user, or for each item, is accepted: it is a property such as
    a release date.

    Parameters
    ----------
    context : ndarray of shape (n, n_context)
    names : tuple of str
    ids : dict of str to ndarray of shape (n,)
        Users and items of the rows.
    """
    for place, name in enumerate(names):
        times = context[:, place]
        if is_called_time(name) and (times > _OUR_DAYS).all() and not _is_property(times, ids):
            raise ValueError(
                f"{name}: all {len(context)} rows look like times since 1970, but X has no column "
                f"{TIME}, so they would be read as numbers of the context. Rename the column, "
                f"X = X.rename(columns={{{name!r}: {TIME!r}}}), or drop it."
            )


def _is_property(values: np.ndarray, ids: dict[str, np.ndarray]) -> bool:
    """Whether a column depends on the user or the item alone; each id once tells nothing."""
    for column in ids.values():
        codes = Vocabulary().extend(column)
        n_ids = int(codes.max()) + 1
        own = np.empty(n_ids)
        own[codes] = values
        if n_ids < len(codes) and np.array_equal(own[codes], values):
            return True
    return False
