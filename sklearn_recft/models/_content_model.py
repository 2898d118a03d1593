"""Models that read texts and vectors of items: what a call gives, and what items keep."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from sklearn_recft.events import Catalogue, Events, Interactions, ItemVectors, refuse_changed
from sklearn_recft.features import refuse_other_kind
from sklearn_recft.models._base import Call, Transaction
from sklearn_recft.models._query_model import QueryModel
from sklearn_recft.names import EMBEDDING


class ContentModel(QueryModel):
    """A fitted model whose items have texts and vectors, such as embeddings of images.

    An item keeps the first vector that it is given. The widths of vectors, and what items have,
    are checked before anything changes.
    """

    # ------------------------------------------------------------------ what rows give

    @property
    def reads_vectors(self) -> bool:
        """Whether the net reads vectors of items."""
        return self.network.vector_width > 0

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code; vectors must be of the width of fit."""
        self._check_width(rows)
        return super().encode(rows)

    def _check_width(self, rows: Interactions) -> None:
        """Raise if rows have vectors of another width than those of fit."""
        column = rows.features.get(EMBEDDING)
        if column is not None and column.kind == "vector":
            if not self.reads_vectors:
                n = int((~column.is_missing).sum())
                raise ValueError(
                    f"{EMBEDDING}: {n} of {len(column)} rows are vectors, and fit had none. Drop "
                    "the column, or call fit with vectors."
                )
            refuse_other_kind(column, EMBEDDING, "vector", self.network.vector_width)

    def _learn_rows(self, rows: Interactions, undo: Transaction, call: Call) -> list[np.ndarray]:
        """Check the vectors of items, then learn rows with them."""
        vectors = self._given_vectors(rows, call)
        if vectors is not None:
            catalogue = call.catalogue or Catalogue(vectors.ids[:0])
            call = replace(call, catalogue=replace(catalogue, vectors=vectors))
        return super()._learn_rows(rows, undo, call)

    def _given_vectors(self, rows: Interactions, call: Call) -> ItemVectors | None:
        """Return the vectors in rows and in the catalogue of a call; None if there are none."""
        if self.network.is_built:
            self._check_width(rows)
        learned = rows.learned()
        given = ItemVectors.of(np.asarray(learned.item_ids), learned.features.get(EMBEDDING))
        listed = None if call.catalogue is None else call.catalogue.vectors
        if given is None or listed is None:
            given = listed if given is None else given
        else:
            given = given.joined(listed)
        if given is not None and self.network.is_built:
            self._refuse_other_vectors(given)
        return given

    def _refuse_other_vectors(self, given: ItemVectors) -> None:
        width, its = self.network.vector_width, given.vectors.shape[1]
        if width != its:
            fitted = f"vectors of width {width}" if width else "none"
            raise ValueError(
                f"{EMBEDDING}: {len(given.ids)} items have vectors of width {its}, and fit had "
                f"{fitted}. Give what fit had, or call fit with the new vectors."
            )
        codes = self.items.encode(given.ids)
        before = self.network.digests_of(codes)
        refuse_changed((before != 0) & (before != digests(given.vectors)), EMBEDDING, "before")

    # ------------------------------------------------------------------ what a call adds

    def _new_vectors(self, first: int, call: Call) -> np.ndarray | None:
        """Return the vectors (m, e) of the items from code ``first`` on, NaN where missing."""
        given = None if call.catalogue is None else call.catalogue.vectors
        width = self.network.vector_width
        if not self.network.is_built and given is not None:
            width = given.vectors.shape[1]
        if not width:
            return None
        vectors = np.full((self.n_items - first, width), np.nan, np.float32)
        if given is not None:
            codes = self.items.encode(given.ids)
            vectors[codes[codes >= first] - first] = given.vectors[codes >= first]
        return vectors

    def _put_late(
        self, codes: np.ndarray, texts: list[str], n_known: int, undo: Transaction, call: Call
    ) -> np.ndarray:
        """Store texts and vectors of known items that had none; return their codes, ascending."""
        titled = self._put_texts(codes, texts, undo, call)
        return np.union1d(titled, self._put_vectors(n_known, undo, call))

    def _put_vectors(self, n_known: int, undo: Transaction, call: Call) -> np.ndarray:
        """Store the vectors of the first ``n_known`` items that had none; return their codes.

        `adapt` leaves known items as they are.
        """
        given = None if call.catalogue is None else call.catalogue.vectors
        if given is None or call.adapt:
            return np.empty(0, np.int64)
        codes = self.items.encode(given.ids)
        new = (codes >= 0) & (codes < n_known) & (self.network.digests_of(codes) == 0)
        codes, vectors = codes[new], given.vectors[new]
        if len(codes):
            module = self.network.module
            undo.on_failure(module.put_vectors, codes, np.full_like(vectors, np.nan))
            module.put_vectors(codes, vectors)
            self.network.keep_digests(codes, digests(vectors), n_known)
        return codes

    def _put_texts(
        self, codes: np.ndarray, texts: list[str], undo: Transaction, call: Call
    ) -> np.ndarray:
        """Read the texts of known items that had none but their id; return their codes."""
        if not texts or not len(self.lexical.untitled):
            return np.empty(0, np.int64)
        late = self.lexical.late(codes, self._titled(codes, texts, call))
        if len(late):
            network, places = self.network, np.searchsorted(codes, late)
            undo.on_failure(network.put_text_rows, late, network.text_rows(late))
            network.put_texts(late, [texts[place] for place in places.tolist()])
        return late

    def _put_digests(self, first: int, vectors: np.ndarray | None) -> None:
        """Store hashes of the ``vectors`` of the items from code ``first`` on, if there are any."""
        if vectors is not None:
            known = np.flatnonzero(~np.isnan(vectors).any(axis=1))
            self.network.keep_digests(first + known, digests(vectors[known]), self.n_items)

    # ------------------------------------------------------------------ unknown items

    def _contents(self, events: Events, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distinct contents (m, t + e) of the items at rows, and the index of each row.

        The text vectors stand before the given vectors, which are NaN where they are missing.
        """
        texts = [(events.text or ())[row] for row in rows.tolist()] if events.text else None
        column = events.features.get(EMBEDDING) if self.reads_vectors else None
        given = np.full(len(rows), -1)
        if column is not None and column.kind == "vector":
            given = column.data[rows]
        keys = list(zip(texts or [""] * len(rows), given.tolist(), strict=True))
        distinct = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        vectors = np.full((len(distinct), self.network.vector_width), np.nan, np.float32)
        places = np.array([place for _, place in distinct], np.int64)
        if column is not None and column.kind == "vector":
            vectors[places >= 0] = column.levels[places[places >= 0]]
        encoded = self.network.encode([text for text, _ in distinct], self.network.n_threads)
        index = np.array([distinct[key] for key in keys], np.int64)
        return np.hstack([encoded, vectors]) if vectors.shape[1] else encoded, index


def digests(vectors: np.ndarray) -> np.ndarray:
    """Return a hash of each vector (n, e), uint64, never 0."""
    rows = np.ascontiguousarray(vectors, np.float32)
    found = (hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows)
    return np.array([int.from_bytes(one, "little") or 1 for one in found], np.uint64)


def has_texts(rows: Interactions, call: Call | None) -> bool:
    """Whether rows or the catalogue of a call have texts of items."""
    catalogue = None if call is None else call.catalogue
    return rows.text is not None or (catalogue is not None and catalogue.texts is not None)
