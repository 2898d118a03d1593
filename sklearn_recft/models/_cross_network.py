"""The net of a cross model: construction, growth, training and scores."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from sklearn_recft import training
from sklearn_recft.models._lookup import look_up
from sklearn_recft.models._net import Net
from sklearn_recft.models._random import RandomStream
from sklearn_recft.modules import CrossNet, CrossShape, make_cross_net
from sklearn_recft.processes import current_processes

CROSS_DEFAULTS = training.Policy(
    learning_rate=1e-3,
    rates={"embedding": 10.0},
    weight_decay=1e-5,
    warmup=0.0,
    clip=float("inf"),
    bf16=False,
    update_rate=1 / 3,
)
# The options of `FineTuning` that the model has.
CROSS_OPTIONS = (
    "learning_rate",
    "embedding_rate",
    "weight_decay",
    "warmup",
    "schedule",
    "accumulate",
    "patience",
    "validation_fraction",
    "update_rate",
    "update_epochs",
    "freeze_blocks",
)
_SCORED_AT_ONCE = 256
# Epochs of a fit are as many as make so many rows, within bounds; from so many rows on, one.
_ROWS, _LEAST, _MOST, _ONE = 100_000, 2, 10, 500_000
# Fits of so many rows use large batches, with rates times these factors.
_MANY, _LARGE, RATE_OF_LARGE, _EMBEDDING_RATE_OF_LARGE = 50_000, 2048, 3.0, 1.5


@dataclass(frozen=True)
class CrossSettings:
    """Settings of the cross model, from the parameters of the estimator."""

    loss: str = "squared_error"
    use_ids: bool = True
    n_factors: int = 16
    embedding_dim: int = 8
    hidden: tuple[int, ...] = (64, 32)
    id_dropout: float = 0.1
    replay_size: int = 20_000
    drift: str | None = "follow"
    max_epochs: int | None = None
    policy: training.Policy = CROSS_DEFAULTS
    net_params: dict[str, Any] = field(default_factory=dict)
    n_threads: int = 1
    verbose: int = 0
    seed: int | None = None

    def epochs(self, n_rows: int) -> int:
        """Return the number of passes over the rows of a fit."""
        return self.max_epochs or (
            1 if n_rows >= _ONE else int(np.clip(_ROWS // max(n_rows, 1), _LEAST, _MOST))
        )


class CrossNetwork:
    """The net as a part of a model; the first rows decide its shape.

    Parameters
    ----------
    settings : CrossSettings
    """

    def __init__(self, settings: CrossSettings) -> None:
        self.settings = settings
        self.shape: CrossShape | None = None
        self.n_rows = 0  # of the fit
        self.net: Net | None = None
        self.pretrained: Any = None  # a module, or the path of its weights

    @property
    def is_built(self) -> bool:
        """Whether the net is built."""
        return self.net is not None

    @property
    def has_large_batches(self) -> bool:
        """Whether the fit was so large that batches, and the rate with them, are larger."""
        given = {"batch_size", "iterator_train__batch_size"} & set(self.settings.net_params)
        return self.n_rows >= _MANY and not given

    @property
    def weights(self) -> Net:
        """The trained net."""
        if self.net is None:
            raise AttributeError("The model has no net yet.")
        return self.net

    @property
    def module(self) -> CrossNet:
        """The module that the net trains."""
        module: CrossNet = self.weights.module
        return module

    def make(self, shape: CrossShape, n_rows: int, seed: int, first: float) -> None:
        """Make the net; ``first`` is its score where there is no offset."""
        self.shape, self.n_rows = shape, n_rows
        self.net = Net(self._build(seed))
        self.module.head.bias.data.fill_(first)
        if self.pretrained is not None:
            load_layers(self.module, self.pretrained)
            self.pretrained = None

    def train(
        self,
        columns: training.Columns,
        target: np.ndarray,
        rng: RandomStream,
        *,
        epochs: int,
        update: bool = False,
        **options: Any,
    ) -> None:
        """Train on rows in time order; ``options`` are those of `Trainer`."""
        frozen = self._freeze() if update else []
        processes = current_processes()
        if processes is not None and self.has_large_batches and self.n_rows >= _ONE and not update:
            # Half of a batch takes nearly as long as a whole one. Larger ones were not measured.
            options["batch_size"] = 2 * _LARGE
        try:
            trainer = training.Trainer(
                epochs, rng.seed(), n_threads=self.settings.n_threads, update=update, **options
            )
            trainer.fit(self.weights.net, columns, target)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    def score(
        self, columns: training.Columns, collate: training.Collate | None = None
    ) -> np.ndarray:
        """Return scores (n,), float64, that do not depend on the other rows, bit by bit.

        Matrix products are bitwise equal for one shape only, so the last batch is padded.
        ``collate`` is that of `predict_net`.
        """
        n = len(columns["user"])
        if not n:
            return np.empty(0)
        missing = -n % _SCORED_AT_ONCE
        filled = {k: np.concatenate([c, np.repeat(c[-1:], missing, 0)]) for k, c in columns.items()}
        scores = training.predict_net(
            self.weights.net,
            filled,
            batch_size=_SCORED_AT_ONCE,
            n_threads=self.settings.n_threads,
            collate=collate,
        )
        return scores[:n].astype(np.float64)

    # ------------------------------------------------------------------ as a part

    def mark(self, *rows: Any) -> tuple[Any, ...]:
        """Return what `restore` needs to undo later training: all weights."""
        return self.settings, self.weights.mark()

    def restore(self, mark: tuple[Any, ...]) -> None:
        """Undo all training since ``mark``."""
        self.settings, weights = mark
        self.weights.restore(weights)

    def state(self) -> dict[str, Any]:
        """Return the shape and the weights."""
        shape = None if self.shape is None else asdict(self.shape)
        net = None if self.net is None else self.net.state()
        return {"shape": shape, "n_rows": self.n_rows, "net": net}

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.n_rows = state["n_rows"]
        self.shape = None if state["shape"] is None else CrossShape(**state["shape"])
        self.net = None if self.shape is None else Net(self._build(0))
        if self.net is not None:
            self.net.load_state(state["net"])

    def forget(self, users: np.ndarray) -> None:
        """Remove the embeddings of ``users`` (codes)."""
        if self.net is not None:
            self.net.forget(users[users < len(self.module.users)])  # type: ignore[arg-type]

    # ------------------------------------------------------------------ private

    def _build(self, seed: int) -> Any:
        settings = self.settings
        assert self.shape is not None
        own = {"optimizer": training.RowAdamW, **settings.net_params}
        sparse = own["optimizer"] is training.RowAdamW and own.get("device", "cpu") == "cpu"
        if own["optimizer"] is training.RowAdamW:
            own.setdefault("optimizer__fused", True)
            if not sparse:
                del own["optimizer"]
        # Small logs use small batches, to get enough steps.
        size = int(np.clip(2 ** int(np.log2(self.n_rows / 100 + 1)), 16, 512))
        policy = settings.policy
        if self.has_large_batches:
            size, share = _LARGE, _EMBEDDING_RATE_OF_LARGE / RATE_OF_LARGE
            policy = replace(
                policy,
                learning_rate=policy.learning_rate * RATE_OF_LARGE,
                rates={name: rate * share for name, rate in policy.rates.items()},
            )
        return training.make_net(
            make_cross_net(seed, self.shape, settings.id_dropout, look_up if sparse else None),
            training.PointLoss(settings.loss),
            policy,
            max_epochs=settings.epochs(self.n_rows),
            verbose=settings.verbose,
            net_params={"batch_size": size, **own},
        )

    def _freeze(self) -> list[Any]:
        """Freeze the lowest blocks; return the parameters that were trained until now."""
        module, wanted = self.module, self.settings.policy.freeze_blocks
        blocks = [*module.cross, *module.deep]
        n = len(blocks) if wanted == "all" else int(wanted)
        frozen = [p for block in blocks[:n] for p in block.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        return frozen


def load_layers(module: CrossNet, given: Any) -> None:
    """Copy the layers of a pretrained module, or of a file of its weights, where shapes agree.

    Embeddings of ids and values are not copied, as codes differ from model to model.

    Parameters
    ----------
    module : CrossNet
    given : torch.nn.Module or str
        A module, or the path of what ``torch.save(module.state_dict(), path)`` wrote.

    Raises
    ------
    ValueError
        If the file cannot be read, or no layer fits.
    """
    if isinstance(given, str):
        try:
            weights = torch.load(given, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as error:
            raise ValueError(f"module={given!r}: the file cannot be read ({error}).") from error
    else:
        weights = given.state_dict()
    own = {n: p for n, p in module.named_parameters() if n not in (*module.TABLES, "unknown")}
    fitting = [n for n, p in own.items() if n in weights and weights[n].shape == p.shape]
    if not fitting:
        shapes = {name: tuple(parameter.shape) for name, parameter in own.items()}
        raise ValueError(
            f"module: none of its {len(weights)} tensors has the name and the shape of a layer of "
            f"this net: {shapes}. Fit the same columns with the same embedding_dim and hidden."
        )
    for name in fitting:
        own[name].data.copy_(weights[name])
