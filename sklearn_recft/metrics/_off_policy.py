"""The value of one policy, estimated from the log of another: IPS, SNIPS, doubly robust."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from sklearn_recft.columns import plain, refuse_beyond_float32, to_ids, to_numbers
from sklearn_recft.vocabulary import Vocabulary


@dataclass(frozen=True)
class PolicyValue:
    """Estimated value of a policy, and how sure the estimate is.

    Parameters
    ----------
    value : float
        Estimate of the mean reward of a row, or of the mean number of clicks of a list.
    standard_error : float
        Estimated standard deviation of `value`; NaN if there is one independent unit only.
    effective_sample_size : float
        ``(sum w)^2 / sum w^2`` of the weights ``w`` of the rows. It is the number of rows if all
        weights are equal, and near 1 if one row decides everything: then do not trust `value`.
    n_units : int
        Number of independent units (rows, groups or lists).

    Examples
    --------
    >>> from sklearn_recft.metrics import ips_value
    >>> estimate = ips_value([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 1.0, 0.0])
    >>> estimate.value, estimate.effective_sample_size
    (1.0, 2.0)
    """

    value: float
    standard_error: float
    effective_sample_size: float = field(repr=False)
    n_units: int = field(repr=False)

    def interval(self, confidence_level: float = 0.95) -> tuple[float, float]:
        """Return the lower and the upper bound of the confidence interval.

        Parameters
        ----------
        confidence_level : float, default=0.95
            Share of intervals that contain the true value, where there are many units.

        Returns
        -------
        lower, upper : float
            From Student's t distribution with ``n_units - 1`` degrees of freedom; both are NaN if
            there is one unit only.
        """
        if not (isinstance(confidence_level, Real) and 0 < confidence_level < 1):
            raise ValueError(f"confidence_level must be between 0 and 1, got {confidence_level}.")
        degrees = max(self.n_units - 1, 1)
        half = float(student_t.ppf((1 + confidence_level) / 2, degrees)) * self.standard_error
        return self.value - half, self.value + half


def ips_value(
    rewards: ArrayLike,
    propensities: ArrayLike,
    probabilities: ArrayLike,
    *,
    clip: float | None = None,
    groups: Any = None,
) -> PolicyValue:
    r"""Estimate the value of a policy by inverse propensity scoring (IPS) [1]_.

    The log holds actions :math:`a_i` that a logging policy :math:`\mu` took in contexts
    :math:`x_i`, and their rewards :math:`r_i`. The estimate for a target policy :math:`\pi` is

    .. math::

        \hat V = \frac{1}{n} \sum_i w_i r_i, \qquad w_i = \frac{\pi(a_i | x_i)}{\mu(a_i | x_i)}

    It is unbiased if the logging policy takes every action that the target policy may take.

    Parameters
    ----------
    rewards : array-like of shape (n,)
        Observed rewards, such as clicks.
    propensities : array-like of shape (n,)
        Probability that the logging policy took the logged action, above 0 and at most 1.
    probabilities : array-like of shape (n,)
        Probability that the target policy takes the logged action; 0 or 1 if it is
        deterministic.
    clip : float, default=None
        Largest weight; larger ones are set to it. This lowers the variance, and the estimate
        becomes too low if rewards are positive. None clips nothing.
    groups : array-like of shape (n,), default=None
        Ids of rows that belong together, such as users. The standard error then allows for
        dependent rewards within a group. None: rows are independent.

    Returns
    -------
    estimate : PolicyValue
        With ``value``, ``standard_error``, ``effective_sample_size`` and ``interval()``.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows, a value is NaN or inf, `propensities` are not
        above 0 and at most 1, `probabilities` are not between 0 and 1, or `clip` is not positive.

    See Also
    --------
    snips_value : The same with weights that sum to one; usually of less variance.
    doubly_robust_value : The same with a model of the reward.
    item_position_value : For ranked lists with position bias.

    References
    ----------
    .. [1] D. G. Horvitz and D. J. Thompson, "A generalization of sampling without replacement
       from a finite universe", Journal of the American Statistical Association 47(260), 1952.

    Examples
    --------
    The logging policy showed one of two items at random. The target policy shows the first item in
    nine of ten cases.

    >>> from sklearn_recft.metrics import ips_value
    >>> shown, clicked = [0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1]
    >>> target = [0.9 if item == 0 else 0.1 for item in shown]
    >>> estimate = ips_value(clicked, [0.5] * 6, target)
    >>> round(estimate.value, 3)
    0.633
    >>> lower, upper = estimate.interval()
    >>> bool(lower < 0.633 < upper)
    True
    """
    reward, weight = _weighted(rewards, propensities, probabilities, clip)
    return _mean_of(weight * reward, weight, groups)


def snips_value(
    rewards: ArrayLike,
    propensities: ArrayLike,
    probabilities: ArrayLike,
    *,
    clip: float | None = None,
    groups: Any = None,
) -> PolicyValue:
    r"""Estimate the value of a policy by self-normalized inverse propensity scoring [1]_.

    With the weights :math:`w_i` of :func:`ips_value`,

    .. math::

        \hat V = \frac{\sum_i w_i r_i}{\sum_i w_i}

    The estimate stays within the range of the rewards, and does not change if all propensities are
    wrong by one factor. It is slightly biased in small logs. The standard error is that of a ratio
    (the delta method).

    Parameters
    ----------
    rewards, propensities, probabilities, clip, groups
        As in :func:`ips_value`.

    Returns
    -------
    estimate : PolicyValue
        With ``value``, ``standard_error``, ``effective_sample_size`` and ``interval()``.

    Raises
    ------
    ValueError
        As in :func:`ips_value`, and if all `probabilities` are 0.

    References
    ----------
    .. [1] A. Swaminathan and T. Joachims, "The self-normalized estimator for counterfactual
       learning", NeurIPS 2015.

    Examples
    --------
    >>> from sklearn_recft.metrics import snips_value
    >>> shown, clicked = [0, 0, 0, 1], [1, 1, 0, 0]
    >>> target = [0.9 if item == 0 else 0.1 for item in shown]
    >>> round(snips_value(clicked, [0.5] * 4, target).value, 3)
    0.643
    """
    reward, weight = _weighted(rewards, propensities, probabilities, clip)
    total = weight.sum()
    if total == 0:
        raise ValueError(
            f"probabilities: all {len(weight)} rows are 0: the target policy takes none of the "
            "logged actions, so this log says nothing of it."
        )
    value = float(weight @ reward / total)
    return _with_error(value, weight * (reward - value) / weight.mean(), weight, groups)


def doubly_robust_value(
    rewards: ArrayLike,
    propensities: ArrayLike,
    probabilities: ArrayLike,
    predictions: tuple[ArrayLike, ArrayLike],
    *,
    clip: float | None = None,
    groups: Any = None,
) -> PolicyValue:
    r"""Estimate the value of a policy from a model of the reward, corrected by the log [1]_.

    With predicted rewards :math:`\hat r(x, a)` and the weights :math:`w_i` of :func:`ips_value`,

    .. math::

        \hat V = \frac{1}{n} \sum_i \Bigl( \sum_a \pi(a | x_i)\, \hat r(x_i, a)
                 + w_i \bigl(r_i - \hat r(x_i, a_i)\bigr) \Bigr)

    It is unbiased if either the propensities or the predictions are right. The better the model,
    the lower the variance. The model must not have learned the rewards of these rows.

    Parameters
    ----------
    rewards, propensities, probabilities
        As in :func:`ips_value`.
    predictions : pair of array-likes of shape (n,)
        Predicted reward of the logged action, and mean predicted reward of the target policy in
        the same context, weighted by its probabilities.
    clip, groups
        As in :func:`ips_value`. Clipped weights correct less of the errors of the model.

    Returns
    -------
    estimate : PolicyValue
        With ``value``, ``standard_error``, ``effective_sample_size`` and ``interval()``.

    Raises
    ------
    ValueError
        As in :func:`ips_value`, and if `predictions` are not two columns of n finite numbers.

    References
    ----------
    .. [1] M. Dudik, J. Langford and L. Li, "Doubly robust policy evaluation and learning",
       ICML 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.metrics import doubly_robust_value
    >>> shown, clicked = np.array([0, 0, 0, 1]), [1, 1, 0, 0]
    >>> policy = np.array([0.9, 0.1])  # probability of each item under the target policy
    >>> model = np.array([0.7, 0.3])  # predicted clicks of each item
    >>> predictions = model[shown], np.full(4, policy @ model)
    >>> round(doubly_robust_value(clicked, [0.5] * 4, policy[shown], predictions).value, 3)
    0.6
    """
    reward, weight = _weighted(rewards, propensities, probabilities, clip)
    try:
        logged, target = predictions
    except (TypeError, ValueError):
        raise ValueError(
            "predictions must be a pair: predicted rewards of the logged actions, and mean "
            "predicted rewards of the target policy."
        ) from None
    of_log = _numbers(logged, "predictions[0]", len(reward))
    of_target = _numbers(target, "predictions[1]", len(reward))
    return _mean_of(of_target + weight * (reward - of_log), weight, groups)


def item_position_value(
    clicked: ArrayLike,
    list_ids: Any,
    propensities: ArrayLike,
    probabilities: ArrayLike,
    *,
    clip: float | None = None,
) -> PolicyValue:
    r"""Estimate the clicks per list of a policy that ranks, from clicks with position bias [1]_.

    In the position-based click model, a user examines rank :math:`k` with probability :math:`e_k`,
    whatever the item, and clicks an examined item by taste. With :math:`\mu(i, k | x)` the
    probability that the logging policy shows item :math:`i` at rank :math:`k`, and :math:`\pi` the
    same for the target policy,

    .. math::

        \hat V = \frac{1}{n_\text{lists}} \sum_\text{rows} w\, c, \qquad
        w = \frac{\sum_k e_k\, \pi(i, k | x)}{\sum_k e_k\, \mu(i, k | x)}

    where :math:`c` is whether the shown item was clicked. It is unbiased if the click model holds
    and if the logging policy may show every item that the target policy may show. It needs far
    fewer lists than IPS over whole lists, which counts equal lists only.

    Parameters
    ----------
    clicked : array-like of shape (n,)
        One row per shown item: 1 where it was clicked, else 0.
    list_ids : array-like of shape (n,)
        Id of the list of each row. Lists are the independent units.
    propensities : array-like of shape (n,)
        Probability that the item is examined under the logging policy,
        :math:`\sum_k e_k\, \mu(i, k | x)`, above 0 and at most 1.
        :class:`~sklearn_recft.datasets.ClickSimulator` returns it with the clicks.
    probabilities : array-like of shape (n,)
        Probability that the item is examined under the target policy. If that is deterministic, it
        is :math:`e_k` for the rank of the item in the list of the target policy, and 0 if the item
        is not in the list.
    clip : float, default=None
        Largest weight, as in :func:`ips_value`.

    Returns
    -------
    estimate : PolicyValue
        ``value`` is the mean number of clicks of a list.

    Raises
    ------
    ValueError
        As in :func:`ips_value`.

    References
    ----------
    .. [1] S. Li, Y. Abbasi-Yadkori, B. Kveton, S. Muthukrishnan, V. Vinay and Z. Wen, "Offline
       evaluation of ranking policies with click models", KDD 2018.

    Examples
    --------
    Two items are shown in random order. The first rank is always examined, the second by every
    other user. How many clicks does the list ("tea", "milk") get?

    >>> from sklearn_recft.metrics import item_position_value
    >>> lists = [1, 1, 2, 2]
    >>> items = ["tea", "milk", "milk", "tea"]
    >>> clicked = [1, 0, 0, 1]
    >>> target = [{"tea": 1.0, "milk": 0.5}[item] for item in items]
    >>> round(item_position_value(clicked, lists, [0.75] * 4, target).value, 3)
    1.333
    """
    reward, weight = _weighted(clicked, propensities, probabilities, clip, "clicked")
    bad = ~np.isin(reward, (0, 1))
    if bad.any():
        raise ValueError(
            f"clicked: {int(bad.sum())} of {len(bad)} rows are other than 0 and 1; give 1 where "
            "the item was clicked, else 0."
        )
    codes, n_lists = _codes(list_ids, "list_ids", len(reward))
    return _mean_of(np.bincount(codes, weight * reward, n_lists), weight, None)


def _weighted(
    rewards: Any, propensities: Any, probabilities: Any, clip: float | None, name: str = "rewards"
) -> tuple[np.ndarray, np.ndarray]:
    """Check the columns of a log; return rewards and weights (n,)."""
    reward = _numbers(rewards, name)
    if not len(reward):
        raise ValueError(f"{name} is empty: at least one row is required.")
    logged = _numbers(propensities, "propensities", len(reward))
    target = _numbers(probabilities, "probabilities", len(reward))
    bad = (logged <= 0) | (logged > 1)
    if bad.any():
        raise ValueError(
            f"propensities: {int(bad.sum())} of {len(bad)} rows are not above 0 and at most 1; "
            "give the probability that the logging policy took the logged action."
        )
    bad = (target < 0) | (target > 1)
    if bad.any():
        raise ValueError(
            f"probabilities: {int(bad.sum())} of {len(bad)} rows are not between 0 and 1; give "
            "the probability that the target policy takes the logged action."
        )
    if clip is not None and (isinstance(clip, bool) or not (isinstance(clip, Real) and clip > 0)):
        raise ValueError(f"clip must be positive or None, got {clip!r}.")
    with np.errstate(over="ignore"):
        weight = np.minimum(target / logged, np.inf if clip is None else clip)
    bad = weight > np.finfo(np.float32).max
    if bad.any():
        raise ValueError(
            f"propensities: {int(bad.sum())} of {len(bad)} rows are so near 0 that their weights "
            "overflow; set clip, or fix these rows."
        )
    return reward, weight


def _numbers(values: Any, name: str, n_rows: int | None = None) -> np.ndarray:
    column = plain(values)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if column.ndim != 1:
        raise ValueError(f"{name} must be one column of shape (n,), got shape {column.shape}.")
    numbers = to_numbers(column, name)
    refuse_beyond_float32(numbers, name)
    if n_rows is not None and len(numbers) != n_rows:
        raise ValueError(f"{name} has {len(numbers)} rows where the log has {n_rows}.")
    return numbers


def _codes(ids: Any, name: str, n_rows: int) -> tuple[np.ndarray, int]:
    """Codes (n,) of ids from 0, and how many there are."""
    values = to_ids(ids, name)
    if values.shape != (n_rows,):
        raise ValueError(f"{name} has shape {values.shape} where the log has {n_rows} rows.")
    vocabulary = Vocabulary()
    return vocabulary.extend(values), len(vocabulary)


def _mean_of(terms: np.ndarray, weight: np.ndarray, groups: Any) -> PolicyValue:
    value = float(terms.mean())
    return _with_error(value, terms - value, weight, groups)


def _with_error(
    value: float, influence: np.ndarray, weight: np.ndarray, groups: Any
) -> PolicyValue:
    """Add the standard error, from what each row adds to the deviation of the estimate."""
    n_rows = n_units = len(influence)
    if groups is not None:
        codes, n_units = _codes(groups, "groups", n_rows)
        influence = np.bincount(codes, influence, n_units)
    squares = float(influence @ influence)
    # The deviations sum to 0, so their variance has n_units - 1 degrees of freedom.
    error = np.sqrt(squares * n_units / (n_units - 1)) / n_rows if n_units > 1 else np.nan
    total = weight.sum()
    size = float(total**2 / (weight @ weight)) if total else 0.0
    return PolicyValue(value, float(error), size, n_units)
