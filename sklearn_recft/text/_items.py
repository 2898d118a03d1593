"""The words of items: which text speaks for an item, and what an encoder makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.text._encoder import TextEncoder, load_encoder


def make_encoder(
    backbone: str, freeze: Any, texts: list[str], *, seed: int, device: str, lora_rank: int
) -> TextEncoder:
    """Load the backbone and decide which of its layers train."""
    encoder = load_encoder(
        backbone, texts=list(dict.fromkeys(texts)), seed=seed, device=device, lora_rank=lora_rank
    )
    return encoder.freeze(freeze)


def texts_of(ids: np.ndarray, texts: np.ndarray | None) -> list[str]:
    """Text of each row; the id where there is none."""
    said = ids.tolist() if texts is None else texts.tolist()
    return [
        text if (text := str(own)).strip() else str(item)
        for own, item in zip(said, ids.tolist(), strict=True)
    ]


def new_texts(codes: np.ndarray, texts: list[str], n_known: int) -> list[str]:
    """Give the text of each item code from ``n_known`` on, as it was when first met."""
    distinct, first = np.unique(codes, return_index=True)
    return [texts[row] for row in first[distinct >= n_known].tolist()]


def read_texts(
    encoder: TextEncoder | None, texts: list[str], *, n_threads: int, apart: bool
) -> np.ndarray | None:
    """Turn texts into what the net takes: vectors (n, width), or codes where the encoder trains."""
    if encoder is None:
        return None
    if encoder.keep != "all":
        return encoder.lower(texts, n_threads=n_threads)
    return encoder.encode(texts, n_threads=n_threads, apart=apart)
