"""The net of the sequence model: construction and growth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.events import Events
from sklearn_recft.models._net import Net
from sklearn_recft.models._network import Network
from sklearn_recft.models._random import RandomStream
from sklearn_recft.modules import SequenceNet, make_sequence_net
from sklearn_recft.text import (
    PretrainedBackbone,
    TextEncoder,
    make_encoder,
    new_texts,
    read_texts,
)

SEQUENCE_DEFAULTS = training.Policy(
    learning_rate=2e-3,
    rates={"decay": 5.0},
    weight_decay=0.0,
    warmup=0.05,
    update_rate=0.1,
    update_epochs=3,
)
# The options of `FineTuning` that the model has.
SEQUENCE_OPTIONS = (
    "learning_rate",
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
    "freeze_blocks",
    "average",
)
_TOKENS = 2048  # of a batch
_FEW_ITEMS, _MANY_NEGATIVES = 20_000, 4096  # larger catalogues use this many negatives


@dataclass(frozen=True)
class SequenceSettings:
    """Settings of the sequence model, from the parameters of the estimator."""

    backbone: str | PretrainedBackbone | None = None
    n_layers: int = 2
    n_heads: int = 2
    max_history: int = 200
    decay: str = "log"
    query_time: bool = True
    width: int = 128
    dropout: float = 0.2
    trend_half_lives: tuple[float, ...] = (3.0, 30.0, np.inf)
    history_dropout: float = 0.3
    n_negatives: int | None = None
    replay_size: int = 0
    max_epochs: int = 12
    policy: training.Policy = SEQUENCE_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None


class SequenceNetwork(Network):
    """The net of a sequence model.

    Parameters
    ----------
    settings : SequenceSettings
    timed : bool
        Whether the log has timestamps.
    """

    settings: SequenceSettings

    def __init__(self, settings: SequenceSettings, *, timed: bool) -> None:
        super().__init__(settings)
        self.timed = timed

    def make(
        self,
        new: Events,
        texts: list[str],
        codes: np.ndarray,
        n_items: int,
        rng: RandomStream,
        given: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Make the encoder, encode the first texts, and make the net; return items' contents.

        ``given`` (n_items, e) are vectors of items, NaN where missing.
        """
        settings = self.settings
        if settings.backbone is not None:
            self.encoder = make_encoder(
                settings.backbone,
                "all",
                texts,
                seed=rng.seed(),
                device=str(settings.net_params.get("device", "cpu")),
                lora_rank=0,
            )
        width = 0 if given is None else given.shape[1]
        vectors = self.read(codes, texts, 0, given)
        self.shape = {
            "n_context": new.context.shape[1],
            "text_width": 0 if vectors is None else vectors.shape[1] - width,
            "n_events": len(new),
            "n_items": n_items,
            "timed": int(self.timed),
        }
        if width:
            self.shape["vector_width"] = width
        self.net = Net(self.build(rng.seed(), None))
        self.module.eval()
        self.module.initialize_scales(vectors, new.feedback, new.context)
        self.module.grow(vectors, n_items, rng.generator)
        return vectors

    def build(self, seed: int, encoder: TextEncoder | None) -> Any:
        """Return a net of `shape`."""
        settings, shape = self.settings, self.shape
        n_negatives = settings.n_negatives
        if n_negatives is None:
            n_negatives = _MANY_NEGATIVES if shape["n_items"] > _FEW_ITEMS else 0
        timed = bool(shape["timed"]) and settings.query_time
        module: SequenceNet = make_sequence_net(
            seed,
            shape["n_context"],
            n_layers=settings.n_layers,
            n_heads=settings.n_heads,
            max_history=settings.max_history,
            query_time=timed,
            time_decay=settings.decay if shape["timed"] else "none",
            width=settings.width,
            text_width=shape["text_width"],
            vector_width=self.vector_width,
            dropout=settings.dropout,
            history_dropout=settings.history_dropout if timed else 0.0,
            n_trends=len(settings.trend_half_lives) if timed else 0,
            n_negatives=n_negatives,
        )
        # Small logs use small batches, to get enough steps.
        size = int(np.clip(2 ** int(np.log2(shape["n_events"] / 50 + 1)), 32, _TOKENS))
        ours: dict[str, Any] = {"batch_size": size, "iterator_train__size": "size"}
        if "optimizer" not in settings.net_params:
            ours["optimizer__betas"] = (0.9, 0.98)
        return training.make_net(
            module,
            training.OwnLoss(),
            settings.policy,
            max_epochs=settings.max_epochs,
            verbose=settings.verbose,
            net_params={**ours, **settings.net_params},
        )

    def read(
        self, codes: np.ndarray, texts: list[str], first: int, given: np.ndarray | None
    ) -> np.ndarray | None:
        """Encode the texts of items from code ``first`` on; ``given`` vectors stand behind."""
        if self.encoder is None:
            return given
        new = new_texts(codes, texts, first)
        read = read_texts(self.encoder, new, n_threads=self.n_threads, separately=first > 0)
        return read if given is None or read is None else np.hstack([read, given])
