"""What a comparison showed: numbers of each model, and the words under the table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sklearn_recft.cli._replay import Followed, Protocol, Scores

_SAME = 0.01  # relative difference below which two scores count as the same


@dataclass(frozen=True)
class Row:
    """A model in the table. Scores may be NaN; `gain` and `refit_difference` are relative.

    Attributes
    ----------
    model : str
    frozen, learning : float
        Over all steps.
    gain : float
        By how much learning is better than frozen; above 0 is better, whatever the metric.
    last_frozen, last_learning : float
        Over the last steps.
    refit, learning_there : float
        Over the refitted steps alone.
    refit_difference : float
        By how much the refit is better than learning there.
    fit_seconds, learn_seconds, refit_seconds : float
        Of the first fit, of all updates, and of a refit after each step.
    """

    model: str
    frozen: float
    learning: float
    gain: float
    last_frozen: float
    last_learning: float
    refit: float
    learning_there: float
    refit_difference: float
    fit_seconds: float
    learn_seconds: float
    refit_seconds: float

    @classmethod
    def of(cls, followed: Followed, protocol: Protocol) -> Row:
        """Sum up a model."""
        last, lower = slice(-protocol.n_last, None), protocol.metric == "rmse"
        frozen, learning = followed.frozen.over(), followed.learning.over()
        there = followed.learning.over(protocol.refitted)
        refit = math.nan if followed.refit is None else followed.refit.over()
        return cls(
            model=followed.name,
            frozen=frozen,
            learning=learning,
            gain=better(learning, frozen, lower=lower),
            last_frozen=followed.frozen.over(last),
            last_learning=followed.learning.over(last),
            refit=refit,
            learning_there=there,
            refit_difference=better(refit, there, lower=lower),
            fit_seconds=followed.fit_seconds,
            learn_seconds=followed.learn_seconds,
            refit_seconds=math.nan if followed.refit_seconds is None else followed.refit_seconds,
        )


def better(score: float, other: float, *, lower: bool) -> float:
    """Return by which fraction of `other` a score is better; NaN if that is not defined."""
    if not (math.isfinite(score) and math.isfinite(other) and other):
        return math.nan
    return (other - score if lower else score - other) / abs(other)


def best(followed: list[Followed]) -> Followed:
    """Return the model with the best learning score, the first of those that tie."""

    def rank(one: Followed) -> float:
        score = one.learning.over()
        score = -score if one.learning.metric == "rmse" else score
        return score if math.isfinite(score) else -math.inf

    return max(followed, key=rank)


def headline(followed: Followed, protocol: Protocol) -> str:
    """Say in one sentence what became of frozen and of learning predictions over time."""
    frozen, learning = (_change(s, protocol) for s in (followed.frozen, followed.learning))
    if not (math.isfinite(frozen) and math.isfinite(learning)):
        return "The log is too short to say how predictions age."
    n, unit = protocol.n_last, protocol.unit
    return (
        f"From the first {n} {unit}s to the last {n}, frozen {_what(protocol)} "
        f"{_moved(frozen, protocol, '')}; learning {_moved(learning, protocol, 's')}."
    )


def conclusions(followed: Followed, protocol: Protocol) -> list[str]:
    """Say what the table shows of one model, in sentences."""
    row = Row.of(followed, protocol)
    sentences = [
        f"{row.model} has the best score when learning, {row.learning:.4f}.",
        headline(followed, protocol),
    ]
    if math.isfinite(row.gain):
        much = f"{_percent(row.gain)} {'better' if row.gain > 0 else 'worse'} than"
        how = "no better than" if abs(row.gain) < _SAME else much
        sentences.append(f"Over all {protocol.n_steps} {protocol.unit}s, learning is {how} frozen.")
    if math.isfinite(row.refit_difference):
        difference = row.refit_difference
        words = "better" if difference > 0 else "worse"
        how = "gives the same" if abs(difference) < _SAME else f"is {_percent(difference)} {words}"
        times = row.refit_seconds / max(row.learn_seconds, 1e-3)
        cost = f"{times:.0f}" if times >= 9.5 else f"{times:.1f}"
        n, unit = protocol.n_steps, protocol.unit
        where = f"after each {unit}" if len(protocol.refitted) == n else f"before {unit} {n}"
        about = "" if len(protocol.refitted) == n else "would "
        sentences.append(
            f"A refit {where} {how} at {cost} times the cost: {n} refits {about}take "
            f"{row.refit_seconds:.1f} s, {n} updates took {row.learn_seconds:.1f} s."
        )
    return sentences


def _what(protocol: Protocol) -> str:
    return "lists" if protocol.metric == "ndcg@10" else "predictions"


def _change(scores: Scores, protocol: Protocol) -> float:
    """By which fraction the score of the last steps is better than that of the first."""
    n = protocol.n_last
    first, last = scores.over(slice(None, n)), scores.over(slice(-n, None))
    return better(last, first, lower=protocol.metric == "rmse")


def _moved(change: float, protocol: Protocol, ending: str) -> str:
    """Return the predicate of a sentence; `ending` is the s of a verb in the singular."""
    if abs(change) < _SAME:
        return f"hold{ending}"
    if protocol.metric == "ndcg@10":
        return f"{'gain' if change > 0 else 'lose'}{ending} {_percent(change)}"
    return f"get{ending} {_percent(change)} {'better' if change > 0 else 'worse'}"


def _percent(fraction: float) -> str:
    return f"{abs(fraction):.0%}"
