"""Models that compare search words with the texts of items: how the weight is learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit, logit

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call, FittedModel, Transaction
from sklearn_recft.models._network import Network
from sklearn_recft.models._query_term import Evidence, QueryTerm
from sklearn_recft.ranking import TileScorer
from sklearn_recft.text import LexicalIndex, best_texts, texts_of

_HELD_OUT = 0.2  # of the rows with a query: the newest, from which a fit learns the weight
_MOST_ROWS = 2048  # rows with a query that one call learns from, the newest
_N_PIECES = 20  # of the held-out rows, each scored before it is observed
_TINY = 1e-12  # probabilities are kept so far from 0 and 1


@dataclass(frozen=True)
class Asked:
    """Search words of n rows, encoded.

    Attributes
    ----------
    has : ndarray of shape (n,), bool
        Which rows have search words.
    vectors : ndarray of shape (n, t), float32
        Their product with the text vector of an item is the cosine; 0 in the other rows.
    """

    has: np.ndarray
    vectors: np.ndarray


class QueryModel(FittedModel):
    """A fitted model whose rows may have search words; a subclass scores rows without them.

    The net never reads search words, so rows without them keep all bits of their scores. Weights
    and offset of the `QueryTerm` are learned from rows that the net has not learned yet.

    Attributes
    ----------
    query_term : QueryTerm
    lexical : LexicalIndex
        Words and letters of the texts of items, if the model reads texts.
    network : Network
    """

    network: Network

    def __init__(self, rows: Interactions, settings: Any) -> None:
        super().__init__(rows, settings)
        self.query_term, self.lexical = QueryTerm(), LexicalIndex()

    # ------------------------------------------------------------------ for subclasses

    def _evidence(self, rows: Interactions) -> list[Evidence]:
        """Return what rows with search words, which are not learned yet, say about the weight."""
        raise NotImplementedError

    def _logits_of_queries(self, events: Events) -> np.ndarray:
        """Return the term (n,) of each row, 0 in rows without search words."""
        raise NotImplementedError

    def _check_reads_texts(self, rows: Interactions, call: Call | None) -> None:
        """Raise an error if the model has no texts of items to compare search words with."""
        raise NotImplementedError

    def _evidence_of_stream(self, rows: Interactions) -> list[Evidence]:
        """Return the evidence of rows in order, which are observed piece by piece."""
        found = []
        for piece in np.array_split(np.arange(len(rows)), min(_N_PIECES, len(rows))):
            some = rows.take(piece)
            found += self._evidence_of(some)
            self.learn(replace(some, query=None), self.settings, Call(weights=False))
        return found

    # ------------------------------------------------------------------ learning

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code, -1 for unknown ids; search words need texts of items."""
        if rows.query is not None:
            self._check_reads_texts(rows, None)
        return super().encode(rows)

    def _learn_rows(self, rows: Interactions, undo: Transaction, call: Call) -> list[np.ndarray]:
        """Learn rows, and the weights of the query term from the rows that have a query."""
        if rows.query is None:
            answers = super()._learn_rows(rows, undo, call)
            self._index_texts(rows, call)
            return answers
        self._check_reads_texts(rows, call)
        terms, evidence = np.zeros(len(rows)), []
        if not self.network.is_built:
            evidence = self._held_out_evidence(rows.learned(), call)
        else:
            if call.predict:
                terms = self._logits_of_queries(self.encode(rows))
            if call.weights:
                evidence = self._evidence_of(rows.learned())
        answers = super()._learn_rows(rows, undo, call)
        self._index_texts(rows, call)
        self.query_term = self.query_term.after(evidence)
        return [_with_terms(np.concatenate(answers), terms)] if call.predict else answers

    def _evidence_of(self, rows: Interactions) -> list[Evidence]:
        """Return the evidence of the newest rows with a query, of a model before it learns them."""
        if rows.query is None:
            return []
        asks = np.flatnonzero(rows.query != "")[-_MOST_ROWS:]
        return self._evidence(rows.take(asks)) if len(asks) else []

    def _held_out_evidence(self, rows: Interactions, call: Call) -> list[Evidence]:
        """Return the evidence of the newest rows, for a twin that was fitted to the older ones.

        A net fits its own rows too well: against such scores the query would seem to add little.
        """
        older, newer = _split_by_query(rows)
        if not len(older):
            return []
        settings = replace(self.settings, verbose=0)
        twin = type(self)(rows.take(older), settings)
        # Without the search words, or the twin would have a twin.
        past = replace(rows.take(older), query=None)
        twin.learn(past, settings, Call(catalogue=call.catalogue))
        return twin._evidence_of_stream(rows.take(newer))

    def _index_texts(self, rows: Interactions, call: Call) -> None:
        """Index the texts of items that a call has made known, if the model reads texts."""
        is_complete = self.lexical.n_items == self.n_items and not len(self.lexical.untitled)
        if self.network.reader is None or is_complete:
            return
        items = self.items.encode(rows.item_ids)
        codes, texts = self._all_texts(items, self._texts_of(rows), call)
        self.lexical = self.lexical.after(codes, texts, self._titled(codes, texts, call))

    def _titled(self, codes: np.ndarray, texts: Sequence[str], call: Call) -> np.ndarray:
        """Whether each text (n,) is more than the id of its item; `adapt` names no known item."""
        ids = self.items.ids[codes].tolist()
        found = [text != str(item) for text, item in zip(texts, ids, strict=True)]
        titled = np.array(found, bool)
        return titled & (codes >= self.lexical.n_items) if call.adapt else titled

    def _all_texts(
        self, items: np.ndarray, texts: Sequence[str] | None, call: Call
    ) -> tuple[np.ndarray, list[str]]:
        """Return the distinct codes of the items of rows and catalogue, and a text of each.

        A text of the catalogue comes before those of rows, and the id is read where neither has
        one. The items of the catalogue are registered. No texts are returned for ``texts`` None,
        of a model that reads none.
        """
        codes, found = items, list(texts or ())
        if call.catalogue is not None:
            ids = call.catalogue.ids
            codes = np.concatenate([self.items.extend(ids), codes])
            found = texts_of(ids, call.catalogue.texts) + found
        if texts is None:
            return np.unique(codes), []
        return best_texts(codes, found, self.items.ids[codes])

    # ------------------------------------------------------------------ scoring

    def _lexical_of_rows(self, events: Events) -> np.ndarray:
        """Return the lexical similarities (2, n) of the search words and the item of each row."""
        return self.lexical.of_rows(events.query or (), events.item, events.text)

    def _with_lexical_term(
        self, tiles: TileScorer, queries: Interactions, columns: np.ndarray
    ) -> TileScorer:
        """Return a function that adds the lexical term to scores of catalogue ``columns``."""
        if queries.query is None:
            return tiles
        words, n_columns = queries.query.tolist(), len(columns)
        asks = np.array([bool(text) for text in words], bool)
        # Terms of the rows of a tile, for its further columns: at most so many rows a thread.
        kept: dict[int, np.ndarray] = {}

        def score(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            tiles(r0, r1, c0, c1, out)
            for row in (r0 + np.flatnonzero(asks[r0:r1])).tolist():
                term = kept.pop(row, None)
                if term is None:
                    similarities = self.lexical.similarities(words[row], self.n_items)
                    term = self.query_term.of_lexical(similarities)[columns]
                out[row - r0] += term[c0:c1]
                if c1 < n_columns:
                    kept[row] = term

        return score

    def _read_queries(self, words: Sequence[str]) -> Asked:
        """Encode search words by the encoder of the items' texts, each text once."""
        has = np.array([bool(text) for text in words], bool)
        vectors = self.network.query_vectors([text for text in words if text])
        found = np.zeros((len(has), vectors.shape[1]), np.float32)
        found[has] = vectors
        return Asked(has, found)


def _split_by_query(rows: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Return older and newer rows in the order of time; the newer have 20 % of the queries.

    Rows of one time are on one side.
    """
    n = len(rows)
    times = np.arange(n, dtype=float) if rows.timestamps is None else rows.timestamps
    order = np.argsort(times, kind="stable")
    asks = order[np.asarray(rows.query)[order] != ""] if rows.query is not None else order[:0]
    if not len(asks):
        return order[:0], order
    since = times[asks[min(int((1 - _HELD_OUT) * len(asks)), len(asks) - 1)]]
    cut = int(np.searchsorted(times[order], since))
    return order[:cut], order[cut:]


def _with_terms(chances: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Add terms to the logits of probabilities; those without a term keep their bits."""
    changed = terms != 0
    logits = logit(np.clip(chances[changed], _TINY, 1 - _TINY))
    chances[changed] = expit(logits + terms[changed])
    return chances
