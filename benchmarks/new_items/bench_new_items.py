"""Measure lists of items that have no events yet, one JSON line per row.

    python benchmarks/new_items/bench_new_items.py --part validation test

Amazon Beauty with titles, the time line by weeks from Monday. A model is fitted to all events
before the first week. Then, for each week: the items that are first seen in this week are added by
their titles (`add_items`, in random order), lists are made for all events of the week as of its
first second, and then the model learns the events of the week (`partial_fit`, or with ``--update
observe``, its histories and counts alone). So an item's title
is known when it comes, and its events are not. Lists rank the whole catalogue, without the items
that the user took before. The weeks of ``--part validation`` choose settings, those of "test" are
reported. NDCG@10 with one relevant item, the item of the event, over

all
    all events of the weeks,
new
    the events whose item is first seen in their week, in a list of the whole catalogue,
shelf
    the same events, in a list of this week's new items alone (``candidates=``).

"in list" is the mean number of this week's new items among the ten. Rows: "transformer" and
"decay_bert" are the estimators with titles (all-MiniLM-L6-v2), "title_head" is a factorization and
a linear map from titles to its factors, fitted again every week. With ``--weights``, a row more for
each weight adds the weight times the largest TF-IDF cosine (see "content") to the scores of this
week's new items. "content" puts this week's new items
first, or ranks the whole catalogue, by the largest TF-IDF cosine to a title in the user's history.
Two exact expectations: "new items first, random order", and "whole catalogue, random order". That
an item comes in this week is known from its first event, so the number of new items knows the
future a little: all rows do, and those with new items first use it most.
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.params import add_params_option, constructor_params, merged
from benchmarks.common.report import row
from benchmarks.new_items.title_head import TitleHead
from benchmarks.realtime.log import Log, read
from sklearn_recft import DecayBertRecommender, RealtimeTransformerRecommender
from sklearn_recft.metrics import ndcg_at_k

K = 10
WEEK = 7 * 86_400
MONDAY = 4 * 86_400  # 5 January 1970
PARTS = {"validation": (2297, 2310), "test": (2310, 2324)}  # weeks since then, the last is not in
MODELS = {
    "transformer": RealtimeTransformerRecommender,
    "decay_bert": DecayBertRecommender,
    "title_head": TitleHead,
}
GAINS = 1 / np.log2(np.arange(2, K + 2))
COLUMNS = ["user_id", "item_id", "timestamp"]


class Weeks:
    """The log by weeks, with the week in which each item is first seen."""

    def __init__(self, log: Log) -> None:
        self.events = log.events
        self.week = ((self.events["timestamp"] - MONDAY) // WEEK).to_numpy()
        first = pd.Series(self.week).groupby(self.events["item_id"].to_numpy()).min()
        self.first = first.reindex(log.titles["item_id"]).fillna(np.inf).to_numpy()
        self.titles = log.titles[["item_id", "text"]]
        self.item_week = first

    def before(self, week: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the events before a week, and the titles of the items that they know."""
        return self.events[self.week < week][COLUMNS], self.titles[self.first < week]

    def of(self, week: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
        """Return a week's events, whether their items are new, and the titles of new items."""
        events = self.events[self.week == week][COLUMNS]
        is_new = (self.item_week.loc[events["item_id"]] == week).to_numpy()
        new = self.titles[self.first == week].sample(frac=1, random_state=seed)
        return events, is_new, new


class Figures:
    """Sums of NDCG by kind of event."""

    def __init__(self) -> None:
        self.values: dict[str, list[np.ndarray]] = {}

    def add(self, **values: np.ndarray) -> None:
        """Add values of events."""
        for name, some in values.items():
            self.values.setdefault(name, []).append(np.asarray(some, float))

    def means(self) -> dict[str, float]:
        """Return the mean of each figure."""
        return {name: float(np.concatenate(v).mean()) for name, v in self.values.items()}


def fitted(weeks: Weeks, week: int, model: Any) -> float:
    """Fit a model to all events before a week, and return the seconds."""
    past, titles = weeks.before(week)
    start = time.perf_counter()
    model.fit(past, items=titles)
    return time.perf_counter() - start


def lists_by_week(
    weeks: Weeks,
    span: tuple[int, int],
    model: Any,
    seed: int,
    update: str,
    since: int,
    weights: Sequence[float] = (),
) -> tuple[dict[str, float], dict[float, dict[str, float]]]:
    """Take a fitted model through weeks, and return its figures of the weeks from ``since`` on.

    The second dict has those of the model with ``weight`` times the cosine, for each weight.
    """
    found, mixed = Figures(), {weight: Figures() for weight in weights}
    for week in range(*span):
        events, is_new, new = weeks.of(week, seed)
        if len(new):
            model.add_items(new)
        if week < since:
            getattr(model, update)(events)
            continue
        queries = events[["user_id"]].assign(timestamp=float(MONDAY + week * WEEK))
        lists, _ = model.recommend(queries, n_recommendations=K)
        taken = events["item_id"].to_numpy()[:, None]
        ndcg = ndcg_at_k(taken, lists, k=K, per_user=True)
        in_list = np.isin(lists, new["item_id"].to_numpy()).sum(axis=1)
        found.add(all=ndcg, new=ndcg[is_new], in_list=in_list)
        if is_new.any():
            size, fresh = min(K, len(new)), new["item_id"].to_numpy()
            shelf, _ = model.recommend(queries[is_new], n_recommendations=size, candidates=fresh)
            found.add(shelf=ndcg_at_k(taken[is_new], shelf, k=K, per_user=True))
        if weights:
            add_mixed(mixed, weeks, week, model, events, is_new, new)
        getattr(model, update)(events)
    return found.means(), {weight: figures.means() for weight, figures in mixed.items()}


def add_mixed(
    mixed: dict[float, Figures],
    weeks: Weeks,
    week: int,
    model: Any,
    events: pd.DataFrame,
    is_new: np.ndarray,
    new: pd.DataFrame,
) -> None:
    """Add the figures of lists where this week's new items get a weight times their cosine."""
    queries = events[["user_id"]].assign(timestamp=float(MONDAY + week * WEEK))
    taken, fresh = events["item_id"].to_numpy()[:, None], new["item_id"].to_numpy()
    known = weeks.before(week)[1]["item_id"].to_numpy()
    lists, scores = model.recommend(queries, n_recommendations=K, candidates=known)
    cosine = largest_cosines(weeks, week, events["user_id"], new)
    of_new = scores_of(model, queries, fresh)
    for weight, figures in mixed.items():
        own = of_new + weight * cosine
        ids = np.hstack([lists, np.tile(fresh, (len(events), 1))])
        order = np.argsort(-np.hstack([scores, own]), axis=1, kind="stable")[:, :K]
        best = np.take_along_axis(ids, order, axis=1)
        ndcg = ndcg_at_k(taken, best, k=K, per_user=True)
        in_list = np.isin(best, fresh).sum(axis=1)
        figures.add(all=ndcg, new=ndcg[is_new], in_list=in_list)
        if is_new.any():
            shelf = fresh[np.argsort(-own[is_new], axis=1, kind="stable")[:, :K]]
            figures.add(shelf=ndcg_at_k(taken[is_new], shelf, k=K, per_user=True))


def scores_of(model: Any, queries: pd.DataFrame, items: np.ndarray) -> np.ndarray:
    """Return the scores of ``items``, shape (n_queries, n_items), in the order of ``items``."""
    if not len(items):
        return np.empty((len(queries), 0))
    lists, scores = model.recommend(queries, n_recommendations=len(items), candidates=items)
    place = pd.Series(np.arange(len(items)), index=items)
    found = np.empty(scores.shape)
    np.put_along_axis(found, place.loc[lists.ravel()].to_numpy().reshape(lists.shape), scores, 1)
    return found


def largest_cosines(weeks: Weeks, week: int, users: pd.Series, new: pd.DataFrame) -> np.ndarray:
    """Largest TF-IDF cosine of new items to a title of each user's history, (n_users, n_new).

    It is 0 for a user without history.
    """
    vectors, place, history = histories(weeks, week, users, new)
    its = vectors[place[new["item_id"]].to_numpy()]
    found = np.zeros((len(users), len(new)))
    for place_of_user, user in enumerate(users):
        if user in history:
            found[place_of_user] = (its @ vectors[history[user]].T).toarray().max(axis=1)
    return found


def histories(
    weeks: Weeks, week: int, users: pd.Series, new: pd.DataFrame
) -> tuple[Any, pd.Series, dict[Any, np.ndarray]]:
    """Return TF-IDF vectors of the titles, the row of each item, and the rows of users' pasts."""
    past, titles = weeks.before(week)
    known = pd.concat([titles, new], ignore_index=True)
    vectors = TfidfVectorizer(sublinear_tf=True).fit_transform(known["text"])
    place = pd.Series(np.arange(len(known)), index=known["item_id"])
    grouped = past[past["user_id"].isin(users)].groupby("user_id")["item_id"]
    return vectors, place, {user: place[items].to_numpy() for user, items in grouped}


def references(weeks: Weeks, part: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the expectations of random orders, and the content alone."""
    first, whole, content, anywhere = Figures(), Figures(), Figures(), Figures()
    for week in range(*PARTS[part]):
        events, is_new, new = weeks.of(week, 0)
        known = int((weeks.first < week).sum()) + len(new)
        gain = GAINS[: len(new)].sum() / max(len(new), 1)
        first.add(all=np.where(is_new, gain, 0.0), new=np.full(is_new.sum(), gain))
        chance = GAINS.sum() / known
        whole.add(all=np.full(len(events), chance), new=np.full(is_new.sum(), chance))
        content.add(new=content_ndcg(weeks, week, events[is_new], new, new))
        ranked = pd.concat([weeks.before(week)[1], new], ignore_index=True)
        anywhere.add(new=content_ndcg(weeks, week, events[is_new], new, ranked))
    yield "new items first, random order", first.means()
    yield "whole catalogue, random order", whole.means()
    yield "content, new items first", content.means()
    yield "content, whole catalogue", anywhere.means()


def content_ndcg(
    weeks: Weeks, week: int, events: pd.DataFrame, new: pd.DataFrame, ranked: pd.DataFrame
) -> np.ndarray:
    """NDCG@10 in lists of ``ranked`` items by their TF-IDF cosine to the user's history."""
    vectors, place, history = histories(weeks, week, events["user_id"], new)
    listed = place[ranked["item_id"]].to_numpy()
    its = vectors[listed]
    out = []
    for user, item in zip(events["user_id"], events["item_id"], strict=True):
        score = np.zeros(len(ranked))
        if user in history:
            score = (its @ vectors[history[user]].T).toarray().max(axis=1)
            score[np.isin(listed, history[user])] = -1.0  # seen items come last
        own = score[(ranked["item_id"] == item).to_numpy()][0]
        ahead, level = int((score > own).sum()), int((score == own).sum())
        out.append(GAINS[ahead : ahead + level].sum() / level)  # ties: the mean over their orders
    return np.array(out)


def measure(weeks: Weeks, name: str, seed: int, options: argparse.Namespace) -> None:
    """Print the rows of a model: fitted before each part, or once before all of them."""
    given = {"random_state": seed}
    update = options.update
    if name == "title_head":
        update = "partial_fit"
    else:
        given["backbone"] = options.backbone
    setting = constructor_params(merged(given, copy.deepcopy(options.params)))
    model, begin, seconds = None, options.fit_before, 0.0
    for part in options.part:
        since, end = PARTS[part]
        if model is None or options.fit_before is None:
            model, begin = MODELS[name](**setting), begin or since
            seconds = fitted(weeks, begin, model)
        figures, mixed = lists_by_week(
            weeks, (begin, end), model, seed, update, since, options.weights
        )
        begin = None if options.fit_before is None else end
        row("new items", part, name, seed=seed, **figures, fit_seconds=seconds)
        for weight, of_mix in mixed.items():
            row("new items", part, f"{name} + {weight:g} cosine", seed=seed, **of_mix)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=["test"])
    parser.add_argument("--models", nargs="*", choices=MODELS, default=["transformer"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--backbone", default="auto", help="a folder, a name, 'auto' or 'scratch'")
    parser.add_argument("--update", choices=("partial_fit", "observe"), default="partial_fit")
    parser.add_argument("--fit-before", type=int, help="week; default: the first of each part")
    parser.add_argument("--weights", nargs="*", type=float, default=[], help="of the cosine")
    parser.add_argument("--data", default="amazon-beauty-2014")
    add_params_option(parser)
    options = parser.parse_args(argv)
    weeks = Weeks(read(options.data))
    for part in options.part:
        for name, figures in references(weeks, part):
            row("new items", part, name, **figures)
    for name in options.models:
        for seed in options.seeds:
            measure(weeks, name, seed, options)


if __name__ == "__main__":
    main()
