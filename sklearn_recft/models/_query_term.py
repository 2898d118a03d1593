"""A term of the score for search words: weighted similarities of their text to that of the item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.special import expit, logsumexp, softmax

# Before any row with a query: weights of the similarity of meanings, of words and of letters. If
# nothing else is known of the user, all-MiniLM-L6-v2 alone separates titles best with 20 to 30. The
# offset balances a similarity of meanings of 0.3.
_PRIOR_WEIGHTS, _PRIOR_OFFSET = (10.0, 5.0, 5.0), -3.0
_PRIOR_DEVIATION = 10.0, 10.0, 10.0, 3.0
_MOST_ROWS = 16_384  # what is remembered weighs at most as much as so many rows
_MAX_STEPS = 50
_ROWS_AT_ONCE = 128  # of `Choices`: bounds memory
Derivatives = tuple[float, np.ndarray, np.ndarray]


class Evidence(Protocol):
    """Rows with a query that were scored without it, before they were learned."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""

    def derivatives(self, mean: np.ndarray) -> Derivatives:
        """Return loss, gradient (k + 1,) and Hessian (k + 1, k + 1) at k weights and an offset."""


@dataclass(frozen=True)
class Choices:
    """Each row has taken one of several items: ``-log softmax(base + s w)`` of that one.

    Attributes
    ----------
    base : ndarray of shape (n, m)
        Scores without the query, -inf for items that are no choice. Column 0 is the item of the
        row.
    similarity : ndarray of shape (n, m, k)
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
        loss, gradient, hessian = 0.0, np.zeros(len(mean)), np.zeros((len(mean), len(mean)))
        for start in range(0, len(self.weight), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            similarity = self.similarity[part].astype(np.float64)  # (r, m, k)
            scores = self.base[part] + similarity @ mean[:-1]
            weight, losses = self.weight[part], logsumexp(scores, axis=1) - scores[:, 0]
            share = softmax(scores, axis=1)
            expected = np.einsum("rm,rmk->rk", share, similarity)
            away = similarity - expected[:, None]
            weighted = (weight[:, None] * share)[..., None] * away
            loss += float(weight @ losses)
            gradient[:-1] += weight @ (expected - similarity[:, 0])
            hessian[:-1, :-1] += np.tensordot(weighted, away, ((0, 1), (0, 1)))
        return loss, gradient, hessian


@dataclass(frozen=True)
class Labels:
    """Each row has a label 0 or 1: log-loss of ``sigmoid(base + s w + b)``.

    Attributes
    ----------
    base, label, weight : ndarray of shape (n,), float64
    similarity : ndarray of shape (n, k), float64
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
        inputs = np.column_stack([self.similarity, np.ones(len(self.base))])
        logits = self.base + inputs @ mean
        losses = np.logaddexp(0.0, logits) - self.label * logits
        chance = expit(logits)
        curvature = self.weight * chance * (1 - chance)
        gradient = inputs.T @ (self.weight * (chance - self.label))
        return float(self.weight @ losses), gradient, inputs.T @ (curvature[:, None] * inputs)


class QueryTerm:
    """``w s(query, item) + b``, added to the score of a row that has search words.

    There are three similarities s: the cosine of meanings, and those of words and of letters of
    `LexicalIndex`. Weights and offset are the mode of a posterior: a normal prior, and a likelihood
    of the rows with a query, whose scores without it are given. The next rows start from a normal
    approximation at the mode (Laplace), so updates need no stored rows. Immutable: `after` returns
    a new object.

    Attributes
    ----------
    mean : ndarray of shape (4,)
        Weights of the similarities of meanings, words and letters, and the offset.
    precision : ndarray of shape (4, 4)
    n_rows : int
        Number of rows with a query that were learned.
    """

    def __init__(self) -> None:
        self.mean = np.array([*_PRIOR_WEIGHTS, _PRIOR_OFFSET])
        self.precision = np.diag(1 / np.square(_PRIOR_DEVIATION))
        self.n_rows = 0

    @property
    def weight(self) -> float:
        """Weight of the similarity of meanings."""
        return float(self.mean[0])

    @property
    def lexical_weights(self) -> np.ndarray:
        """Weights of the similarities of words and of letters, (2,)."""
        return self.mean[1:-1]

    def of(self, similarity: np.ndarray) -> np.ndarray:
        """Return the part of similarities of meanings, in any shape, with the offset."""
        term: np.ndarray = self.mean[0] * similarity + self.mean[-1]
        return term

    def of_lexical(self, similarities: np.ndarray) -> np.ndarray:
        """Return the part (n,) of the similarities of words and of letters, (2, n)."""
        term: np.ndarray = self.lexical_weights @ similarities
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
