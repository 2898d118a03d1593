"""The console script `recft`."""

from sklearn_recft.cli._main import main

__all__ = ["main"]
