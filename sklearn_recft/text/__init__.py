"""Texts as vectors: encoders, what is cached of them, low-rank adapters."""

from sklearn_recft.text._copies import copied_backbones
from sklearn_recft.text._encoder import TextEncoder, load_encoder
from sklearn_recft.text._items import make_encoder, new_texts, read_texts, texts_of

__all__ = [
    "TextEncoder",
    "copied_backbones",
    "load_encoder",
    "make_encoder",
    "new_texts",
    "read_texts",
    "texts_of",
]
