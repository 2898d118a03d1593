"""Progress of the epochs of a fit: a bar with the loss and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tqdm import trange


@dataclass(frozen=True)
class Epochs:
    """Numbers of the epochs of a fit; while they are iterated over, a bar is shown.

    Parameters
    ----------
    n_epochs : int
    verbose : int
        0 shows nothing.
    loss : callable, default=None
        Called after each epoch if a bar is shown; returns the loss so far.
    """

    n_epochs: int
    verbose: int
    loss: Callable[[], float] | None = None

    def __len__(self) -> int:
        return self.n_epochs

    def __iter__(self) -> Iterator[int]:
        with trange(self.n_epochs, disable=not self.verbose, desc="epochs") as bar:
            for epoch in bar:
                yield epoch
                if self.verbose and self.loss is not None:
                    with np.errstate(all="ignore"):  # a fit that diverges is refused later
                        bar.set_postfix(loss=f"{self.loss():.4g}")


def evenly(n_rows: int, n_most: int = 10_000) -> np.ndarray:
    """Return at most ``n_most`` row numbers, evenly spaced."""
    return np.linspace(0, max(n_rows - 1, 0), min(n_rows, n_most)).astype(np.int64)
