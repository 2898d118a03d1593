"""Users with planted tastes who click on displayed lists: `ClickSimulator`."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, validate_params

from sklearn_recft.datasets._clicks import CLICK_PARAMETERS, ClickModel, visits_frame
from sklearn_recft.datasets._synthetic import planted_factors

_START = 1577836800  # 2020-01-01, seconds since 1970
_SECONDS_PER_DAY = 86_400


class ClickSimulator(ClickModel):
    r"""Simulate users who click on displayed lists by known tastes, with position bias.

    Users and items have planted factors as in :func:`make_interactions`. User :math:`u` examines
    rank :math:`k` with probability :math:`e_k`, and clicks an examined item :math:`i` with
    probability

    .. math::

        P = \sigma\Bigl(\frac{p_u(t) \cdot q_i - h}{s}\Bigr)

    with the logistic function :math:`\sigma`, the `threshold` :math:`h` and the `noise` :math:`s`.
    So the expected clicks of any list are known, and with them the regret of a recommender and the
    error of an off-policy estimate.

    Parameters
    ----------
    n_users, n_items : int
        Ids are 0, 1, and so on.
    n_factors : int, default=4
        Length of the planted factors.
    threshold : float, default=1.0
        Taste at which an examined item is clicked in half of the cases. Tastes have mean 0 and
        variance 1.
    noise : float, default=0.5
        Scale of the logistic noise.
    turn_day : float, default=None
        Day (from 0) from which every user has new, independent factors. None: tastes never turn.
    examination : array-like of shape (n_ranks,), default=None
        Probability of examining each rank, above 0 and at most 1. None is
        ``1 / log2(rank + 1)``.
    exploration : float, default=0.0
        Probability of replacing a list by random items in random order. With a value above 0,
        every item may be shown at every rank, and any policy can be evaluated from the log.
    random_state : int, RandomState instance or None, default=None
        Decides everything. Two simulators of one seed have the same users, the same visits, and
        the same luck at the same rank of the same visit, whatever is displayed.

    Attributes
    ----------
    user_factors, user_factors_end : ndarray of shape (n_users, n_factors)
        Tastes before and from `turn_day`.
    item_factors : ndarray of shape (n_items, n_factors)
        Factors of the items, which never change.
    item_ids : ndarray of shape (n_items,)
        Ids of the catalogue.
    turn_time : float or None
        Second since 1970 at which tastes turn.

    See Also
    --------
    ClickReplay : Clicks from a real log.
    make_interactions : A log of random encounters with the same tastes.
    sklearn_recft.metrics.item_position_value : Clicks of one policy from the log of another.

    Examples
    --------
    >>> from sklearn_recft.datasets import ClickSimulator
    >>> simulator = ClickSimulator(n_users=50, n_items=100, random_state=0)
    >>> visits = simulator.visits(3, day=0)
    >>> visits.columns.tolist()
    ['user_id', 'timestamp']
    >>> best = simulator.best_lists(visits, n_ranks=2)
    >>> shown = simulator.show(visits, best)
    >>> shown[["list_id", "rank", "propensity"]].head(3).round(2)
       list_id  rank  propensity
    0        0     1        1.00
    1        0     2        0.63
    2        1     1        1.00
    >>> regret = simulator.expected_clicks(visits, best) - simulator.expected_clicks(
    ...     visits, [[0, 1], [0, 1], [0, 1]]
    ... )
    >>> bool((regret >= 0).all())
    True
    """

    @validate_params(
        {
            "self": "no_validation",
            "n_users": [Interval(Integral, 1, None, closed="left")],
            "n_items": [Interval(Integral, 1, None, closed="left")],
            "n_factors": [Interval(Integral, 1, None, closed="left")],
            "threshold": [Interval(Real, None, None, closed="neither")],
            "noise": [Interval(Real, 0, None, closed="neither")],
            "turn_day": [Interval(Real, None, None, closed="neither"), None],
            **CLICK_PARAMETERS,
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        n_users=100,
        n_items=200,
        *,
        n_factors=4,
        threshold=1.0,
        noise=0.5,
        turn_day=None,
        examination=None,
        exploration=0.0,
        random_state=None,
    ):
        super().__init__(np.arange(n_items), examination, exploration, random_state)
        self.user_factors, self.user_factors_end, self.item_factors = planted_factors(
            self._plant, n_users, n_items, n_factors
        )
        self.threshold, self.noise = float(threshold), float(noise)
        self.turn_time = None if turn_day is None else _START + turn_day * _SECONDS_PER_DAY

    @validate_params(
        {
            "self": "no_validation",
            "n_visits": [Interval(Integral, 0, None, closed="left")],
            "day": [Interval(Real, None, None, closed="neither")],
            "n_days": [Interval(Real, 0, None, closed="left")],
        },
        prefer_skip_nested_validation=True,
    )
    def visits(self, n_visits, day, *, n_days=1.0):
        """Draw who visits when: users and times are uniform, and in order of time.

        Parameters
        ----------
        n_visits : int
            Number of visits. A user may visit more than once.
        day : float
            First day of the period; day 0 is 1 January 2020.
        n_days : float, default=1.0
            Length of the period.

        Returns
        -------
        visits : DataFrame
            ``user_id`` and ``timestamp`` (seconds since 1970).
        """
        users = self._visit.randint(len(self.user_factors), size=n_visits)
        place = np.sort(self._visit.random_sample(n_visits))
        seconds = _START + ((day + place * n_days) * _SECONDS_PER_DAY).astype(np.int64)
        return visits_frame(users, seconds)

    def _probability(self, users, times, codes):
        tastes = self.user_factors[users]
        if self.turn_time is not None:
            turned = (times >= self.turn_time)[:, None]
            tastes = np.where(turned, self.user_factors_end[users], tastes)
        likings = np.einsum("nf,nkf->nk", tastes, self.item_factors[codes])
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, which cannot overflow
        return (1 + np.tanh((likings - self.threshold) / (2 * self.noise))) / 2

    def _check_users(self, users):
        n_users = len(self.user_factors)
        unknown = np.ones(len(users), bool)
        if users.dtype.kind in "iu":
            unknown = (users < 0) | (users >= n_users)
        if unknown.any():
            raise ValueError(
                f"user_id: {int(unknown.sum())} of {len(users)} rows are no users of the "
                f"simulator, who are 0 to {n_users - 1}."
            )
