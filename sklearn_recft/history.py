"""What is remembered of past events, in bounded memory: who saw what, and a fair sample of it."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array


class SeenItems:
    """Distinct items of each user, append-only, in memory proportional to distinct pairs.

    A log of (user, item) codes in which each entry points at the user's previous one, so an
    append is O(1) and a user's items are found without an index. When the log is full it is
    sorted by user and freed of repeats, and doubled only if that did not halve it: the cost of
    an append is amortised, and repeats of a pair (purchases do repeat) cannot fill memory.

    Attributes
    ----------
    last : ndarray of shape (n_users,), int32
        Place in the log of each user's latest entry, -1 for none.
    previous, item : ndarray of shape (capacity,), int32
        For each entry, the place of the user's entry before it (-1: none) and the item code.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import SeenItems
    >>> seen = SeenItems()
    >>> seen.append(np.array([0, 1, 0]), np.array([7, 7, 3]), n_users=2)
    >>> seen.items_of(0)
    array([3, 7])
    """

    def __init__(self) -> None:
        self.last = np.empty(0, np.int32)
        self.previous = np.empty(0, np.int32)
        self.item = np.empty(0, np.int32)
        self._user = np.empty(0, np.int32)
        self.size = 0

    def append(self, users: np.ndarray, items: np.ndarray, n_users: int) -> None:
        """Remember that ``users[j]`` met ``items[j]`` (codes, shape (n,))."""
        if n_users > len(self.last):
            last = np.full(max(n_users, len(self.last) * 3 // 2), -1, np.int32)
            last[: len(self.last)] = self.last
            self.last = last
        if not len(users):
            return
        if self.size + len(users) > len(self.item):
            self._make_room(users, items)
        else:
            self._write(users, items)

    def items_of(self, user: int) -> np.ndarray:
        """Distinct item codes of one user, ascending."""
        found, place = [], int(self.last[user]) if user < len(self.last) else -1
        while place >= 0:
            found.append(int(self.item[place]))
            place = int(self.previous[place])
        return np.unique(np.array(found, np.int64))

    def mark(self, users: np.ndarray) -> tuple:
        """Return what `restore` needs to undo appends of ``users`` made from here on."""
        known = users[users < len(self.last)]
        return (self.last, self.previous, self.item, self._user, self.size), known, self.last[known]

    def restore(self, mark: tuple) -> None:
        """Undo every append since ``mark``."""
        arrays, known, last = mark
        self.last, self.previous, self.item, self._user, self.size = arrays
        self.last[self.last >= self.size] = -1
        self.last[known] = last

    def _write(self, users: np.ndarray, items: np.ndarray) -> None:
        begin, end = self.size, self.size + len(users)
        self.item[begin:end], self._user[begin:end] = items, users
        order = np.argsort(users, kind="stable")
        places, grouped = (order + begin).astype(np.int32), users[order]
        behind = self.last[grouped]
        again = grouped[1:] == grouped[:-1]  # a user's second row here follows the first
        behind[1:][again] = places[:-1][again]
        self.previous[places] = behind
        self.last[grouped] = places  # of several the last one stays
        self.size = end

    def _make_room(self, users: np.ndarray, items: np.ndarray) -> None:
        keys = np.r_[self._user[: self.size], users].astype(np.int64) << 32
        keys |= np.r_[self.item[: self.size], items].astype(np.int64)
        keys.sort()
        keys = keys[np.r_[True, keys[1:] != keys[:-1]]]
        capacity = max(len(self.item), 64)
        while len(keys) * 2 > capacity:
            capacity *= 2
        self.item, self._user = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
        self.previous = np.empty(capacity, np.int32)
        self.last = np.full(len(self.last), -1, np.int32)
        self.size = 0
        self._write((keys >> 32).astype(np.int32), keys.astype(np.int32))

    def __getstate__(self) -> dict[str, np.ndarray]:
        return {"user": self._user[: self.size].copy(), "item": self.item[: self.size].copy()}

    def __setstate__(self, state: dict[str, np.ndarray]) -> None:
        self.__init__()  # type: ignore[misc]
        if len(state["user"]):
            self.append(state["user"], state["item"], int(state["user"].max()) + 1)


class Reservoir:
    """Uniform sample of at most ``capacity`` of all rows ever offered (Vitter's algorithm R).

    Parameters
    ----------
    capacity : int
        Rows kept; 0 keeps none.

    References
    ----------
    Vitter, J. S. (1985). Random sampling with a reservoir. ACM TOMS 11(1).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_recft.history import Reservoir
    >>> sample, rng = Reservoir(2), np.random.default_rng(0)
    >>> sample.put(sample.slots(2, rng), {"item": np.array([4, 5])})
    >>> sample.take(np.array([1]))
    {'item': array([5])}
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_offered = 0
        self.rows: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return min(self.n_offered, self.capacity)

    def slots(self, n_rows: int, rng: np.random.Generator) -> np.ndarray:
        """Where each of ``n_rows`` new rows goes, in order; ``capacity`` or more: nowhere."""
        age = np.arange(self.n_offered, self.n_offered + n_rows)
        if not self.capacity:
            return age
        return np.where(age < self.capacity, age, rng.integers(0, age + 1))

    def put(self, slots: np.ndarray, rows: dict[str, np.ndarray]) -> None:
        """Store the rows at their ``slots``; of two rows for one slot the later stays."""
        kept = slots < self.capacity
        if kept.any():
            needed = int(slots[kept].max()) + 1
            for name, values in rows.items():
                column = self.rows.get(name)
                if column is None or needed > len(column):
                    held = 0 if column is None else len(column)
                    size = min(self.capacity, max(needed, 2 * held))
                    wider = np.zeros((size, *values.shape[1:]), values.dtype)
                    if column is not None:
                        wider[:held] = column
                    self.rows[name] = column = wider
                column[slots[kept]] = values[kept]
        self.n_offered += len(slots)

    def draw(self, n_rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw ``n_rows`` of the kept rows, with replacement."""
        return self.take(rng.integers(0, len(self), n_rows))

    def take(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return the kept rows at ``places``."""
        return {name: column[places] for name, column in self.rows.items()}

    def mark(self, slots: np.ndarray) -> tuple:
        """Return what `restore` needs to undo a `put` at ``slots``."""
        held = min((len(column) for column in self.rows.values()), default=0)
        places = slots[slots < held]
        return dict(self.rows), self.n_offered, places, self.take(places)

    def restore(self, mark: tuple) -> None:
        """Undo the `put` made since ``mark``."""
        self.rows, self.n_offered, places, values = mark
        for name, column in values.items():
            self.rows[name][places] = column


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
            starts = np.r_[starts[:1], starts[np.cumsum(users >= 0)]]  # strangers end at once
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
