"""Follow a log week by week: list, compare, learn. The value of every list is kept."""

import time
from dataclasses import dataclass

import numpy as np

from sklearn_recft.metrics import ndcg_at_k, recall_at_k, recommend_up_to, top_k_task
from sklearn_recft.model_selection._comparison import resampled_means

K = 10
WEEK = 7 * 86_400
KINDS = ("all", "repeats", "new")


@dataclass(frozen=True)
class Task:
    """Lists to ask for at once, and what is relevant in each."""

    queries: np.ndarray
    relevant: list[np.ndarray]


@dataclass(frozen=True)
class Followed:
    """What a model reached: values by kind of list, and seconds of the CPU."""

    values: dict[str, np.ndarray]
    fit_seconds: float
    learn_seconds: float


class Walk:
    """A log in the order of time, of which the rows before ``begin`` are fitted.

    In a week, every user who buys is asked for. "all": what the user buys is relevant, and what was
    bought before may be listed. "repeats": of the same lists, only what was bought before is
    relevant. "new": only what is bought for the first time is relevant, and the lists leave out
    what was bought before.

    Attributes
    ----------
    bounds : ndarray of shape (n_weeks + 1,)
    tasks : list of dict
        By week, then by kind.
    users : dict of ndarray
        By kind: code of the user of each list, week after week.
    """

    def __init__(self, X: np.ndarray, begin: int, end: int | None = None) -> None:
        self.X = X[:end]
        seconds = self.X[begin:, 2] - self.X[begin, 2]
        first = np.flatnonzero(np.diff(seconds // WEEK, prepend=-1))
        self.bounds = np.append(begin + first, len(self.X))
        taken_first = _places_of_first(self.X)
        self.tasks = []
        for start, stop in self.steps():
            is_new = taken_first[start:stop] >= start
            rows = {"all": np.ones_like(is_new), "repeats": ~is_new, "new": is_new}
            self.tasks.append({kind: self._task(start, stop, rows[kind]) for kind in KINDS})
        names = np.unique(self.X[begin:, 0])
        self.users = {
            kind: np.searchsorted(
                names, np.concatenate([week[kind].queries[:, 0] for week in self.tasks])
            )
            for kind in KINDS
        }

    def steps(self) -> list[tuple[int, int]]:
        """Return the first row of each week, and the row after its last."""
        return list(zip(self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True))

    def follow(self, model, learn: str, kinds: tuple[str, ...] = KINDS) -> Followed:
        """Fit a model, then list each week before it is learned, and compare.

        Parameters
        ----------
        model : recommender
        learn : {"partial_fit", "refit", "never"}
        kinds : tuple of str
            What to compare; "recall" comes with "all".
        """
        fit_seconds, learn_seconds = _seconds(model.fit, self.X[: self.bounds[0]]), 0.0
        found = {kind: [] for kind in (*kinds, "recall")}
        for (start, stop), week in zip(self.steps(), self.tasks, strict=True):
            self._compare(model, week, kinds, found)
            if learn == "partial_fit":
                learn_seconds += _seconds(model.partial_fit, self.X[start:stop])
            elif learn == "refit":
                learn_seconds += _seconds(model.fit, self.X[:stop])
        values = {kind: np.concatenate(parts) for kind, parts in found.items() if parts}
        return Followed(values, fit_seconds, learn_seconds)

    def _task(self, start: int, stop: int, chosen: np.ndarray) -> Task:
        rows = np.flatnonzero(chosen)
        if not len(rows):
            return Task(np.empty((0, 2), self.X.dtype), [])
        return Task(*top_k_task(None, self.X[start:stop], rows)[1:3])

    def _compare(self, model, week: dict[str, Task], kinds, found) -> None:
        task, old, new = (week[kind] for kind in KINDS)
        if "all" in kinds:
            lists = recommend_up_to(model, task.queries, K, exclude_seen=False)
            found["all"].append(_ndcg(task.relevant, lists))
            found["recall"].append(recall_at_k(task.relevant, lists, k=K, per_user=True))
            if "repeats" in kinds:
                place = {user: n for n, user in enumerate(task.queries[:, 0].tolist())}
                lists = [lists[place[user]] for user in old.queries[:, 0].tolist()]
                found["repeats"].append(_ndcg(old.relevant, lists))
        if "new" in kinds and new.relevant:
            lists = recommend_up_to(model, new.queries, K, exclude_seen=True)
            found["new"].append(_ndcg(new.relevant, lists))


def interval(values: np.ndarray, users: np.ndarray, n_bootstrap: int = 1000) -> list[float]:
    """Return the ends of the 95 % bootstrap interval of a mean; users are drawn with all lists."""
    codes = np.unique(users, return_inverse=True)[1]
    rng = np.random.default_rng(0)
    means = resampled_means(values[:, None], codes, n_bootstrap, rng)
    return np.quantile(means, [0.025, 0.975]).tolist()


def _ndcg(relevant: list[np.ndarray], lists: list[np.ndarray]) -> np.ndarray:
    return np.asarray(ndcg_at_k(relevant, lists, k=K, per_user=True)) if relevant else np.empty(0)


def _places_of_first(X: np.ndarray) -> np.ndarray:
    """Return the first row (n,) with the user and the item of each row."""
    pairs = np.unique(X[:, 0], return_inverse=True)[1] * len(X)
    pairs = pairs + np.unique(X[:, 1], return_inverse=True)[1]
    _, first, place = np.unique(pairs, return_index=True, return_inverse=True)
    return first[place]


def _seconds(learn, X: np.ndarray) -> float:
    start = time.process_time()
    learn(X)
    return time.process_time() - start
