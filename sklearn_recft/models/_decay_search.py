"""Search words of the decay model: similarities to the texts of items, added to the logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sklearn_recft.events import Events, Interactions
from sklearn_recft.models._base import Call
from sklearn_recft.models._content_model import ContentModel, has_texts
from sklearn_recft.models._decay_network import DecayNetwork, DecaySettings
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._query_term import Evidence, Labels
from sklearn_recft.modules import DecayNet

_ROWS_AT_ONCE = 16_384  # bounds memory
_N_OTHERS = 20  # negatives of a row with a query, which weigh as much as `n_negatives`


class DecaySearch(ContentModel):
    """What the decay model does with search words; the model itself scores rows without them."""

    network: DecayNetwork
    settings: DecaySettings
    features: OnlineFeatures
    class_weights: tuple[float, float]

    @property
    def module(self) -> DecayNet:
        """The net's module."""
        module: DecayNet = self.network.module
        return module

    def _logits(self, events: Events) -> np.ndarray:
        """Return the logits (n,) of rows without their search words."""
        raise NotImplementedError

    def _check_reads_texts(self, rows: Interactions, call: Call | None) -> None:
        settings = self.settings
        if self.network.is_built:
            reads = self.network.reader is not None
        else:
            known = has_texts(rows, call) or settings.backbone != "auto"
            reads = settings.backbone is not None and known
        if not reads:
            raise ValueError(
                "query: search words are compared with the texts of items, and this model has "
                f"none (backbone={settings.backbone!r}). Give fit the column `text` and a "
                "backbone, or drop the column `query`."
            )
        if settings.freeze != "all":
            raise ValueError(
                f"query: search words need a frozen text encoder, and freeze={settings.freeze!r} "
                "trains it. Set freeze='all', or drop the column `query`."
            )

    def _logits_of_queries(self, events: Events) -> np.ndarray:
        asked, similarity = self._similarities(events)
        lexical = self.query_term.of_lexical(self._lexical_of_rows(events))
        return np.where(asked, self.query_term.of(similarity) + lexical, 0.0)

    def _term_of_lists(
        self, queries: Interactions
    ) -> Callable[[int, np.ndarray], np.ndarray | float] | None:
        """Return a function of a query number and items that returns terms of meanings."""
        if queries.query is None:
            return None
        self._check_reads_texts(queries, None)
        asked = self._read_queries(queries.query.tolist())
        texts = self.module.item_texts.numpy(force=True)

        def term(row: int, items: np.ndarray) -> np.ndarray | float:
            if not asked.has[row]:
                return 0.0
            if 2 * len(items) < len(texts):
                return self.query_term.of(texts[items] @ asked.vectors[row])
            return self.query_term.of((texts @ asked.vectors[row])[items])

        return term

    def _similarities(self, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """Return which rows (n,) have search words, and their similarity to the row's item."""
        words, similarity = np.array(events.query or (), object), np.zeros(len(events))
        asks = np.flatnonzero(words != "")
        for start in range(0, len(asks), _ROWS_AT_ONCE):
            rows = asks[start : start + _ROWS_AT_ONCE]
            vectors = self._read_queries(words[rows].tolist()).vectors
            own = np.einsum("nt,nt->n", self._texts_at(events, rows), vectors, dtype=np.float64)
            similarity[rows] = own
        return words != "", similarity

    def _texts_at(self, events: Events, rows: np.ndarray) -> np.ndarray:
        """Return the vectors (n, t) of the texts of the items at ``rows``, known or not."""
        items = events.item[rows]
        texts: np.ndarray = self.module.item_texts.numpy(force=True)[items]
        unknown = np.flatnonzero(items < 0)  # there, any row was taken
        if len(unknown):
            its = [(events.text or ())[row] for row in rows[unknown].tolist()]
            texts[unknown] = self.network.text_vectors(its)
        return texts

    def _evidence(self, rows: Interactions) -> list[Evidence]:
        events, n_rows = self.encode(rows), len(rows)
        if self.positives_only:
            known, n = self.features.seen_items(), self.settings.n_negatives
            rng = np.random.default_rng(self.query_term.n_rows + len(known))
            others = known[rng.integers(len(known), size=(len(events), _N_OTHERS))]
            source = np.repeat(np.arange(len(events)), 1 + _N_OTHERS)
            real = np.tile(np.arange(1 + _N_OTHERS) == 0, len(events))
            events = replace(
                events.take_items(source),
                item=np.column_stack([events.item, others]).ravel(),
                feedback=real.astype(float),
                weight=events.weight[source] * np.where(real, 1.0, n / _N_OTHERS),
                query=tuple(np.array(events.query, object)[source]),
            )
        _, meaning = self._similarities(events)
        similarity = np.column_stack([meaning, *self._lexical_of_rows(events)])
        base, label = self._logits(events), events.feedback
        weight = events.weight * np.asarray(self.class_weights)[label.astype(int)]
        return [Labels(base, similarity, label, weight, n_rows)]
