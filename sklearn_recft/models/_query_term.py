"""A term of the score for search words: the similarity of their text to that of the item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit, logsumexp, softmax

# Before any row with a query: all-MiniLM-L6-v2 separates titles best with weights of 20 to 30, if
# nothing else is known of the user. The offset balances it at a similarity of 0.3.
_PRIOR_WEIGHT, _PRIOR_OFFSET = 10.0, -3.0
_PRIOR_DEVIATION = 10.0, 3.0
_MOST_ROWS = 16_384  # what is remembered weighs at most as much as so many rows
_MAX_STEPS = 50
Derivatives = tuple[float, np.ndarray, np.ndarray]


class Evidence(Protocol):
    """Rows with a query that were scored without it, before they were learned."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    def derivatives(self, mean: np.ndarray) -> Derivatives:
        """Return loss, gradient (2,) and Hessian (2, 2) at a weight and an offset."""


@dataclass(frozen=True)
class Choices:
    """Each row has taken one of several items: ``-log softmax(base + w s)`` of that one.

    Attributes
    ----------
    base, similarity : ndarray of shape (n, m), float64
        Scores without the query, -inf for items that are no choice, and similarities. Column 0 is
        the item of the row.
    weight : ndarray of shape (n,)
        Sample weights.
    """

    base: np.ndarray
    similarity: np.ndarray
    weight: np.ndarray

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.weight)

    def derivatives(self, mean: np.ndarray) -> Derivatives:
        """Return loss, gradient and Hessian; the offset, common to all items, has none."""
        scores = self.base + mean[0] * self.similarity
        losses = logsumexp(scores, axis=1) - scores[:, 0]
        share = softmax(scores, axis=1)
        expected = (share * self.similarity).sum(1)
        variance = (share * self.similarity**2).sum(1) - expected**2
        gradient = np.array([self.weight @ (expected - self.similarity[:, 0]), 0.0])
        return float(self.weight @ losses), gradient, np.diag([self.weight @ variance, 0.0])


@dataclass(frozen=True)
class Labels:
    """Each row has a label 0 or 1: log-loss of ``sigmoid(base + w s + b)``.

    Attributes
    ----------
    base, similarity, label, weight : ndarray of shape (n,), float64
    n_rows : int
        Number of rows of the log; the others are sampled negatives.
    """

    base: np.ndarray
    similarity: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    n_rows: int

    def derivatives(self, mean: np.ndarray) -> Derivatives:
        """Return loss, gradient and Hessian."""
        logits = self.base + mean[0] * self.similarity + mean[1]
        losses = np.logaddexp(0.0, logits) - self.label * logits
        chance = expit(logits)
        inputs = np.column_stack([self.similarity, np.ones(len(logits))])
        curvature = self.weight * chance * (1 - chance)
        gradient = inputs.T @ (self.weight * (chance - self.label))
        return float(self.weight @ losses), gradient, inputs.T @ (curvature[:, None] * inputs)


class QueryTerm:
    """``w cos(query, item) + b``, added to the score of a row that has search words.

    Weight and offset are the mode of a posterior: a normal prior, and a likelihood of the rows
    with a query, whose scores without it are given. The next rows start from a normal
    approximation at the mode (Laplace), so updates need no stored rows. Immutable: `after` returns
    a new object.

    Attributes
    ----------
    mean : ndarray of shape (2,)
        Weight and offset.
    precision : ndarray of shape (2, 2)
    n_rows : int
        Number of rows with a query that were learned.
    """

    def __init__(self) -> None:
        self.mean = np.array([_PRIOR_WEIGHT, _PRIOR_OFFSET])
        self.precision = np.diag(1 / np.square(_PRIOR_DEVIATION))
        self.n_rows = 0

    @property
    def weight(self) -> float:
        """Weight w of the similarity."""
        return float(self.mean[0])

    def of(self, similarity: np.ndarray) -> np.ndarray:
        """Return the term of similarities, in any shape."""
        term: np.ndarray = self.mean[0] * similarity + self.mean[1]
        return term

    def after(self, evidence: list[Evidence]) -> QueryTerm:
        """Return the term after further rows; the order of the list does not matter."""
        n_new = sum(rows.n_rows for rows in evidence)
        if not n_new:
            return self
        mean, (loss, gradient, hessian) = self.mean, self._posterior(self.mean, evidence)
        for _ in range(_MAX_STEPS):
            step, size = np.linalg.solve(hessian, gradient), 1.0
            if float(gradient @ step) < 1e-12:
                break
            found = self._posterior(mean - step, evidence)
            while found[0] > loss and size > 1e-6:
                size /= 2
                found = self._posterior(mean - size * step, evidence)
            if found[0] > loss:
                break
            mean, (loss, gradient, hessian) = mean - size * step, found
        term = QueryTerm()
        term.n_rows = self.n_rows + n_new
        kept = min(1.0, _MOST_ROWS / (min(self.n_rows, _MOST_ROWS) + n_new))
        term.mean, term.precision = mean, hessian * kept
        return term

    def _posterior(self, mean: np.ndarray, evidence: list[Evidence]) -> Derivatives:
        """Return the negative log-posterior, its gradient and its Hessian."""
        away = mean - self.mean
        parts = [rows.derivatives(mean) for rows in evidence]
        loss = 0.5 * float(away @ self.precision @ away) + sum(part[0] for part in parts)
        gradient = self.precision @ away + sum(part[1] for part in parts)
        return loss, gradient, self.precision + sum(part[2] for part in parts)

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> None:
        """Return None: a term never changes in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: a term never changes in place."""

    def state(self) -> dict[str, Any]:
        """Return the arrays by name."""
        return dict(vars(self))

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.mean, self.precision = state["mean"], state["precision"]
        self.n_rows = state["n_rows"]

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: there is no state per user."""
