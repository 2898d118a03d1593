"""A net, its text encoder and the item vectors, as one part of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from sklearn_recft.models._net import Net
from sklearn_recft.text import TextEncoder, encoder_from_state, read_texts


class Network:
    """Net of a model with item texts; subclasses build the net.

    Attributes
    ----------
    settings : dataclass
        Settings of the model.
    shape : dict of str to int
        Sizes of the net, set by the first rows.
    encoder : TextEncoder or None
        A frozen encoder. A trained one is a part of the module.
    catalogue : Tensor of shape (n_items, width)
        Vectors of items, for scoring.
    digests : ndarray of shape (n_items,), uint64
        Hashes of the vectors that were given for items, 0 without one; empty if the net reads none.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.shape: dict[str, int] = {}
        self.encoder: TextEncoder | None = None
        self.net: Net | None = None
        self.catalogue: Any = None
        self.digests = np.empty(0, np.uint64)

    @property
    def is_built(self) -> bool:
        """Whether the net is built."""
        return self.net is not None

    @property
    def weights(self) -> Net:
        """The trained net."""
        if self.net is None:
            raise AttributeError("The model has no net yet.")
        return self.net

    @property
    def module(self) -> Any:
        """The module that the net trains."""
        return self.weights.module

    @property
    def reader(self) -> TextEncoder | None:
        """The text encoder, frozen or part of the module."""
        trained = None if self.net is None else getattr(self.module, "encoder", None)
        return self.encoder if trained is None else cast(TextEncoder, trained)

    @property
    def vector_width(self) -> int:
        """Length of the vectors that are given for items; 0 if the net reads none."""
        return self.shape.get("vector_width", 0)

    @property
    def n_threads(self) -> int:
        """Number of threads."""
        threads: int = self.settings.n_threads
        return threads

    def digests_of(self, codes: np.ndarray) -> np.ndarray:
        """Return the hash of the vector of each code (n,), 0 without one."""
        found = np.zeros(len(codes), np.uint64)
        known = (codes >= 0) & (codes < len(self.digests))
        found[known] = self.digests[codes[known]]
        return found

    def keep_digests(self, codes: np.ndarray, digests: np.ndarray, n_items: int) -> None:
        """Store the hashes of vectors; an array of earlier hashes never changes in place."""
        grown = np.zeros(n_items, np.uint64)
        grown[: len(self.digests)] = self.digests
        grown[codes] = digests
        self.digests = grown

    def build(self, seed: int, encoder: TextEncoder | None) -> Any:
        """Return a net of `shape`; ``encoder`` is a trained encoder."""
        raise NotImplementedError

    def encode(self, texts: list[str], n_threads: int) -> np.ndarray:
        """Encode texts separately as vectors (n, t); (n, 0) without an encoder."""
        reader = self.reader
        if reader is None:
            return np.zeros((len(texts), 0), np.float32)
        return reader.encode(texts, n_threads=n_threads, separately=True)

    def text_rows(self, codes: np.ndarray) -> torch.Tensor:
        """Return a copy of what the module keeps of the texts of known items."""
        rows: torch.Tensor = self.module.item_texts[torch.from_numpy(codes)].clone()
        return rows

    def put_text_rows(self, codes: np.ndarray, rows: torch.Tensor) -> None:
        """Write what `text_rows` returned."""
        self.module.item_texts[torch.from_numpy(codes)] = rows

    def put_texts(self, codes: np.ndarray, texts: list[str]) -> None:
        """Read other texts of known items."""
        read = read_texts(self.reader, texts, n_threads=self.n_threads, separately=True)
        if read is not None:
            self.module.put_texts(codes, read)

    def query_vectors(self, words: Sequence[str]) -> np.ndarray:
        """Encode search words separately; (n, t), whose product with an item's text is the cosine.

        ``item_texts`` of the module holds the texts.
        """
        raw = self.encode(list(words), self.settings.n_threads)
        found: np.ndarray = self.module.query_vectors(raw)
        return found

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return what `restore` needs to undo later growth; weights are saved separately."""
        reader = self.reader
        texts = None if reader is None else reader.mark()
        return self.settings, self.catalogue, self.digests, self.module.mark(), texts

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo growth since ``mark``."""
        self.settings, self.catalogue, self.digests, module, texts = mark
        self.module.restore(module)
        if self.reader is not None:
            self.reader.restore(texts)

    def state(self) -> dict[str, Any]:
        """Return shape, encoder, weights and catalogue."""
        reader = self.reader
        return {
            "shape": self.shape,
            "encoder": None if reader is None else reader.state(),
            "trains_encoder": reader is not self.encoder,
            "net": self.weights.state(),
            "catalogue": self.catalogue,
            **({"digests": self.digests} if self.vector_width else {}),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.shape, encoder = state["shape"], None
        if state["encoder"] is not None:
            encoder = encoder_from_state(state["encoder"])
        trains = state["trains_encoder"]
        self.encoder = None if trains else encoder
        self.net = Net(self.build(0, encoder if trains else None))
        self.net.load_state(state["net"])
        if encoder is not None:
            encoder.move_to(self.net.device)
        self.catalogue = torch.as_tensor(state["catalogue"]).to(self.net.device)
        self.digests = state.get("digests", np.empty(0, np.uint64))

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: there is no state per user."""
