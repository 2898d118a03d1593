"""The packages of the extra [onnx]: imported when used."""

from __future__ import annotations

from typing import Any


def import_extra() -> Any:
    """Import onnx, onnxruntime and onnxscript; return onnx.

    Raises
    ------
    ImportError
        If one is missing; the message names the extra.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'ONNX graphs need the package {error.name}: pip install "sklearn-recft[onnx]"'
        ) from error
    return onnx
