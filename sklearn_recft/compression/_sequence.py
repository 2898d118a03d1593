"""The sequence model with a compressed catalogue, and without what only training reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_recft.compression._models import CompactModel
from sklearn_recft.compression._tables import CompactTable
from sklearn_recft.events import Events, Interactions
from sklearn_recft.models import (
    Call,
    FittedModel,
    SequenceModel,
    SequenceNetwork,
    SequenceSettings,
    Transaction,
)
from sklearn_recft.ranking import TileScorer

_CODES = "catalogue_"


class CompactCatalogue:
    """Compressed vectors of items, which a net reads as a tensor: by rows.

    Parameters
    ----------
    table : CompactTable
    device : torch.device
        Where the net is.
    """

    def __init__(self, table: CompactTable, device: torch.device) -> None:
        self.table, self.device = table, device

    def index_select(self, axis: int, index: Tensor) -> Tensor:
        """Return rows as a tensor of float32."""
        codes, places = np.unique(index.numpy(force=True), return_inverse=True)
        rows = torch.from_numpy(self.table.rows(codes)[places])
        return rows.to(self.device)


class CompactSequenceNetwork(SequenceNetwork):
    """The net, whose module knows one item in place of all: one without events.

    Attributes
    ----------
    catalogue : CompactCatalogue
    """

    def state(self) -> dict[str, Any]:
        """Return shape, encoder, weights and catalogue."""
        table = self.catalogue.table
        state = {name: value for name, value in super().state().items() if name != "catalogue"}
        return {**state, "precision": table.precision, **table.state(_CODES)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        table = CompactTable.from_state(state, state["precision"], _CODES)
        super().load_state({**state, "catalogue": np.empty((0, table.width), np.float32)})
        if table.width != self.module.query_width:
            raise ValueError(
                f"the catalogue has {table.width} columns, and the net {self.module.query_width}"
            )
        self.catalogue = CompactCatalogue(table, self.weights.device)

    def cold_vectors(self, texts: np.ndarray | None, n: int) -> np.ndarray:
        """Return the vectors of ``n`` items without events; texts (n, t) if the net has any."""
        none = torch.empty((0, self.module.query_width), device=self.weights.device)
        extra = np.zeros((n, 0), np.float32) if texts is None else texts
        found: np.ndarray = self.module.with_cold_items(none, extra).numpy(force=True)
        return found

    def add(self, codes: np.ndarray, texts: list[str], n_items: int) -> None:
        """Add items up to ``n_items`` to the catalogue; they have no events to learn from."""
        table = self.catalogue.table
        first, grown = len(table), table.grown(n_items)
        if n_items > first:
            rows = self.cold_vectors(self.read(codes, texts, first, None), n_items - first)
            grown = grown.replaced(np.arange(first, n_items), rows, in_full=False)
            self.catalogue = CompactCatalogue(grown, self.catalogue.device)


class CompactSequenceModel(CompactModel, SequenceModel):
    """The sequence model with a compressed catalogue.

    Attributes
    ----------
    network : CompactSequenceNetwork
    """

    kind = "RealtimeTransformerRecommender (compact)"
    original = SequenceModel
    learns = False
    why_not = (
        "its net trains all weights, with the moments of an optimizer. Call partial_fit on the "
        "model in full, and compress it again"
    )
    network: CompactSequenceNetwork

    def __init__(self, rows: Interactions, settings: SequenceSettings) -> None:
        super().__init__(rows, settings)
        self.network = CompactSequenceNetwork(settings, timed=self.timed)

    # ------------------------------------------------------------------ learning

    def _observes(self, call: Call) -> bool:
        return not call.weights

    def _update(self, events: Events, undo: Transaction, call: Call) -> None:
        """Store events; new items join the catalogue."""
        undo.keep(self.history, events.user)
        codes, texts = self._all_texts(events.item, events.text, call)
        self.network.add(codes, texts, self.n_items)
        new = self._new_events(self._as_log(events))[1]
        self._count(self.counts.first_of(new) if call.adapt else new, learned=None)
        self._append(new)

    # ------------------------------------------------------------------ scoring

    def _vectors(self, items: np.ndarray, extra: np.ndarray | None) -> np.ndarray:
        """Return the vectors of items (codes); those from ``n_items`` on have ``extra`` texts."""
        table = self.network.catalogue.table
        found, known = np.empty((len(items), table.width), np.float32), items < self.n_items
        found[known] = table.rows(items[known])
        if extra is not None:
            cold = self.network.cold_vectors(extra, len(extra))
            found[~known] = cold[items[~known] - self.n_items]
        return found

    def _products(self, states: np.ndarray, cold: np.ndarray, columns: np.ndarray) -> TileScorer:
        """Return a function that writes products of states and items, and popularity if cold."""
        nothing = np.zeros(len(columns), np.float32), np.zeros(len(states), np.float32)
        score = self.network.catalogue.table.tiles(states, columns, *nothing)
        if not cold.any():
            return score
        popularity, is_cold = self._popularity()[columns], cold.astype(np.float32)

        def score_with_popularity(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
            score(r0, r1, c0, c1, out)
            out += np.multiply.outer(is_cold[r0:r1], popularity[c0:c1])

        return score_with_popularity

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes cosines of item vectors."""
        return self.network.catalogue.table.first_columns(self.module.width).cosine_tiles(items)

    # ------------------------------------------------------------------ saving

    def _compressed(self, model: FittedModel, before: Any) -> dict[str, Any]:
        assert isinstance(model, SequenceModel)
        state = super()._compressed(model, before)
        given, module = state["parts"]["network"], model.module
        vectors = model.network.catalogue.numpy(force=True)
        table = CompactTable.of(vectors, self.precision, "catalogue")
        one_item = {
            "embedding": module.cold_item_embedding().numpy(force=True)[None].copy(),
            "item_texts": np.zeros((1, module.item_texts.shape[1]), np.float32),
            "n_events": np.ones(1, np.float32),
            "n_learned": np.zeros(1, np.float32),
        }
        net = {"module": {**given["net"]["module"], **one_item}, "n_items": 1, "optimizer": {}}
        network = {name: value for name, value in given.items() if name != "catalogue"}
        network.update({"net": net, "precision": self.precision, **table.state(_CODES)})
        return {**state, "parts": {**state["parts"], "network": network}}
