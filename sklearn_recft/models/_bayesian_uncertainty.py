"""Uncertainty of predictions, lists that explore, and the items whose ratings would tell most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from sklearn_recft.models._bayesian_labels import moderated
from sklearn_recft.models._bayesian_table import square
from sklearn_recft.ranking import TileScorer, dot_tiles

_PAIRS_AT_ONCE = 2**21  # of users and items in `most_telling`: bounds memory


@dataclass(frozen=True)
class Gaussians:
    """Posteriors of n users or items, row by row.

    Attributes
    ----------
    means : ndarray of shape (n, D)
        Of ``[bias, factors]``.
    covariances : ndarray of shape (n, D (D + 1) / 2)
        Upper triangles.
    """

    means: np.ndarray
    covariances: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Gaussians:
        """Return the same at ``rows``."""
        return Gaussians(self.means[rows], self.covariances[rows])

    @property
    def inputs(self) -> np.ndarray:
        """The means with 1 in place of the bias: x of the other side's regression."""
        x = self.means.copy()
        x[:, 0] = 1.0
        return x

    def squares(self) -> np.ndarray:
        """Return the triangles of ``E[x] E[x]^T``."""
        return outer(self.inputs)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a vector from each of the posteriors, (n, D)."""
        factors = np.linalg.cholesky(square(self.covariances))
        noise = rng.standard_normal(self.means.shape)
        drawn: np.ndarray = self.means + np.einsum("nij,nj->ni", factors, noise)
        return drawn


def outer(vectors: np.ndarray) -> np.ndarray:
    """Return the triangles of ``v v^T`` of vectors (n, D)."""
    row, column = np.triu_indices(vectors.shape[1])
    products: np.ndarray = vectors[:, row] * vectors[:, column]
    return products


def variance_terms(users: Gaussians, items: Gaussians) -> tuple[np.ndarray, np.ndarray]:
    """Return arrays whose row-wise dot products are variances of ``c_u + b_i + p_u . q_i``.

    With the covariances S of ``w = [c, p]`` and T of ``[b, q]``, the variance is
    ``tr(S E[x x^T]) + y^T T y`` with ``x = [1, q]`` and ``y = [1, E[p]]``.
    """
    d = users.means.shape[1]
    row, column = np.triu_indices(d)
    twice = np.where(row == column, 1.0, 2.0)  # a triangle holds half of the other elements
    moments = items.squares()
    moments[:, d:] += items.covariances[:, d:]
    left = np.concatenate([users.covariances * twice, users.squares() * twice], axis=1)
    return left, np.concatenate([moments, items.covariances], axis=1)


def variances(users: Gaussians, items: Gaussians) -> np.ndarray:
    """Return the variance of ``c_u + b_i + p_u . q_i`` of each row, (n,)."""
    left, right = variance_terms(users, items)
    found: np.ndarray = np.einsum("nk,nk->n", left, right)
    return found


def probabilities(users: Gaussians, items: Gaussians, center: float) -> np.ndarray:
    """Return the expected probability of the log-odds of each row, (n,)."""
    means = center + items.means[:, 0] + np.einsum("nk,nk->n", users.means, items.inputs)
    found: np.ndarray = expit(moderated(means, variances(users, items)))
    return found


def bonus_tiles(
    users: Gaussians, items: Gaussians, share: float, center: float, scale: float
) -> TileScorer:
    """Return a function that writes the mean plus ``share`` standard deviations."""
    means = score_tiles(users.means, items.means, center, scale)
    left, right = variance_terms(users, items)
    spread, factor = score_of_dots(left, right), np.float32(share * scale)

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        bonus = np.empty_like(out)
        spread(r0, r1, c0, c1, bonus)
        means(r0, r1, c0, c1, out)
        out += factor * np.sqrt(np.maximum(bonus, 0))

    return score


def moderated_tiles(users: Gaussians, items: Gaussians, center: float) -> TileScorer:
    """Return a function that writes the log-odds of expected probabilities (see `moderated`)."""
    means = score_tiles(users.means, items.means, center, 1.0)
    # In float64, so that equal users have equal scores: sums of products depend on where rows stand
    # in a tile, and these differences vanish where the result is rounded to float32.
    left, right = variance_terms(users, items)
    spread = dot_tiles(left, right, np.zeros(len(right)), np.zeros(len(left)))

    def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        variance = np.empty(out.shape)
        spread(r0, r1, c0, c1, variance)
        means(r0, r1, c0, c1, out)
        out[:] = moderated(out, variance)

    return score


def score_tiles(user: np.ndarray, item: np.ndarray, center: float, scale: float) -> TileScorer:
    """Return a function that writes ``center + scale (c_u + b_i + p_u . q_i)``."""
    return dot_tiles(
        np.ascontiguousarray(scale * user[:, 1:], np.float32),
        np.ascontiguousarray(item[:, 1:], np.float32),
        (scale * item[:, 0]).astype(np.float32),
        (center + scale * user[:, 0]).astype(np.float32),
    )


def score_of_dots(left: np.ndarray, right: np.ndarray) -> TileScorer:
    """Return a function that writes the dot products of rows, in float32."""
    p, q = left.astype(np.float32), right.astype(np.float32)
    return dot_tiles(p, q, np.zeros(len(q), np.float32), np.zeros(len(p), np.float32))


def most_telling(
    users: Gaussians, items: Gaussians, noise: np.ndarray, allowed: np.ndarray, n_items: int
) -> np.ndarray:
    """Choose the items whose feedback lowers the mean variance over all items most.

    A rating of item j lowers the covariance S of a user by ``S x x^T S / (v + noise)``, with
    ``x = [1, E[q_j]]`` and the variance v of the prediction. So it lowers the mean of ``x^T S x``
    over the catalogue by ``x^T S C S x / (v + noise)``, with the mean C of ``E[x x^T]``. The fall
    does not depend on the rating: items are chosen one after the other, each given those before.

    Parameters
    ----------
    users, items : Gaussians
    noise : ndarray of shape (n_all,)
        Variance of the noise of an answer about each item.
    allowed : ndarray of shape (n_users, n_all), bool
        Items that may be chosen: at least ``n_items`` in each row.
    n_items : int

    Returns
    -------
    chosen : ndarray of shape (n_users, n_items), int64
        Rows of ``items``, in the order of choice.
    """
    step = max(1, _PAIRS_AT_ONCE // max(len(items.means), 1))
    parts = [np.empty((0, n_items), np.int64)]
    for start in range(0, len(users.means), step):
        some = slice(start, start + step)
        parts.append(_most_telling(users.take(some), items, noise, allowed[some].copy(), n_items))
    return np.concatenate(parts)


def _most_telling(
    users: Gaussians, items: Gaussians, noise: np.ndarray, allowed: np.ndarray, n_items: int
) -> np.ndarray:
    d = users.means.shape[1]
    row, column = np.triu_indices(d)
    twice = np.where(row == column, 1.0, 2.0)
    x, squares = items.inputs, items.squares()
    mean = squares.copy()
    mean[:, d:] += items.covariances[:, d:]
    catalogue, spread = square(mean.mean(axis=0)), square(users.covariances)
    chosen = np.empty((len(allowed), n_items), np.int64)
    rows = np.arange(len(allowed))
    for place in range(n_items):
        now = Gaussians(users.means, spread[:, row, column])
        left, right = variance_terms(now, items)
        total = left @ right.T + noise
        fall = np.einsum("nij,jk,nkl->nil", spread, catalogue, spread, optimize=True)
        gain = (fall[:, row, column] * twice) @ squares.T / total
        best = np.where(allowed, gain, -np.inf).argmax(axis=1)
        chosen[:, place] = best
        allowed[rows, best] = False
        moved = np.einsum("nij,nj->ni", spread, x[best])
        spread = spread - moved[:, :, None] * moved[:, None, :] / total[rows, best][:, None, None]
    return chosen
