"""Smaller and faster models: ONNX graphs and distillation."""

from typing import TYPE_CHECKING

from sklearn_recft.lazy import lazy_names

if TYPE_CHECKING:
    from sklearn_recft.compression._onnx_encoder import with_onnx_encoder
    from sklearn_recft.compression._onnx_export import export_onnx

__all__ = ["export_onnx", "with_onnx_encoder"]

__getattr__ = lazy_names(
    __name__,
    {"export_onnx": "_onnx_export", "with_onnx_encoder": "_onnx_encoder"},
)
