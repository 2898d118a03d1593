"""The fine-tuning policy as data: rates of parameter groups, schedule, clipping, stopping."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatch
from typing import Any

from torch import Tensor, nn

# What no group of the module names.
OTHER = "other"
_SCHEDULES = ("linear", "constant")


@dataclass(frozen=True)
class FineTuning:
    """How a net is trained by AdamW: sensible for a pretrained body below a new head.

    Every field can be set by its name in ``net_params``, beside skorch's own names (``lr`` is
    the learning rate that the factors below multiply).

    Parameters
    ----------
    rates : mapping of str to float, default={"backbone": 0.03}
        Learning-rate factors by parameter group; groups without one have 1. A module says its
        groups by ``parameter_groups() -> dict[str, list[Parameter]]``, and what it leaves out
        is the group "other". At a learning rate of 1e-3 the backbone has 3e-5, of the range
        2e-5 to 5e-5 that BERT is fine-tuned with [1]_. Given in ``net_params``, they are
        merged into the policy's.
    weight_decay : float, default=0.01
        Decoupled weight decay [2]_. Never of biases and one-dimensional parameters.
    no_weight_decay : tuple of str, default=("decay",)
        Groups that have none either: rates of forgetting are not to shrink.
    warmup : float, default=0.1
        Fraction of a call's steps during which the learning rate rises in a line.
    schedule : {"linear", "constant"}, default="linear"
        What follows: a line that reaches 0 after the last planned step, or the full rate.
    update_rate : float or None, default=0.1
        The constant factor of the learning rate in an update of a fitted net, without
        warm-up; None gives updates the shape of a fit. Where `fit_net` is told of fewer targets
        than fill the batches, the factor is less in proportion, for Adam's steps are no shorter
        where less is known. Where a module says by ``familiarity() -> dict[Parameter, Tensor]``
        how well it knows each row of a parameter, from 0 to 1, the row's factor is that of all
        to the power of it: what is new is learned at the rate of a fit.
    clip : float or None, default=1.0
        Largest global norm of a step's gradient; None does not clip.
    accumulate : int, default=1
        Batches whose gradients' mean makes one step: k batches are as one of k times the size
        (exactly so for equal batches and a loss that is a plain mean).
    bf16 : bool or None, default=None
        Train in bfloat16 where that is safe, by autocast. None does so on CUDA devices that
        have it, True on any device. Predictions are always made in float32.
    adversarial : float, default=0.0
        Where above 0, each batch is learned a second time with the ``perturbed`` parameters
        moved by so much (Euclidean norm, each tensor) along their gradient [3]_.
    perturbed : str, default="embedding"
        A parameter group, or a pattern of parameter names such as ``"*embedding.weight"``.
    patience : int or None, default=None
        Stop after so many epochs without a better loss on the last rows in time, and go back
        to the best epoch's weights. None trains on every row, for all epochs. An update
        trains on every row in any case. Where `fit_net` has a judge, a better score of that
        is what counts, and every row is trained on: the caller has held out what it judges by.
    validation_fraction : float, default=0.1
        The last rows in time that ``patience`` judges by, as a fraction of all.

    References
    ----------
    .. [1] Devlin et al., "BERT: Pre-training of deep bidirectional transformers for language
       understanding", NAACL 2019, appendix A.3.
    .. [2] Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [3] Miyato, Dai and Goodfellow, "Adversarial training methods for semi-supervised text
       classification", ICLR 2017.

    Examples
    --------
    >>> from sklearn_recft.training import FineTuning
    >>> policy = FineTuning(warmup=0.5)
    >>> [policy.factor(step, 4) for step in range(4)]
    [0.3333333333333333, 0.6666666666666666, 1.0, 0.5]
    """

    rates: Mapping[str, float] = field(default_factory=lambda: {"backbone": 0.03})
    weight_decay: float = 0.01
    no_weight_decay: tuple[str, ...] = ("decay",)
    warmup: float = 0.1
    schedule: str = "linear"
    update_rate: float | None = 0.1
    clip: float | None = 1.0
    accumulate: int = 1
    bf16: bool | None = None
    adversarial: float = 0.0
    perturbed: str = "embedding"
    patience: int | None = None
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        for name, lawful, wanted in (
            ("rates", _are_rates(self.rates), "a mapping of group names to finite numbers >= 0"),
            ("weight_decay", _within(self.weight_decay, 0), "a finite number >= 0"),
            ("no_weight_decay", _are_names(self.no_weight_decay), "a tuple of group names"),
            ("warmup", _within(self.warmup, 0, 1), "a number from 0 to 1"),
            ("schedule", self.schedule in _SCHEDULES, "'linear' or 'constant'"),
            ("update_rate", _within(self.update_rate, 0, none=True), "a number >= 0, or None"),
            ("clip", _within(self.clip, 0, none=True) and self.clip != 0, "a number > 0, or None"),
            ("accumulate", _counts(self.accumulate), "an int >= 1"),
            ("bf16", self.bf16 in (True, False, None), "True, False or None"),
            ("adversarial", _within(self.adversarial, 0), "a finite number >= 0"),
            ("perturbed", isinstance(self.perturbed, str), "a group or a pattern of names"),
            ("patience", self.patience is None or _counts(self.patience), "an int >= 1, or None"),
            (
                "validation_fraction",
                _within(self.validation_fraction, 0, 1) and 0 < self.validation_fraction < 1,
                "a number between 0 and 1",
            ),
        ):
            if not lawful:
                raise ValueError(f"{name}={getattr(self, name)!r}: it must be {wanted}.")

    def factor(
        self, step: int, n_steps: int, *, update: bool = False, filled: float = 1.0
    ) -> float:
        """Learning-rate factor of step 0, 1, ... of the ``n_steps`` planned for a call.

        In an update targets fill the batches to the share ``filled``.
        """
        if update and self.update_rate is not None:
            return self.update_rate * filled
        rising = round(self.warmup * n_steps)
        if step < rising:
            return (step + 1) / (rising + 1)  # neither the first nor the last step is lost
        if self.schedule == "constant":
            return 1.0
        return max(0, n_steps - step) / max(1, n_steps - rising)

    def groups(
        self, module: nn.Module, named: Iterable[tuple[str, nn.Parameter]], learning_rate: float
    ) -> list[dict[str, Any]]:
        """Parameter groups of an optimizer: of one learning rate and one weight decay each."""
        group_of, names = _group_of(module), dict[int, str]()
        parameters = {id(p): p for members in _groups_of(module).values() for p in members}
        for name, parameter in named:
            names[id(parameter)] = name
            parameters[id(parameter)] = parameter
        split: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for key, parameter in parameters.items():
            group = group_of.get(key, OTHER)
            bias = parameter.ndim < 2 or "bias" in names.get(key, "").rpartition(".")[2]
            split.setdefault((group, bias or group in self.no_weight_decay), []).append(parameter)
        return [
            {
                "params": members, "name": group + (" without decay" if spared else ""),
                "lr": learning_rate * self.rates.get(group, 1.0),
                "weight_decay": 0.0 if spared else self.weight_decay,
            }
            for (group, spared), members in split.items()
        ]  # fmt: skip

    def row_factors(self, module: nn.Module, filled: float) -> dict[nn.Parameter, Tensor]:
        """Find by what steps of rows (n,) are multiplied in an update, beside `factor`."""
        rate = (self.update_rate or 0) * filled
        known: dict[nn.Parameter, Tensor] = getattr(module, "familiarity", dict)() if rate else {}
        return {parameter: rate ** (rows - 1) for parameter, rows in known.items()}

    def check(self, module: nn.Module) -> None:
        """Raise ValueError where the policy names what the module has not."""
        known = [*_groups_of(module), OTHER]
        # A body may be frozen, or absent, without more ado.
        unknown = set(self.rates) - set(known) - set(_BY_DEFAULT.rates)
        if unknown:
            raise ValueError(f"rates: no parameter group {sorted(unknown)}; there are {known}.")
        if self.adversarial and not self.targets(module):
            raise ValueError(
                f"perturbed={self.perturbed!r}: no parameter group and no parameter's name; "
                f"there are the groups {known}, and the parameters "
                f"{[name for name, _ in module.named_parameters()]}."
            )

    def targets(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the parameters to perturb, by group or else by a pattern of names."""
        groups = _groups_of(module)
        if self.perturbed in groups:
            return list(groups[self.perturbed])
        return [p for name, p in module.named_parameters() if fnmatch(name, self.perturbed)]


def take_policy(policy: FineTuning | None, given: dict[str, Any]) -> FineTuning | None:
    """Take the policy's fields out of ``given``; None where there is no policy at all."""
    taken = {f.name: given.pop(f.name) for f in fields(FineTuning) if f.name in given}
    if not taken:
        return policy
    base = policy or PLAIN
    if isinstance(taken.get("rates"), Mapping):
        taken["rates"] = {**base.rates, **taken["rates"]}
    return replace(base, **taken)


def _groups_of(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    found: dict[str, Any] = getattr(module, "parameter_groups", dict)()
    return {name: list(members) for name, members in found.items()}


def _group_of(module: nn.Module) -> dict[int, str]:
    """Group by the parameter's identity; of two groups that share one, the first has it."""
    found: dict[int, str] = {}
    for name, members in _groups_of(module).items():
        for parameter in members:
            found.setdefault(id(parameter), name)
    return found


def _within(value: Any, low: float, high: float = math.inf, *, none: bool = False) -> bool:
    if value is None:
        return none
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and low <= value <= high and math.isfinite(value)


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_rates(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and _within(rate, 0) for name, rate in value.items()
    )


def _are_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(isinstance(name, str) for name in value)


# What a net without a policy starts from where `net_params` name a field: all else stays off.
PLAIN = FineTuning(
    rates={}, weight_decay=0.0, warmup=0.0, schedule="constant", update_rate=None, clip=None,
    bf16=False,
)  # fmt: skip
_BY_DEFAULT = FineTuning()
