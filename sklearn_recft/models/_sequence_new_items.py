"""Items without events in lists of the sequence model: a share of each list, split by texts."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp

from sklearn_recft.events import Events, Interactions
from sklearn_recft.history import EventHistory, Trends
from sklearn_recft.models._first_events import FirstEvents
from sklearn_recft.models._sequence_queries import Queries, past_of
from sklearn_recft.models._sequence_search import SequenceSearch
from sklearn_recft.ranking import TileScorer

_WEIGHT = 6.0  # of the similarity of texts
_LIFT = 2.0  # events of new items per first event: more follow before the model learns them
_N_PAST = 50  # newest events that an item is compared with
_MOST_ITEMS = 4096  # items without events that are scored so, the newest: bounds the cost
_ROWS = 32  # queries at once


class SequenceNewItems(SequenceSearch):
    """How the sequence model scores items without events, if it has times and contents of items.

    The net has no training row of such an item, and scores it low. Let p be twice the share of
    first events of an item in recent events. The items without events get p of the softmax of each
    query, beside what the net gives them all, and split the sum by the similarity of their contents
    to those of the user's events. Queries before the newest known
    event keep the scores of the net: p and the items without events are those of now.

    Attributes
    ----------
    first_events : FirstEvents
    """

    history: EventHistory
    newest: float
    trends: Trends
    first_events: FirstEvents

    def _share_of_new(self) -> float:
        """Return the share of each list's softmax that is given to items without events."""
        if self._texts.start == self._texts.stop or not self.trends.half_lives:
            return 0.0
        return min(_LIFT * self.first_events.share, 0.5)

    def _new_items(self) -> np.ndarray:
        """Return the codes of the newest items without events; none without a share."""
        if not self._share_of_new():
            return np.empty(0, np.int64)
        return np.flatnonzero(~self.counts.has_events)[-_MOST_ITEMS:]

    def _new_item_scores(
        self, log: Events, queries: Queries, states: np.ndarray, new: np.ndarray
    ) -> np.ndarray:
        """Return the scores (n, m) of the ``new`` items, for queries of these states.

        ``log(sum_j exp(s_j) p / (1 - p) + sum_k exp(s_k)) + log softmax_i(w c_i)`` has the net's
        scores s_j of items with events and s_k of new ones, and the similarity c_i of item i to the
        events of the user.
        """
        share = self._share_of_new()
        others, odds = self.counts.has_events, np.log(share / (1 - share))
        tiles = self._tiles(states, queries, np.arange(self.n_items))
        past = past_of(log, queries, min(_N_PAST, self.history.max_history)).item
        out = np.empty((len(states), len(new)), np.float32)
        for start in range(0, len(states), _ROWS):
            stop = min(start + _ROWS, len(states))
            scores = np.empty((stop - start, self.n_items), np.float32)
            tiles(start, stop, 0, self.n_items, scores)
            level = np.logaddexp(
                logsumexp(scores[:, others], axis=1, keepdims=True) + odds,
                logsumexp(scores[:, new], axis=1, keepdims=True),
            )
            similarity = self._similarity_to_past(past[start:stop], new)
            out[start:stop] = level + log_softmax(_WEIGHT * similarity, axis=1)
        return out

    def _similarity_to_past(self, past: np.ndarray, new: np.ndarray) -> np.ndarray:
        """Return the similarity (n, m) of items to past ones (n, L), -1 for none.

        It is the largest cosine of whitened contents, plus the largest of the words of texts.
        """
        codes, place = np.unique(past[past >= 0], return_inverse=True)
        found = np.zeros((len(past), len(new)))
        if not len(codes):
            return found
        cosine = _unit(self._contents_of(codes)) @ _unit(self._contents_of(new)).T
        words = self.lexical.cosines(codes, new)
        row = np.nonzero(past >= 0)[0]
        for number in np.unique(row).tolist():
            its = place[row == number]
            found[number] = cosine[its].max(0) + words[its].max(0)
        return found

    def _contents_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the whitened texts and vectors (m, c) of items."""
        return self._vectors(codes, None)[:, self._texts]

    # ------------------------------------------------------------------ for the model

    def _with_new_items(
        self,
        tiles: TileScorer,
        states: np.ndarray,
        log: Events,
        wanted: Queries,
        queries: Interactions,
        columns: np.ndarray,
    ) -> TileScorer:
        """Return a function that also scores the items without events among ``columns``.

        Rows with search words, and those before the newest event, keep the scores of the net.
        """
        new = self._new_items()
        _, places, own = np.intersect1d(columns, new, return_indices=True)
        if not len(places):
            return tiles
        asks = wanted.time >= self.newest
        if queries.query is not None:
            asks &= queries.query == ""
        order = np.argsort(places)
        places, own = places[order], own[order]
        kept: dict[tuple[int, int], np.ndarray] = {}

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            tiles(r0, r1, c0, c1, out)
            first, last = np.searchsorted(places, (c0, c1))
            if first == last:
                return
            found = kept.pop((r0, r1), None)
            if found is None:
                found = self._new_item_scores(log, wanted.take(slice(r0, r1)), states[r0:r1], new)
                found = found[:, own]
            rows = asks[r0:r1]
            cells = np.ix_(rows, places[first:last] - c0)
            out[cells] = found[rows, first:last]
            if last < len(places):
                kept[r0, r1] = found

        return score

    def _rows_of_new_items(
        self, events: Events, log: Events, queries: Queries, states: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of items without events, and their scores.

        Rows with search words, and those before the newest event, are not among them.
        """
        new = self._new_items()
        if not len(new):
            return np.empty(0, np.int64), np.empty(0)
        rows = np.flatnonzero(np.isin(events.item, new) & (queries.time >= self.newest))
        if events.query is not None:
            rows = rows[[not events.query[row] for row in rows.tolist()]]
        scores = self._new_item_scores(log, queries.take(rows), states[rows], new)
        return rows, scores[np.arange(len(rows)), np.searchsorted(new, events.item[rows])]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (m, c) to length 1; zeros stay."""
    unit: np.ndarray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
