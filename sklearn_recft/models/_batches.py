"""Which batches a model has learned, as hashes of their ids: a retried file is learned once."""

from __future__ import annotations

import warnings
from hashlib import blake2b
from numbers import Integral
from typing import Any

import numpy as np

MAX_BATCHES = 1000  # one a day for almost three years, 8 bytes each


def batch_code(batch_id: Any) -> int:
    """Return a hash (64 bits) of the id of a batch; an integer and its decimal text are one id.

    Raises
    ------
    TypeError
        The id is neither a string nor an integer.

    Examples
    --------
    >>> from sklearn_recft.models import batch_code
    >>> batch_code(7) == batch_code("7")
    True
    """
    if not isinstance(batch_id, (str, Integral)) or isinstance(batch_id, bool):
        raise TypeError(
            f"batch_id must be a string or an integer, got a {type(batch_id).__name__}; pass "
            "str(batch_id)."
        )
    text = batch_id if isinstance(batch_id, str) else str(int(batch_id))
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def warn_of_known_batch(batch_id: Any) -> None:
    """Warn that a batch was learned before; called by `RecommenderMixin._update`."""
    warnings.warn(
        f"batch_id={batch_id!r} was learned before, so this call has changed nothing. Pass another "
        "batch_id for other rows.",
        UserWarning,
        stacklevel=5,
    )


def joined_batches(batches: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Return the newest `MAX_BATCHES` of two arrays of hashes, the second being newer."""
    kept = batches[~np.isin(batches, more, kind="sort")]  # NumPy 2.0 overflows at 2**63 otherwise
    return np.concatenate([kept, more])[-MAX_BATCHES:]
