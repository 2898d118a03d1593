"""The members of the blend: their settings on each log, and their scores of whole catalogues."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

from benchmarks.leaderboard.grid import MODELS, OURS, settings
from sklearn_recft import (
    EASERecommender,
    HabitRecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    RealtimeTransformerRecommender,
    SequentialRulesRecommender,
)
from sklearn_recft.events import Interactions

SEEDS = (0, 1, 2)
HISTORY = 3.0  # half-life, in events, of members that look at the last events
DRAWING = ("bpr", "softmax")  # members that draw: one for each seed
DEEP = {"transformer": {"width": 64, "max_history": 50, "max_epochs": 6}}  # of `stream --with`
COLUMNS = ["user_id", "item_id", "timestamp"]


@dataclass
class Queries:
    """Lists that are asked for: n users, when, and each user's events so far in CSR layout."""

    user: np.ndarray
    time: np.ndarray
    indptr: np.ndarray
    items: np.ndarray
    times: np.ndarray
    fresh: bool = True  # whether histories go beyond what the members have learned

    def block(self, first: int, last: int) -> "Queries":
        """Return queries ``first`` to ``last``."""
        start, stop = self.indptr[first], self.indptr[last]
        some = slice(first, last)
        indptr = self.indptr[first : last + 1] - start
        own = slice(start, stop)
        columns = self.user[some], self.time[some], indptr, self.items[own], self.times[own]
        return Queries(*columns, self.fresh)

    def histories(self) -> Interactions:
        """Return the events so far, those of query q as the user q."""
        owner = np.repeat(np.arange(len(self.user)), np.diff(self.indptr))
        return _rows(owner, self.items, self.times)


def _rows(users: np.ndarray, items: np.ndarray | None, times: np.ndarray) -> Interactions:
    none = np.empty((len(users), 0))
    return Interactions(users, items, None, times.astype(float), None, none, ())


class Content:
    """Cosines of tf-idf words of item titles and further texts, over the last events."""

    def __init__(self, texts: pd.Series, half_life: float = HISTORY) -> None:
        self.words = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
        self.words = self.words.astype(np.float32).tocsr()
        self.half_life, self.n_items = half_life, 0

    def partial_fit(self, X: pd.DataFrame) -> "Content":
        """Learn nothing: the words are known."""
        return self

    fit = partial_fit

    def scores(self, queries: Queries, item_ids: np.ndarray) -> np.ndarray:
        """Return the scores of all items for all queries."""
        from scipy.sparse import csr_array

        n_own = np.diff(queries.indptr)
        later = np.repeat(queries.indptr[1:], n_own) - 1 - np.arange(len(queries.items))
        weight = (0.5 ** (later / self.half_life)).astype(np.float32)
        kept = np.where(weight > 1e-6, weight, 0.0)
        shape = len(queries.user), self.words.shape[0]
        profiles = csr_array((kept, queries.items, queries.indptr), shape)
        return np.asarray(((profiles @ self.words) @ self.words[item_ids].T).todense())


class Twin:
    """A member that differs from another in the half-life of histories alone: one fit for two."""

    def __init__(self, base: Any, half_life: float) -> None:
        self.base, self.history_half_life = base, half_life

    @property
    def _model(self) -> Any:
        model = object.__new__(type(self.base._model))
        vars(model).update(vars(self.base._model))
        model.settings = replace(model.settings, history_half_life=self.history_half_life)
        return model

    def partial_fit(self, X: pd.DataFrame) -> "Twin":
        """Learn nothing: the other one does."""
        return self

    fit = partial_fit


def scores(member: Any, queries: Queries) -> np.ndarray:
    """Return the scores (n, n_items) that the estimator ranks by, with histories as they are now.

    Estimators that compute a user's taste from the history get it by event. The others know what
    they have learned.
    """
    model = member._model
    columns = np.arange(model.n_items)
    view, users = model, None
    computed = hasattr(member, "history_half_life") and getattr(member, "loss", "") != "bpr"
    if isinstance(member, Twin) or (queries.fresh and computed):
        view = model.with_history(queries.histories())
        users = view.users.encode(np.arange(len(queries.user)))
    if users is None:
        users = model.users.encode(queries.user)
    n = len(queries.user)
    out = np.empty((n, len(columns)), np.float32)
    view.tile_scorer(users, columns, _rows(queries.user, None, queries.time))(
        0, n, 0, len(columns), out
    )
    return out


def make(name: str, setting: dict[str, Any], seed: int = 0) -> Any:
    """Return an estimator that is not fitted yet."""
    kinds = {
        "popularity": PopularityRecommender,
        "recent": PopularityRecommender,
        "ease": EASERecommender,
        "ease_h3": EASERecommender,
        "knn": ItemKNNRecommender,
        "knn_h3": ItemKNNRecommender,
        "habit": HabitRecommender,
        "rules": SequentialRulesRecommender,
    }
    if name in DRAWING:
        return IncrementalMFRecommender(loss=name, random_state=seed, **setting)
    if name in DEEP:
        return RealtimeTransformerRecommender(random_state=seed, **setting)
    return kinds[name](**setting)


def tried(name: str, task: str, repeats: bool) -> list[dict[str, Any]]:
    """Return at most eight settings, those of the leaderboard where it has the member."""
    h3 = {"history_half_life": HISTORY}
    if name == "popularity":
        return [{"half_life": days} for days in (None, 365, 90, 30)]
    if name == "recent":
        return [{"half_life": days} for days in (0.2, 1, 3, 7)]
    if name == "rules":
        base = {"alpha": 0.5, "beta": 0.1, "history_half_life": 2.0}
        changes: tuple[dict[str, Any], ...] = (
            {},
            {"history_half_life": 1.0},
            {"history_half_life": 1.0, "beta": 0.3},
            {"history_half_life": 5.0, "beta": 0.0},
            {"history_half_life": 5.0, "beta": 0.0, "max_distance": 20},
            {"history_half_life": 3.0, "beta": 0.2},
            {"history_half_life": 3.0, "gap_half_life": 1.0},
            {"history_half_life": 3.0, "half_life": 90.0},
        )
        return [base | change for change in changes]
    if name == "habit":
        return [{"habit_half_life": d, "half_life": p} for d in (30, 90, 365) for p in (7, 28)]
    if name == "softmax":
        shared = h3 if task == "next" else {}
        return [
            shared | {"half_life": days, "popularity_weight": weight}
            for days in (7, 30)
            for weight in (0.5, 1.0)
        ]
    if name == "ease_h3" and not repeats:
        plain = [h3 | {"reg": reg} for reg in (50, 200, 500, 2000, 5000, 20_000)]
        return [*plain, *(h3 | {"reg": 2000, "half_life": days} for days in (30, 180))]
    board = {"ease": "EASE", "ease_h3": "EASE", "bpr": "IncrementalMF, bpr"}
    [model] = (m for m in MODELS if (m.library, m.name) == (OURS, board.get(name, "ItemKNN, BM25")))
    found = settings(model, repeats)
    if name.startswith("ease"):
        found = [s | {"history_half_life": None} for s in found if not s["history_half_life"]]
    found = [{key: value for key, value in s.items() if key != "once"} for s in found]
    return [s | h3 for s in found] if name.endswith("h3") else found


def names(repeats: bool) -> tuple[str, ...]:
    """Return the names of the nine members; content joins them where items have texts."""
    shared = ("popularity", "recent", "ease", "ease_h3", "knn", "knn_h3", "bpr")
    return (*shared, "habit" if repeats else "softmax", "rules")
