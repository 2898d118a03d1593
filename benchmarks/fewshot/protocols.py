"""Split a log into training rows, support rows (the examples) and query rows (the test).

Every function is deterministic by its seed and returns row numbers. No query row is in the training
or support part, and the support rows of an entity are in the order in which they are given.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.fewshot.data import Ratings

N_QUERY = 10
N_TIME = 10  # first events of a user that may be support, in order of time
METAREC, TANP = (13, 100), (30, 200)  # number of rows of a user
TANP_SUPPORT = 20


@dataclass(frozen=True)
class Task:
    """A few-shot task.

    Attributes
    ----------
    train, support, query : ndarray of int
        Rows of the log.
    place : ndarray of int
        Of each support row: how many of the same entity (user, or new item) come before it.
    owner : ndarray of int
        Of each query row: the entity by which metrics are averaged.
    """

    train: np.ndarray
    support: np.ndarray
    place: np.ndarray
    query: np.ndarray
    owner: np.ndarray

    def first(self, k: int | None) -> np.ndarray:
        """Return the support rows with at most k of an entity; None: all."""
        return self.support if k is None else self.support[self.place < k]


def metarec(ratings: Ratings, seed: int, *, heavy: bool = False, part: str = "test") -> Task:
    """Hold out ten random rows of each test user; users of 13 to 100 rows are divided 8:1:1.

    With ``heavy``, users of more rows are in the training part too.
    """
    users, counts = np.unique(ratings.X[:, 0], return_counts=True)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(users[(counts >= METAREC[0]) & (counts <= METAREC[1])])
    n = len(chosen)
    parts = np.split(chosen, [int(0.8 * n), int(0.9 * n)])
    train = parts[0]
    if heavy:
        train = np.concatenate([train, users[counts > METAREC[1]]])
    tested = parts[1] if part == "validation" else parts[2]
    return _by_user(ratings, train, tested, shuffled(ratings, tested, rng), -N_QUERY)


def tanp(ratings: Ratings, seed: int) -> Task:
    """Give 20 random rows of each test user, test on the rest; users are divided 7:1:2.

    Only users of 30 to 200 rows are tested; the training part has all users of its share.
    """
    users, counts = np.unique(ratings.X[:, 0], return_counts=True)
    middle = users[(counts >= TANP[0]) & (counts <= TANP[1])]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(users)
    train, _, tested = np.split(chosen, [int(0.7 * len(chosen)), int(0.8 * len(chosen))])
    tested = tested[np.isin(tested, middle)]
    task = _by_user(ratings, train, tested, shuffled(ratings, tested, rng), TANP_SUPPORT)
    return _known_items(ratings, task)


def first_events(ratings: Ratings, seed: int) -> Task:
    """Give the first ten events in the order of time, test on all later ones; a tenth of users."""
    users = np.unique(ratings.X[:, 0])
    tested = np.random.default_rng(seed).permutation(users)[: len(users) // 10]
    train = np.setdiff1d(users, tested)
    order = np.argsort(ratings.X[:, 2], kind="stable")
    order = order[np.isin(ratings.X[order, 0], tested)]
    return _known_items(ratings, _by_user(ratings, train, tested, order, N_TIME))


def new_items(ratings: Ratings, seed: int, n_users: int = 3000, n_support: int = 30) -> Task:
    """Give up to 30 ratings of each new item by known users, test on its others.

    New is a tenth of the items with at least 40 ratings by 3000 random users.
    """
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.unique(ratings.X[:, 0]))[:n_users]
    rows = np.flatnonzero(np.isin(ratings.X[:, 0], users))
    items, counts = np.unique(ratings.X[rows, 1], return_counts=True)
    often = items[counts >= 40]
    new = rng.permutation(often)[: len(often) // 10]
    is_new = np.isin(ratings.X[rows, 1], new)
    order = rng.permutation(rows[is_new])
    place = _place(ratings.X[order, 1])
    query = order[place >= n_support]
    train = rows[~is_new]
    query = query[np.isin(ratings.X[query, 0], ratings.X[train, 0])]
    given = place < n_support
    return Task(train, order[given], place[given], query, ratings.X[query, 1])


def cold(ratings: Ratings, seed: int, kind: str) -> Task:
    """Split as MeLU does: old and new users by their first event, items by their release year.

    The newest fifth of the users is new; items later than 1997 are. ``kind`` is "user" (new users,
    old items), "item" (old users, new items) or "both". A test user has 13 to 100 rows of the kind;
    ten random ones are the query. The training part is old users on old items.
    """
    users, inverse = np.unique(ratings.X[:, 0], return_inverse=True)
    first = np.full(len(users), np.iinfo(np.int64).max)
    np.minimum.at(first, inverse, ratings.X[:, 2])
    newest = np.argsort(first, kind="stable")[int(0.8 * len(users)) :]
    new_user = np.isin(inverse, newest)
    year = np.array([ratings.year.get(item, 0) for item in ratings.X[:, 1].tolist()])
    new_item = year > 1997
    rows = np.flatnonzero(
        (new_user == (kind in ("user", "both"))) & (new_item == (kind in ("item", "both")))
    )
    tested, counts = np.unique(ratings.X[rows, 0], return_counts=True)
    tested = tested[(counts >= METAREC[0]) & (counts <= METAREC[1])]
    rng = np.random.default_rng(seed)
    order = rng.permutation(rows[np.isin(ratings.X[rows, 0], tested)])
    task = _cut(ratings, np.flatnonzero(~new_user & ~new_item), order, -N_QUERY)
    return _known_items(ratings, task) if kind == "user" else task


def shuffled(ratings: Ratings, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the rows of users in random order."""
    return rng.permutation(np.flatnonzero(np.isin(ratings.X[:, 0], users)))


def _by_user(
    ratings: Ratings, train: np.ndarray, tested: np.ndarray, order: np.ndarray, at: int
) -> Task:
    """Split the rows of tested users, which stand in an order; train on all rows of others."""
    if len(np.intersect1d(train, tested)):
        raise ValueError("A user is in both parts.")
    return _cut(ratings, np.flatnonzero(np.isin(ratings.X[:, 0], train)), order, at)


def _cut(ratings: Ratings, train: np.ndarray, order: np.ndarray, at: int) -> Task:
    """Give the first `at` rows of a user, or all but the last `-at`, and test on the others."""
    users = ratings.X[order, 0]
    place = _place(users)
    codes = np.unique(users, return_inverse=True)[1]
    counts = np.bincount(codes)
    bound = np.where(at > 0, at, counts + at)[codes]
    given = place < bound
    query = order[~given]
    return Task(train, order[given], place[given], query, ratings.X[query, 0])


def _known_items(ratings: Ratings, task: Task) -> Task:
    """Drop rows of items without a training row."""
    known = np.unique(ratings.X[task.train, 1])
    support = np.isin(ratings.X[task.support, 1], known)
    query = np.isin(ratings.X[task.query, 1], known)
    return Task(
        task.train,
        task.support[support],
        task.place[support],
        task.query[query],
        task.owner[query],
    )


def _place(values: np.ndarray) -> np.ndarray:
    """Return how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.empty(0, bool)
    start = np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))
    place = np.empty(len(values), np.int64)
    place[order] = np.arange(len(values)) - start
    return place
