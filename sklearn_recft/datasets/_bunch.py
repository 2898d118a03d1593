"""The one shape in which every loader of this room answers."""

import numpy as np
from sklearn.utils import Bunch

FEATURE_NAMES = ["user_id", "item_id", "timestamp"]


def interactions_bunch(columns, target, *, target_name, catalogue, descr, return_X_y, as_frame):
    """Pack columns into `(data, target)` or a Bunch, as arrays or as pandas frames.

    Parameters
    ----------
    columns : dict of str to ndarray of shape (n_interactions,)
        Users, items and, where known, timestamps, in that order.
    target : ndarray of shape (n_interactions,) or None
        The feedback.
    target_name : str or None
        What the feedback is called.
    catalogue : dict of str to ndarray of shape (n_items,) or None
        Columns `item_id`, `title`, `text`.
    descr : str
        Description of the data set.
    return_X_y : bool
        Return `(data, target)` only.
    as_frame : bool
        Pandas objects in place of arrays.

    Returns
    -------
    Bunch or tuple
        With `data, target, catalogue, feature_names, target_names, DESCR`.
    """
    data = _as_matrix(list(columns.values()))
    if as_frame:
        data, target, catalogue = _as_pandas(columns, target, target_name, catalogue)
    elif catalogue is not None:
        catalogue = Bunch(**catalogue)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        catalogue=catalogue,
        feature_names=list(columns),
        target_names=[] if target_name is None else [target_name],
        DESCR=descr,
    )


def _as_matrix(columns):
    """Stack columns: int64 if all are integers, else object so that no id changes its type."""
    integral = all(np.can_cast(column.dtype, np.int64) for column in columns)
    return np.column_stack([c.astype(np.int64 if integral else object) for c in columns])


def _as_pandas(columns, target, target_name, catalogue):
    try:
        import pandas as pd
    except ImportError as exc:
        raise ImportError("as_frame=True needs pandas: pip install pandas") from exc
    if target is not None:
        target = pd.Series(target, name=target_name)
    return pd.DataFrame(columns), target, None if catalogue is None else pd.DataFrame(catalogue)
