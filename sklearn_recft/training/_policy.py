"""Training policy as data: learning rates, schedule, clipping, early stopping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from torch import Tensor, nn

# Group of the parameters that the module assigns to no group.
OTHER = "other"


@dataclass(frozen=True)
class Policy:
    """All settings of a training run, as `FineTuning.resolve` returns them.

    The fields are those of `FineTuning`, except that learning-rate factors are one mapping by
    parameter group. A module defines its groups by ``parameter_groups() -> dict[str,
    list[Parameter]]``; all other parameters are the group "other", with factor 1.

    A module may define ``row_confidence() -> dict[Parameter, Tensor]``, a confidence f of each
    row from 0 (new) to 1 (many events). In an update, `row_factors` then scales the learning rate
    of a row to ``update_rate ** f``, so new rows use the full learning rate.

    Examples
    --------
    >>> from sklearn_recft.training import Policy
    >>> policy = Policy(warmup=0.5)
    >>> [policy.factor(step, 4) for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.5]
    """

    # Decay rates must not shrink towards zero, so weight decay leaves their group out.
    NO_WEIGHT_DECAY: ClassVar[tuple[str, ...]] = ("decay",)
    # The group that adversarial training perturbs.
    PERTURBED: ClassVar[str] = "embedding"

    learning_rate: float = 1e-3
    rates: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    warmup: float = 0.1
    schedule: str = "linear"
    clip: float = 1.0
    accumulate: int = 1
    bf16: bool | None = None  # None: where the hardware has it
    adversarial: float = 0.0
    patience: int | None = None
    validation_fraction: float = 0.1
    update_rate: float = 0.1
    update_epochs: int = 1
    freeze_blocks: int | str = 0
    lora_rank: int = 0
    average: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether a plain skorch net with Adam trains exactly like this."""
        kept = ("learning_rate", "validation_fraction", "update_epochs")
        return self == replace(PLAIN, **{name: getattr(self, name) for name in kept})

    def factor(
        self, step: int, n_steps: int, *, update: bool = False, filled: float = 1.0
    ) -> float:
        """Return the learning-rate factor of step 0, 1, ... of the ``n_steps`` of a call.

        In an update, ``filled`` is the fraction of each batch that contains targets. The factor is
        proportional to it, because Adam's step size does not depend on the amount of data.
        """
        if update:
            return self.update_rate * filled
        rising = round(self.warmup * n_steps)
        if step < rising:
            return (step + 1) / (rising + 1)  # the first factor is above 0, the last below 1
        if self.schedule == "constant":
            return 1.0
        return max(0, n_steps - step) / max(1, n_steps - rising)

    def groups(
        self, module: nn.Module, named: Iterable[tuple[str, nn.Parameter]], learning_rate: float
    ) -> list[dict[str, Any]]:
        """Return parameter groups for an optimizer, each with a learning rate and weight decay."""
        group_of, names = _group_of(module), dict[int, str]()
        parameters = {id(p): p for members in _groups_of(module).values() for p in members}
        for name, parameter in named:
            names[id(parameter)] = name
            parameters[id(parameter)] = parameter
        split: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for key, parameter in parameters.items():
            group = group_of.get(key, OTHER)
            bias = parameter.ndim < 2 or "bias" in names.get(key, "").rpartition(".")[2]
            split.setdefault((group, bias or group in self.NO_WEIGHT_DECAY), []).append(parameter)
        return [
            {
                "params": members,
                "name": group + (" without decay" if spared else ""),
                "lr": learning_rate * self.rates.get(group, 1.0),
                "weight_decay": 0.0 if spared else self.weight_decay,
            }
            for (group, spared), members in split.items()
        ]

    def row_factors(self, module: nn.Module, filled: float) -> dict[nn.Parameter, Tensor]:
        """Return factors (n,) of the steps of rows in an update, in addition to `factor`."""
        rate = self.update_rate * filled
        confidence: dict[nn.Parameter, Tensor] = (
            getattr(module, "row_confidence", dict)() if rate else {}
        )
        return {parameter: rate ** (rows - 1) for parameter, rows in confidence.items()}

    def check(self, module: nn.Module) -> None:
        """Raise ValueError if the module has no parameters that the policy needs."""
        if self.adversarial and not self.targets(module):
            raise ValueError(
                f"adversarial={self.adversarial!r}: this net has no item embeddings to perturb "
                "(it reads texts instead); leave adversarial out."
            )

    def targets(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the parameters that adversarial training perturbs."""
        return _groups_of(module).get(self.PERTURBED, [])


def _groups_of(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    found: dict[str, Any] = getattr(module, "parameter_groups", dict)()
    return {name: list(members) for name, members in found.items()}


def _group_of(module: nn.Module) -> dict[int, str]:
    """Map the id of each parameter to its group; the first group wins."""
    found: dict[int, str] = {}
    for name, members in _groups_of(module).items():
        for parameter in members:
            found.setdefault(id(parameter), name)
    return found


# Adam at a constant rate: no schedule, no clipping, no validation set.
PLAIN = Policy(
    weight_decay=0.0, warmup=0.0, schedule="constant", clip=math.inf, bf16=False, update_rate=1.0
)
