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


def best_texts(
    codes: np.ndarray, texts: list[str], ids: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """Return the distinct item codes, ascending, and the first text of each that is not its id.

    Parameters
    ----------
    codes : ndarray of shape (n,)
        Item codes.
    texts : list of n str
        What `texts_of` returned.
    ids : ndarray of shape (n,)
        The id of each code: the text of an item that has no other.
    """
    is_id = [text == str(item) for text, item in zip(texts, ids.tolist(), strict=True)]
    order = np.argsort(is_id, kind="stable")
    distinct, first = np.unique(codes[order], return_index=True)
    return distinct, [texts[row] for row in order[first].tolist()]


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
