"""Surprise: how much larger the errors of new rows are than those of the rows before them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Rows that count in the fast mean of errors, and in the slow one.
_FAST, _SLOW = 256.0, 5000.0
# Ratio of the two from which on the new rows contradict what was learned.
_MANY = 1.5
# Most passes over rows that contradict, and their batch size. The rate is this factor of a fit's.
_EPOCHS, BATCH, RATE = 20, 128, 3.0


@dataclass(frozen=True)
class Surprise:
    """A fast and a slow mean of the errors of rows before they are learned.

    If the weights of a stream turn, so that equal rows get other feedback, rehearsal of old rows
    keeps a net from following. The fast mean then leaves the slow one behind.

    Examples
    --------
    >>> from sklearn_recft.models._surprise import Surprise
    >>> calm = Surprise(1.0, 1.0)
    >>> calm.after(1.1, 500).epochs, calm.after(9.0, 500).epochs
    (0, 20)
    """

    fast: float
    slow: float

    def after(self, error: float, n_rows: int) -> Surprise:
        """Return the means after rows of this mean error."""
        fast, slow = (-np.expm1(-n_rows / size) for size in (_FAST, _SLOW))
        return Surprise(
            float(self.fast + fast * (error - self.fast)),
            float(self.slow + slow * (error - self.slow)),
        )

    @property
    def ratio(self) -> float:
        """The fast mean divided by the slow one; 1 without errors."""
        return self.fast / self.slow if self.slow > 0 else 1.0

    @property
    def epochs(self) -> int:
        """Number of passes over new rows that contradict what was learned; else 0."""
        if not self.ratio > _MANY:
            return 0
        return int(np.clip(round(_EPOCHS * (self.ratio - 1) / 2), 1, _EPOCHS))


def mean_error(scores: np.ndarray, target: np.ndarray, loss: str) -> float:
    """Return the weighted mean loss, at least 0, of scores; ``target`` (n, 2): values, weights."""
    value, weight = target.T.astype(np.float64)
    if loss == "squared_error":
        each = np.square(scores - value)
    elif loss == "log_loss":
        each = np.logaddexp(0, scores) - scores * value
    else:  # the deviance of counts: 0 where the rate is the count
        rate = np.exp(np.minimum(scores, 15.0))
        each = (
            rate
            - value
            + np.where(value > 0, value * (np.log(np.maximum(value, 1e-9)) - scores), 0)
        )
    return float(np.average(each, weights=weight))
