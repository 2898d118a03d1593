"""RP3beta: weights of items from random walks over users and entities of a knowledge graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
from scipy.sparse import csr_array, hstack

from sklearn_recft import kernels
from sklearn_recft.edges import Edges
from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import FeedbackMatrix, decay_by_order
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._edge_weights import is_first_half, learned_weights
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._user_item import UserItemModel, UserItemSettings, by_item
from sklearn_recft.parallel import in_threads
from sklearn_recft.ranking import TileScorer


@dataclass(frozen=True)
class RP3BetaSettings(UserItemSettings):
    """Settings of `RP3BetaModel`: as the parameters of the estimator."""

    alpha: float = 1.0
    beta: float = 0.1
    n_neighbors: int = 1000
    zero_diagonal: bool = True
    decay_floor: float = 0.0
    edges: Edges | None = None
    edge_weight: float = 1.0

    @property
    def floored(self) -> bool:
        """Whether old events keep a weight."""
        return self.half_life is not None and self.decay_floor > 0


class RP3BetaModel(UserItemModel):
    """Weights of walks between items, recomputed from the sums after every call.

    Attributes
    ----------
    similarity : csr_array of shape (n_items, n_items), float32
        Weights of all walks.
    by_edges : csr_array of shape (n_items, n_items), float32
        The part of the walks over entities.
    undecayed : FeedbackMatrix
        Sums of all users' events without decay by age; empty without ``half_life``.
    undecayed_profiles : FeedbackMatrix
        The same matrix or, with ``history_half_life`` and a floor, one decayed by order.
    mixed : FeedbackMatrix as csr_array
        The sums of profiles that lists are computed from, if there is a floor.
    relation_weights : dict of str to float
        Weights of the walks over the entities of each relation.
    """

    kind = "RP3BetaRecommender"
    settings: RP3BetaSettings
    _DERIVED: ClassVar[tuple[str, ...]] = (*UserItemModel._DERIVED, "mixed")

    def __init__(self, rows: Interactions, settings: RP3BetaSettings) -> None:
        super().__init__(rows, settings)
        self.similarity = self.by_edges = csr_array((0, 0), dtype=np.float32)
        self.relation_weights: dict[str, float] = {}
        self.undecayed = self.undecayed_profiles = FeedbackMatrix()
        if settings.floored and settings.history_half_life is not None:
            self.undecayed_profiles = FeedbackMatrix()
        self.mixed = csr_array((0, 0), dtype=np.complex128)

    def learn(
        self,
        rows: Interactions,
        settings: Any,
        call: Call | None = None,
        within: Transaction | None = None,
    ) -> np.ndarray:
        """Learn rows; a call that computes no walks keeps the edges of the last one that did."""
        if call is not None and not call.weights:
            settings = replace(settings, edges=self.settings.edges)
        return super().learn(rows, settings, call, within)

    def score(self, events: Events) -> np.ndarray:
        """Return the scores of `tile_scorer` for rows."""
        return self._item_scores(self.similarity, events.user, events.item)

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes sums of weights of walks from the user's items."""
        return self._item_tiles(self.similarity, users, columns)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes weights of walks; 0 for items that no walk reaches."""
        near = self.similarity[items]

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            out[:] = 0
            kernels.add_to_tile(near.indptr, near.indices, near.data, r0, c0, out)

        return score

    def explain(self, events: Events) -> Explanation:
        """Return scores as sums over the user's items, with the path of the largest part."""
        found = self._item_explanation(self.similarity, events)
        edges = self.settings.edges
        if edges is None:
            return found
        paths = np.full(found.item.shape, None, object)
        row, place = np.nonzero((found.item >= 0) & (events.item[:, None] >= 0))
        past, item = found.item[row, place], events.item[row]
        if len(row):
            paths[row, place] = self._paths(edges, past, item)
        return replace(found, about={**found.about, "path": paths})

    def _paths(self, edges: Edges, past: np.ndarray, item: np.ndarray) -> list[str]:
        """Name the path with the largest part of the weight of each pair of items."""
        whole, part = (np.asarray(m[past, item]).ravel() for m in (self.similarity, self.by_edges))
        # Walks over single entities, before they are pruned.
        steps = [_steps(graph, self.settings.alpha) for graph in self._graphs(edges)]
        weights = [self.relation_weights.get(name, 0.0) for name in edges.relations]
        there = hstack([a * weight for (a, _), weight in zip(steps, weights, strict=True)])
        back = hstack([csr_array(b.T) for _, b in steps])
        strength = csr_array(csr_array(there)[past] * csr_array(back)[item])
        names = []
        for n, (first, last) in enumerate(pairwise(strength.indptr)):
            if 2 * part[n] <= whole[n] or first == last:
                names.append("same users")
                continue
            best = first + np.argmax(strength.data[first:last])
            relation, entity = edges.names[strength.indices[best]]
            names.append(f"same {relation}: {entity}")
        return names

    def _graphs(self, edges: Edges) -> list[csr_array]:
        """Return the edges of each relation, (n_items, n_entities of the relation), float32."""
        item, entity = self.items.encode(edges.item_ids), edges.entity
        shape = self.n_items, len(edges.names)
        if max(*shape, len(item)) < np.iinfo(np.int32).max:  # as sums of feedback are stored
            item, entity = item.astype(np.int32), entity.astype(np.int32)
        whole = csr_array((np.ones(len(item), np.float32), (item, entity)), shape)
        return [whole[:, first:last] for first, last in pairwise(edges.starts)]

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Add the items of edges to the catalogue, then the events to the sums."""
        if self.settings.edges is not None:
            self.items.extend(self.settings.edges.item_ids)
        if self.settings.half_life is not None:
            self._add_undecayed(events)
        return super()._learn(events, undo, call)

    def _add_undecayed(self, events: Events) -> None:
        """Add events to the sums without decay by age."""
        user, given = events.user, {"feedback": events.feedback}
        self.undecayed = matrix = self.undecayed.added(
            user, events.item, weight=events.weight, **given
        )
        by_order = self.settings.history_half_life
        if by_order is None or not self.settings.floored:  # nothing reads it
            self.undecayed_profiles = matrix
            return
        share, rest = decay_by_order(user, events.time, by_order, self.n_users)
        self.undecayed_profiles = self.undecayed_profiles.added(
            user, events.item, weight=events.weight * share, left=rest, **given
        )

    def _merge_ids(self, other: FittedModel) -> tuple[np.ndarray, np.ndarray]:
        users, items = super()._merge_ids(other)
        if isinstance(other, RP3BetaModel):
            own = self.undecayed_profiles is not self.undecayed
            self.undecayed = self.undecayed.merged(other.undecayed, users, items)
            self.undecayed_profiles = (
                self.undecayed_profiles.merged(other.undecayed_profiles, users, items)
                if own
                else self.undecayed
            )
        return users, items

    def with_history(self, rows: Interactions) -> RP3BetaModel:
        """Return a view with the sums of these events alone; items keep what they learned."""
        view = cast(RP3BetaModel, super().with_history(rows))
        view.mixed = view.profiles.sums  # events have their floor already
        return view

    def _weight_by_age(self, seconds: np.ndarray) -> np.ndarray:
        floor, weight = self.settings.decay_floor, super()._weight_by_age(seconds)
        return floor + (1 - floor) * weight if self.settings.floored else weight

    def _weighted(self) -> FeedbackMatrix:
        return self._mixture(self.undecayed, self.feedback)

    def _weighted_profiles(self) -> FeedbackMatrix:
        return FeedbackMatrix(self.mixed) if self.settings.floored else self.profiles

    def _mixture(self, undecayed: FeedbackMatrix, decayed: FeedbackMatrix) -> FeedbackMatrix:
        """Return sums whose events have the floor as their least weight."""
        if not self.settings.floored:
            return decayed
        floor = self.settings.decay_floor
        return FeedbackMatrix(floor * undecayed.sums + (1 - floor) * decayed.sums)

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes), unless edges would bring them back."""
        if self.settings.edges is not None:
            raise ValueError(
                "forget_items: edges name items, and would bring them back. Remove the items from "
                "edges and from the log, and call fit."
            )
        super().forget_items(items)

    def _derive(self) -> None:
        super()._derive()
        if self.settings.floored:
            self.mixed = self._mixture(self.undecayed_profiles, self.profiles).sums
        n_new = self.n_items - len(self.popularity)  # items of edges, without events
        self.popularity = np.pad(self.popularity, (0, n_new))

    def _extend(self, users: np.ndarray) -> None:
        """Give new items no walks."""
        self.similarity = _grown(self.similarity, self.n_items)
        self.by_edges = _grown(self.by_edges, self.n_items)

    def _refresh(self, users: np.ndarray, items: np.ndarray) -> None:
        """Compute the weights of all walks."""
        settings = self.settings
        sums = self.feedback if settings.half_life is None else self.undecayed
        matrix, decayed = (self._positive(each) for each in (sums, self._weighted()))
        self.similarity = self._over_users(matrix, decayed)
        self.by_edges = csr_array(self.similarity.shape, dtype=np.float32)
        self.relation_weights = {}
        if settings.edges is None:
            return
        ones = np.ones(self.n_items)
        walks = [
            self._walks(*_steps(graph, settings.alpha), ones)
            for graph in self._graphs(settings.edges)
        ]
        first = is_first_half(self.users.ids)
        halves = [self._over_users(matrix[own], decayed[own]) for own in (first, ~first)]
        weights = settings.edge_weight * learned_weights(halves, walks, matrix)
        self.relation_weights = dict(zip(settings.edges.relations, weights.tolist(), strict=True))
        for weight, near in zip(weights, walks, strict=True):
            near.data *= np.float32(weight)
            self.by_edges = self.by_edges + near
        self.similarity = _clean(self.similarity + self.by_edges)
        self.by_edges = _clean(self.by_edges)

    def _positive(self, sums: FeedbackMatrix) -> csr_array:
        """Return sums of feedback, (n_users, n_items), with 0 for negative ones."""
        matrix = sums.total()
        matrix.data = np.maximum(matrix.data, 0)
        matrix.resize(self.n_users, self.n_items)
        return matrix

    def _over_users(self, matrix: csr_array, decayed: csr_array) -> csr_array:
        """Return the kept weights of walks over users.

        Parameters
        ----------
        matrix, decayed : csr_array of shape (n_users, n_items)
            Sums of feedback without and with decay. What decays is the last step of a walk.
        """
        alpha = self.settings.alpha
        degree = np.asarray(matrix.sum(axis=0, dtype=np.float64)).ravel()
        back = _powers(decayed, alpha, matrix.sum(axis=1, dtype=np.float64))
        return self._walks(_powers(by_item(matrix), alpha), back, degree)

    def _walks(self, there: csr_array, back: csr_array, degree: np.ndarray) -> csr_array:
        """Return the kept weights of walks between items, rows of sum 1.

        Parameters
        ----------
        there : csr_array of shape (n_items, n)
            Probabilities of the first step, to users or entities.
        back : csr_array of shape (n, n_items)
            Probabilities of the second step.
        degree : ndarray of shape (n_items,)
            Popularity of the items.
        """
        settings, n_items = self.settings, self.n_items
        k = min(settings.n_neighbors + settings.zero_diagonal, n_items)
        found, n_found = np.empty((n_items, k), np.int32), np.empty(n_items, np.int64)
        weights = np.empty((n_items, k), np.float32)
        arrays = [a for m in (there, back) for a in (m.indptr, m.indices, m.data)]
        # A factor of the row, which the sum of the row removes.
        penalty = degree**settings.beta

        def step(first: int, last: int) -> None:
            kernels.nearest_items(first, last, *arrays, penalty, 0.0, found, weights, n_found)

        work = there.astype(bool) @ np.diff(back.indptr).astype(np.float32)
        in_threads(step, work, settings.n_threads)
        kept = np.arange(k) < n_found[:, None]
        kept &= weights > 0
        if settings.zero_diagonal:
            kept &= found != np.arange(n_items)[:, None]
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
        walks = csr_array((weights[kept], found[kept], starts), (n_items, n_items))
        walks = _largest(walks, settings.n_neighbors)
        walks.data *= np.repeat(_reciprocal(walks.sum(axis=1)), np.diff(walks.indptr))
        # Of the walks that end at an item, the largest alone are kept too.
        return by_item(_largest(by_item(walks), settings.n_neighbors))


def _steps(matrix: csr_array, alpha: float) -> tuple[csr_array, csr_array]:
    """Return probabilities to the power alpha of steps to the columns of a matrix, and back.

    Parameters
    ----------
    matrix : csr_array of shape (n_items, n)

    Returns
    -------
    there : csr_array of shape (n_items, n), float32
    back : csr_array of shape (n, n_items), float32
    """
    return _powers(matrix, alpha), _powers(by_item(matrix), alpha)


def _powers(matrix: csr_array, alpha: float, total: np.ndarray | None = None) -> csr_array:
    """Divide rows by their sums, or by ``total``, and raise the values to the power alpha."""
    if total is None:
        total = matrix.sum(axis=1, dtype=np.float64)
    values = matrix.data * np.repeat(_reciprocal(total), np.diff(matrix.indptr))
    return csr_array(
        ((values**alpha).astype(np.float32), matrix.indices, matrix.indptr), matrix.shape
    )


def _reciprocal(values: np.ndarray) -> np.ndarray:
    """Return 1 / values, and 0 for 0."""
    inverse: np.ndarray = np.divide(1, values, out=np.zeros_like(values), where=values > 0)
    return inverse


def _largest(matrix: csr_array, k: int) -> csr_array:
    """Keep the k largest values of each row; ties prefer lower columns."""
    kept = np.empty(len(matrix.data), np.bool_)
    kernels.mark_largest(matrix.indptr, matrix.data, k, kept)
    starts = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr].astype(matrix.indptr.dtype)
    return csr_array((matrix.data[kept], matrix.indices[kept], starts), matrix.shape)


def _clean(matrix: csr_array) -> csr_array:
    """Sort the columns of each row, and leave out zeros."""
    matrix = csr_array(matrix)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _grown(matrix: csr_array, n: int) -> csr_array:
    """Return a square matrix with empty rows and columns at its end, up to n of them."""
    n_new = n - matrix.shape[0]
    if not n_new:
        return matrix
    indptr = np.pad(matrix.indptr, (0, n_new), mode="edge")
    return csr_array((matrix.data, matrix.indices, indptr), (n, n))
