"""Guard an update: compare the model before and after it on the next events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import Bunch
from sklearn.utils.validation import _num_samples

from sklearn_recft.columns import is_real, to_feedback
from sklearn_recft.interactions import items_of, users_of
from sklearn_recft.model_selection._replay import predict_feedback

# Bets of the tests, as shares of the wealth; their average is a bet on an unknown effect.
_BETS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
# A difference counts up to so many times the mean absolute difference so far.
_CLIP = 10.0
# Update rows from which inputs are checked, and earlier updates from which they are compared.
_FEW_ROWS, _FEW_UPDATES = 30, 5
# Labels contradict the model if they agree with it less than so much of what the next events do.
_AGREEMENT = 0.5
# Rows of the mean of all users in the mean of one.
_SHRINKAGE = 5.0
# An input is unusual if it lies so many standard deviations from those of earlier updates.
_UNUSUAL = 5.0

# Inputs that are compared with those of earlier updates.
_CHECKED = ("label_mean", "label_std", "user_share", "item_share", "new_users", "new_items")

_Loss = Callable[[Any, Any, Any], np.ndarray]


class Guard:
    """Decide whether an update is kept, by comparing the model before and after on new events.

    Copy the model, update it, call `begin` with both, and pass the next events to `update` until
    its verdict is no longer ``"watch"``. The tests are anytime-valid: the error rate holds even if
    you call `update` after every event. `Guard` changes no model. To roll back, continue with the
    copy from before the update.

    Parameters
    ----------
    loss : {"squared_error", "log_loss"} or callable, default="squared_error"
        Loss of each event. A callable ``loss(estimator, X, y)`` returns shape (n,), for
        instance one minus the reciprocal rank of the item.
    alpha : float, default=0.005
        Bound on the probability of each wrong decision.
    tolerance : float, default=0.03
        An update may be worse by this share of the loss.

    Attributes
    ----------
    verdict_ : {"promote", "watch", "roll back"}
        "watch": the events do not suffice for a decision yet. The other two are final.
    reason_ : str
        Explanation of the verdict.
    warnings_ : list of str
        What is unusual in the rows of the update. After a warning, an update is promoted only if
        it is better than the model before.
    inputs_ : Bunch
        ``label_mean``, ``label_std``, ``user_share`` and ``item_share`` (rows of the most frequent
        id), ``new_users``, ``new_items`` (shares of rows), ``loss`` of the model before, and
        ``agreement`` of the labels with it, with its standard error (NaN if not compared).
    n_events_ : int
        Events compared.
    gain_ : float
        Mean loss of the model before, minus that of the model after.

    Notes
    -----
    Tests are products of bets (e-processes, Waudby-Smith & Ramdas 2023). The value of one is at
    least ``1 / alpha`` at any time with a probability of at most ``alpha`` if its hypothesis is
    true. Values beyond ten times the mean absolute value so far are clipped.

    1. Loss: is the model after worse than the model before by more than ``tolerance``? Both
       answers are tested, on the difference of the losses of each event.
    2. Agreement: do the labels of the update agree with the model before? The agreement of an event
       is the product of its prediction and its label, both less the mean of the user so far. That
       of the update is compared with half of that of the next events.

    An update is rolled back if the model is worse, or if its labels agree too little. It is
    promoted if the model is better, or if the model is not worse and the labels agree. The second
    test finds labels that are shuffled or reversed before they do much harm. If tastes have
    changed, the next events agree as little, and the update stays. It needs an update of at least
    30 rows, and a loss that is no callable.

    Inputs are compared with those of the last 100 promoted updates, once there are 5.

    References
    ----------
    Waudby-Smith, I., & Ramdas, A. (2023). Estimating means of bounded random variables by betting.
    JRSS B 86(1).

    Examples
    --------
    >>> import copy
    >>> from sklearn_recft import IncrementalMFRecommender
    >>> from sklearn_recft.datasets import make_interactions
    >>> from sklearn_recft.model_selection import Guard
    >>> X, y = make_interactions(60, 50, 6000, random_state=0, return_X_y=True)
    >>> model = IncrementalMFRecommender(n_factors=8, random_state=0).fit(X[:3000], y[:3000])
    >>> before, wrong = copy.deepcopy(model), 6 - y[3000:4000]
    >>> guard = Guard().begin(before, model.partial_fit(X[3000:4000], wrong), X[3000:4000], wrong)
    >>> guard.update(X[4000:4500], y[4000:4500])
    'roll back'
    >>> model = before
    """

    def __init__(
        self,
        *,
        loss: str | _Loss = "squared_error",
        alpha: float = 0.005,
        tolerance: float = 0.03,
    ) -> None:
        if not callable(loss) and (not isinstance(loss, str) or loss not in _LOSSES):
            raise ValueError(f"loss must be a function or among {sorted(_LOSSES)}, got {loss!r}.")
        if not (is_real(alpha) and 0 < alpha < 1):
            raise ValueError(f"alpha must be a number between 0 and 1, got {alpha!r}.")
        if not (is_real(tolerance) and 0 <= tolerance < np.inf):
            raise ValueError(f"tolerance must be a number of at least 0, got {tolerance!r}.")
        self.loss = loss
        self.alpha = alpha
        self.tolerance = tolerance
        self._past: deque[Bunch] = deque(maxlen=100)
        self._models: tuple[Any, Any] | None = None

    def begin(self, before: Any, after: Any, X: Any, y: Any = None) -> Guard:
        """Begin to compare two models.

        Parameters
        ----------
        before : recommender
            As it was before the update, such as ``copy.deepcopy(model)``.
        after : recommender
            The model after ``partial_fit(X, y)``, another object than ``before``.
        X, y : rows of the update

        Returns
        -------
        self : object
        """
        if before is after:
            raise ValueError(
                "Guard.begin: before and after are one object, and partial_fit changes a model in "
                "place. Copy it before the update: before = copy.deepcopy(model)."
            )
        for name, model in (("before", before), ("after", after)):
            if not callable(self.loss) and (
                isinstance(model, type) or not hasattr(model, "predict")
            ):
                raise TypeError(f"{name} must be a fitted recommender, got {model!r}.")
        inputs = self._inputs_of(before, X, y)
        self._models = before, after
        self.inputs_ = inputs
        self.warnings_ = self._unusual(inputs)
        self.verdict_, self.reason_ = "watch", "No events yet."
        self.n_events_, self.gain_, self._loss = 0, 0.0, _RunningMean()
        self._worse, self._good, self._better = _Bets(), _Bets(), _Bets()
        self._half, self._whole, self._agrees = _Bets(), _Bets(), _Bets()
        self._agreement = _Agreement()
        return self

    def update(self, X: Any, y: Any = None) -> str:
        """Compare both models on further events, which neither has learned; return the verdict.

        Parameters
        ----------
        X, y : rows in time order

        Returns
        -------
        verdict : {"promote", "watch", "roll back"}
        """
        if self._models is None:
            raise ValueError("Guard.update: call begin with both models first.")
        if self.verdict_ != "watch":
            return self.verdict_
        users, labels = users_of(X), self._labels(X, y)
        before, after = (self._losses(model, X, labels) for model in self._models)
        agreement = np.zeros(len(before))
        if self._compares_labels:
            predictions = predict_feedback(self._models[0], X)
            agreement = self._agreement.of(users, predictions, labels)
        self._learn(before, after, agreement)
        return self.verdict_

    @property
    def _compares_labels(self) -> bool:
        """Whether the labels of the update can be compared with the model before."""
        return bool(np.isfinite(self.inputs_.agreement))

    def _learn(self, before: np.ndarray, after: np.ndarray, agreement: np.ndarray) -> None:
        """Bet on events, and decide at the first that is enough."""
        gain = before - after
        usual = self._loss.before_each(before)
        inputs, sure = self.inputs_, 1 / self.alpha
        worse = self._worse.add(-gain - self.tolerance * usual) >= sure
        better = self._better.add(gain) >= sure
        good = self._good.add(gain + self.tolerance * usual) >= sure
        differs = np.zeros(len(gain), dtype=bool)
        if self._compares_labels:
            # Half of the agreement of the next events; all of it where it is negative.
            least = inputs.agreement + inputs.agreement_error
            half = self._half.add(_AGREEMENT * agreement - least) >= sure
            differs = half & (self._whole.add(agreement - least) >= sure)
            good &= self._agrees.add(least - _AGREEMENT * agreement) >= sure
        good = better | (good & (not self.warnings_))
        enough = np.flatnonzero(worse | differs | good)
        n = int(enough[0]) + 1 if len(enough) else len(gain)
        total = self.gain_ * self.n_events_ + gain[:n].sum()
        self.n_events_ += n
        self.gain_ = float(total / max(self.n_events_, 1))
        self.reason_ = f"{self.n_events_} events do not tell yet."
        if len(enough):
            self._decide(bool(worse[n - 1]), bool(differs[n - 1]))

    def _decide(self, worse: bool, differs: bool) -> None:
        """Write the verdict."""
        self.verdict_ = "roll back" if worse or differs else "promote"
        self.reason_ = f"The loss changed by {-self.gain_:.3g} per event."
        if differs and not worse:
            self.reason_ = (
                "The labels of the update contradict the model before, the next events do not."
            )
        if self.verdict_ == "promote":
            self._past.append(self.inputs_)

    def _losses(self, estimator: Any, X: Any, y: Any) -> np.ndarray:
        """Return the loss of each row."""
        loss = self.loss if callable(self.loss) else _LOSSES[self.loss]
        values = np.asarray(loss(estimator, X, y), dtype=np.float64)
        n_rows = _num_samples(X)
        if values.shape != (n_rows,):
            raise ValueError(
                f"loss must return one number for each of the {n_rows} rows, got the shape "
                f"{values.shape}."
            )
        bad = int((~np.isfinite(values)).sum())
        if bad:
            raise ValueError(f"loss: {bad} of {len(values)} rows have a loss that is NaN or "
                             "infinite; leave these rows out.")  # fmt: skip
        return values

    def _labels(self, X: Any, y: Any) -> Any:
        """Check feedback that a loss by name reads; a callable gets what was given."""
        if callable(self.loss):
            return y
        if y is None:
            raise ValueError(
                f"y is None, and loss={self.loss!r} needs feedback. Pass y, or a function "
                "loss(estimator, X, y) that needs none, such as one minus the reciprocal rank."
            )
        labels = to_feedback(y, _num_samples(X))
        wrong = int(((labels < 0) | (labels > 1)).sum()) if self.loss == "log_loss" else 0
        if wrong:
            raise ValueError(
                f"y: {wrong} of {len(labels)} rows are not between 0 and 1, as loss='log_loss' "
                "needs; give y > threshold, or use 'squared_error'."
            )
        return labels

    def _inputs_of(self, before: Any, X: Any, y: Any) -> Bunch:
        """Describe the rows of an update."""
        users, items = users_of(X), items_of(X)
        given = self._labels(X, y)
        labels = np.ones(len(users)) if y is None else to_feedback(y, len(users))
        agreement, error = np.nan, np.nan
        if len(users) >= _FEW_ROWS and not callable(self.loss):
            values = _Agreement().of(users, predict_feedback(before, X), labels)
            agreement, error = float(values.mean()), float(values.std() / np.sqrt(len(values)))
        return Bunch(
            n_rows=len(users),
            label_mean=float(labels.mean()),
            label_std=float(labels.std()),
            user_share=_largest_share(users),
            item_share=_largest_share(items),
            new_users=_share_of_new(users, getattr(before, "user_ids_", None)),
            new_items=_share_of_new(items, getattr(before, "item_ids_", None)),
            loss=float(self._losses(before, X, given).mean()),
            agreement=agreement,
            agreement_error=error,
        )

    def _unusual(self, inputs: Bunch) -> list[str]:
        """Say in what an update differs from earlier ones."""
        found = []
        if len(self._past) >= _FEW_UPDATES:
            for name in _CHECKED:
                value = inputs[name]
                past = np.array([earlier[name] for earlier in self._past], dtype=np.float64)
                center, width = past.mean(), past.std() + 0.02 * abs(past.mean()) + 1e-3
                if abs(value - center) > _UNUSUAL * width:
                    found.append(f"{name} is {value:.3g}; earlier updates have {center:.3g}.")
        return found


class _Agreement:
    """Products of prediction and label, both less the mean of the user so far."""

    def __init__(self) -> None:
        self._all = np.zeros(3)  # rows, sum of predictions, sum of labels
        self._users: dict[Any, np.ndarray] = {}

    def of(self, users: np.ndarray, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the product of each row, (n,); means are those before the row."""
        found = np.zeros(len(users))
        for row, user in enumerate(users.tolist()):
            one = np.array([1.0, predictions[row], labels[row]])
            seen = self._users.setdefault(user, np.zeros(3))
            if self._all[0]:
                seen_and_all = seen + _SHRINKAGE * self._all / self._all[0]
                found[row] = np.prod(one[1:] - seen_and_all[1:] / seen_and_all[0])
            seen += one
            self._all += one
        return found


class _Bets:
    """Wealth of bets that the mean of a sequence is above 0: an e-process.

    If every mean, given the past, is at most 0, the wealth exceeds 1 / alpha with a probability of
    at most alpha (Ville's inequality).
    """

    def __init__(self) -> None:
        self._log_wealth = np.zeros(len(_BETS))
        self._size = _RunningMean()

    def add(self, values: np.ndarray) -> np.ndarray:
        """Bet on values in turn, each stake by earlier values alone; return the wealth after each.

        The wealth, shape (n,), is the average over all stakes.
        """
        size = self._size.before_each(np.abs(values))
        bounded = np.divide(values, _CLIP * size, out=np.zeros(len(values)), where=size > 0)
        bounded = np.clip(bounded, -1.0, 1.0)
        logs = self._log_wealth + np.cumsum(np.log1p(bounded[:, None] * _BETS), axis=0)
        if len(logs):
            self._log_wealth = logs[-1]
        return np.exp(np.minimum(logs, 700)).mean(axis=1)


class _RunningMean:
    """Mean of all earlier values."""

    def __init__(self) -> None:
        self._n, self._total = 0, 0.0

    def before_each(self, values: np.ndarray) -> np.ndarray:
        """Add values; return the mean before each, (n,), 0 before the first."""
        totals = self._total + np.r_[0.0, np.cumsum(values)]
        counts = self._n + np.arange(len(values) + 1)
        self._n, self._total = int(counts[-1]), float(totals[-1])
        return totals[:-1] / np.maximum(counts[:-1], 1)


def _squared_error(estimator: Any, X: Any, y: Any) -> np.ndarray:
    return (predict_feedback(estimator, X) - y) ** 2


def _log_loss(estimator: Any, X: Any, y: Any) -> np.ndarray:
    p = np.clip(predict_feedback(estimator, X), 1e-6, 1 - 1e-6)
    return -y * np.log(p) - (1 - y) * np.log1p(-p)


_LOSSES: dict[str, _Loss] = {"squared_error": _squared_error, "log_loss": _log_loss}


def _largest_share(ids: np.ndarray) -> float:
    """Return the share of the most frequent id."""
    return float(np.unique(ids.astype(str), return_counts=True)[1].max() / len(ids))


def _share_of_new(ids: np.ndarray, known: Any) -> float:
    """Return the share of rows whose id is not known."""
    if known is None:
        return 0.0
    return float((~np.isin(ids.astype(str), np.asarray(known).astype(str))).mean())
