"""Whether states of encoders hold the weights of folders, or their hash alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

copies: ContextVar[bool] = ContextVar("copies", default=False)


@contextmanager
def copied_backbones() -> Iterator[None]:
    """Within the block, states of encoders hold the weights of folders."""
    token = copies.set(True)
    try:
        yield
    finally:
        copies.reset(token)
