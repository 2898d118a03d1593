"""A random generator as a part of a model."""

from __future__ import annotations

from typing import Any

import numpy as np


class RandomStream:
    """A random generator as a part of a model.

    Parameters
    ----------
    generator : numpy.random.Generator
    """

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def seed(self) -> int:
        """Draw a seed for another generator."""
        return int(self.generator.integers(np.iinfo(np.int32).max))

    def mark(self, *rows: Any) -> dict[str, Any]:
        """Return what `restore` needs."""
        return dict(self.generator.bit_generator.state)

    def restore(self, mark: dict[str, Any]) -> None:
        """Reset the generator to ``mark``."""
        self.generator.bit_generator.state = mark

    def state(self) -> dict[str, Any]:
        """Return the state of the bit generator."""
        return dict(self.generator.bit_generator.state)

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.generator.bit_generator.state = state

    def forget(self, users: np.ndarray) -> None:
        """Do nothing: there is no state per user."""

    def forget_items(self, items: np.ndarray) -> None:
        """Do nothing: there is no state per item."""
