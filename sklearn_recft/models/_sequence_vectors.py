"""Products of states with the vectors of items: what the sequence model reads of its catalogue."""

from __future__ import annotations

import numpy as np

from sklearn_recft.models._content_model import ContentModel
from sklearn_recft.models._item_counts import ItemCounts
from sklearn_recft.models._sequence_network import SequenceNetwork
from sklearn_recft.modules import SequenceNet
from sklearn_recft.ranking import TileScorer, cosine_tiles, dot_tiles


class SequenceVectors(ContentModel):
    """The catalogue of a sequence model. A subclass may hold it in another form."""

    network: SequenceNetwork
    counts: ItemCounts

    @property
    def module(self) -> SequenceNet:
        """The net's module."""
        module: SequenceNet = self.network.module
        return module

    def _vectors(self, items: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        """Return the vectors of items (codes); those from ``n_items`` on have ``extra`` texts."""
        vectors = self.network.catalogue
        if extra is not None:
            vectors = self.module.with_cold_items(vectors, extra)
        found: np.ndarray = vectors.numpy(force=True)[items]
        return found

    def _products(self, states: np.ndarray, cold: np.ndarray, columns: np.ndarray) -> TileScorer:
        """Return a function that writes products of states and items, and popularity if cold."""
        vectors = self.network.catalogue.numpy(force=True)
        if cold.any():  # popularity is one more column of the product
            states = np.column_stack([states, cold.astype(np.float32)])
            vectors = np.column_stack([vectors, self._popularity()[:-1]])
        if len(columns) < len(vectors):
            vectors = vectors[columns]
        nothing = np.zeros(len(columns), np.float32), np.zeros(len(states), np.float32)
        return dot_tiles(states, vectors, *nothing)

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item vectors."""
        return cosine_tiles(self.network.catalogue.numpy(force=True)[:, : self.module.width], items)

    def _popularity(self) -> np.ndarray:
        """Return the log share (n_items + 1,) of each item in all events; last, a new item."""
        counts = np.append(self.counts.n_events, 0) + 1.0
        return np.log(counts / counts.sum()).astype(np.float32)
