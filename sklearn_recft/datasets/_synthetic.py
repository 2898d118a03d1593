"""Synthetic interaction logs whose right answer is known."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from sklearn_recft.datasets._bunch import FEATURE_NAMES

_START = 1577836800  # 2020-01-01, seconds since 1970
_SECONDS_PER_DAY = 86400.0
_MIDDLE_OF_SCALE = 3.0


@validate_params(
    {
        "n_users": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 1, None, closed="left")],
        "n_interactions": [Interval(Integral, 1, None, closed="left")],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "n_days": [Interval(Real, 0, None, closed="neither")],
        "popularity": [Interval(Real, 0, None, closed="left")],
        "half_life": [Interval(Real, 0, None, closed="neither"), None],
        "drift": [StrOptions({"none", "abrupt", "gradual"})],
        "noise": [Interval(Real, 0, None, closed="neither")],
        "feedback": [StrOptions({"rating", "click"})],
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_interactions(
    n_users=100,
    n_items=200,
    n_interactions=5000,
    *,
    n_factors=4,
    n_days=365,
    popularity=1.0,
    half_life=None,
    drift="none",
    noise=0.5,
    feedback="rating",
    random_state=None,
    return_X_y=False,
):
    r"""Draw an interaction log from planted factors, interests that fade and tastes that drift.

    Users meet items at random moments, an item of popularity rank :math:`r` with a probability
    proportional to :math:`r^{-a}`. How much user :math:`u` likes item :math:`i` then, at time
    :math:`t`, is

    .. math::

        s = p_u(t) \cdot q_i + m_u(t) \cdot q_i

    where :math:`p_u(t)` are the user's factors, drifting or not, and :math:`m_u(t)` is the interest
    of the moment: the sum of the factors of the items met before, plus for liked and minus for
    disliked, each halved every `half_life` days, its length :math:`x` then bounded as
    :math:`x / \sqrt{1 + x^2}` in units of a typical item's, which makes both terms of a size. A
    rating is :math:`3 + s` plus normal noise, a click is whether :math:`s` plus logistic
    noise is positive; liked means a rating above 3, or a click.

    Parameters
    ----------
    n_users, n_items, n_interactions : int
        Size of the log. Not every user or item need occur in it.
    n_factors : int, default=4
        Length of the planted factors.
    n_days : float, default=365
        Length of the log, from 1 January 2020.
    popularity : float, default=1.0
        Exponent :math:`a` of the popularity law; 0 makes all items equally popular.
    half_life : float, default=None
        Days in which an interest halves; None: feedback does not depend on past events.
    drift : {"none", "abrupt", "gradual"}, default="none"
        User factors are constant ("none"), are replaced by independent ones in the middle of the
        log ("abrupt"), or move towards these during the whole log ("gradual").
    noise : float, default=0.5
        Standard deviation of the normal noise of ratings, scale of the logistic noise of clicks.
    feedback : {"rating", "click"}, default="rating"
        Kind of feedback. For a log of positives, keep the rows where a click is 1.
    random_state : int, RandomState instance or None, default=None
        Decides everything.
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.

    Returns
    -------
    data : Bunch
        data : ndarray of int64 of shape (n_interactions, 3)
            `user_id`, `item_id`, `timestamp` (seconds since 1970), in order of time.
        target : ndarray of shape (n_interactions,)
            Ratings, neither rounded nor bounded, or clicks, 0.0 or 1.0.
        expected : ndarray of shape (n_interactions,)
            The truth behind `target`: expected rating (no model has an RMSE much below
            `noise`), or probability of the click.
        user_factors, user_factors_end : ndarray of shape (n_users, n_factors)
            Factors at the start and at the end of the log.
        item_factors : ndarray of shape (n_items, n_factors)
            Factors of the items, which never change.
        popularity : ndarray of shape (n_items,)
            Probability of meeting each item.
        half_life : float or None
            As given.
        drift_time : float or None
            Second since 1970 at which tastes change abruptly.
        feature_names : list of str
            What the columns of `data` are called.
    (data, target) : tuple
        If `return_X_y` is True.

    Examples
    --------
    >>> from sklearn_recft.datasets import make_interactions
    >>> log = make_interactions(n_interactions=1000, half_life=7, noise=0.1, random_state=0)
    >>> log.data.shape
    (1000, 3)
    >>> bool(abs((log.target - log.expected).std() - 0.1) < 0.01)
    True
    """
    rng = check_random_state(np.random.RandomState() if random_state is None else random_state)
    start, end, item_factors = planted_factors(rng, n_users, n_items, n_factors)
    law = rng.permutation(np.arange(1.0, n_items + 1) ** -popularity)
    law /= law.sum()

    users = rng.randint(n_users, size=n_interactions)
    items = rng.choice(n_items, size=n_interactions, p=law)
    place = np.sort(rng.uniform(size=n_interactions))  # relative time, in [0, 1)
    seconds = _START + (place * n_days * _SECONDS_PER_DAY).astype(np.int64)
    turn = _turn(place, drift)[:, None]  # 0: factors of the start, pi / 2: those of the end
    tastes = np.cos(turn) * start[users] + np.sin(turn) * end[users]
    likings = np.einsum("nk,nk->n", tastes, item_factors[items])
    surprise = noise * (rng.standard_normal if feedback == "rating" else rng.logistic)(
        size=n_interactions
    )
    if half_life is not None:
        days = (seconds - _START) / _SECONDS_PER_DAY
        likings = _add_interest(likings, surprise, users, item_factors[items], days, half_life)

    outcome = likings + surprise
    if feedback == "rating":
        expected, target = _MIDDLE_OF_SCALE + likings, _MIDDLE_OF_SCALE + outcome
    else:
        # sigmoid(x) = (1 + tanh(x / 2)) / 2, which cannot overflow
        expected, target = (1 + np.tanh(likings / (2 * noise))) / 2, (outcome > 0).astype(float)
    data = np.column_stack([users, items, seconds]).astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        expected=expected,
        user_factors=start,
        user_factors_end=start if drift == "none" else end,
        item_factors=item_factors,
        popularity=law,
        half_life=half_life,
        drift_time=_START + n_days * _SECONDS_PER_DAY / 2 if drift == "abrupt" else None,
        feature_names=list(FEATURE_NAMES),
    )


def planted_factors(rng, n_users, n_items, n_factors):
    """Draw the factors of users at the start and at the end, and those of items."""
    # With this scale, the product of two independent rows has variance 1.
    scale = n_factors**-0.25
    start, end = scale * rng.standard_normal((2, n_users, n_factors))
    return start, end, scale * rng.standard_normal((n_items, n_factors))


def _turn(place, drift):
    if drift == "none":
        return np.zeros_like(place)
    return np.pi / 2 * (place if drift == "gradual" else (place >= 0.5))


def _add_interest(likings, surprise, users, factors, days, half_life):
    """Add `m_u(t) . q_i` to the likings: event by event of a user, all users at once."""
    n_users = users.max() + 1
    likings = likings.copy()
    memory = np.zeros((n_users, factors.shape[1]))
    last = np.zeros(n_users)
    typical = np.sqrt(np.sqrt(factors.shape[1]))  # length of a typical item's factors
    for rows in _rounds(users):
        who = users[rows]
        memory[who] *= 0.5 ** ((days[rows] - last[who]) / half_life)[:, None]
        length = np.linalg.norm(memory[who], axis=1) / typical
        interest = memory[who] / np.sqrt(1 + length**2)[:, None]
        likings[rows] += np.einsum("nk,nk->n", interest, factors[rows])
        liked = likings[rows] + surprise[rows] > 0
        memory[who] += np.where(liked, 1.0, -1.0)[:, None] * factors[rows]
        last[who] = days[rows]
    return likings


def _rounds(users):
    """Yield the rows of all users' first events, then of their second events, and so on."""
    by_user = np.argsort(users, kind="stable")
    counts = np.bincount(users)
    nth = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    by_round = by_user[np.argsort(nth, kind="stable")]
    yield from np.split(by_round, np.cumsum(np.bincount(nth))[:-1])


@validate_params(
    {
        "n_users": [Interval(Integral, 1, None, closed="left")],
        "n_items": [Interval(Integral, 4, None, closed="left")],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_checkerboard(n_users=20, n_items=20, *, return_X_y=False):
    """Make a log in which a user likes the items of the same parity, one of them kept back.

    A model that learns from other users puts the item kept back first among those a user has not
    seen, for it is the only one left of the user's parity if only likes (`target == 1`) count as
    seen, and the only one left at all if every row does.

    Parameters
    ----------
    n_users : int, default=20
        Number of users, 0, 1, ...
    n_items : int, default=20
        Number of items, 0, 1, ..., at least 4.
    return_X_y : bool, default=False
        Return `(data, target)` in place of a Bunch.

    Returns
    -------
    data : Bunch
        data : ndarray of int64 of shape (n_users * (n_items - 1), 2)
            `user_id`, `item_id`: every pair but those kept back.
        target : ndarray of shape (n_users * (n_items - 1),)
            1.0 where user and item have the same parity, else 0.0.
        held_out : ndarray of int64 of shape (n_users, 2)
            The pair kept back of each user; all of them are likes, spread over the items.
        feature_names : list of str
            What the columns of `data` are called.
    (data, target) : tuple
        If `return_X_y` is True.

    Examples
    --------
    >>> from sklearn_recft.datasets import make_checkerboard
    >>> board = make_checkerboard(4, 4)
    >>> board.held_out.tolist()
    [[0, 0], [1, 1], [2, 2], [3, 3]]
    >>> board.data[board.target == 1].tolist()
    [[0, 2], [1, 3], [2, 0], [3, 1]]
    """
    users, items = np.divmod(np.arange(n_users * n_items), n_items)
    liked = users % 2 == items % 2
    n_liked = (n_items + 1 - np.arange(n_users) % 2) // 2
    nth = np.arange(n_users) // 2 % n_liked
    held_out = np.column_stack([np.arange(n_users), 2 * nth + np.arange(n_users) % 2])
    kept = items != held_out[users, 1]
    data, target = np.column_stack([users, items])[kept], liked[kept].astype(np.float64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        held_out=held_out,
        feature_names=FEATURE_NAMES[:2],
    )
