"""Smaller models: tables in few bits, and items and users that are dropped."""
"""Smaller and faster models: ONNX graphs and distillation."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.compression._compress import compress, model_bytes
    from sklearn_recft.compression._prune import prune_items, prune_users

__all__ = ["compress", "model_bytes", "prune_items", "prune_users"]
    from sklearn_recft.compression._distill import distill
    from sklearn_recft.compression._onnx_encoder import onnx_encoder, with_onnx_encoder
    from sklearn_recft.compression._onnx_export import export_onnx

__all__ = ["distill", "export_onnx", "onnx_encoder", "with_onnx_encoder"]

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
