"""Smaller and faster models: ONNX graphs and distillation."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.compression._distill import distill
    from sklearn_recft.compression._onnx_encoder import onnx_encoder, with_onnx_encoder
    from sklearn_recft.compression._onnx_export import export_onnx

__all__ = ["distill", "export_onnx", "onnx_encoder", "with_onnx_encoder"]

__getattr__ = lazy_names(
    __name__,
    {
        "distill": "_distill",
        "export_onnx": "_onnx_export",
        "onnx_encoder": "_onnx_encoder",
        "with_onnx_encoder": "_onnx_encoder",
    },
)
