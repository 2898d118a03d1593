"""Next-basket models of Cornac as recommenders of this package's form: fitted anew every week.

Vectors of users are Cornac's. Neighbours of all users are found by one sparse product, as its own
search of dense vectors over 68,509 products takes too long.
"""

from itertools import chain

import numpy as np
from scipy.sparse import csr_array, vstack
from sklearn.base import BaseEstimator

_BLOCK = 128  # users that are ranked at once


class _NextBasket(BaseEstimator):
    """Rank by dense scores of known users; an unknown user gets the items of all users by count."""

    def fit(self, X, y=None):
        """Read the log; what a user buys in one second is a basket."""
        self.user_ids_, user = np.unique(X[:, 0], return_inverse=True)
        self.item_ids_, item = np.unique(X[:, 1], return_inverse=True)
        shape = len(self.user_ids_), len(self.item_ids_)
        counts = csr_array((np.ones(len(X), np.float32), (user, item)), shape)
        self.seen_ = (counts > 0).astype(np.float32)
        # Less than any score of the models: it orders ties.
        self.ties_ = 1e-9 * counts.sum(axis=0) / max(counts.sum(axis=0).max(), 1)
        order = np.lexsort((X[:, 2], user))
        cuts = np.flatnonzero(np.diff(user[order]) | np.diff(X[order, 2])) + 1
        self.baskets_ = [[] for _ in self.user_ids_]
        for rows in np.split(order, cuts):
            self.baskets_[user[rows[0]]].append(np.unique(item[rows]).tolist())
        self._prepare()
        return self

    def recommend(self, X, *, n_recommendations=10, candidates=None, exclude_seen=True):
        """Return lists, and their scores."""
        place = np.searchsorted(self.user_ids_, X[:, 0]).clip(max=len(self.user_ids_) - 1)
        known = self.user_ids_[place] == X[:, 0]
        items, values = [], []
        for rows in np.split(np.arange(len(X)), np.arange(_BLOCK, len(X), _BLOCK)):
            users = place[rows]
            scores = (self._scores(users) * known[rows, None]) + self.ties_
            if exclude_seen:
                scores[self.seen_[users].toarray() * known[rows, None] > 0] = -np.inf
            best = np.argpartition(-scores, n_recommendations - 1)[:, :n_recommendations]
            found = np.take_along_axis(scores, best, 1)
            order = np.argsort(-found, axis=1, kind="stable")
            items.append(self.item_ids_[np.take_along_axis(best, order, 1)])
            values.append(np.take_along_axis(found, order, 1))
        return np.concatenate(items), np.concatenate(values)

    def _prepare(self):
        raise NotImplementedError

    def _scores(self, users: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class TIFUKNN(_NextBasket):
    """TIFU-KNN: a user's decayed baskets, and the mean of those of the nearest users.

    The mean is taken by item, as in the paper. Cornac 3.0.1 takes it over all items at once, a
    constant, so that its neighbours do not matter.
    """

    def __init__(
        self,
        n_neighbors=300,
        within_decay_rate=0.98,
        group_decay_rate=0.9,
        alpha=0.7,
    ):
        self.n_neighbors = n_neighbors
        self.within_decay_rate = within_decay_rate
        self.group_decay_rate = group_decay_rate
        self.alpha = alpha

    def _prepare(self):
        from cornac.models import TIFUKNN as Peer

        peer = Peer(**self.get_params())
        rows = []
        for baskets in self.baskets_:
            own = np.unique(list(chain.from_iterable(baskets)))
            peer.num_items = len(own)
            vector = peer._compute_user_vector([np.searchsorted(own, basket) for basket in baskets])
            rows.append(csr_array((vector, own, [0, len(own)]), (1, len(self.item_ids_))))
        self.vectors_ = vstack(rows, format="csr").astype(np.float32)
        product = (self.vectors_ @ self.vectors_.T).toarray()
        size = product.diagonal()
        distance = size[:, None] + size - 2 * product
        k = min(self.n_neighbors, len(size))
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        share = np.full(near.size, 1 / k, np.float32)
        self.near_ = csr_array(
            (share, near.ravel(), np.arange(0, near.size + 1, k)), distance.shape
        )

    def _scores(self, users):
        own, near = self.vectors_[users], self.near_[users] @ self.vectors_
        return (self.alpha * own + (1 - self.alpha) * near).toarray()


class UPCF(_NextBasket):
    """UP-CF: shares of recent baskets, of the user and of similar users (asymmetric cosine)."""

    def __init__(self, recency=50, locality=5, asymmetry=0.75):
        self.recency = recency
        self.locality = locality
        self.asymmetry = asymmetry

    def _prepare(self):
        from cornac.models import UPCF as Peer

        peer = Peer(**self.get_params())
        peer.num_items = len(self.item_ids_)
        rows = [peer._get_user_wise_popularity(baskets) for baskets in self.baskets_]
        self.shares_ = csr_array(vstack(rows, format="csr"))
        size = np.asarray(self.seen_.sum(axis=1)).ravel()
        cosine = (self.seen_ @ self.seen_.T).toarray()
        cosine /= size[:, None] ** self.asymmetry * size ** (1 - self.asymmetry)
        self.near_ = csr_array(cosine**self.locality)
        # Cornac adds the user who is asked for to the users who were fitted: once more with 1.
        self.near_ += csr_array(np.eye(len(size), dtype=self.near_.dtype))

    def _scores(self, users):
        return (self.near_[users] @ self.shares_).toarray()
