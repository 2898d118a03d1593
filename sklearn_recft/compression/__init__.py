"""Smaller and faster models: tables in few bits, dropped rows, ONNX graphs, distillation."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.compression._compress import compress, model_bytes
    from sklearn_recft.compression._distill import distill
    from sklearn_recft.compression._onnx_encoder import onnx_encoder, with_onnx_encoder
    from sklearn_recft.compression._onnx_export import export_onnx
    from sklearn_recft.compression._prune import prune_items, prune_users

__all__ = [
    "compress",
    "distill",
    "export_onnx",
    "model_bytes",
    "onnx_encoder",
    "prune_items",
    "prune_users",
    "with_onnx_encoder",
]

__getattr__ = lazy_names(
    __name__,
    {
        "compress": "_compress",
        "model_bytes": "_compress",
        "prune_items": "_prune",
        "prune_users": "_prune",
        "distill": "_distill",
        "export_onnx": "_onnx_export",
        "onnx_encoder": "_onnx_encoder",
        "with_onnx_encoder": "_onnx_encoder",
    },
)
