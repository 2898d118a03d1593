"""Text encoders as ONNX graphs: exported from torch, quantized, and run in a fitted model."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sklearn_recft.base import RecommenderMixin
from sklearn_recft.compression._onnx_extra import import_extra
from sklearn_recft.models import DecayModel, SequenceModel
from sklearn_recft.text import OnnxEncoder, TextEncoder, reading_of

PRECISIONS = ("float32", "int8")
_INPUTS, _OUTPUT = ("input_ids", "attention_mask"), "vectors"
_OPSET = 18
_KINDS = (DecayModel, SequenceModel)
# Warnings of torch, onnxscript and onnxruntime about themselves.
_KNOWN = (
    (FutureWarning, r".*isinstance\(treespec, LeafSpec\).*"),
    (UserWarning, r"# The axis name: .*"),
    (DeprecationWarning, r".*(onnx|onnxscript|ml_dtypes|treespec).*"),
)

Recommender = TypeVar("Recommender", bound=RecommenderMixin)


def with_onnx_encoder(model: Recommender, precision: str = "float32") -> Recommender:
    """Return a copy of a fitted estimator whose frozen text encoder runs in ONNX Runtime.

    Texts of new items and search words are then encoded by the graph. The vectors of known items,
    the net and all else are those of ``model``, so predictions do not change. The copy learns as
    before; `fit` makes an encoder in torch again.

    Parameters
    ----------
    model : estimator
        A fitted `DecayBertRecommender` or `RealtimeTransformerRecommender` that reads texts by a
        frozen encoder (``freeze="all"``).
    precision : {"float32", "int8"}
        "float32" gives the vectors of torch, up to 1e-5. "int8" rounds the weights and, in each
        run, the hidden states: its vectors differ visibly, and slightly with the other texts of a
        batch. A fitted model encodes new texts one by one.

    Returns
    -------
    copy : estimator
        Pickles and files of it hold the graph.

    Raises
    ------
    TypeError, ValueError
        If the estimator has no frozen text encoder.
    ImportError
        If a package of the extra [onnx] is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_recft import DecayBertRecommender
    >>> from sklearn_recft.compression import with_onnx_encoder
    >>> log = pd.DataFrame({
    ...     "user_id": ["ann", "ann", "bob"], "item_id": ["t", "c", "t"],
    ...     "timestamp": [10, 20, 30], "text": ["green tea", "coffee", "green tea"]})
    >>> model = DecayBertRecommender(backbone="scratch", random_state=0).fit(log, [1, 0, 1])
    >>> fast = with_onnx_encoder(model)
    >>> bool((fast.predict_proba(log) == model.predict_proba(log)).all())
    True
    """
    encoder = encoder_of(model)
    if encoder.keep != "all":
        raise ValueError(
            f"freeze={encoder.keep!r}: the text encoder of this {type(model).__name__} is trained, "
            "by its weights or by LoRA adapters, and an ONNX graph is not. Fit with "
            "freeze='all', or give the exported graph to another program by export_onnx."
        )
    fast = onnx_encoder(encoder, precision)
    twin = copy.deepcopy(model)
    _network_of(twin).encoder = fast
    return twin


def onnx_encoder(encoder: TextEncoder, precision: str = "float32") -> OnnxEncoder:
    """Return a frozen text encoder that runs in ONNX Runtime.

    Parameters
    ----------
    encoder : TextEncoder
        What `sklearn_recft.text.load_encoder` or this function returned.
    precision : {"float32", "int8"}
        As in `with_onnx_encoder`.

    Returns
    -------
    OnnxEncoder
        Its method ``encode`` returns the vectors of texts.

    Raises
    ------
    ValueError
        If the precision is another.
    ImportError
        If a package of the extra [onnx] is missing.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: give one of {', '.join(PRECISIONS)}.")
    graph = encoder_graph(encoder)
    if precision == "int8":
        graph = quantized(graph)
    return OnnxEncoder(graph, precision, encoder)


def encoder_of(model: RecommenderMixin) -> TextEncoder:
    """Return the text encoder of a fitted estimator.

    Raises
    ------
    TypeError
        If it is of a kind without a text encoder.
    ValueError
        If it was fitted without texts.
    """
    encoder: TextEncoder | None = _network_of(model).reader
    if encoder is None:
        raise ValueError(
            f"This {type(model).__name__} was fitted without texts, so it has no text encoder: "
            "add a column text to X, and fit with a backbone."
        )
    return encoder


def has_encoder(model: RecommenderMixin) -> bool:
    """Whether a fitted estimator is of a kind that may have a text encoder."""
    return isinstance(model.__recommender_model__(), _KINDS)


def _network_of(model: RecommenderMixin) -> Any:
    fitted = model.__recommender_model__()
    if not isinstance(fitted, _KINDS):
        raise TypeError(
            f"A {type(model).__name__} has no text encoder; DecayBertRecommender and "
            "RealtimeTransformerRecommender have one."
        )
    return fitted.network


class _MeanOfStates(nn.Module):
    """A BERT, followed by the mean over the tokens of each text."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors (B, width) of token ids and masks (B, T)."""
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state  # (B, T, width)
        weight = attention_mask.to(hidden.dtype)[..., None]  # (B, T, 1)
        return (hidden * weight).sum(1) / weight.sum(1)


def encoder_graph(encoder: TextEncoder) -> bytes:
    """Return the ONNX graph of an encoder, with free numbers of texts and of tokens."""
    if isinstance(encoder, OnnxEncoder):
        if encoder.precision != "float32":
            raise ValueError("The encoder of this model is in int8 already; start from the model.")
        return encoder.graph
    import_extra()
    reading_of(encoder)  # loads the weights of a folder
    bert: Any = copy.deepcopy(encoder.model)
    module = _MeanOfStates(bert.cpu().float()).eval()
    module.requires_grad_(False)
    ids, mask = torch.ones((2, 7), dtype=torch.long), torch.ones((2, 7), dtype=torch.long)
    mask[1, 4:] = 0
    free = {0: torch.export.Dim("n_texts"), 1: torch.export.Dim("length")}
    with _quiet():
        program = torch.onnx.export(
            module,
            (ids, mask),
            input_names=list(_INPUTS),
            output_names=[_OUTPUT],
            dynamic_shapes=dict.fromkeys(_INPUTS, free),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        data: bytes = program.model_proto.SerializeToString()  # type: ignore[union-attr]
    return data


def quantized(graph: bytes) -> bytes:
    """Return a graph with weights in int8, and hidden states that each run rounds."""
    import_extra()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(graph)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8, per_channel=True)
        return target.read_bytes()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and onnxruntime say about themselves within the block."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch", "root")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for category, message in _KNOWN:
            warnings.filterwarnings("ignore", message, category)
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
