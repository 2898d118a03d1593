"""What is kept of texts: vectors shared within the process, and ragged rows of hidden states."""

import sys
from collections.abc import Iterator, Sequence
from threading import RLock

import numpy as np
import torch
from torch import Tensor

ENTRY_BYTES = (
    200  # of an entry beside its text and its numbers: key, array header, place in the dict
)


class VectorCache:
    """Vectors by owner and text, bounded in bytes: when it is full, the oldest make room."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._vectors: dict[tuple[str, str], np.ndarray] = {}  # oldest first
        # Reentrant: an interrupt that strikes as it is let go must not lock its own thread out.
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, owner: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Give the vectors that are known, by text; they are the cache's own, not to be written."""
        with self._lock:
            found = ((text, self._vectors.get((owner, text))) for text in texts)
            return {text: vector for text, vector in found if vector is not None}

    def put(self, owner: str, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Remember ``vectors`` (len(texts), width) of texts that are not known yet."""
        with self._lock:
            for text, vector in zip(texts, vectors, strict=True):
                self._drop((owner, text))
                self._vectors[owner, text] = vector.copy()  # a view would keep the whole table
                self.n_bytes += self._size(text, vector)
            while self.n_bytes > self.max_bytes:
                self._drop(next(iter(self._vectors)))

    def clear(self) -> None:
        """Forget every vector."""
        with self._lock:
            self._vectors.clear()
            self.n_bytes = 0

    def _drop(self, key: tuple[str, str]) -> None:
        """Forget one vector, if it is known."""
        vector = self._vectors.pop(key, None)
        if vector is not None:
            self.n_bytes -= self._size(key[1], vector)

    @staticmethod
    def _size(text: str, vector: np.ndarray) -> int:
        """Count the bytes of one entry."""
        return sys.getsizeof(text) + vector.nbytes + ENTRY_BYTES


class RaggedRows:
    """Sequences of different lengths in one array, appended in amortised constant time.

    Parameters
    ----------
    tail : tuple of int
        Shape of one token: ``(width,)`` for hidden states, ``()`` for token ids.
    dtype : numpy dtype
        How a token is stored.
    """

    def __init__(self, tail: tuple[int, ...], dtype: type) -> None:
        self._values: np.ndarray = np.empty((0, *tail), dtype)  # (capacity, *tail)
        self._stops = np.zeros(1, np.int64)  # sequence r is values[stops[r]:stops[r + 1]]

    def __len__(self) -> int:
        return len(self._stops) - 1

    def __getstate__(self) -> dict[str, np.ndarray]:
        return {"_values": self._values[: self._stops[-1]].copy(), "_stops": self._stops}

    @property
    def nbytes(self) -> int:
        """Bytes of the tokens in use."""
        return self._values[: self._stops[-1]].nbytes

    def append(self, sequences: Sequence[np.ndarray]) -> None:
        """Add sequences, each ``(length, *tail)``, behind the last one."""
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
        """Count the tokens of some sequences."""
        return self._stops[rows + 1] - self._stops[rows]

    def gather(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Give sequences padded with zeros (n, longest, *tail) and their mask (n, longest)."""
        lengths = self.lengths(rows)
        step = np.arange(lengths.max(initial=0))
        mask = step < lengths[:, None]  # (n, longest)
        values = np.zeros((*mask.shape, *self._values.shape[1:]), self._values.dtype)
        values[mask] = self._values[(self._stops[rows][:, None] + step)[mask]]
        return torch.from_numpy(values), torch.from_numpy(mask)


def batches_by_length(lengths: np.ndarray, n_tokens: int) -> Iterator[np.ndarray]:
    """Split sequences into batches of at most ``n_tokens``, padding counted, alike in length.

    A sequence longer than that is a batch of its own. The order within a length is kept.
    """
    order = np.argsort(lengths, kind="stable")
    start = 0
    for stop in range(1, len(order) + 1):
        if stop == len(order) or (stop - start + 1) * lengths[order[stop]] > n_tokens:
            yield order[start:stop]
            start = stop
