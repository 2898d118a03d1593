"""Texts as vectors: encoders, what is cached of them, low-rank adapters."""

from sklearn_recft.text._encoder import TextEncoder, load_encoder
from sklearn_recft.text._items import make_encoder, new_texts, read_texts, texts_of
from sklearn_recft.text._masked import pretrain
from sklearn_recft.text._pretrained import PretrainedBackbone

__all__ = [
    "PretrainedBackbone",
    "TextEncoder",
    "load_encoder",
    "make_encoder",
    "new_texts",
    "pretrain",
    "read_texts",
    "texts_of",
]
