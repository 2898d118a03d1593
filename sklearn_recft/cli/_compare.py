"""Compare models on a log: choose them, follow the log with each, sum up, draw."""

from __future__ import annotations

import os
import sys
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from sklearn_recft.cli._candidates import Candidate, Choice, Facts, check_feedback, choose
from sklearn_recft.cli._household import finite
from sklearn_recft.cli._log import Log
from sklearn_recft.cli._replay import Followed, Protocol, Replay
from sklearn_recft.cli._summary import Row, best, conclusions, headline
from sklearn_recft.inspection import PrequentialDisplay

_MIN_EVENTS = 20
_TITLE_WIDTH = 62


@dataclass(frozen=True)
class Comparison:
    """What a comparison on one log showed."""

    log: Log
    facts: Facts
    protocol: Protocol
    choices: list[Choice]
    followed: list[Followed]

    @property
    def rows(self) -> list[Row]:
        """One row of the table for each model."""
        return [Row.of(one, self.protocol) for one in self.followed]

    @property
    def best(self) -> Followed:
        """The model with the best score."""
        return best(self.followed)

    @property
    def conclusions(self) -> list[str]:
        """What the table shows, in sentences."""
        return conclusions(self.best, self.protocol)

    def report(self) -> dict[str, Any]:
        """Return plain Python values, as JSON has them."""
        protocol, n = self.protocol, len(self.log.X)
        return {
            "log": self.log.name,
            "called": self.log.user_word,
            "n_events": n,
            "n_users": self.facts.n_users,
            "n_items": self.facts.n_items,
            "feedback": self.facts.feedback,
            "repeat_share": self.facts.repeat_share,
            "lists_repeat": self.log.repeat,
            "n_learned_first": protocol.begin,
            "n_steps": protocol.n_steps,
            "unit": protocol.unit,
            "metric": protocol.metric,
            "n_last": protocol.n_last,
            "refitted_steps": [place + 1 for place in protocol.refitted],
            "dates": [self.log.date(row) for row in (0, protocol.begin, n - 1)],
            "candidates": [
                {"name": c.candidate.name, "chosen": c.chosen, "reason": c.reason}
                for c in self.choices
            ],
            "models": [_plain(row) for row in self.rows],
            "new_items": [
                {
                    "model": one.name,
                    "frozen": finite(one.new_frozen.over()),
                    "learning": finite(one.new_learning.over()),
                }
                for one in self.followed
                if one.new_frozen is not None and one.new_learning is not None
            ],
            "conclusions": self.conclusions,
        }

    def plot(self, path: str) -> str:
        """Draw the best model frozen and learning, and the first model, step by step."""
        os.environ.setdefault("MPLBACKEND", "Agg")  # draw into the file, open no window
        shown, log = self.best, self.log
        lines = {
            f"{shown.name},\nlearning": shown.learning,
            f"{shown.name},\nfrozen": shown.frozen,
        }
        if self.followed[0] is not shown:
            lines[f"{self.followed[0].name},\nlearning"] = self.followed[0].learning
        ends = [stop - 1 for _, stop in self.protocol.steps()]
        times = [float(log.X[row, 2]) for row in ends] if log.has_times else range(1, 1 + len(ends))
        display = PrequentialDisplay(
            times=dict.fromkeys(lines, times),
            scores={name: scores.values for name, scores in lines.items()},
            metric=f"{self.protocol.metric.upper()} of each {self.protocol.unit}",
            are_dates=log.has_times,
        )
        title = textwrap.fill(headline(shown, self.protocol), _TITLE_WIDTH)
        display.plot(title=title, from_zero=True).figure_.savefig(path, dpi=150)
        return path


def compare(
    log: Log, named: list[Candidate] | None = None, *, deep: bool = False, quiet: bool = False
) -> Comparison:
    """Let every chosen model learn the start of a log, then predict, score and learn the rest.

    Parameters
    ----------
    log : Log
    named : list of Candidate, default=None
        The models; None lets the log choose.
    deep : bool, default=False
        Whether the log may choose neural models.
    quiet : bool, default=False
        Show no progress.

    Raises
    ------
    ValueError
        The log is too short, its feedback never differs, or a named model cannot learn it.
    """
    if len(log.X) < _MIN_EVENTS:
        raise ValueError(
            f"{log.name} has {len(log.X)} events; comparing models needs {_MIN_EVENTS}."
        )
    check_feedback(log)
    facts = Facts.of(log)
    protocol = Protocol.of(log, facts)
    choices = choose(facts, named, deep=deep)
    replay, followed = Replay(log, protocol, facts), []
    new_items = log.y is None and log.repeat
    for candidate in (choice.candidate for choice in choices if choice.chosen):
        if not quiet:
            sys.stderr.write(f"{candidate.name}: fit, follow {protocol.n_steps} {protocol.unit}s\n")
        shows_new = new_items and candidate.name in ("popularity", "MF")
        followed.append(replay.follow(candidate, new_items=shows_new))
    return Comparison(log, facts, protocol, choices, followed)


def _plain(row: Row) -> dict[str, Any]:
    return {
        name: finite(value) if isinstance(value, float) else value
        for name, value in asdict(row).items()
    }
