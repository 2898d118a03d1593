"""Clicks on displayed lists from a real log: `ClickReplay`."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params

from sklearn_recft.datasets._clicks import CLICK_PARAMETERS, ClickModel, visits_frame
from sklearn_recft.interactions import items_of, timestamps_of, users_of
from sklearn_recft.vocabulary import Vocabulary


class ClickReplay(ClickModel):
    """Replay a log: a user clicks an examined item if it is among the user's next events.

    A log does not say what users would have done with other lists. Here an examined item is
    clicked if and only if the user takes it in one of the next `n_next` events at or after the
    visit. So a list can only be as good as the log: items that a user would have liked, and never
    took, are skipped.

    Parameters
    ----------
    X : table of n rows
        Columns ``user_id``, ``item_id`` and ``timestamp``. Rows of one user and one time stay in
        their order.
    n_next : int, default=10
        Number of next events.
    examination : array-like of shape (n_ranks,), default=None
        Probability of examining each rank, above 0 and at most 1. None is
        ``1 / log2(rank + 1)``.
    exploration : float, default=0.0
        Probability of replacing a list by random items in random order.
    random_state : int, RandomState instance or None, default=None
        Decides everything.

    Attributes
    ----------
    item_ids : ndarray of shape (n_items,)
        Ids of the catalogue: all items of `X`.

    See Also
    --------
    ClickSimulator : Clicks by planted tastes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.datasets import ClickReplay
    >>> X = np.array([["ann", "tea", 10], ["bob", "tea", 20], ["ann", "milk", 30]], dtype=object)
    >>> replay = ClickReplay(X, examination=[1, 1])
    >>> visits = replay.visits(start=15, end=40)
    >>> visits["user_id"].tolist()
    ['bob', 'ann']
    >>> replay.show(visits, [["tea", "milk"], ["tea", "milk"]])["clicked"].tolist()
    [1, 0, 0, 1]
    """

    @validate_params(
        {
            "self": "no_validation",
            "X": "no_validation",
            "n_next": [Interval(Integral, 1, None, closed="left")],
            **CLICK_PARAMETERS,
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(self, X, *, n_next=10, examination=None, exploration=0.0, random_state=None):
        users, items, times = users_of(X), items_of(X), timestamps_of(X)
        super().__init__(items, examination, exploration, random_state)
        self.n_next = n_next
        self._users = Vocabulary(users)
        codes = self._users.encode(users)
        order = np.lexsort((times, codes))  # stable
        self._taken, self._times = self._items.encode(items)[order], times[order]
        self._start = np.append(0, np.cumsum(np.bincount(codes, minlength=len(self._users))))

    @validate_params(
        {
            "self": "no_validation",
            "start": [Interval(Real, None, None, closed="both")],
            "end": [Interval(Real, None, None, closed="both")],
        },
        prefer_skip_nested_validation=True,
    )
    def visits(self, start, end):
        """Return the users with an event in a period, each at the time of the first one.

        Parameters
        ----------
        start, end : float
            Seconds since 1970; `end` is not in the period.

        Returns
        -------
        visits : DataFrame
            ``user_id`` and ``timestamp``, in order of time.
        """
        user = np.repeat(np.arange(len(self._users)), np.diff(self._start))
        rows = np.flatnonzero((self._times >= start) & (self._times < end))
        rows = rows[np.unique(user[rows], return_index=True)[1]]
        rows = rows[np.argsort(self._times[rows], kind="stable")]
        return visits_frame(self._users.decode(user[rows]), self._times[rows])

    def _probability(self, users, times, codes):
        taken = np.zeros(codes.shape)
        for row, user in enumerate(self._users.encode(users)):
            if user >= 0:
                begin, end = self._start[user : user + 2]
                begin += np.searchsorted(self._times[begin:end], times[row])
                following = self._taken[begin : min(begin + self.n_next, end)]
                taken[row] = np.isin(codes[row], following)
        return taken
