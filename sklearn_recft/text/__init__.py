"""Texts as vectors: encoders, pretraining on texts alone, what is cached, low-rank adapters."""

from sklearn_recft.text._copies import copied_backbones
from sklearn_recft.text._encoder import TextEncoder, load_encoder
from sklearn_recft.text._items import best_texts as best_texts  # for the models alone
from sklearn_recft.text._items import make_encoder as make_encoder
from sklearn_recft.text._items import new_texts as new_texts
from sklearn_recft.text._items import read_texts as read_texts
from sklearn_recft.text._items import texts_of as texts_of
from sklearn_recft.text._lexical import LexicalIndex as LexicalIndex
from sklearn_recft.text._masked import pretrain
from sklearn_recft.text._onnx import OnnxEncoder as OnnxEncoder  # for compression alone
from sklearn_recft.text._onnx import encoder_from_state as encoder_from_state  # for the models
from sklearn_recft.text._onnx import reading_of as reading_of  # for compression alone
from sklearn_recft.text._pretrained import PretrainedBackbone

__all__ = [
    "PretrainedBackbone",
    "TextEncoder",
    "copied_backbones",
    "load_encoder",
    "pretrain",
]
