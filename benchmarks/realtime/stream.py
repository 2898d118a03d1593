"""Follow users in time: a list before each event, and models that are updated day by day.

While weights do not change, lists depend on the user's own events only, with three exceptions:
every period has its trends, a user without events gets popular items, and the first event of a new
item puts it in the catalogue. Between these, the k-th event of every user is queried together and
then observed together.
"""

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.events import K
from benchmarks.realtime.log import Log, evaluate_next, lists_of, make_model, mean
from sklearn_recft import EASERecommender, PopularityRecommender
from sklearn_recft.metrics import ndcg_at_k, recall_at_k

DAY = 86_400
BASELINES = {  # as chosen on the leaderboard's validation part of this timeline
    "EASE, reg 1000, half_life 15": EASERecommender(reg=1000, half_life=15),
    "Popularity, window 3": PopularityRecommender(window=3),
    "Popularity, half_life 7": PopularityRecommender(half_life=7),
}
Runs = Iterator[tuple[str, dict[str, Any]]]


def rounds(
    events: pd.DataFrame, user_ids: np.ndarray, item_ids: np.ndarray, period: float
) -> list[np.ndarray]:
    """Rows that can be queried together, then observed together, as if one by one.

    Known are ``user_ids`` and ``item_ids``. The first event of an unknown user is queried after
    all events before it are observed. The first event of a new item stands alone, so that no list
    before it has it.
    Trends change at multiples of ``period`` in seconds, when all earlier events are observed.
    """
    unknown, new = (
        (~events[name].isin(ids) & ~events[name].duplicated()).to_numpy()
        for name, ids in (("user_id", user_ids), ("item_id", item_ids))
    )
    after_new = np.r_[False, new[:-1]]
    begins = np.diff(events["timestamp"].to_numpy() // period, prepend=np.nan) != 0
    stretch = np.cumsum(unknown | new | after_new | begins)
    place = events.groupby([stretch, "user_id"]).cumcount().to_numpy()
    order = np.lexsort((place, stretch))
    ends = np.diff(stretch[order]).astype(bool) | np.diff(place[order]).astype(bool)
    return np.split(order, np.flatnonzero(ends) + 1)


def query_and_observe(
    model: Any, events: pd.DataFrame, exclude_seen: bool, lists_of: Callable = lists_of
) -> np.ndarray:
    """Recommend before each event, with all earlier ones observed; shape (n, K)."""
    lists = np.empty((len(events), K), object)
    period = model.trend_period_
    for rows in rounds(events, model.user_ids_, model.item_ids_, period) if len(events) else ():
        now = events.iloc[rows]
        lists[rows] = lists_of(model, now, exclude_seen)
        model.observe(now)
    return lists


# ----------------------------------------------------------------------- stream


def days(events: pd.DataFrame) -> list[pd.DataFrame]:
    """Cut events in the order of time at every midnight, UTC."""
    day = events["timestamp"].to_numpy() // DAY
    cuts = np.flatnonzero(np.diff(day)) + 1
    return [events.iloc[rows] for rows in np.split(np.arange(len(events)), cuts)]


def follow(
    model: Any, parts: list[pd.DataFrame], exclude_seen: bool, learn: Callable | None = None
) -> tuple[np.ndarray, list[float]]:
    """Query before each event and observe it; between two parts call ``learn(dawn, part)``.

    ``learn`` gets the model as it was before the part, and the part's events. It returns the model
    to continue with. Returns the lists (n, K) and the seconds of every update.
    """
    lists, seconds = [], []
    for n, part in enumerate(parts, start=1):
        learns = learn is not None and n < len(parts)
        dawn = copy.deepcopy(model) if learns else None
        lists.append(query_and_observe(model, part, exclude_seen))
        if learns:
            start = time.perf_counter()
            model = learn(dawn, part)
            seconds.append(time.perf_counter() - start)
    return np.concatenate(lists), seconds


def learn_part(dawn: Any, part: pd.DataFrame) -> Any:
    """Learn the events of a part with a model that has not observed them yet."""
    return dawn.partial_fit(part)


def stream(
    log: Log, seed: int, params: dict[str, Any], n_refits: int, n_later: int | None = None
) -> Runs:
    """Yield the models, from the frozen one to the one that is refitted each day.

    They follow the first ``n_later`` events of the last tenth, or all of them. A daily refit is
    made and evaluated on ``n_refits`` of the days, evenly spaced behind the first. All models are
    evaluated on the events of these days as well.
    """
    learned, later = log.split_in_time()
    later = later[:n_later]
    daily = days(later)
    n_refits = min(n_refits, len(daily) - 1)
    chosen = np.unique(np.linspace(1, len(daily) - 1, n_refits).round().astype(int))
    ends = np.cumsum([len(day) for day in daily])
    again = np.isin(np.searchsorted(ends, np.arange(len(later)), side="right"), chosen)
    start = time.perf_counter()
    fitted = make_model(seed, params).fit(learned)
    cost = {"n_days": len(daily), "fit_seconds": time.perf_counter() - start}
    users, found = later["user_id"].to_numpy(), {}
    for name, (parts, learn) in {
        "frozen": (None, None),
        "observe": ([later], None),
        "observe, partial_fit daily": (daily, learn_part),
    }.items():
        model, seconds = copy.deepcopy(fitted), []
        start = time.perf_counter()
        if parts is None:
            lists = lists_of(model, later, log.exclude_seen)
        else:
            lists, seconds = follow(model, parts, log.exclude_seen, learn)
        total = time.perf_counter() - start
        found[name] = evaluate_next(later, lists)["ndcg"]
        known = np.isin(users, learned["user_id"])
        yield name, {
            "ndcg": mean(found[name]), "ndcg of known users": mean(found[name][known]),
            "n_events": len(later), **_of_refitted(found, name, again, users), **_costs(seconds),
            "query_and_observe_seconds": total - sum(seconds), **cost,
        }  # fmt: skip
    if not again.any():
        return
    lists, seconds = [], []
    for day in (daily[n] for n in chosen):
        start = time.perf_counter()
        model = make_model(seed, params).fit(log.events.loc[: day.index[0] - 1])
        seconds.append(time.perf_counter() - start)
        lists.append(query_and_observe(model, day, log.exclude_seen))
    name = "observe, refit daily"
    found[name] = np.full(len(later), np.nan)
    found[name][again] = evaluate_next(later[again], np.concatenate(lists))["ndcg"]
    yield name, {**_of_refitted(found, name, again, users), **_costs(seconds), **cost}


def _of_refitted(
    found: dict[str, np.ndarray], name: str, again: np.ndarray, users: np.ndarray
) -> dict[str, Any]:
    """Score the refitted days, and the difference to each model before.

    Each error is the standard error of the difference, with users resampled. The frozen model
    is not compared.
    """
    if not again.any():
        return {}
    own = found[name][again]
    figures = {"ndcg of refitted days": mean(own), "n_refitted_events": int(again.sum())}
    code = np.unique(users[again], return_inverse=True)[1]
    for other in (model for model in found if model not in (name, "frozen")):
        more = own - found[other][again]
        by_user = np.bincount(code, more - more.mean())
        figures[f"more than {other}"] = mean(more)
        figures[f"its error, {other}"] = float(np.sqrt((by_user**2).sum()) / len(more))
    return figures


def _costs(seconds: list[float]) -> dict[str, Any]:
    return {
        "n_learned": len(seconds), "learn_seconds": float(sum(seconds)),
        "learn_seconds_once": float(np.median(seconds)) if seconds else 0.0,
    }  # fmt: skip


# --------------------------------------------------------------------- timeline


def timeline(log: Log, seed: int, params: dict[str, Any], with_baselines: bool) -> Runs:
    """Yield ours and the baselines, evaluated on all items of a user in the last tenth."""
    learned, later = log.split_in_time()
    later = known_later(log, learned, later)
    first = later.drop_duplicates("user_id")
    models = {"ours": make_model(seed, params), **(BASELINES if with_baselines else {})}
    for name, model in models.items():
        start = time.perf_counter()
        model.fit(learned)
        cost = {"fit_seconds": time.perf_counter() - start}
        lists = lists_of(model, first, log.exclude_seen)
        yield f"{name}, queried once", evaluate_once(later, first, lists) | cost
        lists = lists_of(model, later, log.exclude_seen)
        yield f"{name}, queried before each event", evaluate_each(later, lists) | cost
        if name == "ours":
            lists = query_and_observe(model, later, log.exclude_seen)
            found = evaluate_each(later, lists)
            yield f"{name}, queried before each event, observe", found | cost


def known_later(log: Log, learned: pd.DataFrame, later: pd.DataFrame) -> pd.DataFrame:
    """Keep what is relevant to users of the training events: no items that no list can hold."""
    later = later[later["user_id"].isin(learned["user_id"])]
    if not log.exclude_seen:
        return later
    pairs = pd.MultiIndex.from_frame(learned[["user_id", "item_id"]])
    return later[~pd.MultiIndex.from_frame(later[["user_id", "item_id"]]).isin(pairs)]


def evaluate_once(later: pd.DataFrame, first: pd.DataFrame, lists: np.ndarray) -> dict[str, float]:
    """Score a list a user by all of the user's later items."""
    taken = later.groupby("user_id")["item_id"].unique().loc[first["user_id"]]
    return {
        "ndcg": ndcg_at_k(list(taken), lists, k=K),
        "recall": recall_at_k(list(taken), lists, k=K),
        "n_users": len(first),
    }


def evaluate_each(later: pd.DataFrame, lists: np.ndarray) -> dict[str, float]:
    """Score a list an event by the items still to come; mean of a user first, of users second."""
    items, found = later["item_id"].to_numpy(), []
    for rows in later.groupby("user_id").indices.values():
        to_come = [items[rows[place:]] for place in range(len(rows))]
        scores = [metric(to_come, lists[rows], k=K) for metric in (ndcg_at_k, recall_at_k)]
        found.append(scores)
    ndcg, recall = np.mean(found, axis=0)
    return {"ndcg": float(ndcg), "recall": float(recall), "n_users": len(found)}
