"""Whether groups of users are served equally well."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_consistent_length, column_or_1d

from sklearn_recft.columns import to_ids
from sklearn_recft.vocabulary import Vocabulary


def metric_by_group(values: ArrayLike, groups: Any) -> Bunch:
    """Mean of any metric in each group of users, and how far the groups lie apart [1]_.

    Parameters
    ----------
    values : array-like of shape (n_users,)
        A metric per user: what any metric of this package returns with ``per_user=True``. Users
        whose value is NaN are left out.
    groups : array-like of shape (n_users,)
        The group of each user; any hashable, none missing.

    Returns
    -------
    result : Bunch
        groups : ndarray of shape (n_groups,)
            In order of first appearance.
        means : ndarray of shape (n_groups,)
            NaN for a group without any defined value.
        sizes : ndarray of shape (n_groups,)
            How many users stand behind each mean.
        gap : float
            Largest mean less smallest; 0 is equal. NaN where no group has a mean.
        ratio : float
            Smallest mean divided by the largest; 1 is equal. NaN where no group has a mean,
            the largest is not above 0 or the smallest is below 0.

    Raises
    ------
    ValueError
        If lengths differ, a value is infinite or a group is missing.

    Notes
    -----
    A gap between small groups is mostly chance: read it beside the sizes.

    References
    ----------
    .. [1] M. D. Ekstrand et al., "All the cool kids, how do they fit in? Popularity and
       demographic biases in recommender evaluation and effectiveness", FAT* 2018.

    Examples
    --------
    >>> from sklearn_recft.metrics import metric_by_group, recall_at_k
    >>> recall = recall_at_k(
    ...     [{"tea"}, {"milk"}, {"tea", "milk"}, set()], [["tea"]] * 4, per_user=True
    ... )
    >>> result = metric_by_group(recall, ["new", "new", "old", "old"])
    >>> dict(zip(result.groups.tolist(), result.means.tolist()))
    {'new': 0.5, 'old': 0.5}
    >>> result.sizes, result.gap, result.ratio
    (array([2, 1]), 0.0, 1.0)
    """
    numbers = column_or_1d(values).astype(float)
    check_consistent_length(numbers, groups)
    if np.isinf(numbers).any():
        raise ValueError(
            f"values: {int(np.isinf(numbers).sum())} of {len(numbers)} are infinite; use NaN for "
            "users without a value."
        )
    names = Vocabulary()
    codes = names.extend(_labels(groups))
    defined = ~np.isnan(numbers)
    sizes = np.bincount(codes[defined], minlength=len(names))
    sums = np.bincount(codes[defined], numbers[defined], minlength=len(names))
    means = sums / np.where(sizes > 0, sizes, np.nan)
    low, high = _range(means[sizes > 0])
    return Bunch(
        groups=names.ids.copy(),
        means=means,
        sizes=sizes,
        gap=high - low,
        ratio=low / high if low >= 0 and high > 0 else float("nan"),
    )


def _labels(groups: Any) -> np.ndarray:
    if not hasattr(groups, "__array__"):
        # numpy would turn numbers beside strings into strings, and tuples into columns.
        listed = list(groups)
        groups = np.fromiter(listed, dtype=object, count=len(listed))
    return to_ids(column_or_1d(groups), "groups")


def _range(means: np.ndarray) -> tuple[float, float]:
    return (float(means.min()), float(means.max())) if len(means) else (np.nan, np.nan)
