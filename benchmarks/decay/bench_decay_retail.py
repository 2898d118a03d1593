"""Next week's purchases from purchases alone: `DecayBertRecommender` on weeks of two shops.

    python benchmarks/decay/bench_decay_retail.py --backbone auto
    python benchmarks/decay/bench_decay_retail.py --data amazon-beauty-2014 --backbone auto

Periods are weeks from Monday. Before each of the last ones every model has learned all earlier
weeks (fitted before the first, then updated week by week) and nothing of the week itself. Known
customers who buy in the week are queried at its first second; relevant are the distinct items they
buy in it. The whole catalogue is ranked, whatever was bought before, and once
more without what the customer had bought already (relevant is then only what is new to them).
NDCG@10 and recall@10 are means over user-weeks; the first `N_VALIDATION` weeks choose between
settings of a model, the others report. A JSON line a model, and one for each seed of ours.

Items first sold in a week are put on the list of ours before it by title alone (``items=``): the
assortment is known to a shop, its sales are not. No other model here can rank them. Of purchases of
such items: recall@k in the whole catalogue, the mean share of the catalogue ranked behind them
(random: .5), and the same among the week's new items alone.

Data: Online Retail as on the leaderboard (`purchases` in `benchmarks/common/events.py`), Amazon
Beauty as it is (every pair once, time in days). "own purchases" ranks by a customer's own purchases
with time decay, then by popularity.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_array

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.events import load
from benchmarks.common.params import add_params_option, constructor_params, merged
from sklearn_recft import (
    DecayBertRecommender,
    EASERecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.metrics import ndcg_at_k, recall_at_k

DAY, WEEK = 86_400, 7 * 86_400
MONDAY = 4 * DAY  # 1970 began on a Thursday
K = 10
N_VALIDATION, N_TEST = 4, 6
DEPTHS = (10, 100)  # how far down the list a new item is looked for
SEEDS = (0, 1, 2)
CHOOSING = ("ndcg", "ndcg_new_to_user")  # by what; the other where no pair comes twice


class OwnPurchases:
    """Rank by a customer's own purchases, with decay by ``half_life`` days, then by popularity."""

    def __init__(self, half_life: float) -> None:
        self.half_life = half_life

    def fit(self, X: pd.DataFrame) -> "OwnPurchases":
        self.X_ = X
        return self

    def partial_fit(self, X: pd.DataFrame) -> "OwnPurchases":
        return self.fit(pd.concat([self.X_, X]))

    def recommend(
        self, X: pd.DataFrame, *, n_recommendations: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        users, user_ids = pd.factorize(self.X_["user_id"])
        items, item_ids = pd.factorize(self.X_["item_id"])
        now = X["timestamp"].max()
        left = 0.5 ** ((now - self.X_["timestamp"].to_numpy()) / (self.half_life * DAY))
        own = coo_array((left, (users, items))).tocsr()
        popular = np.bincount(items, left)
        row = pd.Index(user_ids).get_indexer(X["user_id"])
        scores = own[row].toarray() + 1e-6 * popular / popular.max()
        best = np.argsort(-scores, axis=1, kind="stable")[:, :n_recommendations]
        return item_ids.to_numpy()[best], np.take_along_axis(scores, best, 1)

    @property
    def n_items_(self) -> int:
        """Number of known items."""
        return self.X_["item_id"].nunique()


class Weeks:
    """The log of a shop cut into weeks, and the queries of the last of them.

    Parameters
    ----------
    data : str
    n_days : int, default=None
        How many days before the first queried week are learned; None: all.
    n_users : int, default=None
        Customers queried in a week at most, drawn at random; None: all.
    """

    def __init__(self, data: str, n_days: int | None = None, n_users: int | None = None) -> None:
        frame = load(data)
        titles = pd.read_parquet(Path(os.environ["SKLEARN_RECFT_DATA"], data, "items.parquet"))
        titles["item_id"] = titles["item_id"].astype(frame["item_id"].dtype)
        frame["text"] = frame["item_id"].map(titles.set_index("item_id")["title"]).fillna("")
        frame = frame.sort_values("timestamp", kind="stable")
        # Items and users by codes in the order of the log: ids that are compared quickly.
        for column in ("user_id", "item_id"):
            frame[column] = pd.factorize(frame[column])[0]
        week = (frame["timestamp"] - MONDAY) // WEEK
        self.first = int(week.max()) - N_VALIDATION - N_TEST + 1
        if n_days is not None:
            kept = frame["timestamp"] >= self.start(self.first) - n_days * DAY
            frame, week = frame[kept], week[kept]
        self.frame, self.week, self.n_users = frame, week, n_users
        self.texts = frame.drop_duplicates("item_id")[["item_id", "text"]]
        self.new_in = week.groupby(frame["item_id"]).min()
        self._queried: dict[int, tuple] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + N_VALIDATION + N_TEST))

    def start(self, week: int) -> int:
        """First second of a week."""
        return MONDAY + week * WEEK

    def before(self, week: int) -> pd.DataFrame:
        return self.frame[self.week < week]

    def of(self, week: int) -> pd.DataFrame:
        return self.frame[self.week == week]

    def news(self, week: int) -> pd.DataFrame:
        """List the items first sold in a week: ids and titles."""
        new = self.new_in.index[self.new_in == week]
        return self.texts[self.texts["item_id"].isin(new)]

    def queried(self, week: int) -> tuple[pd.DataFrame, list[np.ndarray], list[np.ndarray]]:
        """Return the queries at its start, the items each user buys in it and had bought before."""
        if week not in self._queried:
            self._queried[week] = self._query(week)
        return self._queried[week]

    def _query(self, week: int) -> tuple[pd.DataFrame, list[np.ndarray], list[np.ndarray]]:
        known, now = self.before(week), self.of(week)
        users = np.intersect1d(now["user_id"], known["user_id"])
        if self.n_users is not None and len(users) > self.n_users:
            users = np.sort(np.random.default_rng(week).choice(users, self.n_users, replace=False))
        bought, owned = (
            log[log["user_id"].isin(users)].groupby("user_id")["item_id"].unique().loc[users]
            for log in (now, known)
        )
        queries = pd.DataFrame({"user_id": users, "timestamp": self.start(week)})
        return queries, list(bought), list(owned)


def follow(
    model: Any, weeks: Weeks, *, lists_news: bool = False, refit: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Rank the catalogue (n_users, n_items) for each week's customers, then learn the week."""

    def news(week: int) -> dict[str, pd.DataFrame]:
        new = weeks.news(week) if lists_news else []
        return {"items": new} if len(new) else {}

    columns = ["user_id", "item_id", "timestamp", *(["text"] if lists_news else [])]
    model.fit(weeks.before(weeks.first)[columns], **news(weeks.first))
    for week in weeks:
        queries = weeks.queried(week)[0]
        yield (
            week,
            model.recommend(queries, n_recommendations=model.n_items_, exclude_seen=False)[0],
        )
        if week != weeks.first + N_VALIDATION + N_TEST - 1:
            if refit:
                model.fit(weeks.before(week + 1)[columns], **news(week + 1))
            else:
                model.partial_fit(weeks.of(week)[columns], **news(week + 1))


def evaluate(weeks: Weeks, week: int, ranked: np.ndarray) -> dict[str, np.ndarray]:
    """Score each user-week, and each purchase of a new item, of one week."""
    _, bought, owned = weeks.queried(week)
    found = {
        "ndcg": ndcg_at_k(bought, ranked[:, :K], k=K, per_user=True),
        "recall": recall_at_k(bought, ranked[:, :K], k=K, per_user=True),
    }
    had = np.zeros((len(owned), ranked.max() + 1), bool)
    for row, items in enumerate(owned):
        had[row, items] = True
    # What the customer has goes behind the rest, whose order stays.
    rest = np.argsort(np.take_along_axis(had, ranked, 1), axis=1, kind="stable")[:, :K]
    shown = np.take_along_axis(ranked, rest, 1)
    first = [np.setdiff1d(now, past) for now, past in zip(bought, owned, strict=True)]
    queried = [row for row, items in enumerate(first) if len(items)]
    if queried:
        first, shown = [first[row] for row in queried], shown[queried]
        found["ndcg_new_to_user"] = ndcg_at_k(first, shown, k=K, per_user=True)
        found["recall_new_to_user"] = recall_at_k(first, shown, k=K, per_user=True)
    new = weeks.news(week)["item_id"].to_numpy()
    return found | evaluate_news(ranked, bought, new)


def evaluate_news(ranked: np.ndarray, bought: list[np.ndarray], new: np.ndarray) -> dict:
    """Find where in the lists the purchased new items are; a model without them has no place."""
    places: dict[str, list[float]] = {"new_behind": [], "new_behind_among_new": []}
    places |= {f"new_recall@{k}": [] for k in DEPTHS}
    for row, items in enumerate(bought):
        sold = np.intersect1d(items, new)
        if not len(sold):
            continue
        order = ranked[row]
        among = order[np.isin(order, new)]
        for item in sold:
            place = np.flatnonzero(order == item)
            for k in DEPTHS:
                places[f"new_recall@{k}"].append(float(len(place) and place[0] < k))
            if not len(place):
                continue
            places["new_behind"].append(1 - place[0] / (len(order) - 1))
            others = ~np.isin(among, items)  # what else is bought is no mistake
            if others.any():
                ahead = others[: int(np.flatnonzero(among == item)[0])].sum()
                places["new_behind_among_new"].append(1 - ahead / others.sum())
    return {name: np.array(values) for name, values in places.items()}


def measure(model: Any, weeks: Weeks, **how: bool) -> dict[str, Any]:
    """Mean figures over the validation weeks and over the test weeks."""
    began = time.perf_counter()
    found = [evaluate(weeks, week, ranked) for week, ranked in follow(model, weeks, **how)]
    line: dict[str, Any] = {}
    for part, rows in (("validation", found[:N_VALIDATION]), ("test", found[N_VALIDATION:])):
        line[part] = {}
        for name in found[0]:
            values = np.concatenate([row.get(name, np.empty(0)) for row in rows])
            if len(values):
                line[part][name] = round(float(values.mean()), 4)
        line[part]["n_user_weeks"] = sum(len(row["ndcg"]) for row in rows)
        line[part]["n_new_bought"] = sum(len(row[f"new_recall@{DEPTHS[0]}"]) for row in rows)
    return line | {"seconds": round(time.perf_counter() - began, 1)}


def peers() -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """List settings of each of the others; the validation weeks choose."""
    popular = [{"half_life": days} for days in (3.0, 7.0, 14.0, 30.0, 90.0)]
    own = [{"half_life": days} for days in (30.0, 90.0, 180.0, 365.0, 10_000.0)]
    knn = [
        {"n_neighbors": n, "shrinkage": shrinkage, "half_life": days}
        for n, shrinkage, days in ((20, 0, None), (100, 20, None), (20, 0, 90), (20, 20, 30))
    ]
    ease = [
        {"zero_diagonal": diagonal, "reg": reg, "half_life": days}
        for diagonal, reg, days in (
            (True, 500, None), (True, 500, 90), (False, 200, 60), (False, 500, 90)
        )
    ]  # fmt: skip
    return {
        "PopularityRecommender": [(p, PopularityRecommender(**p)) for p in popular],
        "own purchases": [(p, OwnPurchases(**p)) for p in own],
        "ItemKNNRecommender": [(p, ItemKNNRecommender(**p)) for p in knn],
        "EASERecommender": [(p, EASERecommender(**p)) for p in ease],
    }


OURS: dict[str, dict[str, Any]] = {
    "exponential": {},
    "log": {"decay": "log"},
    "none": {"decay": "none"},
}


def report_peers(weeks: Weeks, by: str, names: list[str]) -> Iterator[dict[str, Any]]:
    for name, settings in peers().items():
        if name not in names:
            continue
        tried = [(measure(model, weeks), params) for params, model in settings]
        best, params = max(tried, key=lambda one: one[0]["validation"][by])
        yield {"model": name, "params": params, "n_tried": len(tried), **best}


def report_ours(
    weeks: Weeks, backbone: str | None, seeds: list[int], decays: list[str], params: dict
) -> Iterator[dict[str, Any]]:
    for decay in decays:
        for seed in seeds:
            setting = merged({"backbone": backbone, "random_state": seed}, OURS[decay], params)
            model = DecayBertRecommender(**constructor_params(setting))
            line = measure(model, weeks, lists_news=True)
            lives = [round(float(days), 3) for days in model.half_lives_]
            yield {"model": f"DecayBert, {decay}", "seed": seed, **line, "half_lives": lives}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="online-retail")
    parser.add_argument(
        "--backbone", help="a folder, a name, 'auto' or 'scratch'; by default no text is read"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--decay", nargs="*", choices=OURS, default=list(OURS))
    parser.add_argument("--peers", nargs="*", choices=peers(), default=list(peers()))
    parser.add_argument("--days", type=int, help="learn so many days before the first week queried")
    parser.add_argument("--users", type=int, help="query at most so many customers a week")
    add_params_option(parser)
    options = parser.parse_args(argv)
    weeks = Weeks(options.data, options.days, options.users)
    once = not weeks.frame.duplicated(["user_id", "item_id"]).any()
    ours = report_ours(weeks, options.backbone, options.seeds, options.decay, options.params)
    for line in chain(report_peers(weeks, CHOOSING[once], options.peers), ours):
        print(json.dumps({"data": options.data, **line}), flush=True)


if __name__ == "__main__":
    main()
