"""The loop: list, click, learn, again; and the learners that go through it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import clone

from sklearn_recft.datasets import ClickReplay, ClickSimulator

EVENT = ["user_id", "item_id", "timestamp"]
K = 10
N_NEXT = 50  # an item is clicked in a replay if it is among that many next events


class Feedback(NamedTuple):
    """What the model learns of a table of shown lists: rows, and feedback or None."""

    X: pd.DataFrame
    y: np.ndarray | None


@dataclass
class Learner:
    """A model in the loop.

    Parameters
    ----------
    model : recommender
        Unfitted.
    learn : {"never", "nightly", "observe", "online", "shown"}
        "nightly": `fit` on all feedback, or that of the last `window` nights. "observe" and
        "online": `observe` or `partial_fit` after every round. "shown": `partial_fit` with the
        displayed lists as ``shown=``.
    window : int, default=None
        Nights of feedback for "nightly", the first log not counted; None: everything.
    positives : bool, default=False
        Learn clicks only, not skips.
    """

    model: Any
    learn: str = "never"
    window: int | None = None
    positives: bool = False
    seconds: float = 0.0  # of CPU time, in fit, partial_fit and observe
    log: list[Feedback] = field(default_factory=list)
    today: list[Feedback] = field(default_factory=list)

    def start(self, first: Feedback) -> None:
        """Fit the model to the first log."""
        self.log = [first]
        begin = process_time()
        self.model = clone(self.model).fit(*first)
        self.seconds += process_time() - begin

    def recommend(self, visits: pd.DataFrame, **options: Any) -> np.ndarray:
        return self.model.recommend(visits, n_recommendations=K, **options)[0]

    def feedback(self, shown: pd.DataFrame) -> Feedback:
        if self.positives:
            return Feedback(shown.loc[shown["clicked"] == 1, EVENT], None)
        return Feedback(shown[EVENT], shown["clicked"].to_numpy())

    def after_round(self, shown: pd.DataFrame) -> None:
        rows = self.feedback(shown)
        begin = process_time()
        if self.learn == "nightly":
            self.today.append(rows)
        elif self.learn == "observe" and len(rows.X):
            self.model.observe(*rows)
        elif self.learn == "online" and len(rows.X):
            self.model.partial_fit(*rows)
        elif self.learn == "shown" and len(rows.X):
            self.model.partial_fit(*rows, shown=shown)
        self.seconds += process_time() - begin

    def after_night(self) -> None:
        if self.learn != "nightly" or not self.today:
            return
        begin = process_time()
        self.log.append(_joined(self.today))
        self.today = []
        rows = self.log if self.window is None else self.log[-self.window :]
        self.model = clone(self.model).fit(*_joined(rows))
        self.seconds += process_time() - begin


def _joined(parts: list[Feedback]) -> Feedback:
    feedback = None if parts[0].y is None else np.concatenate([p.y for p in parts])
    return Feedback(pd.concat([p.X for p in parts], ignore_index=True), feedback)


@dataclass(frozen=True)
class Setting:
    """Sizes of a simulated loop; tastes turn after half of the days."""

    n_users: int = 200
    n_items: int = 200
    n_days: int = 30
    n_lists: int = 300
    n_rounds: int = 4
    n_first: int = 1500
    exploration: float = 0.1

    def simulator(self, seed: int) -> ClickSimulator:
        return ClickSimulator(
            self.n_users,
            self.n_items,
            turn_day=self.n_days // 2,
            exploration=self.exploration,
            random_state=seed,
        )


def random_lists(n_lists: int, n_items: int, seed: int) -> np.ndarray:
    """Return lists of items in random order, for the first log."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.arange(n_items), (n_lists, 1)), axis=1)[:, :K]


def simulate(learner: Learner, setting: Setting, seed: int) -> pd.DataFrame:
    """Run the loop; return expected clicks per list and those of the best lists, by day."""
    simulator = setting.simulator(seed)
    visits = simulator.visits(setting.n_first, day=-5, n_days=5)
    shown = simulator.show(visits, random_lists(setting.n_first, setting.n_items, seed))
    learner.start(learner.feedback(shown))
    days = []
    for day in range(setting.n_days):
        clicks, best = [], []
        for number in range(setting.n_rounds):
            visits = simulator.visits(
                setting.n_lists // setting.n_rounds,
                day=day + number / setting.n_rounds,
                n_days=1 / setting.n_rounds,
            )
            items = learner.recommend(visits, exclude_seen=False)
            clicks.append(simulator.expected_clicks(visits, items))
            best.append(simulator.expected_clicks(visits, simulator.best_lists(visits, K)))
            learner.after_round(simulator.show(visits, items))
        learner.after_night()
        days.append((day, np.concatenate(clicks).mean(), np.concatenate(best).mean()))
    return pd.DataFrame(days, columns=["day", "clicks", "best"])


def recovery(clicks: np.ndarray, share: float = 0.8) -> float:
    """Return the days after the turn until clicks are `share` of those before; NaN if never.

    "Before" is the mean of the last five days before the turn, which is in the middle.
    """
    turn = len(clicks) // 2
    reached = clicks[turn:] >= share * clicks[turn - 5 : turn].mean()
    return float(np.argmax(reached)) if reached.any() else float("nan")


def rounds_of_replay(log: pd.DataFrame, start: int, size: int) -> Iterator[pd.DataFrame]:
    """Yield visits in the order of time: every tenth event of each user from row `start`."""
    later = log.iloc[start:]
    visits = later[later.groupby("user_id").cumcount() % 10 == 0]
    visits = visits[["user_id", "timestamp"]].reset_index(drop=True)
    for first in range(0, len(visits), size):
        yield visits.iloc[first : first + size]


def replay(
    learner: Learner, log: pd.DataFrame, *, seed: int, start: int, size: int, night: int
) -> np.ndarray:
    """Run the loop over a log; return the expected clicks of every list.

    The first log are the rows before `start`. Lists leave out what a user has clicked in the loop
    and what the model knows the user to have seen. A night comes after `night` rounds of `size`
    visits.
    """
    clicks_of = ClickReplay(log, n_next=N_NEXT, random_state=seed)
    learner.start(Feedback(log.iloc[:start][EVENT], None))
    clicked, found = [], []
    known = np.unique(log.iloc[:start]["item_id"])  # the catalogue of all learners
    for number, visits in enumerate(rounds_of_replay(log, start, size)):
        exclude = pd.concat(clicked) if clicked else pd.DataFrame({"user_id": [], "item_id": []})
        exclude = exclude[exclude["user_id"].isin(visits["user_id"])].astype("int64")
        options = {"exclude": exclude} if len(exclude) else {}
        items = learner.recommend(visits, candidates=known, **options).astype("int64")
        found.append(clicks_of.expected_clicks(visits, items))
        shown = clicks_of.show(visits, items)
        clicked.append(shown.loc[shown["clicked"] == 1, ["user_id", "item_id"]])
        learner.after_round(shown)
        if number % night == night - 1:
            learner.after_night()
    return np.concatenate(found)
