"""Feedback summed by user and item, and how events fade."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csr_array


class FeedbackMatrix:
    """Feedback summed by user and item: a sparse matrix that grows.

    Sums fade as they are told to when more is `added`, and never change in place: whoever
    kept the matrix before still has it.

    Attributes
    ----------
    sums : csr_array of shape (n_users, n_items), complex128
        ``sum_e w_e (1 + 1j y_e)`` over the events of a pair: weight and weighted feedback in
        one sparse structure.

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

    def __init__(self) -> None:
        self.sums = csr_array((0, 0), dtype=np.complex128)

    def added(
        self,
        users: np.ndarray,
        items: np.ndarray,
        *,
        weight: np.ndarray,
        feedback: np.ndarray,
        left: np.ndarray | float = 1.0,
    ) -> FeedbackMatrix:
        """Return what is ``left`` of the matrix (a number, or one per user) and new events."""
        grown = FeedbackMatrix()
        n_users, n_items = self.sums.shape
        shape = max(n_users, int(users.max()) + 1), max(n_items, int(items.max()) + 1)
        pairs = users.astype(np.int32), items.astype(np.int32)  # half the memory of codes
        new = csr_array((weight + 1j * (weight * feedback), pairs), shape=shape)
        if self.sums.nnz:
            share = np.repeat(np.broadcast_to(left, shape[0])[:n_users], np.diff(self.sums.indptr))
            old = csr_array((self.sums.data * share, self.sums.indices, self.sums.indptr))
            old.resize(shape)
            new = old + new
        new.sum_duplicates()  # nothing later, reading included, has to put it in order
        new.eliminate_zeros()  # faded away, in one call or in many
        grown.sums = new
        return grown

    def merged(self, other: FeedbackMatrix, users: np.ndarray, items: np.ndarray) -> FeedbackMatrix:
        """Return the sum of both; ``users`` and ``items`` are the codes here of the other's."""
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
        scaled = FeedbackMatrix()
        scaled.sums = self.sums * factor
        return scaled

    def mark(self) -> None:
        """Need nothing: a matrix never changes in place."""

    def restore(self, mark: None) -> None:
        """Do nothing: whoever kept the matrix still has it."""

    def state(self) -> dict[str, Any]:
        """Return the sums in compressed rows."""
        sums = self.sums
        arrays = {"data": sums.data, "indices": sums.indices, "indptr": sums.indptr}
        return {"shape": tuple(sums.shape), **arrays}

    def load_state(self, state: dict[str, Any]) -> None:
        """Become what `state` described."""
        arrays = state["data"], state["indices"], state["indptr"]
        self.sums = csr_array(arrays, shape=tuple(state["shape"]))

    def forget(self, users: np.ndarray) -> None:
        """Erase the rows of ``users`` (codes); the rows behind them move up."""
        self.sums = self.sums[np.setdiff1d(np.arange(self.sums.shape[0]), users)]

    def total(self, users: np.ndarray | None = None) -> csr_array:
        """Return sums of weighted feedback of ``users`` (all if None), float32; -1: empty."""
        return self._part(users, 1)

    def weight(self, users: np.ndarray | None = None) -> csr_array:
        """Return sums of weights, as `total`."""
        return self._part(users, 0)

    def _part(self, users: np.ndarray | None, part: int) -> csr_array:
        sums = self.sums if users is None else self.sums[users[users >= 0]]
        values = (sums.data.real, sums.data.imag)[part].astype(np.float32)
        starts, n_rows = sums.indptr, sums.shape[0]
        if users is not None and n_rows < len(users):
            n_rows = len(users)
            starts = np.r_[starts[:1], starts[np.cumsum(users >= 0)]]  # unknown users: empty
        return csr_array((values, sums.indices, starts), shape=(n_rows, sums.shape[1]))


def fade_by_order(
    users: np.ndarray, times: np.ndarray | None, half_life: float, n_users: int
) -> tuple[np.ndarray, np.ndarray]:
    """Weights of events by how many of the same user come after them.

    Parameters
    ----------
    users : ndarray of shape (n,)
        Codes.
    times : ndarray of shape (n,) or None
        What orders a user's events; ties, and all of them without it, in row order.
    half_life : float
        Events of the user after which one counts half.
    n_users : int

    Returns
    -------
    weight : ndarray of shape (n,)
        1 for a user's newest event.
    left : ndarray of shape (n_users,)
        What these events leave of all that the user did before them.
    """
    order = np.argsort(users, kind="stable") if times is None else np.lexsort((times, users))
    counts = np.bincount(users, minlength=n_users)
    weight = np.empty(len(users))
    weight[order] = 0.5 ** (
        (np.cumsum(counts)[users[order]] - 1 - np.arange(len(users))) / half_life
    )
    return weight, 0.5 ** (counts / half_life)
