"""What compressed models share: they refuse to learn, or learn in full and keep what changed."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import numpy as np

from sklearn_recft.compression._tables import PRECISIONS
from sklearn_recft.events import Interactions
from sklearn_recft.models import Call, FittedModel, Transaction

KEEPS = ("serve", "learn")
Compact = TypeVar("Compact", bound="CompactModel")


class CompactModel(FittedModel):
    """A model with compressed tables.

    A subclass also derives from the model that it compresses, or from a base of it. It holds the
    same parts and values, except for the tables.

    Attributes
    ----------
    precision : {"int8", "float16", "bfloat16"}
    keep : {"serve", "learn"}
    """

    # The model that is compressed. Attributes by name: `state` saves them.
    original: ClassVar[type[FittedModel]]
    # Whether `partial_fit` works on tables in full, and the reason if not.
    learns: ClassVar[bool] = True
    why_not: ClassVar[str] = ""

    precision = "int8"
    keep = "serve"

    def __init__(self, rows: Interactions, settings: Any) -> None:
        super().__init__(rows, settings)
        self.precision, self.keep = "int8", "serve"

    @classmethod
    def of(cls: type[Compact], model: FittedModel, precision: str, keep: str) -> Compact:
        """Return a compressed copy of a model of the class `original`."""
        compact = cls._empty(model)
        compact.precision, compact.keep = precision, keep
        compact.load_state(compact._compressed(model, None))
        return compact

    @classmethod
    def _empty(cls: type[Compact], model: FittedModel) -> Compact:
        columns = model.positives_only, model.context_names, model.timed
        return cls(Interactions.none(*columns), model.settings)

    def expanded(self) -> FittedModel:
        """Return the model with all tables in float32."""
        columns = self.positives_only, self.context_names, self.timed
        full = self.original(Interactions.none(*columns), self.settings)
        state = self._expanded(self.state())
        state["values"] = {
            n: v for n, v in state["values"].items() if n not in ("precision", "keep")
        }
        full.load_state({**state, "kind": self.original.kind})
        return full

    def _compressed(self: Compact, model: FittedModel, before: Compact | None) -> dict[str, Any]:
        """Return the state of this model, from one of the class `original`.

        ``before`` is this model before the other one learned: its tables go on.
        """
        state = model.state()
        state = {**state, "kind": self.kind, "values": dict(state["values"])}
        state["values"].update(precision=self.precision, keep=self.keep)
        return state

    def _expanded(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state of `original`, from that of this model; its kind may be wrong."""
        raise NotImplementedError

    def _derive(self) -> None:
        if self.precision not in PRECISIONS or self.keep not in KEEPS:
            raise ValueError(f"precision={self.precision!r} or keep={self.keep!r} is unknown")
        super()._derive()

    # ------------------------------------------------------------------ learning

    # Single events are learned as rows are, by the model in full.
    takes_single = False

    def learn(
        self,
        rows: Interactions,
        settings: Any,
        call: Call | None = None,
        within: Transaction | None = None,
    ) -> np.ndarray:
        """Learn events by the model in full, if ``keep`` is "learn"; see `FittedModel.learn`.

        All that does not follow from the events stays as it is, bit by bit.

        Raises
        ------
        ValueError
            If the model was compressed to serve only.
        """
        call = call or Call()
        if self._observes(call):
            return super().learn(rows, settings, call, within)
        if self.keep == "serve":
            raise ValueError(
                f"This model was compressed with keep='serve': its tables are {self.precision}, "
                "too coarse for gradient steps, and nothing else is kept to learn from. Call "
                "partial_fit on the model that was given to `compress`, and compress it again"
                f"{'; or compress it with keep=' + repr('learn') if self.learns else ''}."
            )
        with self._lock.writing():
            if within is not None:
                within.on_failure(self._put_back, vars(self).copy())
            full = self.expanded()
            answer = full.learn(rows, settings, call)
            after = type(self)._empty(full)
            after.precision, after.keep = self.precision, self.keep
            after.load_state(after._compressed(full, self))
            self._put_back({**vars(after), "_lock": self._lock})
        return answer

    def _observes(self, call: Call) -> bool:
        """Whether a call changes no table, so that the model learns without them in full."""
        return False
