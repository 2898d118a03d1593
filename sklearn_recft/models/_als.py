"""Alternating least squares: factors of users and items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from sklearn_recft import kernels
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._progress import Epochs, evenly
from sklearn_recft.models._user_item import UserItemModel, UserItemSettings, by_item
from sklearn_recft.parallel import blas_threads, in_threads
from sklearn_recft.ranking import TileScorer, cosine_tiles, dot_tiles

_STEPS = 3  # of conjugate gradients for each row, in `fit`


@dataclass(frozen=True)
class ALSSettings(UserItemSettings):
    """Settings of `ALSModel`, from the estimator; ``seed`` draws the initial factors."""

    n_factors: int = 64
    reg: float = 30.0
    alpha: float = 3.0
    max_epochs: int = 15
    seed: int | None = None
    verbose: int = 0


class ALSModel(UserItemModel):
    """Factors of users and items.

    Attributes
    ----------
    user_factors : ndarray of shape (n_users, n_factors), float32
    item_factors : ndarray of shape (n_items, n_factors), float32
    """

    kind = "ALSRecommender"
    _HAS_RATE = False
    settings: ALSSettings
    # Factors (1, n_factors) of unknown users in a view by `with_history`; None is the users' mean.
    unknown_user: np.ndarray | None = None

    def __init__(self, rows: Interactions, settings: ALSSettings) -> None:
        super().__init__(rows, settings)
        self.user_factors = np.zeros((0, settings.n_factors), np.float32)
        self.item_factors = np.zeros((0, settings.n_factors), np.float32)
        self.seed = settings.seed

    def score(self, events: Events) -> np.ndarray:
        """Return ``p_u . q_i`` of rows."""
        p, q = self._users(events.user), self._items(events.item)
        return np.einsum("nk,nk->n", p, q, dtype=np.float64)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes ``p_u . q_i``."""
        p, q = self._users(users), self.item_factors
        if len(columns) < len(q):
            q = q[columns]
        return dot_tiles(p, q, np.zeros(len(q), np.float32), np.zeros(len(p), np.float32))

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item factors."""
        return cosine_tiles(self.item_factors, items)

    def explain(self, events: Events) -> Explanation:
        """Return ``p_u . q_i`` as a sum over the user's items (Hu et al. 2008, section 5).

        With ``A_u = sum_j c_uj q_j q_j^T + reg I`` over all j, the solution for a user is
        ``p_u = A_u^-1 sum_j c_uj [x_uj > 0] q_j``. The factors in use may not be that solution, so
        there is a remainder.
        """
        matrix = self.feedback.total()
        wanted = self._items(events.item).astype(np.float64)
        fixed = self._gram() + self.settings.reg * np.eye(wanted.shape[1])
        parts = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
        order = np.argsort(events.user, kind="stable")
        users, first = np.unique(events.user[order], return_index=True)
        for user, rows in zip(users.tolist(), np.split(order, first[1:]), strict=True):
            if user < 0:
                continue
            own = matrix[[user]]
            values = own.data * float(self.settings.alpha)
            near = self._items(own.indices).astype(np.float64)
            square = fixed + (near.T * np.abs(values)) @ near
            weight = np.where(values > 0, 1 + values, 0.0)
            shares = (wanted[rows] @ np.linalg.solve(square, near.T)) * weight  # (rows, own)
            codes = np.tile(own.indices.astype(np.int64), len(rows))
            parts.append((np.repeat(rows, len(weight)), codes, shares.ravel()))
        row, item, value = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        remainder = self.score(events) - np.bincount(row, value, len(events))
        return Explanation.of_parts(len(events), (row, item, value), {"remainder": remainder})

    def with_history(self, rows: Interactions) -> ALSModel:
        """Return a view with the users of these events, folded in given the items."""
        view: ALSModel = super().with_history(rows)  # type: ignore[assignment]
        view.unknown_user = self._users(np.array([-1]))
        users, n_factors = np.arange(view.n_users), self.settings.n_factors
        view.user_factors = np.zeros((len(users), n_factors), np.float32)
        if len(users):
            self._fold_in(users, view.feedback.total(), view.user_factors)
        return view

    def _fold_in(self, users: np.ndarray, matrix: csr_array, factors: np.ndarray) -> None:
        """Solve for ``users``, rows of ``factors``, given the items."""
        with blas_threads(1):
            self._sweep(users, matrix, self.item_factors, factors, 2 * factors.shape[1])

    def _users(self, codes: np.ndarray) -> np.ndarray:
        """Return the factors of users, and the mean of all for -1."""
        if self.unknown_user is None:
            return _rows(self.user_factors, codes)
        return np.concatenate([self.user_factors, self.unknown_user])[codes]

    def _items(self, codes: np.ndarray) -> np.ndarray:
        """Return the factors of items, and the mean of all for -1."""
        return _rows(self.item_factors, codes)

    def _gram(self) -> np.ndarray:
        """Return the products (f, f) of the item factors, float64."""
        q = self.item_factors.astype(np.float64)
        return q.T @ q

    def forget(self, users: np.ndarray) -> None:
        """Remove the sums of ``users`` (codes), and fit all factors to the rest, as `fit` does."""
        self.user_factors = self.user_factors[:0]
        super().forget(users)

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the sums of ``items`` (codes), and fit all factors to the rest, as `fit` does."""
        self.user_factors = self.user_factors[:0]
        self.item_factors = np.delete(self.item_factors, items, axis=0)
        super().forget_items(items)

    def merge(self, *others: UserItemModel) -> None:
        """Add the sums of other models, and refit all factors, as a fit on all logs."""
        with self.transaction(Interactions.none(True, (), False)):
            self.user_factors, self.item_factors = self.user_factors[:0], self.item_factors[:0]
            super().merge(*others)

    def _extend(self, users: np.ndarray) -> None:
        """Solve for the factors of ``users``, given those of the items; new items have zeros."""
        p, q = _grown(self.user_factors, self.n_users), _grown(self.item_factors, self.n_items)
        with blas_threads(1):
            self._sweep(np.unique(users), self.feedback.total(), q, p, 2 * p.shape[1])
        self.user_factors, self.item_factors = p, q

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Fit all factors in the first call, and fold in the given rows later."""
        matrix = self.feedback.total()
        turned = by_item(matrix)
        n_users, n_items = matrix.shape
        first_time = not len(self.user_factors)
        p, q = _grown(self.user_factors, n_users), _grown(self.item_factors, n_items)
        with blas_threads(1):
            if first_time:
                q[:] = np.random.default_rng(self.seed).normal(0, 0.01, q.shape)
                loss = self._sample_loss(matrix, p, q)
                for _ in Epochs(self.settings.max_epochs, self.settings.verbose, loss):
                    self._sweep(np.arange(len(p)), matrix, q, p, _STEPS)
                    self._sweep(np.arange(len(q)), turned, p, q, _STEPS)
            else:
                users, items = np.unique(users), np.unique(items)
                enough = 2 * self.settings.n_factors
                self._sweep(users, matrix, q, p, enough)
                self._sweep(items, turned, p, q, enough)
                self._sweep(users, matrix, q, p, enough)
        self.user_factors, self.item_factors = p, q

    def _is_finite(self, events: Events) -> bool:
        """Whether the factors of the users and items of the events are finite."""
        p, q = self.user_factors[events.user], self.item_factors[events.item]
        return bool(np.isfinite(p).all() and np.isfinite(q).all())

    def _sample_loss(self, matrix: csr_array, p: np.ndarray, q: np.ndarray) -> Callable[[], float]:
        """Return a function that computes the objective per pair with events, on 10,000 pairs."""
        pairs, reg = evenly(matrix.nnz), self.settings.reg
        users = np.searchsorted(matrix.indptr, pairs, side="right") - 1
        items, values = matrix.indices[pairs], matrix.data[pairs]
        confidence = 1 + self.settings.alpha * np.abs(values)

        def loss() -> float:
            scores = np.einsum("nk,nk->n", p[users], q[items])
            observed = confidence * ((values > 0) - scores) ** 2 - scores**2
            p_gram, q_gram = p.T @ p, q.T @ q
            rest = (p_gram * q_gram).sum() + reg * (p_gram.trace() + q_gram.trace())
            return float(observed.sum() / max(len(pairs), 1) + rest / max(matrix.nnz, 1))

        return loss

    def _sweep(
        self,
        rows: np.ndarray,
        matrix: csr_array,
        others: np.ndarray,
        factors: np.ndarray,
        n_steps: int,
    ) -> None:
        """Solve the ``rows`` of ``factors`` given the other side."""
        # Rounded from double precision, so that the result does not depend on BLAS threads.
        wide = others.astype(np.float64)
        self._solve(rows, matrix, (wide.T @ wide).astype(np.float32), others, factors, n_steps)

    def _solve(
        self,
        rows: np.ndarray,
        matrix: csr_array,
        gram: np.ndarray,
        others: np.ndarray,
        factors: np.ndarray,
        n_steps: int,
    ) -> None:
        """Solve the ``rows`` of ``factors``; ``gram`` (f, f) is that of all of the other side."""
        if len(rows) < matrix.shape[0]:
            matrix = matrix[rows]
        values = matrix.data * np.float32(self.settings.alpha)
        reg = np.float32(self.settings.reg)

        def step(first: int, last: int) -> None:
            kernels.als_rows(
                first,
                last,
                rows,
                matrix.indptr,
                matrix.indices,
                values,
                gram,
                reg,
                n_steps,
                others,
                factors,
            )

        in_threads(step, np.diff(matrix.indptr), self.settings.n_threads)


def _rows(factors: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the factors of codes, and the mean of all for -1."""
    if not len(factors):  # all users were removed
        return np.zeros((len(codes), factors.shape[1]), np.float32)
    rows, unknown = factors[codes], codes < 0
    if unknown.any():
        rows[unknown] = factors.mean(axis=0)
    return rows


def _grown(factors: np.ndarray, n_rows: int) -> np.ndarray:
    """Return a copy with ``n_rows`` rows, new ones zero."""
    new = np.zeros((n_rows - len(factors), factors.shape[1]), np.float32)
    return np.concatenate([factors, new])
