"""Processes that train one model together: what they add up, and which one is this."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol


class Processes(Protocol):
    """A group of processes that run the same `fit` on the same rows, each with its own part.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.
    """

    rank: int
    size: int

    def add(self, *values: Any) -> None:
        """Replace each array or tensor, in place, by its sum over all processes."""

    def check_same(self, what: str, *arrays: Any) -> None:
        """Raise an error in all processes unless each has the same arrays, bit by bit."""


_TRAINING: ContextVar[Processes | None] = ContextVar("processes", default=None)


def current_processes() -> Processes | None:
    """Return the processes that train together with this one, or None."""
    return _TRAINING.get()


@contextmanager
def training_together(processes: Processes | None) -> Iterator[None]:
    """Split the training of models among ``processes`` inside a with-block."""
    token = _TRAINING.set(processes)
    try:
        yield
    finally:
        _TRAINING.reset(token)
