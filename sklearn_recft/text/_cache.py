"""Cache of text vectors within the process, and ragged arrays of hidden states."""

import sys
from collections.abc import Iterator, Sequence
from threading import RLock

import numpy as np
import torch
from torch import Tensor

ENTRY_BYTES = 200  # overhead of an entry: key, array header and dict slot


class VectorCache:
    """Cache of vectors by owner and text, with a limit in bytes; the oldest are evicted first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._vectors: dict[tuple[str, str], np.ndarray] = {}  # oldest first
        # Reentrant: an interrupt during the release must not deadlock its own thread.
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, owner: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the cached vectors by text; callers must not write to them."""
        with self._lock:
            found = ((text, self._vectors.get((owner, text))) for text in texts)
            return {text: vector for text, vector in found if vector is not None}

    def put(self, owner: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Add ``vectors`` (len(texts), width) of texts, and evict the oldest entries."""
        with self._lock:
            for text, vector in zip(texts, vectors, strict=True):
                self._drop((owner, text))
                self._vectors[owner, text] = vector.copy()  # a view would keep the whole table
                self.n_bytes += self._size(text, vector)
            while self.n_bytes > self.max_bytes:
                self._drop(next(iter(self._vectors)))

    def clear(self) -> None:
        """Remove all vectors."""
        with self._lock:
            self._vectors.clear()
            self.n_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        """Remove one vector, if it is cached."""
        vector = self._vectors.pop(key, None)
        if vector is not None:
            self.n_bytes -= self._size(key[1], vector)

    @staticmethod
    def _size(text: str, vector: np.ndarray) -> int:
        """Estimate the bytes of one entry."""
        return sys.getsizeof(text) + vector.nbytes + ENTRY_BYTES


class RaggedRows:
    """Sequences of different lengths in one array, with amortised constant-time appends.

    Parameters
    ----------
    tail : tuple of int
        Shape of one token: ``(width,)`` for hidden states, ``()`` for token ids.
    dtype : numpy dtype
        Type of a token.
    """

    def __init__(self, tail: tuple[int, ...], dtype: type) -> None:
        self._values: np.ndarray = np.empty((0, *tail), dtype)  # (capacity, *tail)
        self._stops = np.zeros(1, np.int64)  # sequence r is values[stops[r]:stops[r + 1]]

    def __len__(self) -> int:
        return len(self._stops) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens."""
        return self._values[: self._stops[-1]].nbytes

    def append(self, sequences: Sequence[np.ndarray]) -> None:
        """Append sequences, each of shape ``(length, *tail)``."""
        stops = self._stops[-1] + np.cumsum([len(s) for s in sequences], dtype=np.int64)
        used, needed = int(self._stops[-1]), int(stops[-1]) if len(stops) else 0
        if needed > len(self._values):
            room = (max(needed, len(self._values) * 3 // 2), *self._values.shape[1:])
            grown = np.empty(room, self._values.dtype)
            grown[:used] = self._values[:used]
            self._values = grown
        for start, sequence in zip([used, *stops[:-1]], sequences, strict=bool(sequences)):
            self._values[start : start + len(sequence)] = sequence
        self._stops = np.append(self._stops, stops)

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """Return the lengths (n,) of the sequences ``rows`` (n,)."""
        return self._stops[rows + 1] - self._stops[rows]

    def collate(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Pad sequences with zeros to (n, longest, *tail), and return them and the mask."""
        lengths = self.lengths(rows)
        step = np.arange(lengths.max(initial=0))
        mask = step < lengths[:, None]  # (n, longest)
        values = np.zeros((*mask.shape, *self._values.shape[1:]), self._values.dtype)
        values[mask] = self._values[(self._stops[rows][:, None] + step)[mask]]
        return torch.from_numpy(values), torch.from_numpy(mask)


def batches_by_length(lengths: np.ndarray, n_tokens: int) -> Iterator[np.ndarray]:
    """Split sequences into batches of similar length, at most ``n_tokens`` with padding.

    A longer sequence is a batch by itself. Sequences of equal length keep their order.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop - start + 1) * lengths[order[stop]] > n_tokens:
            yield order[start:stop]
            start = stop
