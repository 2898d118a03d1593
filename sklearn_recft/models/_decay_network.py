"""The net of the decay model: construction, growth and logits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sklearn_recft import training
from sklearn_recft.models._net import Net
from sklearn_recft.models._network import Network
from sklearn_recft.models._online_features import OnlineFeatures
from sklearn_recft.models._random import RandomStream
from sklearn_recft.modules import DecayNet, make_decay_net
from sklearn_recft.text import (
    PretrainedBackbone,
    TextEncoder,
    make_encoder,
    new_texts,
    read_texts,
)

DECAY_DEFAULTS = training.Policy(
    learning_rate=2e-3, rates={"backbone": 0.01, "decay": 5.0, "embedding": 10.0}, update_rate=0.0
)
# The options of `FineTuning` that the model has.
DECAY_OPTIONS = (
    "learning_rate",
    "backbone_rate",
    "decay_rate",
    "embedding_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "clip",
    "accumulate",
    "bf16",
    "adversarial",
    "patience",
    "validation_fraction",
    "update_rate",
    "update_epochs",
    "lora_rank",
    "average",
)
_SCORED_AT_ONCE = 256


@dataclass(frozen=True)
class DecaySettings:
    """Settings of the decay model, from the parameters of the estimator.

    ``class_weights`` (2,) are computed from the labels; ``seed`` sets all random numbers.
    """

    backbone: str | PretrainedBackbone | None = None
    decay: str = "exponential"
    n_heads: int = 4
    max_history: int = 50
    freeze: Any = "all"
    outcome: bool = False
    width: int = 32
    n_factors: int = 64
    cold_dropout: float = 0.3
    n_negatives: int = 4
    replay_size: int = 2048
    max_epochs: int = 2
    class_weights: tuple[float, float] = (1.0, 1.0)
    policy: training.Policy = DECAY_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None

    @property
    def net_moves(self) -> bool:
        """Whether updates train the net, which then needs stored rows for rehearsal."""
        return self.policy.update_rate != 0


class DecayNetwork(Network):
    """The net of a decay model.

    Parameters
    ----------
    settings : DecaySettings
    about_item : list of int
        Features that are zero for an item without events.
    """

    settings: DecaySettings

    def __init__(self, settings: DecaySettings, about_item: list[int]) -> None:
        super().__init__(settings)
        self.about_item = about_item

    def make(
        self,
        features: np.ndarray,
        texts: list[str],
        online: OnlineFeatures,
        rng: RandomStream,
        *,
        has_text: bool,
        vector_width: int = 0,
    ) -> None:
        """Make the encoder, the module and the net from the first rows."""
        settings = self.settings
        backbone = settings.backbone if has_text or settings.backbone != "auto" else None
        if backbone is None and settings.freeze != "all":
            raise ValueError(
                f"freeze={settings.freeze!r}: without a column `text` there is no text encoder to "
                "train; add it to X, or leave freeze at its default."
            )
        encoder = None if backbone is None else self._make_encoder(backbone, texts, rng)
        trains = encoder is not None and encoder.keep != "all"
        self.shape = {
            "n_features": features.shape[1],
            "text_width": encoder.width if encoder else 0,
            "ids": int(encoder is None or not has_text),
            "n_rows": len(features),
        }
        if vector_width:
            self.shape["vector_width"] = vector_width
        self.encoder = None if trains else encoder
        self.net = Net(self.build(rng.seed(), encoder if trains else None))
        first = np.zeros(features.shape[1])
        first[: online.n_features] = online.first_weights
        negative, positive = settings.class_weights
        self.module.initialize_linear(features, first, float(np.log(positive / negative)))

    def _make_encoder(
        self, backbone: str | PretrainedBackbone, texts: list[str], rng: RandomStream
    ) -> TextEncoder:
        settings = self.settings
        return make_encoder(
            backbone,
            settings.freeze,
            texts,
            seed=rng.seed(),
            device=str(settings.net_params.get("device", "cpu")),
            lora_rank=settings.policy.lora_rank,
        )

    def build(self, seed: int, encoder: TextEncoder | None) -> Any:
        """Return a net of `shape`; ``encoder`` is a trained encoder."""
        settings, shape = self.settings, self.shape
        module: DecayNet = make_decay_net(
            seed,
            shape["n_features"],
            text_width=shape["text_width"],
            vector_width=self.vector_width,
            ids=bool(shape["ids"]),
            about_item=self.about_item,
            width=settings.width,
            n_hidden=2 * settings.width,
            n_heads=settings.n_heads,
            decay=settings.decay,
            half_lives=None,
            cold_dropout=settings.cold_dropout,
            encoder=encoder,
        )
        # Small logs use small batches, to get enough steps.
        size = int(np.clip(2 ** int(np.log2(shape["n_rows"] / 100 + 1)), 16, 512))
        return training.make_net(
            module,
            training.LogLoss(),
            settings.policy,
            max_epochs=settings.max_epochs,
            verbose=settings.verbose,
            net_params={"batch_size": size, **settings.net_params},
        )

    def grow(
        self,
        codes: np.ndarray,
        texts: list[str],
        n_items: int,
        rng: RandomStream,
        given: np.ndarray | None = None,
    ) -> None:
        """Add items up to ``n_items``, with their text vectors or codes, and ``given`` vectors."""
        module, threads, reader = self.module, self.settings.n_threads, self.reader
        first = module.n_items
        new = new_texts(codes, texts, first)
        if not first and reader is not None:
            module.center(reader.encode(new, n_threads=threads))
        if not first and given is not None:
            module.given.fit(given)
        read = read_texts(reader, new, n_threads=threads, separately=first > 0)
        module.grow(read, n_items, None if first else rng.generator, given)

    @torch.no_grad()
    def text_vectors(self, texts: list[str]) -> np.ndarray:
        """Return the vectors (n, t) of texts, like those of items in ``item_texts``."""
        raw = torch.from_numpy(self.encode(texts, self.settings.n_threads))
        vectors = self.module.normalized(raw.to(self.weights.device))
        found: np.ndarray = vectors.numpy(force=True)
        return found

    def logits(self, columns: training.Columns, collate: training.Collate) -> np.ndarray:
        """Compute logits (n,), float64, that do not depend on the other rows, bit by bit.

        Matrix products are bitwise equal for one shape only, so the last batch is padded.
        """
        n = len(columns["item"])
        missing = -n % _SCORED_AT_ONCE
        filled = {
            name: np.concatenate([c, np.repeat(c[-1:], missing, 0)]) for name, c in columns.items()
        }
        logits = training.predict_net(
            self.weights.net,
            filled,
            batch_size=_SCORED_AT_ONCE,
            n_threads=self.settings.n_threads,
            collate=collate,
        )
        return logits[:n].astype(np.float64)
