"""What users, items and pairs of them did before each row: recency, frequency, spend, means."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sklearn_recft.preprocessing._activity_state import ActivityState, kinds_in
from sklearn_recft.preprocessing._past_similarity import PastSimilarity
from sklearn_recft.preprocessing._repeats import Repeats
from sklearn_recft.preprocessing._rows import LogRows
from sklearn_recft.preprocessing._stream_features import StreamFeatures

# Columns whose events are counted together: one column, or two.
By = "str | tuple[str, str]"


class ActivityFeatures(StreamFeatures):
    """Recency, frequency, spend and means of feedback, from strictly earlier events.

    Each row gets, for its user, its item and the pair of both:

    * the number of earlier events, and of each kind of behavior,
    * days since the newest and since the first of them (the age of an item),
    * the damped mean of their feedback,
    * the sum of their amounts, such as prices,
    * the same numbers and means with a time decay, for each half-life,
    * the share of earlier events that were repeats, such as goods bought again, if asked for,
    * the similarity of the item to the user's earlier items, if vectors of items are given.

    Parameters
    ----------
    by : sequence of str or (str, str), default=("user_id", "item_id", ("user_id", "item_id"))
        Columns whose events are counted together, and pairs of such columns. Any column that is
        known before the event may be named, such as a category.
    half_lives : sequence of float, default=(1.0, 30.0)
        Days; without timestamps there are no decayed numbers.
    behavior : str, default=None
        Column of kinds of events, such as "view", "click" and "purchase". Each kind of `fit` is
        counted; others count as events alone.
    amount : str, default=None
        Column of numbers to add up, such as money spent.
    damping : float, default=5.0
        Number of pseudo-events with the average feedback in each mean.
    statistics : bool or "auto", default="auto"
        Whether to add the nine numbers that :class:`~sklearn_recft.DecayBertRecommender` reads of
        user and item. They need timestamps and feedback between 0 and 1: "auto" adds them there.
    item_vectors : dict, default=None
        Vectors of items by id, such as factors or encoded texts. They add the cosine between the
        vector of the row's item and the sum of those of the user's earlier items, 0 without any.
    repeats : bool, default=False
        Whether to add the damped share of repeats among the earlier events of each user and each
        item (of all in ``by`` but the pair of both). An event is a repeat if its user and its item
        had an earlier event together, so the share says who buys again, and what is bought again.
    max_keys : int, default=None
        Largest number of users, of items and of pairs that are remembered; those whose newest
        event is oldest are dropped. None for no bound.
    fill_value : float, default=nan
        Days since an event that never happened, and the mean before any feedback.
    passthrough : bool, default=False
        Whether the columns of ``X`` come first in the output, of the type of ``X``. So the step
        can stand before a recommender in a :class:`~sklearn_recft.pipeline.RecommenderPipeline`.

    Attributes
    ----------
    n_features_in_ : int
        Number of columns of ``X``; ``feature_names_in_`` holds their names, if any.

    See Also
    --------
    PairMeans : Means of residual feedback by pairs of columns.
    BehaviorText : The same past as a text.

    Notes
    -----
    Features depend only on events strictly before the row; events of one timestamp do not see each
    other, within a call and across calls. Use `fit_transform` for the rows of a log,
    `partial_fit_transform` for rows that follow, and `transform` for rows to predict, which changes
    nothing. The columns ``behavior`` and ``amount`` are known only after the event: `transform`
    does not read them. A row that is older than the newest event of its user is described as just
    before that event, and so are items and pairs. Whether an event is a repeat is decided when it
    is learned.

    Without ``timestamp``, the order of the rows is the order of time, and days and decayed numbers
    are left out. Without ``y``, so are means.

    Memory is about ``60 + 8 * s * (2 + n_half_lives)`` bytes for each user, item and pair, twice
    that while tables grow. Here ``s`` is 1, 2 more with ``y``, 1 more with ``amount``, 1 more for
    each kind of behavior, 1 more with ``repeats``, which also take 90 bytes for each pair of user
    and item. ``max_keys`` bounds it. The ids themselves are kept, and the statistics
    take 160 bytes for each user and item. With ``item_vectors`` of ``d`` numbers, ``60 + 16 * d``
    bytes for each user are added.

    The features help models that are fitted once, and goods that are bought again. A model that
    learns every event, such as :class:`~sklearn_recft.IncrementalMFRecommender` in
    `partial_fit_predict`, knows them already and gets worse: see the user guide.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft.preprocessing import ActivityFeatures
    >>> day = 86400
    >>> X = pd.DataFrame({"user_id": ["ann", "ann", "bob"], "item_id": ["tea", "tea", "tea"],
    ...                   "timestamp": [0, 1 * day, 3 * day]})
    >>> activity = ActivityFeatures(by=["user_id", "item_id"], half_lives=[1])
    >>> activity.set_output(transform="pandas").fit_transform(X).filter(like="item_")
       item_count  item_recency  item_age  item_count_1d
    0         0.0           NaN       NaN          0.000
    1         1.0           1.0       1.0          0.500
    2         2.0           2.0       3.0          0.375
    """

    _parameter_constraints: ClassVar[dict] = {
        "by": [list, tuple],
        "half_lives": ["array-like"],
        "behavior": [str, None],
        "amount": [str, None],
        "damping": [Interval(Real, 0, None, closed="left")],
        "statistics": ["boolean", StrOptions({"auto"})],
        "item_vectors": "no_validation",  # PastSimilarity checks: no error may print all vectors
        "repeats": ["boolean"],
        "max_keys": [Interval(Integral, 1, None, closed="left"), None],
        "fill_value": [Real, "nan"],
        "passthrough": ["boolean"],
    }
    _state: ActivityState

    def __init__(
        self,
        by: Sequence[Any] = ("user_id", "item_id", ("user_id", "item_id")),
        *,
        half_lives: Sequence[float] = (1.0, 30.0),
        behavior: str | None = None,
        amount: str | None = None,
        damping: float = 5.0,
        statistics: bool | str = "auto",
        item_vectors: dict[Any, Any] | None = None,
        repeats: bool = False,
        max_keys: int | None = None,
        fill_value: float = np.nan,
        passthrough: bool = False,
    ) -> None:
        self.by = by
        self.half_lives = half_lives
        self.behavior = behavior
        self.amount = amount
        self.damping = damping
        self.statistics = statistics
        self.item_vectors = item_vectors
        self.repeats = repeats
        self.max_keys = max_keys
        self.fill_value = fill_value
        self.passthrough = passthrough

    def _make_state(self, rows: LogRows) -> ActivityState:
        kinds: tuple[str, ...] = ()
        if self.behavior is not None:
            kinds = kinds_in(rows, self.behavior)
        return ActivityState(
            by=_checked_by(self.by),
            half_lives=_checked_half_lives(self.half_lives) if rows.times is not None else (),
            timed=rows.times is not None,
            rated=rows.feedback is not None,
            behavior=self.behavior,
            kinds=kinds,
            amount=self.amount,
            damping=float(self.damping),
            max_keys=self.max_keys,
            fill_value=float(self.fill_value),
            repeats=Repeats() if self.repeats else None,
            similarity=None if self.item_vectors is None else PastSimilarity(self.item_vectors),
            with_statistics=_with_statistics(self.statistics, rows),
        )


def _checked_by(by: Any) -> tuple[tuple[str, ...], ...]:
    groups = [tuple(name) if isinstance(name, (list, tuple)) else (name,) for name in by]
    wrong = any(
        len(group) not in (1, 2) or not all(isinstance(name, str) for name in group)
        for group in groups
    )
    if wrong or not groups or len(set(groups)) < len(groups):
        raise ValueError(
            "by must be a list of different columns, such as 'user_id', and pairs of columns, such "
            f"as ('user_id', 'item_id'); got {by!r}."
        )
    return tuple(groups)


def _checked_half_lives(half_lives: Any) -> tuple[float, ...]:
    try:
        days = np.asarray(half_lives, np.float64)
    except (TypeError, ValueError):
        days = np.array([np.nan])
    if days.ndim != 1 or not (np.isfinite(days) & (days > 0)).all() or len(set(days)) < len(days):
        raise ValueError(
            f"half_lives must be a list of different numbers of days above 0; got {half_lives!r}."
        )
    return tuple(days.tolist())


def _with_statistics(asked: bool | str, rows: LogRows) -> bool:
    fits = (
        rows.times is not None
        and rows.feedback is not None
        and float(rows.feedback.min()) >= 0
        and float(rows.feedback.max()) <= 1
    )
    if asked is True and not fits:
        raise ValueError(
            "statistics=True needs the column `timestamp` and y between 0 and 1, such as likes; "
            "give both, or set statistics to False."
        )
    return fits and bool(asked)
