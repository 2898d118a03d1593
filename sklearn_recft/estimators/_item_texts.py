"""The words of items: which text speaks for an item, and what an encoder makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.modules._bert import TextEncoder, load_encoder


class ItemTexts:
    """Text of each item, as it was when the item was first met, and its encoder.

    Parameters
    ----------
    encoder : TextEncoder or None
        None reads no texts.

    Attributes
    ----------
    known : list of str
        By item code.
    """

    def __init__(self, encoder: TextEncoder | None) -> None:
        self.encoder, self.known = encoder, list[str]()

    @property
    def trains(self) -> bool:
        """Whether the encoder is trained with the rest."""
        return self.encoder is not None and self.encoder.keep != "all"

    def add(self, codes: np.ndarray, texts: list[str]) -> list[str]:
        """Remember the texts of codes that are new, met in this order; return those texts."""
        first = len(self.known)
        for row in np.flatnonzero(codes >= first):
            if codes[row] == len(self.known):
                self.known.append(texts[row])
        return self.known[first:]

    def forget(self, n_items: int) -> None:
        """Forget the items from ``n_items`` on."""
        del self.known[n_items:]

    def read(self, texts: list[str], n_threads: int) -> np.ndarray | None:
        """What the net takes for these texts: vectors (n, width), or codes where it trains."""
        if self.encoder is None:
            return None
        if self.trains:
            return self.encoder.lower(texts, n_threads=n_threads)
        return self.encoder.encode(texts, n_threads=n_threads)


def texts_of(ids: np.ndarray, texts: np.ndarray | None) -> list[str]:
    """Text of each row; the id where there is none."""
    said = ids.tolist() if texts is None else texts.tolist()
    return [
        text if (text := str(own)).strip() else str(item)
        for own, item in zip(said, ids.tolist(), strict=True)
    ]


def make_encoder(
    backbone: str, freeze: Any, texts: list[str], *, seed: int, device: str, lora_rank: int
) -> TextEncoder:
    """Load the backbone and decide which of its layers train."""
    encoder = load_encoder(
        backbone, texts=list(dict.fromkeys(texts)), seed=seed, device=device, lora_rank=lora_rank
    )
    return encoder.freeze(freeze)
