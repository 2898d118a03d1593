"""Which models are compared on a log, and why each is in or left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sklearn_recft import (
    ALSRecommender,
    BiasRecommender,
    EASERecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.cli._log import Log, repeat_share
from sklearn_recft.vocabulary import Vocabulary

POSITIVES, RATINGS, CLICKS = "positives only", "ratings", "clicks"
_RECENT = 28.0  # days
_HABIT = 90.0  # days
_EASE_ITEMS, _KNN_ITEMS = 3_000, 10_000  # beyond these a weekly update takes minutes
_TOO_LARGE = 40_000  # items; EASE then needs more than 19 GB


@dataclass(frozen=True)
class Facts:
    """What a log holds, as far as the choice of models depends on it."""

    n_users: int
    n_items: int
    feedback: str
    has_times: bool
    has_texts: bool
    repeat_share: float
    repeat: bool

    @classmethod
    def of(cls, log: Log) -> Facts:
        """Look at a log."""
        feedback = POSITIVES if log.y is None else CLICKS if log.has_clicks else RATINGS
        return cls(
            n_users=len(Vocabulary(log.X[:, 0])),
            n_items=len(Vocabulary(log.X[:, 1])),
            feedback=feedback,
            has_times=log.has_times,
            has_texts=log.texts is not None,
            repeat_share=repeat_share(log.X),
            repeat=log.repeat,
        )


@dataclass(frozen=True)
class Candidate:
    """A model that may be compared.

    Attributes
    ----------
    name : str
    about : str
        What it learns, in a few words.
    make : callable
        Takes `Facts`, returns an estimator.
    feedback : tuple of str
        The kinds of feedback it can be scored on.
    needs_repeats : bool
        It counts what is taken again.
    max_items : int or None
        Larger catalogues make an update slow, so it is then left out unless it is named.
    deep : bool
        Whether it is a neural model, which is left out unless it is named or ``--deep`` is given.
    every_event : bool
        It learns each event before the next is predicted, not a step at once.
    reads_texts : bool
        Its `fit` and `partial_fit` take the texts of items.
    """

    name: str
    about: str
    make: Callable[[Facts], Any]
    feedback: tuple[str, ...] = (POSITIVES,)
    needs_repeats: bool = False
    max_items: int | None = None
    deep: bool = False
    every_event: bool = False
    reads_texts: bool = False

    def impossible(self, facts: Facts) -> str | None:
        """Say why the log cannot be learned by this model, if so."""
        if facts.feedback not in self.feedback:
            return f"needs {' or '.join(self.feedback)}; the log has {facts.feedback}"
        if self.name == "EASE" and facts.n_items > _TOO_LARGE:
            gigabytes = 12 * facts.n_items**2 / 1e9
            return f"the matrix of {facts.n_items:,} items needs {gigabytes:.0f} GB"
        return None

    def unsuitable(self, facts: Facts, *, deep: bool) -> str | None:
        """Say why this model is left out unless it is named, if so."""
        if self.needs_repeats and not facts.repeat:
            return (
                f"lists do not hold items that were taken before ({facts.repeat_share:.0%} of the "
                "events are repeats)"
            )
        if self.max_items and facts.n_items > self.max_items:
            return f"each update is slow beyond {self.max_items:,} items ({facts.n_items:,} here)"
        if self.deep and not deep:
            return "a neural model takes minutes or more; --deep adds it"
        return None


@dataclass(frozen=True)
class Choice:
    """A candidate, and why it is in or left out."""

    candidate: Candidate
    chosen: bool
    reason: str


def make_mf(facts: Facts, habits: bool = False) -> IncrementalMFRecommender:
    """Make the matrix factorization that suits the feedback of a log."""
    if facts.feedback == POSITIVES:
        # Where users take the same items again, habits decide: with them both losses are level, and
        # "bpr" learns several times as fast (`benchmarks/softmax`). 20 epochs are enough.
        return IncrementalMFRecommender(
            loss="bpr" if facts.repeat else "softmax",
            max_epochs=20 if facts.repeat else None,
            half_life=_RECENT if facts.has_times else None,
            habit_half_life=_HABIT if habits and facts.has_times else None,
            n_jobs=-1,
            random_state=0,
        )
    loss = "log_loss" if facts.feedback == CLICKS else "squared_error"
    return IncrementalMFRecommender(loss=loss, random_state=0)


def _decay_bert(facts: Facts) -> Any:
    from sklearn_recft import DecayBertRecommender  # loads torch

    backbone = "auto" if facts.has_texts else None
    return DecayBertRecommender(backbone=backbone, n_jobs=-1, random_state=0)


def _realtime(facts: Facts) -> Any:
    from sklearn_recft import RealtimeTransformerRecommender  # loads torch

    return RealtimeTransformerRecommender(n_jobs=-1, random_state=0)


def _own_favourites(facts: Facts) -> HabitRecommender:
    return HabitRecommender(habit_half_life=None, half_life=None, item_weights=False)


def _decayed_favourites(facts: Facts) -> HabitRecommender:
    return HabitRecommender(habit_half_life=_HABIT, half_life=None, item_weights=False)


_ALL = (POSITIVES, RATINGS, CLICKS)
CANDIDATES = (
    Candidate("popularity", "counts of all users", lambda facts: PopularityRecommender()),
    Candidate(
        "own favourites",
        "counts of the user's own items, ties by popularity",
        _own_favourites,
        needs_repeats=True,
    ),
    Candidate(
        "decayed favourites",
        "own favourites, halved every 90 days",
        _decayed_favourites,
        needs_repeats=True,
    ),
    Candidate(
        "damped means", "means of users and items", lambda facts: BiasRecommender(), _ALL[1:]
    ),
    Candidate("MF", "matrix factorization, IncrementalMFRecommender", make_mf, _ALL),
    Candidate(
        "MF, each event",
        "MF, updated after each event",
        make_mf,
        _ALL[1:],
        every_event=True,
    ),
    Candidate(
        "MF with habits",
        "MF with habit_half_life=90",
        lambda facts: make_mf(facts, habits=True),
        needs_repeats=True,
    ),
    Candidate(
        "HabitRecommender",
        "decayed favourites, weighed by how often an item is repeated",
        lambda facts: HabitRecommender(),
        needs_repeats=True,
    ),
    Candidate(
        "ALS",
        "alternating least squares",
        lambda facts: ALSRecommender(n_jobs=-1, random_state=0),
        max_items=_KNN_ITEMS,
    ),
    Candidate(
        "EASE",
        "a linear model of each item from all others",
        lambda facts: EASERecommender(zero_diagonal=not facts.repeat, n_jobs=-1),
        max_items=_EASE_ITEMS,
    ),
    Candidate(
        "ItemKNN",
        "items that occur together",
        lambda facts: ItemKNNRecommender(n_jobs=-1),
        max_items=_KNN_ITEMS,
    ),
    Candidate(
        "DecayBert",
        "attention over item texts with time decay",
        _decay_bert,
        (POSITIVES, CLICKS),
        deep=True,
        reads_texts=True,
    ),
    Candidate(
        "RealtimeTransformer",
        "attention over the order and times of events",
        _realtime,
        deep=True,
    ),
)
DEMO = (
    "popularity",
    "own favourites",
    "decayed favourites",
    "MF",
    "MF with habits",
    "HabitRecommender",
)


def find_candidates(text: str) -> list[Candidate]:
    """Return the candidates that a command line names, separated by semicolons or commas.

    Case does not matter, and "-" stands for a space or for a comma and a space.
    """
    by_name = {_spelling(candidate.name): candidate for candidate in CANDIDATES}
    found = []
    for name in text.split(";" if ";" in text else ","):
        if _spelling(name) not in by_name:
            lawful = ", ".join(by_name)
            raise ValueError(f"{name.strip()!r} is no model; the models are {lawful}")
        found.append(by_name[_spelling(name)])
    return list(dict.fromkeys(found))


def choose(
    facts: Facts, named: list[Candidate] | None = None, *, deep: bool = False
) -> list[Choice]:
    """Decide on every candidate, with the reason.

    Raises
    ------
    ValueError
        A named model cannot learn the log.
    """
    choices = []
    for candidate in CANDIDATES if named is None else named:
        reason = candidate.impossible(facts)
        if reason and named is not None:
            raise ValueError(f"The model {candidate.name!r} is not possible: {reason}.")
        if named is None:
            reason = reason or candidate.unsuitable(facts, deep=deep)
        choices.append(Choice(candidate, reason is None, reason or candidate.about))
    return choices


def best_model(facts: Facts) -> Any:
    """Make the model that `recft recommend` uses."""
    return make_mf(facts, habits=facts.repeat)


def check_feedback(log: Log) -> None:
    """Refuse a feedback that never differs."""
    if log.y is not None and len(values := np.unique(log.y)) == 1:
        raise ValueError(
            f"Every feedback of {log.name} is {values[0]:g}, so there is nothing to predict. "
            "Without --feedback every row is a positive, and lists are compared."
        )


def _spelling(name: str) -> str:
    return "-".join(name.lower().replace(",", " ").replace("_", " ").replace("-", " ").split())
