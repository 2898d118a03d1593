"""Texts of items, and their encoding."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft.text._encoder import TextEncoder, load_encoder
from sklearn_recft.text._pretrained import PretrainedBackbone


def make_encoder(
    backbone: str | PretrainedBackbone,
    freeze: Any,
    texts: list[str],
    *,
    seed: int,
    device: str,
    lora_rank: int,
) -> TextEncoder:
    """Load the backbone, and freeze its layers as given."""
    encoder = load_encoder(
        backbone, texts=list(dict.fromkeys(texts)), seed=seed, device=device, lora_rank=lora_rank
    )
    return encoder.freeze(freeze)


def texts_of(ids: np.ndarray, texts: np.ndarray | None) -> list[str]:
    """Return the text of each row, or the item id if the text is missing or blank."""
    given = ids.tolist() if texts is None else texts.tolist()
    return [
        text if (text := str(value)).strip() else str(item)
        for value, item in zip(given, ids.tolist(), strict=True)
    ]


def new_texts(codes: np.ndarray, texts: list[str], n_known: int) -> list[str]:
    """Return the first text of each item code from ``n_known`` on."""
    distinct, first = np.unique(codes, return_index=True)
    return [texts[row] for row in first[distinct >= n_known].tolist()]


def read_texts(
    encoder: TextEncoder | None, texts: list[str], *, n_threads: int, separately: bool
) -> np.ndarray | None:
    """Encode texts as vectors (n, width), or as codes (n,) if the encoder is trained."""
    if encoder is None:
        return None
    if encoder.keep != "all":
        return encoder.lower(texts, n_threads=n_threads)
    return encoder.encode(texts, n_threads=n_threads, separately=separately)
