"""`clean_interactions` as an object with parameters: rows in, fewer rows out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, _fit_context

from sklearn_recft.preprocessing._clean import CONSTRAINTS, Bounds, CleaningReport, Rules, clean


class InteractionCleaner(BaseEstimator):
    """Drop rows of a log by rules, before it is fitted.

    A transformer of scikit-learn may not drop rows, so this is a *sampler*: `fit_resample` returns
    the rows that are kept, as in imbalanced-learn. `RecommenderPipeline` takes it as its first
    step, and uses it in `fit` and `partial_fit` alone: rows to predict are never dropped.

    Parameters
    ----------
    duplicates : bool, default=True
        Whether to drop exact repeats of a row.
    valid : dict, default=None
        Rows to keep, by column: bounds, or a function.
    max_per_hour, max_per_day : int, default=None
        Drop users with more events than this within some hour, or some 24 hours.
    quantiles : dict, default=None
        Quantiles between which rows are kept, by column.
    min_per_user, min_per_item : int, default=1
        Drop users and items with fewer events, until none has.

    Attributes
    ----------
    report_ : CleaningReport
        What the latest call dropped.
    sample_indices_ : ndarray of shape (n_kept,)
        Positions of the rows that it kept.

    See Also
    --------
    clean_interactions : The same as a function, which describes the rules.

    Notes
    -----
    Each call applies the rules to its own rows alone. A rule that counts, such as ``min_per_user``,
    drops most rows of a small `partial_fit`: use it for whole logs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.preprocessing import InteractionCleaner
    >>> X = np.array([["ann", "tea"], ["bob", None], ["ann", "tea"]], object)
    >>> cleaner = InteractionCleaner()
    >>> X_kept, y_kept = cleaner.fit_resample(X, [1, 0, 1])
    >>> X_kept.tolist(), y_kept, cleaner.sample_indices_.tolist()
    ([['ann', 'tea']], [1], [0])
    """

    _parameter_constraints: ClassVar[dict] = CONSTRAINTS

    report_: CleaningReport
    sample_indices_: np.ndarray

    def __init__(
        self,
        *,
        duplicates: bool = True,
        valid: Mapping[str, Bounds | Callable[[Any], Any]] | None = None,
        max_per_hour: int | None = None,
        max_per_day: int | None = None,
        quantiles: Mapping[str, tuple[float, float]] | None = None,
        min_per_user: int = 1,
        min_per_item: int = 1,
    ) -> None:
        self.duplicates = duplicates
        self.valid = valid
        self.max_per_hour = max_per_hour
        self.max_per_day = max_per_day
        self.quantiles = quantiles
        self.min_per_user = min_per_user
        self.min_per_item = min_per_item

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_resample(self, X: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, ...]:
        """Return the rows that are kept.

        Parameters
        ----------
        X : table of events of shape (n, n_columns)
        y : array-like of shape (n,), default=None
        sample_weight : array-like of shape (n,), default=None

        Returns
        -------
        X, y : of the types given
            And ``sample_weight`` as the third, if it is given.
        """
        rules = Rules(
            self.duplicates,
            self.valid or {},
            self.max_per_hour,
            self.max_per_day,
            self.quantiles or {},
            self.min_per_user,
            self.min_per_item,
        )
        kept = clean(X, y, sample_weight, rules)
        self.report_, self.sample_indices_ = kept.report, kept.report.rows
        return kept[:2] if sample_weight is None else kept[:3]
