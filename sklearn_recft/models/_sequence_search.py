"""Search words of the sequence model: a vector added to the state of a query, and a term."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call
from sklearn_recft.models._query_term import Choices, Evidence
from sklearn_recft.models._sequence_network import SequenceSettings
from sklearn_recft.models._sequence_queries import Queries, states_of
from sklearn_recft.models._sequence_vectors import SequenceVectors
from sklearn_recft.ranking import TileScorer

_N_OTHERS = 2048  # items that are compared with that of a row with search words


class SequenceSearch(SequenceVectors):
    """What the sequence model does with search words; the model itself scores states.

    The coordinates of an item's vector that hold its text are multiplied by those of the state. The
    similarity of meanings is linear in these, so it costs a list no further product.
    """

    settings: SequenceSettings

    # ------------------------------------------------------------------ for the model

    def _queries(self, events: Events) -> tuple[Events, Queries]:
        """Return the sorted log of the users of events, and what each event sees of it."""
        raise NotImplementedError

    def _scores(
        self, events: Events, queries: Queries, states: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Score rows by their states, without search words; return their items' vectors too."""
        raise NotImplementedError

    def _tiles(self, states: np.ndarray, wanted: Queries, columns: np.ndarray) -> TileScorer:
        """Return a function that scores items for states."""
        raise NotImplementedError

    # ------------------------------------------------------------------ search words

    def _states(self, log: Events, queries: Queries) -> np.ndarray:
        """Return the states of queries, without search words."""
        table, n_threads = self.network.catalogue, self.settings.n_threads
        return states_of(self.module, table, log, queries, n_threads=n_threads)

    def _with_search_words(self, states: np.ndarray, queries: Interactions) -> np.ndarray:
        """Add the meaning of words to states, whose text coordinates are multiplied by texts."""
        if queries.query is None:
            return states
        self._check_reads_texts(queries, None)
        asked = self._read_queries(queries.query.tolist())
        states[asked.has, self._texts] += self.query_term.weight * asked.vectors[asked.has]
        return states

    @property
    def _texts(self) -> slice:
        """The coordinates of items' vectors that hold their texts."""
        width = self.module.width
        return slice(width, width + self.module.item_texts.shape[1])

    def _logits_of_queries(self, events: Events) -> np.ndarray:
        asked, term = self._read_queries(events.query or ()), np.zeros(len(events))
        _, queries = self._queries(events)
        states = np.zeros((len(events), self.module.query_width), np.float32)
        own = self._scores(events, queries, states)[1][:, self._texts]
        similarity = np.einsum("nt,nt->n", own, asked.vectors, dtype=np.float64)
        term[asked.has] = self.query_term.weight * similarity[asked.has]
        return term + self.query_term.of_lexical(self._lexical_of_rows(events))

    def _evidence(self, rows: Interactions) -> list[Evidence]:
        if rows.feedback is not None:
            rows = rows.take(rows.feedback > 0)
        if not len(rows):
            return []
        events, n = self.encode(rows), min(self.n_items, _N_OTHERS)
        log, queries = self._queries(events)
        states = self._states(log, queries)
        rng = np.random.default_rng(self.query_term.n_rows + self.n_items)
        columns = np.sort(rng.choice(self.n_items, n, replace=False))
        base = np.empty((len(rows), n), np.float32)
        self._tiles(states, queries, columns)(0, len(rows), 0, n, base)
        base[columns == events.item[:, None]] = -np.inf
        base += np.log(self.n_items / n)  # the sample stands for the whole catalogue
        asked = self._read_queries(events.query or ())
        texts = self.network.catalogue.numpy(force=True)[columns, self._texts]
        score, own = self._scores(events, queries, states)
        similarity = np.empty((len(rows), 1 + n, 3), np.float32)  # column 0: the own item
        similarity[:, 0, 0] = np.einsum("nt,nt->n", own[:, self._texts], asked.vectors)
        similarity[:, 1:, 0] = asked.vectors @ texts.T
        similarity[:, 0, 1:] = self._lexical_of_rows(events).T
        for row, words in enumerate(events.query or ()):
            lexical = self.lexical.similarities(words, self.n_items)
            similarity[row, 1:, 1:] = lexical[:, columns].T
        return [Choices(np.column_stack([score, base]), similarity, events.weight)]

    def _evidence_of_stream(self, rows: Interactions) -> list[Evidence]:
        """Return the evidence of rows; with times, each sees what comes before it."""
        if not self.timed:
            return super()._evidence_of_stream(rows)
        self.learn(replace(rows, query=None), self.settings, Call(weights=False))
        return self._evidence_of(rows)

    def _check_reads_texts(self, rows: Interactions, call: Call | None) -> None:
        if self.settings.backbone is None:
            raise ValueError(
                "query: search words are compared with the texts of items, and backbone=None "
                "reads none. Set backbone, such as 'auto', and give fit the column `text`; or drop "
                "the column `query`."
            )
