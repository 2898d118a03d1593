"""`PretrainedBackbone`: the weights and the tokenizer of a text encoder, as plain arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_recft.text._backbone import (
    Backbone,
    BertLike,
    quiet,
    rebuild_backbone,
    serialize_backbone,
)


class PretrainedBackbone:
    """Weights and tokenizer of a text encoder; made by `pretrain`.

    Give it to an estimator as ``backbone=``. It never changes, so copies and clones of an estimator
    share it. A fitted estimator that is pickled or saved contains it.

    Parameters
    ----------
    serialized : dict
        ``weights`` by name (arrays), and ``config``, ``tokenizer`` and ``special`` (JSON).
    losses : sequence of float
        Losses of the epochs of pretraining.

    Attributes
    ----------
    losses : tuple of float
        Mean loss of each epoch of pretraining, in nats per masked token.
    digest : str
        Hash of weights, configuration and tokenizer. Backbones with the same hash are equal.

    Examples
    --------
    >>> from sklearn_recft.text import load_encoder, pretrain
    >>> backbone = pretrain("scratch", ["green tea", "black tea"], max_epochs=1, random_state=0)
    >>> load_encoder(backbone).encode(["red tea"]).shape
    (1, 128)
    """

    def __init__(self, serialized: Mapping[str, Any], losses: tuple[float, ...] = ()) -> None:
        weights = {name: _read_only(array) for name, array in serialized["weights"].items()}
        self._serialized = {**serialized, "weights": weights}
        self.losses = tuple(losses)
        self.digest = _digest(self._serialized)

    @classmethod
    def of(cls, model: BertLike, tokenizer: Any, losses: tuple[float, ...]) -> PretrainedBackbone:
        """Copy the weights of a model and its tokenizer."""
        weights = {name: t.detach().cpu().numpy() for name, t in model.state_dict().items()}
        return cls({"weights": weights, **serialize_backbone(model, tokenizer)}, losses)

    @property
    def serialized(self) -> dict[str, Any]:
        """Weights (read-only arrays), configuration and tokenizer."""
        return dict(self._serialized)

    def load(self) -> Backbone:
        """Make the model and its tokenizer."""
        made = rebuild_backbone(self._serialized)
        weights = self._serialized["weights"]
        made.model.load_state_dict({n: torch.from_numpy(w.copy()) for n, w in weights.items()})
        name = f"pretrained {self.digest}"
        return Backbone(made.model, made.tokenizer, None, ((name, 0, 0),), self._serialized)

    def save(self, folder: str | Path) -> str:
        """Write the encoder to a folder in the format of Hugging Face, and return its path.

        The folder can be given as ``backbone=``, and read by other tools.

        Parameters
        ----------
        folder : str or Path
            It is created if it does not exist.

        Returns
        -------
        folder : str
        """
        made = self.load()
        with quiet():
            made.model.save_pretrained(folder)
            made.tokenizer.save_pretrained(folder)
        return str(folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PretrainedBackbone) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __deepcopy__(self, memo: dict[int, Any]) -> PretrainedBackbone:
        return self

    def __repr__(self) -> str:
        return f"PretrainedBackbone({self.digest[:8]})"


def _read_only(array: np.ndarray) -> np.ndarray:
    """Copy an array, unless nothing can write to it."""
    if array.flags.writeable or array.base is not None:
        array = array.copy()
        array.flags.writeable = False
    return array


def _digest(serialized: Mapping[str, Any]) -> str:
    """Hash weights, configuration and tokenizer."""
    found = hashlib.blake2b(digest_size=16)
    for name in ("config", "tokenizer", "special"):
        found.update(serialized[name].encode("utf-8", "surrogatepass"))
    for name, array in sorted(serialized["weights"].items()):
        found.update(f"{name} {array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
