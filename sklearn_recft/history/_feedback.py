"""Sums of feedback by user and item, and decay by the number of later events."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array


class FeedbackMatrix:
    """Sums of feedback by user and item, as a sparse matrix that grows.

    The matrix is immutable: `added` returns a new matrix with decayed old sums and new events.

    Attributes
    ----------
    sums : csr_array of shape (n_users, n_items), complex128
        ``sum_e w_e (1 + 1j y_e)`` over the events of a pair. The real part is the weight, and the
        imaginary part the weighted feedback.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import FeedbackMatrix
    >>> rows = {"weight": np.ones(3), "feedback": np.array([4.0, 2, 1])}
    >>> matrix = FeedbackMatrix().added(np.array([0, 0, 1]), np.array([1, 1, 0]), **rows)
    >>> matrix.total(np.array([0, 1, -1])).toarray()
    array([[0., 6.],
           [1., 0.],
           [0., 0.]], dtype=float32)
    """

    def __init__(self, sums: csr_array | None = None) -> None:
        self.sums = csr_array((0, 0), dtype=np.complex128) if sums is None else sums

    def added(
        self,
        users: np.ndarray,
        items: np.ndarray,
        *,
        weight: np.ndarray,
        feedback: np.ndarray,
        left: np.ndarray | float = 1.0,
    ) -> FeedbackMatrix:
        """Return the matrix times ``left`` (a number, or one per user) plus new events."""
        n_users, n_items = self.sums.shape
        shape = max(n_users, int(users.max()) + 1), max(n_items, int(items.max()) + 1)
        pairs = users.astype(np.int32), items.astype(np.int32)  # half the memory of int64
        new = csr_array((weight + 1j * (weight * feedback), pairs), shape=shape)
        if self.sums.nnz:
            share = np.repeat(np.broadcast_to(left, shape[0])[:n_users], np.diff(self.sums.indptr))
            old = csr_array((self.sums.data * share, self.sums.indices, self.sums.indptr))
            old.resize(shape)
            new = old + new
        new.sum_duplicates()  # so that reads never have to sort
        new.eliminate_zeros()  # entries that have decayed to zero
        return FeedbackMatrix(new)

    @classmethod
    def of_events(
        cls,
        users: np.ndarray,
        items: np.ndarray,
        *,
        weight: np.ndarray,
        feedback: np.ndarray,
        shape: tuple[int, int],
    ) -> FeedbackMatrix:
        """Return the matrix of events, of a given shape."""
        matrix, pairs = cls(), (users.astype(np.int32), items.astype(np.int32))
        matrix.sums = csr_array((weight + 1j * (weight * feedback), pairs), shape=shape)
        matrix.sums.sum_duplicates()
        matrix.sums.eliminate_zeros()
        return matrix

    def merged(self, other: FeedbackMatrix, users: np.ndarray, items: np.ndarray) -> FeedbackMatrix:
        """Return the sum of both; ``users`` and ``items`` map the other's codes to codes here."""
        theirs = other.sums.tocoo()
        rows, columns = users[theirs.coords[0]], items[theirs.coords[1]]
        shape = tuple(
            max(size, int(codes.max(initial=-1)) + 1)
            for size, codes in zip(self.sums.shape, (users, items), strict=True)
        )
        ours = self.sums.copy()
        ours.resize(shape)
        both = FeedbackMatrix()
        new = csr_array((theirs.data, (rows.astype(np.int32), columns.astype(np.int32))), shape)
        both.sums = ours + new
        both.sums.sum_duplicates()
        return both

    def scaled(self, factor: float) -> FeedbackMatrix:
        """Return ``factor`` times the matrix."""
        return FeedbackMatrix(self.sums * factor)

    def mark(self) -> None:
        """Return None: the matrix never changes in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: the matrix never changes in place."""

    def state(self) -> dict[str, Any]:
        """Return the sums as CSR arrays."""
        sums = self.sums
        arrays = {"data": sums.data, "indices": sums.indices, "indptr": sums.indptr}
        return {"shape": tuple(sums.shape), **arrays}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        arrays = state["data"], state["indices"], state["indptr"]
        self.sums = csr_array(arrays, shape=tuple(state["shape"]))

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""
        self.sums = self.sums[np.setdiff1d(np.arange(self.sums.shape[0]), users)]

    def forget_items(self, items: np.ndarray) -> None:
        """Remove the columns of ``items`` (codes), and renumber the others to close the gaps."""
        self.sums = self.sums[:, np.setdiff1d(np.arange(self.sums.shape[1]), items)]

    def total(self, users: np.ndarray | None = None) -> csr_array:
        """Return sums of weighted feedback of ``users`` (None: all), float32; -1: empty rows."""
        return self._part(users, 1)

    def weight(self, users: np.ndarray | None = None) -> csr_array:
        """Return the sums of weights, in the format of `total`."""
        return self._part(users, 0)

    def of_users(self, users: np.ndarray) -> FeedbackMatrix:
        """Return the matrix of the rows of ``users``; those of -1 are empty."""
        sums = self.sums[users[users >= 0]]
        if sums.shape[0] < len(users):
            starts = np.r_[sums.indptr[:1], sums.indptr[np.cumsum(users >= 0)]]
            shape = len(users), sums.shape[1]
            sums = csr_array((sums.data, sums.indices, starts), shape=shape)
        return FeedbackMatrix(sums)

    def n_events(self) -> np.ndarray:
        """Return the sum of the weights of each user, (n_users,) float64."""
        starts, weight = self.sums.indptr, self.sums.data.real.astype(np.float32)
        totals, filled = np.zeros(len(starts) - 1), np.flatnonzero(starts[1:] > starts[:-1])
        totals[filled] = np.add.reduceat(weight, starts[filled])
        return totals

    def _part(self, users: np.ndarray | None, part: int) -> csr_array:
        sums = self.sums if users is None else self.of_users(users).sums
        values = (sums.data.real, sums.data.imag)[part].astype(np.float32)
        return csr_array((values, sums.indices, sums.indptr), shape=sums.shape)


def decay_by_order(
    users: np.ndarray, times: np.ndarray | None, half_life: float, n_users: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute weights of events that decay with the number of later events of the user.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes.
    times : ndarray of shape (n,) or None
        Order of a user's events. Ties are in row order, and None uses row order only.
    half_life : float
        Number of later events after which an event has half the weight.
    n_users : int

    Returns
    -------
    weight : ndarray of shape (n,)
        1 for a user's newest event.
    left : ndarray of shape (n_users,)
        Decay factor of all earlier events of the user.
    """
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    counts = np.bincount(users, minlength=n_users)
    weight = np.empty(len(users))
    weight[order] = 0.5 ** (
        (np.cumsum(counts)[users[order]] - 1 - np.arange(len(users))) / half_life
    )
    return weight, 0.5 ** (counts / half_life)
